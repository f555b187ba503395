"""The residual quantizer: start, averages, revival, dropout and gradients."""

import functools
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.errors import UserError
from audiolm_jax.nearest import nearest

LEVELS, ENTRIES, DIM = 3, 8, 4
SETTINGS = QuantizerSettings(kmeans_iterations=8)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def started_state(seed=0):
    codebooks = normal(LEVELS, ENTRIES, DIM, seed=seed)
    return quantizer.initial_state(LEVELS, ENTRIES, DIM).replace(
        entries=jnp.asarray(codebooks), sums=jnp.asarray(codebooks), counts=jnp.ones((LEVELS, ENTRIES)),
        started=jnp.ones((), bool),
    )


def test_nearest_is_the_entry_at_the_least_distance():
    vectors, codebook = normal(5, 7, DIM), normal(ENTRIES, DIM, seed=1)
    distances = np.square(vectors[:, :, None] - codebook).sum(axis=-1)
    np.testing.assert_array_equal(nearest(vectors, codebook), distances.argmin(axis=-1))


def test_nearest_is_computed_in_full_precision_on_every_backend():
    text = str(jax.make_jaxpr(nearest)(normal(5, DIM), normal(ENTRIES, DIM)))
    assert "dot_general" in text and text.count("Precision.HIGHEST") == 2


def test_every_level_encodes_what_the_levels_before_it_left():
    latents, codebooks = normal(2, 5, DIM), normal(LEVELS, ENTRIES, DIM, seed=1)
    tokens = np.asarray(quantizer.encode(latents, codebooks))
    residual = latents
    for level in range(LEVELS):
        np.testing.assert_array_equal(tokens[:, :, level], nearest(residual, codebooks[level]))
        residual = residual - codebooks[level][tokens[:, :, level]]
        np.testing.assert_allclose(
            quantizer.decode(tokens[:, :, : level + 1], codebooks), latents - residual, atol=1e-5
        )


def test_start_is_kmeans_on_the_latents():
    centres = 10 * normal(4, DIM, seed=2)
    latents = (centres[np.arange(64) % 4] + 0.01 * normal(64, DIM)).astype(np.float32)
    state = quantizer.initial_state(1, 16, DIM)
    assert not state.started
    state = quantizer.kmeans_start(state, latents, jax.random.key(0), SETTINGS)
    assert state.started
    entries = np.asarray(state.entries[0])
    distances = np.linalg.norm(latents[:, None] - entries, axis=-1).min(axis=-1)
    assert distances.max() < 0.2
    np.testing.assert_allclose(state.sums, state.entries * state.counts[..., None], rtol=1e-6)
    assert (np.asarray(state.counts) >= 1).all()


def test_start_in_chunks_is_the_start_as_a_whole(monkeypatch):
    latents = normal(300, DIM)
    state = quantizer.initial_state(LEVELS, 16, DIM)
    whole = quantizer.kmeans_start(state, latents, jax.random.key(0), SETTINGS)
    monkeypatch.setattr(quantizer, "_SCORES_AT_ONCE", 16 * 7)
    chunked = quantizer.kmeans_start(state, latents, jax.random.key(0), SETTINGS)
    np.testing.assert_allclose(chunked.entries, whole.entries, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(chunked.counts, whole.counts)


def test_start_of_a_large_codebook_holds_no_score_of_every_pair():
    state = jax.eval_shape(lambda: quantizer.initial_state(3, 16384, 8))
    latents = jax.ShapeDtypeStruct((8 * 16384, 8), jnp.float32)
    start = functools.partial(quantizer.kmeans_start, settings=QuantizerSettings())
    jaxpr = jax.make_jaxpr(start)(state, latents, jax.random.key(0))
    assert largest(jaxpr.jaxpr) <= 1 << 26


def largest(jaxpr) -> int:
    """Elements of the largest array that a program makes, inner programs included."""
    sizes = [math.prod(var.aval.shape) for equation in jaxpr.eqns for var in equation.outvars]
    values = [value for equation in jaxpr.eqns for value in jax.tree.leaves(list(equation.params.values()))]
    inner = [getattr(value, "jaxpr", value) for value in values if hasattr(value, "jaxpr") or hasattr(value, "eqns")]
    return max(sizes + [largest(each) for each in inner])


def test_start_takes_several_latents_for_each_entry():
    assert QuantizerSettings().num_start_latents(1024) == 8192
    assert QuantizerSettings().num_start_latents(16384) == 131072
    assert QuantizerSettings(start_latents=2000).num_start_latents(1024) == 2000
    with pytest.raises(UserError, match="START_LATENTS is 1000, but 1024 entries"):
        QuantizerSettings(start_latents=1000).num_start_latents(1024)


def test_average_of_one_level_by_hand():
    entries, counts = normal(3, DIM), np.array([2.0, 3.0, 4.0], np.float32)
    vectors, tokens = normal(4, DIM, seed=1), np.array([0, 0, 2, 2])
    weights = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
    new_entries, new_sums, new_counts = quantizer.ema_update(
        entries, entries * counts[:, None], counts, vectors, tokens, weights, jax.random.key(0), SETTINGS
    )
    np.testing.assert_allclose(new_counts, [0.99 * 2 + 0.01 * 2, 0.99 * 3, 0.99 * 4 + 0.01], rtol=1e-6)
    first = 0.99 * 2 * entries[0] + 0.01 * (vectors[0] + vectors[1])
    last = 0.99 * 4 * entries[2] + 0.01 * vectors[2]
    np.testing.assert_allclose(new_sums, [first, 0.99 * 3 * entries[1], last], rtol=1e-5)
    np.testing.assert_allclose(new_entries, new_sums / new_counts[:, None], rtol=1e-6)


def test_revival_takes_a_vector_of_the_batch_and_resets_sums_and_counts():
    entries = np.concatenate([np.full((1, DIM), 100.0), normal(3, DIM)]).astype(np.float32)
    counts = np.array([1e-3, 5.0, 5.0, 5.0], np.float32)
    vectors = normal(6, DIM, seed=1)
    weights = np.array([0, 1, 1, 1, 1, 1], np.float32)
    tokens = np.array([1, 1, 2, 2, 3, 3])
    update = functools.partial(
        quantizer.ema_update, vectors=vectors, tokens=tokens, weights=weights, settings=SETTINGS
    )
    for seed in range(8):
        revived, sums, new_counts = update(entries, entries * counts[:, None], counts, rng=jax.random.key(seed))
        matches = np.flatnonzero((np.asarray(revived[0]) == vectors).all(axis=1))
        assert len(matches) == 1 and matches[0] != 0, "a vector of weight 0 must not be chosen"
        assert new_counts[0] > 1
        np.testing.assert_allclose(sums[0], revived[0] * new_counts[0], rtol=1e-5)
    # Nothing is assigned to the revived entry, and still it stays where it is.
    later, _, _ = update(revived, sums, new_counts, rng=jax.random.key(9))
    np.testing.assert_allclose(later[0], revived[0], rtol=1e-5)


def test_each_example_uses_its_own_number_of_levels():
    state, latents = started_state(), normal(3, 5, DIM, seed=1)
    quantized = quantizer.quantize(latents, state.entries, jnp.array([1, 3, 2]))
    np.testing.assert_array_equal(quantized.used, [[1, 0, 0], [1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(quantized.tokens, quantizer.encode(latents, state.entries))
    for row, num_levels in enumerate([1, 3, 2]):
        expected = quantizer.decode(quantized.tokens[row, :, :num_levels], state.entries)
        np.testing.assert_allclose(quantized.latents[row], expected, atol=1e-5)


def test_unused_levels_do_not_learn():
    state, latents = started_state(), normal(2, 5, DIM, seed=1)
    quantized = quantizer.quantize(latents, state.entries, jnp.array([1, 1]))
    updated = quantizer.update(state, quantized, jax.random.key(0), SETTINGS)
    assert not np.allclose(updated.entries[0], state.entries[0])
    np.testing.assert_allclose(updated.entries[1:], state.entries[1:], rtol=1e-5)


def test_gradient_passes_straight_through():
    state, latents, direction = started_state(), normal(2, 5, DIM, seed=1), normal(2, 5, DIM, seed=2)

    def along(latents):
        return jnp.sum(quantizer.quantize(latents, state.entries, jnp.array([3, 2])).latents * direction)

    np.testing.assert_allclose(jax.grad(along)(latents), direction, rtol=1e-6)


def test_commitment_reaches_every_level_in_use():
    state, latents = started_state(), normal(1, 5, DIM, seed=1)
    gradients = [np.zeros_like(latents)]
    for num_levels in (1, 2, 3):
        commitment = lambda x: quantizer.quantize(x, state.entries, jnp.array([num_levels])).commitment  # noqa: B023, E731
        gradients.append(np.asarray(jax.grad(commitment)(latents)))
        tokens = quantizer.encode(latents, state.entries)[:, :, :num_levels]
        left = latents - np.asarray(quantizer.decode(tokens, state.entries))
        # What a level adds to the gradient is the pull towards the entry it chose.
        np.testing.assert_allclose(gradients[-1] - gradients[-2], 2 * left / left.size, atol=1e-6)
        assert np.abs(gradients[-1] - gradients[-2]).max() > 1e-3


def test_every_level_uses_its_codebook_after_some_steps():
    num_entries, settings = 32, QuantizerSettings(decay=0.9, kmeans_iterations=2)

    @jax.jit
    def step(state, rng):
        latents = jax.random.normal(rng, (4, 32, DIM))
        quantized = quantizer.quantize(latents, state.entries, jnp.array([1, 3, 3, 3]))
        return quantizer.update(state, quantized, rng, settings), quantized.tokens

    # Entries far from the data: all but one of a level would stay dead without revival.
    state = quantizer.initial_state(LEVELS, num_entries, DIM)
    state = state.replace(entries=state.entries + 50.0 + normal(LEVELS, num_entries, DIM), started=jnp.ones((), bool))
    seen = []
    for index in range(200):
        state, tokens = step(state, jax.random.fold_in(jax.random.key(0), index))
        seen.append(np.asarray(tokens))
    for level in range(LEVELS):
        counts = np.bincount(np.concatenate(seen[-20:])[..., level].ravel(), minlength=num_entries)
        shares = counts / counts.sum()
        assert (counts > 0).mean() > 0.9
        assert np.exp(-np.sum(shares * np.log(shares + 1e-9))) > 0.5 * num_entries


def test_codebooks_on_eight_devices_are_those_on_one():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.codec.sharded_codebooks"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().endswith("equal on 8 devices")
