"""w2v-BERT 2.0 of the reference implementation with random weights, and what it says of a recording.

    python -m tests.pretrained.reference_wav2vec2_bert      writes tests/golden/pretrained/wav2vec2-bert-POSITION

These are smaller models than what parity.py writes, with other kinds of position, each with a recording of an odd
number of mel frames.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
POSITIONS = ("relative", "rotary")
# 47 mel frames, of which the last has no other to be paired with.
_ODD_SAMPLES = 7_777


def tiny() -> tuple[Wav2Vec2BertModel, SeamlessM4TFeatureExtractor]:
    """A model of a few thousand weights that differs from the published one in every number."""
    return _random(_small("relative_key", hidden_size=24, num_hidden_layers=3), num_mels=20)


def published() -> dict[str, object]:
    """The published configuration by its name on the hub."""
    return {"facebook/w2v-bert-2.0": lambda: _random(Wav2Vec2BertConfig(apply_spec_augment=False), num_mels=80)}


@torch.no_grad()
def features(model: Wav2Vec2BertModel, extractor: SeamlessM4TFeatureExtractor, wave: np.ndarray) -> list[np.ndarray]:
    """Hidden states float32[T_s, D] of a recording alone, by their number."""
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return [state[0].numpy() for state in model(**inputs, output_hidden_states=True).hidden_states]


def _small(position: str, hidden_size: int, num_hidden_layers: int) -> Wav2Vec2BertConfig:
    return Wav2Vec2BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=4,
        intermediate_size=40,
        feature_projection_input_dim=40,
        layer_norm_eps=1e-4,
        position_embeddings_type=position,
        left_max_position_embeddings=9,
        right_max_position_embeddings=3,
        rotary_embedding_base=100,
        max_source_positions=16,
        conv_depthwise_kernel_size=7,
    )


def _random(config: Wav2Vec2BertConfig, num_mels: int) -> tuple[Wav2Vec2BertModel, SeamlessM4TFeatureExtractor]:
    torch.manual_seed(0)
    model = Wav2Vec2BertModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _spread(name, parameter)
    # The published extractor pads with ones.
    return model, SeamlessM4TFeatureExtractor(feature_size=num_mels, num_mel_bins=num_mels, padding_value=1.0)


def _spread(name: str, parameter: torch.Tensor) -> None:
    """Fresh models have zeros, ones and near-uniform attention, which hide mistakes."""
    if name.endswith("layer_norm.weight"):
        parameter.copy_(1.0 + 0.2 * torch.randn_like(parameter))
    elif name.endswith("bias") or "pos_bias" in name:
        parameter.copy_(0.1 * torch.randn_like(parameter))
    elif "distance_embedding" in name:
        parameter.copy_(0.5 * torch.randn_like(parameter))
    elif parameter.ndim > 1:
        parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)


def _write_golden() -> None:
    """Models of other kinds of position, with the layers of a recording."""
    rng = np.random.default_rng(0)
    loudness = np.abs(np.sin(np.arange(_ODD_SAMPLES) / 900)) + 0.02
    colour = np.convolve(rng.normal(size=_ODD_SAMPLES), 0.9 ** np.arange(60))[:_ODD_SAMPLES]
    wave = (0.05 * loudness * colour).astype(np.float32)
    for position in POSITIONS:
        model, extractor = _random(_small(position, hidden_size=16, num_hidden_layers=2), num_mels=20)
        folder = GOLDEN / f"wav2vec2-bert-{position}"
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        layers = {f"layer.0.{number}": layer for number, layer in enumerate(features(model, extractor, wave))}
        save_file({"wave.0": wave, **layers}, folder / "expected.safetensors")


if __name__ == "__main__":
    _write_golden()
