"""The learner: metrics by hand, resumed equals straight, evaluation rows that are padding."""

import functools

import jax
import numpy as np
import optax
import pytest

from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.tokens.stages import coarse_stage, semantic_stage

CONFIG = TransformerConfig(num_layers=1, num_heads=2, embed_dim=16, mlp_dim=16, dropout=0.1)
COARSE = coarse_stage(semantic_vocab=7, codebook_size=5, num_coarse_quantizers=2, crop_seconds=0.2)


@functools.cache
def steps(stage):
    learner = StageLearner(stage, CONFIG, optax.adam(1e-2))
    return learner, jax.jit(learner.init), jax.jit(learner.train_step), jax.jit(learner.eval_step)


def batch(seed):
    rng = np.random.default_rng(seed)
    layout = COARSE.layout
    prefix = layout.encode("semantic", 0, rng.integers(0, 7, (3, 5)))
    target = layout.encode_frames("acoustic", rng.integers(0, 5, (3, 10, 2)))
    weights = np.concatenate([np.zeros((3, 5)), np.ones((3, 20))], axis=1).astype(np.float32)
    return {"ids": np.concatenate([prefix, target], axis=1).astype(np.int32), "loss_weights": weights}


def train(state, first, last):
    _, _, train_step, _ = steps(COARSE)
    for step in range(first, last):
        state, metrics = train_step(state, batch(step), jax.random.fold_in(jax.random.key(9), step))
    return state, metrics


def test_resumed_equals_straight_bit_for_bit():
    _, init, _, _ = steps(COARSE)
    straight, straight_metrics = train(init(jax.random.key(0), batch(0)), 0, 5)
    half, _ = train(init(jax.random.key(0), batch(0)), 0, 2)
    on_disk = jax.tree.map(np.asarray, half)
    resumed, resumed_metrics = train(jax.tree.map(jax.numpy.asarray, on_disk), 2, 5)
    jax.tree.map(np.testing.assert_array_equal, resumed, straight)
    jax.tree.map(np.testing.assert_array_equal, resumed_metrics, straight_metrics)
    assert int(straight.step) == 5


def test_metrics_are_sums_per_level():
    learner, init, _, eval_step = steps(COARSE)
    state = init(jax.random.key(0), batch(0))
    metrics = eval_step(state, batch(0))
    assert set(metrics) == {"loss", "nats_per_token", "accuracy", "nats_level_0", "nats_level_1"}
    target = learner.model.target_nats(state.params, batch(0)["ids"], batch(0)["loss_weights"])
    nats = np.asarray(target.nats)
    assert metrics["nats_per_token"].weight == 60 and metrics["nats_level_1"].weight == 30
    np.testing.assert_allclose(metrics["nats_per_token"].value, nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["nats_level_1"].value, nats[:, :, 1].mean(), rtol=1e-5)
    assert 0 <= metrics["accuracy"].value <= 1


def test_training_loss_without_dropout_is_the_evaluation_loss():
    learner = StageLearner(COARSE, CONFIG.__class__(1, 2, 16, 16, dropout=0.0), optax.sgd(0.0))
    state = learner.init(jax.random.key(0), batch(0))
    _, trained = learner.train_step(state, batch(0), jax.random.key(1))
    np.testing.assert_allclose(trained["loss"].value, learner.eval_step(state, batch(0))["loss"].value, rtol=1e-6)
    assert trained["grad_norm"].value > 0


def test_rows_of_weight_zero_do_not_count():
    _, init, _, eval_step = steps(COARSE)
    state = init(jax.random.key(0), batch(0))
    first = {name: value[:2] for name, value in batch(0).items()}
    weighted = eval_step(state, batch(0) | {"example_weights": np.array([1, 1, 0], np.float32)})
    alone = eval_step(state, first | {"example_weights": np.ones(2, np.float32)})
    for name in alone:
        assert weighted[name].weight == alone[name].weight
        np.testing.assert_allclose(weighted[name].value, alone[name].value, rtol=1e-5)


def test_it_learns():
    """Thirty updates on one batch bring its loss down."""
    _, init, train_step, _ = steps(COARSE)
    example = batch(0)
    state = init(jax.random.key(0), example)
    losses = []
    for step in range(30):
        state, metrics = train_step(state, example, jax.random.fold_in(jax.random.key(1), step))
        losses.append(metrics["loss"].value)
    assert losses[0] == pytest.approx(np.log(5), abs=0.6)
    assert losses[-1] < 0.6 * losses[0]


def test_semantic_stage_names_its_stream():
    stage = semantic_stage(semantic_vocab=7, crop_seconds=0.2)
    learner = StageLearner(stage, CONFIG, optax.sgd(0.1))
    assert learner.name == "lm_semantic"
    ids = np.array([[2, 3, 4, 1, 0, 0]], np.int32)
    weights = (ids > 0).astype(np.float32)
    state = learner.init(jax.random.key(0), {})
    metrics = learner.eval_step(state, {"ids": ids, "loss_weights": weights})
    assert set(metrics) == {"loss", "nats_per_token", "accuracy", "nats_semantic"}
    assert metrics["nats_semantic"].weight == 4
