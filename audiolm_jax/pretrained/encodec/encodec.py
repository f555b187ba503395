"""EnCodec (Défossez et al. 2022): 75 frames a second of up to 32 levels at 24 kHz, causal, with an LSTM."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from audiolm_jax.errors import UserError, shown
from audiolm_jax.pretrained.encodec.encodec_network import Decoder, EncodecConfig, Encoder
from audiolm_jax.pretrained.encodec.encodec_weights import weight_map
from audiolm_jax.pretrained.kind import CODEC, ConfigReader, Kind
from audiolm_jax.pretrained.stream import REFLECT, REPLICATE, ZERO
from audiolm_jax.pretrained.streamed_codec import StreamedCodec

NAME = "encodec"
WEIGHT_NORM, GROUP_NORM = "weight_norm", "time_group_norm"
_PAD_MODES = {"reflect": REFLECT, "replicate": REPLICATE, "constant": ZERO}


@dataclasses.dataclass(frozen=True)
class Encodec(StreamedCodec):
    """The codec contract over the weights of a causal EnCodec.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[levels, N, D]}. Its LSTMs remember all of the
    past, so long recordings are taken in pieces by `encode_next` and `decode_next`. A first window of fewer frames
    than the widest kernel has to be the only one.

    Raises:
        UserError: the configuration is that of facebook/encodec_48khz, or of another EnCodec without a uniform grid of
            frames that only hear the past.
    """

    config: EncodecConfig

    def __post_init__(self):
        config = self.config
        if config.is_normalized or config.chunk_length_s is not None:
            raise UserError(
                f"this EnCodec has normalize = {config.is_normalized} and chunk_length_s = {config.chunk_length_s}: it "
                "encodes overlapping chunks with a scale each, which is no sequence of frames for a language model; "
                "import facebook/encodec_24khz instead"
            )
        if not config.is_causal or config.num_channels != 1:
            raise UserError(
                f"this EnCodec has use_causal_conv = {config.is_causal} and audio_channels = {config.num_channels}, "
                "but only causal ones of one channel are supported; import facebook/encodec_24khz instead"
            )

    def encoder(self) -> Encoder:
        """See `StreamedCodec`."""
        return Encoder(self.config)

    def decoder(self) -> Decoder:
        """See `StreamedCodec`."""
        return Decoder(self.config)


def read_config(config_json: Mapping[str, Any], preprocessor_json: Mapping[str, Any]) -> EncodecConfig:
    """The configuration of a checkpoint, also of those that `Encodec` refuses.

    Args:
        config_json: config.json of the model.
        preprocessor_json: preprocessor_config.json, empty where there is none.

    Raises:
        UserError: the model has something that we do not compute.
    """
    reader = ConfigReader(config_json, "config.json")
    sample_rate_hz = reader.value("sampling_rate", int, 24_000)
    num_channels = reader.value("audio_channels", int, 1)
    latent_dim = reader.value("hidden_size", int, 128)
    chunk_length_s = reader.value("chunk_length_s", (float, type(None)), None)
    chunk_overlap = reader.value("overlap", (float, type(None)), None)
    strides = tuple(reversed(reader.integers("upsampling_ratios", (8, 5, 4, 2))))
    codebook_size = reader.value("codebook_size", int, 1024)
    is_causal = reader.value("use_causal_conv", bool, True)
    norm = reader.value("norm_type", str, WEIGHT_NORM)
    if norm != WEIGHT_NORM:
        reader.require("norm_type", GROUP_NORM, WEIGHT_NORM, f"the other norm that is known is {WEIGHT_NORM!r}")
        reader.require("use_causal_conv", False, True, f"norm_type {GROUP_NORM!r} hears the whole recording")
    reader.require("trim_right_ratio", 1.0, 1.0, "the transposed convolutions are causal")
    if config_json.get("codebook_dim") is not None:
        reader.require("codebook_dim", latent_dim, latent_dim, "codebook entries are as wide as hidden_size")
    pad_mode = reader.value("pad_mode", str, "reflect")
    if pad_mode not in _PAD_MODES:
        raise UserError(f"config.json: pad_mode is {pad_mode!r}, but only {', '.join(_PAD_MODES)} are supported")
    prepared = ConfigReader(preprocessor_json, "preprocessor_config.json")
    prepared.require("feature_size", num_channels, num_channels, "it is audio_channels in config.json")
    prepared.require("sampling_rate", sample_rate_hz, sample_rate_hz, "it is sampling_rate in config.json")
    prepared.require("chunk_length_s", chunk_length_s, chunk_length_s, "it is chunk_length_s in config.json")
    prepared.require("overlap", chunk_overlap, chunk_overlap, "it is overlap in config.json")
    num_codebooks = _num_codebooks(config_json, sample_rate_hz, strides, codebook_size)
    return EncodecConfig(
        sample_rate_hz=sample_rate_hz,
        num_channels=num_channels,
        strides=strides,
        base_channels=reader.value("num_filters", int, 32),
        num_units=reader.count("num_residual_layers", 1),
        dilation_growth=reader.value("dilation_growth_rate", int, 2),
        unit_squeeze=reader.value("compress", int, 2),
        unit_kernel=reader.value("residual_kernel_size", int, 3),
        has_shortcut=reader.value("use_conv_shortcut", bool, True),
        edge_kernel=reader.value("kernel_size", int, 7),
        last_kernel=reader.value("last_kernel_size", int, 7),
        num_lstm_layers=reader.count("num_lstm_layers", 2),
        latent_dim=latent_dim,
        pad_mode=_PAD_MODES[pad_mode],
        is_causal=is_causal,
        has_group_norm=norm == GROUP_NORM,
        is_normalized=reader.value("normalize", bool, False),
        chunk_length_s=chunk_length_s,
        chunk_overlap=chunk_overlap,
        num_quantizers=num_codebooks,
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
    )


def _num_codebooks(config_json: Mapping[str, Any], sample_rate_hz: int, strides: tuple[int, ...], size: int) -> int:
    """Levels in the weights: as many as the greatest bitrate of the model pays for."""
    bandwidths = config_json.get("target_bandwidths", [1.5, 3.0, 6.0, 12.0, 24.0])
    is_list = isinstance(bandwidths, (list, tuple)) and len(bandwidths) > 0
    if not is_list or not all(type(each) in (int, float) for each in bandwidths):
        raise UserError(f"config.json: target_bandwidths is {shown(bandwidths)}, not a list of numbers; "
                        "give the model's own config.json")
    level_bps = math.ceil(sample_rate_hz / math.prod(strides)) * math.ceil(math.log2(max(size, 1)))
    paid_for = 1000 * bandwidths[-1] // level_bps if level_bps > 0 else math.inf
    # One level at least; no model has as many as a thousand.
    if not 1 <= paid_for < 1000:
        raise UserError(f"config.json: target_bandwidths is {shown(bandwidths)}, but a level takes {level_bps} bits "
                        "per second; give the model's own config.json")
    return int(paid_for)


KIND = Kind(
    name=NAME,
    part=CODEC,
    config_class=EncodecConfig,
    read_config=read_config,
    weight_map=weight_map,
    make=Encodec,
)
