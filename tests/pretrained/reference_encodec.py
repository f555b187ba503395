"""EnCodec of the reference implementation with random weights, and what it says of a recording.

    python -m tests.pretrained.reference_encodec        writes tests/golden/pretrained/encodec_48khz

The stereo EnCodec has chunks and scales instead of one row of frames, so `parity` does not know it.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel

from tests.pretrained.parity import speechlike

_GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained" / "encodec_48khz"


def tiny() -> tuple[EncodecModel, EncodecFeatureExtractor]:
    """A model of a few thousand weights that differs from the published one in every number."""
    config = EncodecConfig(
        target_bandwidths=[8.1, 20.1],
        sampling_rate=7_900,
        hidden_size=12,
        num_filters=4,
        num_residual_layers=2,
        upsampling_ratios=[4, 3],
        kernel_size=5,
        last_kernel_size=4,
        residual_kernel_size=4,
        dilation_growth_rate=3,
        num_lstm_layers=3,
        codebook_size=64,
    )
    return _random(config)


def tiny_stereo() -> tuple[EncodecModel, EncodecFeatureExtractor]:
    """A small relation of facebook/encodec_48khz."""
    config = EncodecConfig(
        target_bandwidths=[8.1, 20.1],
        sampling_rate=8_000,
        audio_channels=2,
        normalize=True,
        chunk_length_s=0.12,
        overlap=0.1,
        hidden_size=12,
        num_filters=4,
        upsampling_ratios=[4, 3],
        norm_type="time_group_norm",
        use_causal_conv=False,
        use_conv_shortcut=False,
        codebook_size=64,
    )
    return _random(config)


def published() -> dict[str, object]:
    """The published configuration by its name on the hub."""
    return {"facebook/encodec_24khz": lambda: _random(EncodecConfig())}


def published_stereo() -> tuple[EncodecModel, EncodecFeatureExtractor]:
    """facebook/encodec_48khz."""
    config = EncodecConfig(
        target_bandwidths=[3.0, 6.0, 12.0, 24.0],
        sampling_rate=48_000,
        audio_channels=2,
        normalize=True,
        chunk_length_s=1.0,
        overlap=0.01,
        norm_type="time_group_norm",
        use_causal_conv=False,
    )
    return _random(config)


@torch.no_grad()
def encode(model: EncodecModel, extractor: EncodecFeatureExtractor, wave: np.ndarray) -> np.ndarray:
    """Tokens int[T_a, Q] of a recording alone, at the greatest bitrate."""
    inputs = extractor(raw_audio=wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    bandwidth = model.config.target_bandwidths[-1]
    codes = model.encode(inputs["input_values"], inputs["padding_mask"], bandwidth).audio_codes
    # safetensors writes the memory of an array, so it has to lie in order.
    return codes[0, 0].T.contiguous().numpy()


@torch.no_grad()
def decode(model: EncodecModel, tokens: np.ndarray) -> np.ndarray:
    """Samples float32[T] of tokens [T_a, q]."""
    codes = torch.from_numpy(np.asarray(tokens, np.int64).T[None, None].copy())
    return model.decode(codes, [None]).audio_values[0, 0].numpy()


@torch.no_grad()
def encode_stereo(
    model: EncodecModel, extractor: EncodecFeatureExtractor, waves: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes int[B, chunks, F, Q], scales float32[B, chunks] and decoded samples float32[B, 2, T] of waves [B, 2, T].

    The chunk that the reference has behind the end of every row is left out.
    """
    inputs = extractor(raw_audio=list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    encoded = model.encode(inputs["input_values"], inputs["padding_mask"], model.config.target_bandwidths[-1])
    decoded = model.decode(
        encoded.audio_codes, encoded.audio_scales, last_frame_pad_length=encoded.last_frame_pad_length
    ).audio_values
    codes, scales = encoded.audio_codes.permute(1, 0, 3, 2), torch.cat(encoded.audio_scales, dim=1)
    count = -(-waves.shape[2] // model.config.chunk_stride)
    return codes[:, :count].numpy(), scales[:, :count].numpy(), decoded[..., : waves.shape[2]].numpy()


def stereo_waves(batch: int, seconds: float, sample_rate_hz: int) -> np.ndarray:
    """Different sounds on all channels, float32[batch, 2, T]."""
    return np.stack(
        [
            [speechlike(seconds, sample_rate_hz, 2 * row + channel) * (1 + row) / 2 for channel in range(2)]
            for row in range(batch)
        ]
    ).astype(np.float32)


def _random(config: EncodecConfig) -> tuple[EncodecModel, EncodecFeatureExtractor]:
    torch.manual_seed(0)
    model = EncodecModel(config).eval()
    extractor = EncodecFeatureExtractor(
        feature_size=config.audio_channels,
        sampling_rate=config.sampling_rate,
        chunk_length_s=config.chunk_length_s,
        overlap=config.overlap,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _spread(name, parameter)
        _fill_codebooks(model)
        if config.norm_type == "weight_norm":
            last = model.decoder.layers[-1].conv
            codes = torch.randint(config.codebook_size, (1, 1, config.num_quantizers, 50))
            loudness = model.decode(codes, [None]).audio_values.abs().max()
            last.parametrizations.weight.original0 /= loudness
            last.bias /= loudness
    return model, extractor


def _spread(name: str, parameter: torch.Tensor) -> None:
    """A fresh model drowns the sound in its biases, and has norms of ones and zeros."""
    if name.endswith("original0"):
        parameter.mul_(1.5 + torch.rand_like(parameter))
    elif name.endswith("conv.weight"):
        parameter.mul_(2.0)
    elif name.endswith("conv.bias"):
        parameter.mul_(0.1)
    elif name.endswith("norm.weight"):
        parameter.copy_(1.0 + 0.2 * torch.randn_like(parameter))
    elif name.endswith("norm.bias"):
        parameter.copy_(0.1 * torch.randn_like(parameter))
    elif ".weight_hh_" in name:
        parameter.mul_(2.0)


def _fill_codebooks(model: EncodecModel) -> None:
    """Entries near what each level is given for something like speech; a fresh model has zeros."""
    config = model.config
    # Many more frames than entries, for what is left of a frame that is an entry says nothing to the next level.
    seconds = max(3.0, 3 * config.codebook_size * config.hop_length / config.sampling_rate)
    channels = [speechlike(seconds, config.sampling_rate, 11 + channel) for channel in range(config.audio_channels)]
    wave = torch.from_numpy(np.stack(channels))
    if config.chunk_length is not None:
        wave = torch.stack(wave.split(config.chunk_length, dim=1)[:-1])
        wave = wave / wave.mean(1, keepdim=True).square().mean(-1, keepdim=True).sqrt()
    residual = model.encoder(wave.reshape(-1, config.audio_channels, wave.shape[-1]))
    for layer in model.quantizer.layers:
        codebook = layer.codebook
        given = residual.permute(0, 2, 1).flatten(0, 1)
        picked = given[torch.randint(len(given), (codebook.codebook_size,))]
        # Spread further than the frames: entries that almost coincide make ties that every rounding settles anew.
        codebook.embed.copy_(0.8 * picked + 0.5 * given.std() * torch.randn_like(picked))
        codebook.embed_avg.copy_(2 * codebook.embed)
        codebook.cluster_size.fill_(2.0)
        residual = residual - layer.decode(layer.encode(residual))


def _write_golden() -> None:
    """The small stereo model, and what it says of a batch and of less than a chunk."""
    model, extractor = tiny_stereo()
    model.save_pretrained(_GOLDEN)
    extractor.save_pretrained(_GOLDEN)
    expected = {}
    for number, (batch, seconds) in enumerate(((2, 0.45013), (1, 0.0871))):
        waves = stereo_waves(batch, seconds, model.config.sampling_rate)
        codes, scales, decoded = encode_stereo(model, extractor, waves)
        expected |= {f"waves.{number}": waves, f"codes.{number}": codes.astype(np.int32)}
        expected |= {f"scales.{number}": scales, f"decoded.{number}": decoded}
    save_file({name: np.ascontiguousarray(array) for name, array in expected.items()}, _GOLDEN / "expected.safetensors")


if __name__ == "__main__":
    _write_golden()
