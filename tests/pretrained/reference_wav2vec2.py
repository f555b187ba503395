"""wav2vec 2.0 of the reference implementation with random weights, and what it says of a recording."""

from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tests.pretrained.reference_hubert import LARGE, TINY, features, randomized

__all__ = ["features", "published", "tiny"]


def tiny() -> tuple[Wav2Vec2Model, Wav2Vec2FeatureExtractor]:
    """A tiny model in the manner of the large ones."""
    return randomized(Wav2Vec2Model, Wav2Vec2Config(**{**LARGE, **TINY}))


def published() -> dict[str, object]:
    """The published configurations by their names on the hub."""
    old_large = {**LARGE, "conv_bias": False, "feat_extract_norm": "group", "do_stable_layer_norm": False}
    return {
        "facebook/wav2vec2-base": lambda: randomized(Wav2Vec2Model, Wav2Vec2Config()),
        "facebook/wav2vec2-large-960h": lambda: randomized(Wav2Vec2Model, Wav2Vec2Config(**old_large)),
        "facebook/wav2vec2-large-lv60": lambda: randomized(Wav2Vec2Model, Wav2Vec2Config(**LARGE)),
    }
