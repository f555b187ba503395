"""The codec's training step: what it changes and when, resumed as straight, evaluation."""

import functools

import jax
import numpy as np
import pytest

from audiolm_jax.training.checkpoints import Checkpoints
from audiolm_jax.training.optimizers import adam
from tests.codec import tiny_learner

NUM_STEPS = 6


@functools.cache
def compiled():
    """A learner and its jitted train step."""
    learner = tiny_learner.tiny_learner(adam(1e-3, 2, 100), quantizer_start_step=2, discriminator_start_step=3)
    return learner, jax.jit(learner.train_step)


def run(state, first, last):
    """(states, metrics) after each of the steps first..last - 1."""
    _, train_step = compiled()
    states, metrics = [], []
    for index in range(first, last):
        rng = jax.random.fold_in(jax.random.key(7), index)
        state, step_metrics = train_step(state, tiny_learner.batch(index), rng)
        states.append(state)
        metrics.append({name: metric.value for name, metric in step_metrics.items()})
    return states, metrics


@functools.cache
def straight():
    learner, _ = compiled()
    start = jax.jit(learner.init)(jax.random.key(0), tiny_learner.batch(0))
    states, metrics = run(start, 0, NUM_STEPS)
    return [start, *states], metrics


def differ(before, after) -> bool:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(not np.array_equal(one, other) for one, other in pairs)


def test_phases_begin_at_their_steps():
    states, metrics = straight()
    for index in range(NUM_STEPS):
        before, after = states[index], states[index + 1]
        assert int(after.step) == index + 1
        assert differ(before.params["generator"], after.params["generator"])
        assert differ(before.params["discriminators"], after.params["discriminators"]) == (index >= 3)
        assert differ(before.opt_state["discriminators"], after.opt_state["discriminators"]) == (index >= 3)
        assert bool(after.collections["codebooks"].started) == (index >= 2)
        assert (metrics[index]["commitment"] > 0) == (index >= 2)
        assert (metrics[index]["adversarial"] > 0) == (index >= 3)
        assert all(np.isfinite(value) for value in metrics[index].values())


def test_encoder_and_decoder_both_learn_through_the_quantizer():
    states, _ = straight()
    for part in ("encoder", "decoder"):
        before, after = (state.params["generator"][part] for state in states[-2:])
        for path, leaf in jax.tree_util.tree_flatten_with_path(before)[0]:
            later = functools.reduce(lambda node, key: node[key.key], path, after)
            assert not np.array_equal(leaf, later), jax.tree_util.keystr(path)


def test_resumed_equals_straight_bit_for_bit(tmp_path):
    states, metrics = straight()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), states[0])
    for resume_at in (2, 4):  # Just before the codebooks start; with both optimizers and the averages running.
        checkpoints = Checkpoints(tmp_path / str(resume_at))
        checkpoints.save(states[resume_at], {})
        checkpoints.wait()
        restored, _ = checkpoints.restore(abstract)
        checkpoints.close()
        resumed, resumed_metrics = run(restored, resume_at, NUM_STEPS)
        assert resumed_metrics == metrics[resume_at:]
        assert not differ(states[-1], resumed[-1])


def test_evaluation_leaves_padding_out():
    learner, _ = compiled()
    state = straight()[0][-1]
    eval_step = jax.jit(learner.eval_step)
    batch = tiny_learner.batch(50) | {"example_weights": np.array([1, 1, 1, 0, 0, 0, 0, 0], np.float32)}
    other = batch | {"samples": np.concatenate([batch["samples"][:3], batch["samples"][:5]])}
    values = {name: metric.value for name, metric in eval_step(state, batch).items()}
    others = {name: metric.value for name, metric in eval_step(state, other).items()}
    assert values == pytest.approx(others, rel=1e-5)
    assert {"loss", "sdr_db", "log_mel"} <= values.keys()


def test_codec_of_a_state_encodes():
    learner, _ = compiled()
    codec, params = learner.codec(), learner.codec_params(straight()[0][-1])
    tokens = codec.encode(params, tiny_learner.batch(0)["samples"])
    assert tokens.shape == (8, 64, 2)
    assert codec.decode(params, tokens).shape == (8, 512)
