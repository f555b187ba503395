"""What a fitted k-means holds, as its tokenizer takes it."""

from typing import Any

from audiolm_jax.training.state import TrainState


def tokenizer_params(state: TrainState) -> dict[str, Any]:
    """The parameters of the `SemanticTokenizer` of a state of `KMeansLearner`."""
    statistics = state.collections["statistics"]
    return {
        "encoder": state.params["encoder"],
        "mean": statistics.mean,
        "std": statistics.std,
        "centroids": state.collections["clusters"].centroids,
    }
