"""The codec's training step: what it changes and when, resumed as straight, evaluation."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from audiolm_jax.codec import losses
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.training.optimization.optimizers import adam
from audiolm_jax.training.saved.checkpoints import Checkpoints
from tests.codec import tiny_learner

NUM_STEPS = 6


def tiny(**changes):
    settings = {"quantizer_start_step": 2, "discriminator_start_step": 3, "average_decay": 0.5} | changes
    return tiny_learner.tiny_learner(adam(1e-3, 2, 100), **settings)


@functools.cache
def compiled():
    """A learner, its jitted train step, and what it does before a step."""
    learner = tiny()
    return learner, jax.jit(learner.train_step, static_argnames="phase"), starter(learner)


def starter(learner):
    """(state, step) -> the state that the step begins with."""

    def start(state, step):
        count = learner.start_batches(step, tiny_learner.batch(0))
        latents = [learner.start_features(state, tiny_learner.batch(step + index)) for index in range(count)]
        return learner.start(state, latents, jax.random.key(step)) if count else state

    return start


def run(state, first, last):
    """(states, metrics) after each of the steps first..last - 1."""
    learner, train_step, start = compiled()
    states, metrics = [], []
    for index in range(first, last):
        rng = jax.random.fold_in(jax.random.key(7), index)
        state = start(state, index)
        state, step_metrics = train_step(state, tiny_learner.batch(index), rng, phase=learner.phase(index))
        states.append(state)
        metrics.append({name: metric.value for name, metric in step_metrics.items()})
    return states, metrics


@functools.cache
def straight():
    learner, _, _ = compiled()
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
        assert ("adversarial" in metrics[index]) == ("discriminator" in metrics[index]) == (index >= 3)
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
    learner, _, _ = compiled()
    state = straight()[0][-1]
    eval_step = jax.jit(learner.eval_step)
    batch = tiny_learner.batch(50) | {"example_weights": np.array([1, 1, 1, 0, 0, 0, 0, 0], np.float32)}
    other = batch | {"samples": np.concatenate([batch["samples"][:3], batch["samples"][:5]])}
    values = {name: metric.value for name, metric in eval_step(state, batch).items()}
    others = {name: metric.value for name, metric in eval_step(state, other).items()}
    assert values == pytest.approx(others, rel=1e-5)
    assert {"loss", "sdr_db", "log_mel"} <= values.keys()


def test_codec_of_a_state_encodes():
    learner, _, _ = compiled()
    codec, params = learner.codec(), learner.codec_params(straight()[0][-1])
    tokens = codec.encode(params, tiny_learner.batch(0)["samples"])
    assert tokens.shape == (8, 64, 2)
    assert codec.decode(params, tokens).shape == (8, 512)


def test_a_codec_for_piano_can_be_trained():
    config = dataclasses.replace(tiny_learner.CONFIG, num_quantizers=3, codebook_size=16384)
    learner = dataclasses.replace(tiny(), config=config, quantizer_settings=QuantizerSettings())
    batch = tiny_learner.batch(0)
    state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    latents = learner.start_batches(2, batch) * batch["samples"].size // learner.config.hop_samples
    assert latents >= 8 * 16384
    stacked = [jax.ShapeDtypeStruct((latents, learner.config.embed_dim), np.float32)]
    started = jax.eval_shape(learner.start, state, stacked, jax.random.key(1))
    assert started.collections["codebooks"].entries.shape == (3, 16384, 4)
    step = functools.partial(learner.train_step, phase=learner.phase(3))
    after, _ = jax.eval_shape(step, started, batch, jax.random.key(2))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert sum(leaf.size for leaf in jax.tree.leaves(after.collections["codebooks"])) < 2.3 * 3 * 16384 * 4


def test_the_start_is_computed_once_and_from_the_coming_batches():
    learner, _, start = compiled()
    state = straight()[0][2]
    assert [learner.start_batches(step, tiny_learner.batch(0)) for step in range(5)] == [0, 0, 1, 0, 0]
    entries = start(state, 2).collections["codebooks"].entries
    latents = learner.start_features(state, tiny_learner.batch(2))
    distance = np.abs(np.mean(entries[0], axis=0) - np.mean(latents, axis=0)).max()
    assert distance < np.std(latents)
    # Codebooks that came from another run are kept.
    again = learner.start(straight()[0][-1], [latents], jax.random.key(0))
    assert not differ(again.collections, straight()[0][-1].collections)


def test_what_is_exported_is_the_average_of_weights_and_codebooks():
    learner, _, start = compiled()
    states, _ = straight()
    average = states[0].params["generator"] | {"codebooks": np.zeros((2, 8, 4))}
    for step, after in enumerate(states[1:]):
        if step == 2:  # they begin with the k-means start, not with the zeros before it
            average["codebooks"] = start(states[2], 2).collections["codebooks"].entries
        decay = min(0.5, (1 + step) / (10 + step))
        current = after.params["generator"] | {"codebooks": after.collections["codebooks"].entries}
        average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, current)
    exported = learner.codec_params(states[-1])
    for part in ("encoder", "decoder", "codebooks"):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), exported[part], average[part])
    assert differ(exported["decoder"], states[-1].params["generator"]["decoder"])


def test_one_judgement_serves_generator_and_discriminators():
    """Against two separate losses, each differentiated for itself."""
    learner, _, _ = compiled()
    state, samples = straight()[0][-1], tiny_learner.batch(9)["samples"]
    decoded, params = 0.9 * samples, state.params["discriminators"]

    def judge(params, clip):
        return learner.discriminators.apply({"params": params}, clip)

    def generator_loss(decoded):
        real, made = judge(params, samples), judge(params, decoded)
        weights = learner.loss_weights
        return weights.adversarial * losses.adversarial_loss(made) + weights.feature * losses.feature_loss(real, made)

    def discriminator_loss(params):
        return losses.discriminator_loss(judge(params, samples), judge(params, decoded))

    judged = learner._judge(params, samples, decoded)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7)
    close(judged.decoded_gradient, jax.grad(generator_loss)(decoded))
    jax.tree.map(close, judged.gradient, jax.grad(discriminator_loss)(params))
