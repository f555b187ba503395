"""HuBERT of the reference implementation with random weights, and what it says of a recording."""

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

# A shape of a few thousand weights that differs from the published ones in every number: hop 160, 190 samples seen.
TINY = {
    "conv_dim": (16, 12, 20),
    "conv_kernel": (10, 5, 9),
    "conv_stride": (5, 4, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 3,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-4,
}
# What the large models have and the base models have not.
LARGE = {
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def tiny() -> tuple[HubertModel, Wav2Vec2FeatureExtractor]:
    """A tiny model in the manner of the base models, with all that only HuBERT has.

    That of wav2vec 2.0 has the rest: weight norm, a norm before the projection, and what large models have.
    """
    only_hubert = {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "num_conv_pos_embeddings": 7}
    return randomized(HubertModel, HubertConfig(**{**TINY, **only_hubert}), do_normalize=False)


def published() -> dict[str, object]:
    """The published configurations by their names on the hub."""
    return {
        "facebook/hubert-base-ls960": lambda: randomized(HubertModel, HubertConfig()),
        "facebook/hubert-large-ll60k": lambda: randomized(HubertModel, HubertConfig(**LARGE)),
        "utter-project/mHuBERT-147": lambda: randomized(HubertModel, HubertConfig(conv_pos_batch_norm=True)),
    }


@torch.no_grad()
def features(model: torch.nn.Module, extractor: Wav2Vec2FeatureExtractor, wave: np.ndarray) -> list[np.ndarray]:
    """Hidden states float32[T_s, D] of a recording alone, by their number."""
    inputs = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    states = model(inputs["input_values"], output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]


def randomized(model_class, config, do_normalize: bool = True) -> tuple[torch.nn.Module, Wav2Vec2FeatureExtractor]:
    """A model whose weights are all random; fresh ones have zeros and ones, which hide mistakes."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            _spread(name, tensor)
    return model, Wav2Vec2FeatureExtractor(do_normalize=do_normalize)


def _spread(name: str, tensor: torch.Tensor) -> None:
    if name.endswith(("norm.weight", "running_var", "weight.original0")):
        base = tensor if name.endswith("original0") else 1.0
        tensor.copy_(base * (1.0 + 0.2 * torch.randn_like(tensor)).abs())
    elif name.endswith(("bias", "running_mean")):
        tensor.copy_(0.1 * torch.randn_like(tensor))
    elif tensor.ndim > 1:
        tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)
