"""Held-out nats and their baselines, against sums written out by hand."""

import jax
import numpy as np
import pytest

from audiolm_jax.evaluation.perplexity import (
    model_nats,
    stage_figures,
    target_counts,
    train_unigram_nats,
    unigram_nats,
)
from audiolm_jax.lm.stage_model import StageModel
from tests.tiny_system import STAGES, TRANSFORMER, random_like

RNG = np.random.default_rng(0)


def fine_batch(rows=3, frames=5):
    """Random fine-stage sequences of 16 codes, levels 0 and 1 given and 2 and 3 predicted; the last row is padding."""
    stage = STAGES["fine"]
    codes = RNG.integers(0, 16, (rows, frames, 4))
    prefix = stage.layout.encode_frames("acoustic", codes[:, :, :2], 0)
    target = stage.layout.encode_frames("acoustic", codes[:, :, 2:], 2)
    ids = np.zeros((rows, stage.sequence_length), np.int32)
    weights = np.zeros((rows, stage.sequence_length), np.float32)
    length = prefix.shape[1]
    ids[:, :length], ids[:, length : 2 * length] = prefix, target
    weights[:, length : 2 * length] = 1
    example_weights = np.ones(rows, np.float32)
    example_weights[-1] = 0
    return codes, {"ids": ids, "loss_weights": weights, "example_weights": example_weights}


def test_counts_are_per_level_and_leave_padding_out():
    codes, batch = fine_batch()
    counts = target_counts(STAGES["fine"], [batch])
    assert counts.shape == (2, 16)
    for level in (0, 1):
        expected = np.bincount(codes[:-1, :, 2 + level].ravel(), minlength=16)
        np.testing.assert_array_equal(counts[level], expected)


def test_end_of_sequence_counts_in_the_semantic_stage():
    stage = STAGES["semantic"]
    ids = np.concatenate([stage.layout.encode("semantic", 0, np.array([3, 3, 4])), [1, 0]])[None]
    counts = target_counts(stage, [{"ids": ids, "loss_weights": np.array([[1, 1, 1, 1, 0]])}])
    assert counts.sum() == 4
    assert unigram_nats(counts) == pytest.approx(-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)))
    # 16 clusters and EOS are legal; nothing else gets a share of the smoothing.
    nothing = np.zeros_like(counts)
    assert train_unigram_nats(stage, nothing, counts) == pytest.approx(np.log(17))


def test_own_entropy_is_never_above_the_training_counts():
    _, batch = fine_batch()
    counts = target_counts(STAGES["fine"], [batch])
    other = target_counts(STAGES["fine"], [fine_batch()[1]])
    assert unigram_nats(counts) <= train_unigram_nats(STAGES["fine"], other, counts)


def test_model_nats_of_flat_logits_are_the_logarithm_of_the_codes():
    stage = STAGES["fine"]
    model = StageModel(stage, TRANSFORMER)
    params = random_like(np.random.default_rng(1), lambda: model.init(jax.random.key(0)))
    flat = dict(params, embedding=np.zeros_like(params["embedding"]))
    _, batch = fine_batch()
    totals = model_nats(model, flat, [batch, batch])
    np.testing.assert_allclose(totals.nats / totals.tokens, np.log(16), rtol=1e-5)
    np.testing.assert_array_equal(totals.tokens, [20, 20])

    figures = stage_figures(model, params, [batch, batch], train_counts=np.ones((2, 16), np.int64))
    halves = [stage_figures(model, params, [batch])["heldout_nats_per_token"] for _ in range(2)]
    assert figures["heldout_nats_per_token"] == pytest.approx(np.mean(halves))
    assert figures["num_tokens"] == 40
    assert figures["train_unigram_nats_per_token"] == pytest.approx(np.log(16))
    assert np.mean(figures["heldout_nats_by_level"]) == pytest.approx(figures["heldout_nats_per_token"])
    assert figures["share_of_unigram"] == figures["heldout_nats_per_token"] / figures["unigram_nats_per_token"]


def test_no_tokens_is_an_error():
    model = StageModel(STAGES["fine"], TRANSFORMER)
    with pytest.raises(ValueError, match="no held-out tokens"):
        stage_figures(model, {}, [])
