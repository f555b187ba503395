"""Mimi of the reference implementation with random weights, and what it says of a recording."""

import numpy as np
import torch
from transformers import EncodecFeatureExtractor, MimiConfig, MimiModel


def tiny() -> tuple[MimiModel, EncodecFeatureExtractor]:
    """A model of a few thousand weights that differs from the published one in every number."""
    config = MimiConfig(
        sampling_rate=4_800,
        hidden_size=16,
        num_filters=4,
        num_residual_layers=2,
        upsampling_ratios=[4, 3],
        kernel_size=5,
        last_kernel_size=4,
        residual_kernel_size=4,
        dilation_growth_rate=3,
        codebook_size=64,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=5,
        num_semantic_quantizers=2,
        upsample_groups=16,
        num_hidden_layers=2,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=6,
        norm_eps=1e-4,
        sliding_window=10,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    )
    return _random(config)


def published() -> dict[str, object]:
    """The published configuration by its name on the hub."""
    return {"kyutai/mimi": lambda: _random(MimiConfig(frame_rate=12.5))}


@torch.no_grad()
def encode(model: MimiModel, extractor: EncodecFeatureExtractor, wave: np.ndarray) -> np.ndarray:
    """Tokens int[T_a, Q] of a recording alone."""
    inputs = extractor(raw_audio=wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    codes = model.encode(inputs["input_values"], inputs["padding_mask"]).audio_codes[0]
    return codes.T.contiguous().numpy()


@torch.no_grad()
def decode(model: MimiModel, tokens: np.ndarray) -> np.ndarray:
    """Samples float32[T] of tokens [T_a, q]."""
    return model.decode(torch.from_numpy(np.asarray(tokens, np.int64).T[None].copy())).audio_values[0, 0].numpy()


def _random(config: MimiConfig) -> tuple[MimiModel, EncodecFeatureExtractor]:
    torch.manual_seed(0)
    model = MimiModel(config).eval()
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=config.sampling_rate)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _spread(name, parameter)
        _fill_codebooks(model)
        last = model.decoder.decoder_seanet.layers[-1].conv
        tokens = torch.randint(config.codebook_size, (1, config.num_quantizers, 50))
        loudness = model.decode(tokens).audio_values.abs().max()
        last.weight /= loudness
        last.bias /= loudness
    return model, extractor


def _spread(name: str, parameter: torch.Tensor) -> None:
    """Fresh models have zeros, ones and near-uniform attention, which hide mistakes."""
    if name.endswith("layer_scale.scale"):
        parameter.copy_(0.2 + 0.1 * torch.randn_like(parameter))
    elif "layernorm.weight" in name:
        parameter.copy_(1.0 + 0.2 * torch.randn_like(parameter))
    elif "layernorm.bias" in name:
        parameter.copy_(0.1 * torch.randn_like(parameter))
    elif "_proj.weight" in name or ".fc" in name:
        parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)


def _fill_codebooks(model: MimiModel) -> None:
    """Entries near what each level is given for noise whose loudness and colour change; a fresh model has zeros."""
    frames = max(150, model.config.codebook_size // 8)
    samples = frames * model.config.frame_size
    noise = torch.randn(samples)
    coloured = torch.nn.functional.conv1d(noise[None, None], torch.randn(1, 1, 31), padding=15)[0, 0] / 5
    part = model.config.frame_size * 4
    mixed = torch.where(torch.arange(samples) // (2 * part) % 2 == 0, noise, coloured)
    wave = mixed * (0.05 + 0.4 * torch.rand(samples // part + 1).repeat_interleave(part)[:samples])
    latents = model.encoder(wave[None, None]).latents
    quantizer = model.quantizer
    for half in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
        residual = half.input_proj(latents)
        for layer in half.layers:
            codebook = layer.codebook
            given = residual[0].T
            # Random mixtures of all of it: no frame is hit exactly, so that deep levels have something left to do.
            entries = 0.7 * torch.randn(codebook.codebook_size, len(given)) @ given / len(given) ** 0.5
            codebook.cluster_usage.copy_(0.5 + 3 * torch.rand(codebook.codebook_size))
            codebook.cluster_usage[3] = 1e-7  # below the least count that sums are divided by
            codebook.embed_sum.copy_(entries * codebook.cluster_usage.clamp(min=codebook.epsilon)[:, None])
            codebook._embed = None
            residual = residual - layer.decode(layer.encode(residual))
