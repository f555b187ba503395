"""Figures of a stage from counts of batches: a second way to the same numbers, for tests."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from audiolm_jax.data.feed.batches import Batch
from audiolm_jax.evaluation.language.perplexity import StageNats, batch_nats
from audiolm_jax.evaluation.sound.code_usage import unbiased_entropy_nats
from audiolm_jax.lm.stage_model import StageModel, legal_ids
from audiolm_jax.tokens.stages import Stage


def target_counts(stage: Stage, batches: Iterable[Batch]) -> np.ndarray:
    """How often each legal id stands at each level of the target: int64[L, N].

    Args:
        stage: whose batches they are.
        batches: {"ids": int[B, S], "loss_weights": float[B, S], maybe "example_weights": float[B]}.
    """
    legal = legal_ids(stage)
    levels, size = legal.legal.shape
    counts = np.zeros((levels, size), np.int64)
    for batch in batches:
        weights = np.asarray(batch["loss_weights"]) * np.asarray(batch.get("example_weights", 1.0)).reshape(-1, 1)
        for ids, row in zip(np.asarray(batch["ids"]), weights > 0, strict=True):
            target = ids[row]
            place = np.arange(len(target)) % levels
            np.add.at(counts, (place, legal.row_of(place, target)), 1)
    return counts


def unigram_nats(counts: np.ndarray) -> float:
    """Corrected entropy of the tokens' own frequencies, levels weighted by their tokens: counts int[L, N]."""
    tokens = counts.sum(axis=1)
    entropies = np.array([unbiased_entropy_nats(level) for level in counts])
    return float(np.sum(entropies * tokens) / max(tokens.sum(), 1))


def train_unigram_nats(stage: Stage, train_counts: np.ndarray, heldout_counts: np.ndarray) -> float:
    """Cross-entropy of held-out tokens under training counts with one added to each: counts int[L, N] each."""
    smoothed = (train_counts + 1.0) * legal_ids(stage).legal
    shares = smoothed / smoothed.sum(axis=1, keepdims=True)
    nats = -np.log(np.where(shares > 0, shares, 1.0))
    return float(np.sum(heldout_counts * nats) / max(heldout_counts.sum(), 1))


def model_nats(model: StageModel, params: Any, batches: Iterable[Batch]) -> StageNats:
    """Sums of `batch_nats` over all rows: float64[L] each."""
    levels = model.stage.target.num_levels
    totals = StageNats(*(np.zeros(levels) for _ in StageNats._fields))
    for batch in batches:
        sums = batch_nats(model, params, batch)
        totals = StageNats(*(total + part.sum(axis=0) for total, part in zip(totals, sums, strict=True)))
    return totals


def stage_figures(
    model: StageModel, params: Any, batches: Iterable[Batch], train_counts: np.ndarray | None = None
) -> dict[str, Any]:
    """Figures of one stage on held-out batches.

    Args:
        model, params: the stage's language model.
        batches: held-out batches, gone through once.
        train_counts: int64[L, N] of training tokens, by `target_counts`; None leaves out what needs them.

    Returns:
        heldout_nats_per_token, unigram_nats_per_token, share_of_unigram (the first by the second), accuracy,
        num_tokens, target ("semantic" or "acoustic"), and for several levels heldout_nats_by_level and
        unigram_nats_by_level; with `train_counts` also train_unigram_nats_per_token.

    Raises:
        ValueError: the batches hold no target token.
    """
    stage = model.stage
    counts = np.zeros(legal_ids(stage).legal.shape, np.int64)

    def counted():
        nonlocal counts
        for batch in batches:
            counts = counts + target_counts(stage, [batch])
            yield batch

    totals = model_nats(model, params, counted())
    tokens = totals.tokens.sum()
    if tokens == 0:
        raise ValueError(f"there are no held-out tokens of stage {stage.name}")
    figures = {
        "heldout_nats_per_token": float(totals.nats.sum() / tokens),
        "unigram_nats_per_token": unigram_nats(counts),
        "accuracy": float(totals.correct.sum() / tokens),
        "num_tokens": int(tokens),
        "target": stage.target.stream,
    }
    figures["share_of_unigram"] = figures["heldout_nats_per_token"] / max(figures["unigram_nats_per_token"], 1e-9)
    if stage.target.num_levels > 1:
        figures["heldout_nats_by_level"] = (totals.nats / np.maximum(totals.tokens, 1)).tolist()
        figures["unigram_nats_by_level"] = [unbiased_entropy_nats(level) for level in counts]
    if train_counts is not None:
        figures["train_unigram_nats_per_token"] = train_unigram_nats(stage, train_counts, counts)
    return figures
