"""Mimi (Défossez et al. 2024), the codec of Moshi: 12.5 frames a second, a semantic level before the acoustic ones."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.kind import CODEC, ConfigReader, Kind
from audiolm_jax.pretrained.mimi import mimi_quantizer
from audiolm_jax.pretrained.mimi.mimi_network import Decoder, Encoder, MimiConfig
from audiolm_jax.pretrained.mimi.mimi_weights import weight_map
from audiolm_jax.pretrained.streamed_codec import StreamedCodec

NAME = "mimi"


@dataclasses.dataclass(frozen=True)
class Mimi(StreamedCodec):
    """The codec contract over the weights of a Mimi.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[levels, N, D_q], "projections": ...}. Everything
    is causal, but its transformers look back further than a window can bring along: recordings are taken in pieces by
    `encode_next` and `decode_next`.
    """

    config: MimiConfig

    def encoder(self) -> Encoder:
        """See `StreamedCodec`."""
        return Encoder(self.config)

    def decoder(self) -> Decoder:
        """See `StreamedCodec`."""
        return Decoder(self.config)

    def tokens_of(self, params: Any, latents: jax.Array) -> jax.Array:
        """Tokens int32[B, F, Q] of latents float32[B, F, D], of both quantizers."""
        return mimi_quantizer.encode(params, latents, self.config.num_semantic, self.config.num_quantizers)

    def embed(self, params: Any, tokens: jax.Array) -> jax.Array:
        """What the tokens int32[B, F, q] stand for, float32[B, F, D]: the sum of what both quantizers give."""
        return mimi_quantizer.decode(params, tokens, self.config.num_semantic)


def read_config(config_json: Mapping[str, Any], preprocessor_json: Mapping[str, Any]) -> MimiConfig:
    """The configuration of a checkpoint.

    Args:
        config_json: config.json of the model.
        preprocessor_json: preprocessor_config.json, empty where there is none.

    Raises:
        UserError: the model has something that we do not compute.
    """
    reader = ConfigReader(config_json, "config.json")
    _refuse(reader, config_json)
    sample_rate_hz = reader.value("sampling_rate", int, 24_000)
    ratios = (8, 6, 5, 4)
    if config_json.get("upsampling_ratios"):
        ratios = reader.integers("upsampling_ratios", ratios)
    _refuse_preparation(ConfigReader(preprocessor_json, "preprocessor_config.json"), sample_rate_hz)
    hidden = reader.value("hidden_size", int, 512)
    num_heads = reader.value("num_attention_heads", int, 8)
    reader.require("upsample_groups", hidden, 512, "each channel is upsampled alone")
    reader.require("num_key_value_heads", num_heads, 8, "every head has keys of its own")
    codebook_dim = reader.value("codebook_dim", int, 256)
    reader.require("vector_quantization_hidden_dimension", codebook_dim, 256, "it is the width of a codebook entry")
    if codebook_dim == hidden:
        raise UserError(
            f"config.json: codebook_dim and hidden_size are both {hidden}, but only a Mimi with projections between "
            "them is supported; choose another checkpoint"
        )
    num_codebooks = reader.count("num_quantizers", 32)
    return MimiConfig(
        sample_rate_hz=sample_rate_hz,
        strides=tuple(reversed(ratios)),
        latent_stride=_latent_stride(config_json, sample_rate_hz, math.prod(ratios)),
        base_channels=reader.value("num_filters", int, 64),
        num_units=reader.count("num_residual_layers", 1),
        dilation_growth=reader.value("dilation_growth_rate", int, 2),
        unit_squeeze=reader.value("compress", int, 2),
        edge_kernel=reader.value("kernel_size", int, 7),
        last_kernel=reader.value("last_kernel_size", int, 3),
        unit_kernel=reader.value("residual_kernel_size", int, 3),
        latent_dim=hidden,
        num_layers=reader.count("num_hidden_layers", 8),
        num_heads=num_heads,
        head_dim=reader.value("head_dim", int, 0) if config_json.get("head_dim") else hidden // num_heads,
        mlp_dim=reader.value("intermediate_size", int, 2048),
        window_steps=reader.value("sliding_window", int, 250),
        norm_epsilon=reader.value("norm_eps", float, 1e-5),
        rope_base=_rope_base(reader, config_json),
        num_quantizers=num_codebooks,
        num_codebooks=num_codebooks,
        num_semantic=reader.count("num_semantic_quantizers", 1),
        codebook_size=reader.value("codebook_size", int, 2048),
        codebook_dim=codebook_dim,
    )


def _refuse(reader: ConfigReader, config_json: Mapping[str, Any]) -> None:
    """Refuses what changes the result and is not computed here."""
    for half in ("encoder_config", "decoder_config"):
        if half in config_json and config_json[half] is None:
            raise UserError(f"config.json: {half} is null, so half of the codec is missing; give the whole checkpoint")
    reader.require("audio_channels", 1, 1, "one channel is what the project works on")
    reader.require("use_causal_conv", True, True, "the convolutions are causal")
    reader.require("pad_mode", "constant", "constant", "the convolutions are padded with zeros")
    reader.require("trim_right_ratio", 1.0, 1.0, "the transposed convolutions are causal")
    reader.require("use_conv_shortcut", False, False, "the residual units have plain shortcuts")
    reader.require("hidden_act", "gelu", "gelu", "the feed-forward layers have this activation")
    reader.require("attention_bias", False, False, "the attention has no biases")


def _refuse_preparation(reader: ConfigReader, sample_rate_hz: int) -> None:
    """Refuses a feature extractor that does more than hand on the waveform."""
    reader.require("feature_size", 1, 1, "one channel is what the project works on")
    reader.require("sampling_rate", sample_rate_hz, sample_rate_hz, "it is the rate of the model's config.json")
    reader.require("chunk_length_s", None, None, "recordings are encoded whole")


def _latent_stride(config_json: Mapping[str, Any], sample_rate_hz: int, encoder_hop: int) -> int:
    """Transformer steps of a frame; what the model saves of it is the rate of the frames."""
    # Saved as frame_rate by older versions; newer ones have a private name, and nothing when it is half the steps.
    saved = {name: config_json[name] for name in ("frame_rate", "_frame_rate") if config_json.get(name) is not None}
    step_rate = -(-sample_rate_hz // encoder_hop)
    frame_rate = ConfigReader(saved, "config.json").value(
        next(iter(saved), "frame_rate"), float, sample_rate_hz / (2 * encoder_hop)
    )
    if not 0 < frame_rate <= step_rate / 2:
        raise UserError(
            f"config.json: frame_rate is {frame_rate:g}, but only rates up to {step_rate / 2:g}, half that of the "
            "transformers, are supported; choose another checkpoint"
        )
    return int(step_rate / frame_rate)


def _rope_base(reader: ConfigReader, config_json: Mapping[str, Any]) -> float:
    """Of the rotary positions, from the form of older and of newer versions."""
    reader.require("rope_scaling", None, None, "the rotary positions are the plain ones")
    if config_json.get("rope_parameters") is None:
        return reader.value("rope_theta", float, 10_000.0)
    rope = ConfigReader(reader.value("rope_parameters", dict), "config.json: rope_parameters")
    rope.require("rope_type", "default", "default", "the rotary positions are the plain ones")
    return rope.value("rope_theta", float, 10_000.0)


KIND = Kind(
    name=NAME,
    part=CODEC,
    config_class=MimiConfig,
    read_config=read_config,
    weight_map=weight_map,
    make=Mimi,
)
