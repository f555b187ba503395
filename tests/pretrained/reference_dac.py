"""DAC of the reference implementation with random weights, and what it says of a recording."""

import numpy as np
import torch
from transformers import DacConfig, DacFeatureExtractor, DacModel


def tiny() -> tuple[DacModel, DacFeatureExtractor]:
    """A model of a few thousand weights, with odd and even strides, that differs from the published in every number."""
    config = DacConfig(
        sampling_rate=8_000,
        encoder_hidden_size=4,
        downsampling_ratios=[2, 3, 4],
        upsampling_ratios=[4, 3, 2],
        decoder_hidden_size=24,
        hidden_size=20,
        n_codebooks=5,
        codebook_size=32,
        codebook_dim=4,
    )
    # With this seed the two nearest entries of every frame of the golden recordings are 3e-5 apart, or more.
    return _random(config, seed=2)


def published() -> dict[str, object]:
    """The published configurations by their names on the hub."""

    def sized(sampling_rate: int, strides: list[int], levels: int):
        return lambda: _random(
            DacConfig(
                sampling_rate=sampling_rate,
                downsampling_ratios=strides,
                upsampling_ratios=strides[::-1],
                n_codebooks=levels,
                hop_length=512,  # as published, whatever the strides are
            )
        )

    return {
        "descript/dac_16khz": sized(16_000, [2, 4, 5, 8], 12),
        "descript/dac_24khz": sized(24_000, [2, 4, 5, 8], 32),
        "descript/dac_44khz": sized(44_100, [2, 4, 8, 8], 9),
    }


@torch.no_grad()
def encode(model: DacModel, extractor: DacFeatureExtractor, wave: np.ndarray) -> np.ndarray:
    """Tokens int[T_a, Q] of a recording alone."""
    inputs = extractor(raw_audio=wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return np.ascontiguousarray(model.encode(inputs["input_values"]).audio_codes[0].T.numpy())


@torch.no_grad()
def decode(model: DacModel, tokens: np.ndarray) -> np.ndarray:
    """Samples float32[T] of tokens [T_a, q]; with odd strides a few less than T_a * hop."""
    codes = torch.from_numpy(np.asarray(tokens, np.int64).T[None].copy())
    return model.decode(audio_codes=codes).audio_values[0].numpy()


def _random(config: DacConfig, seed: int = 0) -> tuple[DacModel, DacFeatureExtractor]:
    torch.manual_seed(seed)
    model = DacModel(config).eval()
    hop = int(np.prod(config.downsampling_ratios))
    extractor = DacFeatureExtractor(sampling_rate=config.sampling_rate, hop_length=hop)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _spread(name, parameter)
        _fill_codebooks(model, hop)
        last = model.decoder.conv2
        tokens = torch.randint(config.codebook_size, (1, config.n_codebooks, 50))
        loudness = model.decode(audio_codes=tokens).audio_values.atanh().nan_to_num(posinf=9.0).std()
        last.weight /= 2 * loudness
        last.bias /= 2 * loudness
    return model, extractor


def _spread(name: str, parameter: torch.Tensor) -> None:
    """Fresh models have zeros, ones, and weights so small that nothing comes through."""
    if name.endswith("alpha"):
        parameter.copy_(torch.exp(0.8 * torch.randn_like(parameter)))
        parameter[:, 0] *= -1
    elif name.endswith("bias"):
        parameter.copy_(0.1 * torch.randn_like(parameter))
    elif "conv" in name:
        heard = parameter.shape[0] * 2 if "conv_t" in name else parameter[0].numel()
        scale = 0.3 if "res_unit" in name and "conv2" in name else 0.7
        parameter.copy_(scale * torch.randn_like(parameter) / heard**0.5)


def _fill_codebooks(model: DacModel, hop: int) -> None:
    """Projections that undo each other, and entries near what each level is given for noise of changing colour."""
    samples = (model.config.codebook_size + 200) * hop
    noise = torch.randn(samples)
    coloured = torch.nn.functional.conv1d(noise[None, None], torch.randn(1, 1, 31), padding=15)[0, 0] / 5
    mixed = torch.where(torch.arange(samples) // 4000 % 2 == 0, noise, coloured)
    wave = mixed * (0.05 + 0.4 * torch.rand(samples // 2000 + 1).repeat_interleave(2000)[:samples])
    residual = model.encoder(wave[None, None])
    for level in model.quantizer.quantizers:
        inward = torch.randn_like(level.in_proj.weight[..., 0]) / residual.shape[1] ** 0.5
        level.in_proj.weight.copy_(inward[..., None])
        level.out_proj.weight.copy_(0.9 * torch.linalg.pinv(inward)[..., None])
        given = level.in_proj(residual)[0].T
        picked = given[torch.randperm(len(given))[: level.codebook.num_embeddings]]
        # Spread further than the frames: entries that almost coincide make ties that every rounding settles anew.
        level.codebook.weight.copy_(0.8 * picked + 0.5 * given.std() * torch.randn_like(picked))
        level.codebook.weight[3] = 0  # whose direction is none
        residual = residual - level(residual)[0]
