"""Schedules and Adam against numbers computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.optimization.muon import convolution_matrices, muon, transformer_matrices
from audiolm_jax.training.optimization.optimizers import adam, learning_rate


def test_schedules_warm_up_to_the_peak_and_then_fall():
    rsqrt = learning_rate(1e-3, 100, 1000, "rsqrt")
    np.testing.assert_allclose([rsqrt(0), rsqrt(49), rsqrt(99), rsqrt(399)], [1e-5, 5e-4, 1e-3, 5e-4], rtol=1e-5)
    cosine = learning_rate(1e-3, 100, 1100, "cosine")
    np.testing.assert_allclose([cosine(99), cosine(599), cosine(1099)], [1e-3, 5.05e-4, 1e-5], rtol=1e-4)
    constant = learning_rate(1e-3, 100, 1000, "constant")
    np.testing.assert_allclose([constant(49), constant(5000)], [5e-4, 1e-3], rtol=1e-5)


def test_the_rate_falls_to_zero_over_the_cooldown():
    plain = learning_rate(1e-3, 100, 1000, "rsqrt")
    cooled = learning_rate(1e-3, 100, 1000, "rsqrt", cooldown_steps=200)
    assert [cooled(step) for step in (0, 50, 500, 800)] == [plain(step) for step in (0, 50, 500, 800)]
    np.testing.assert_allclose([cooled(900) / plain(900), cooled(999) / plain(999)], [0.5, 0.005], rtol=1e-5)
    assert cooled(1000) == 0.0


def test_an_unknown_schedule_is_named():
    with pytest.raises(UserError, match="rsqrt, cosine, constant"):
        learning_rate(1e-3, 1, 1, "linear")


def test_adams_first_step_is_the_learning_rate_in_every_direction():
    optimizer = adam(1e-2, 0, 10, "constant", clip_norm=None)
    params = {"kernel": jnp.array([1.0, -2.0])}
    updates, _ = optimizer.update({"kernel": jnp.array([0.3, -5.0])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-1e-2, 1e-2], rtol=1e-4)


def test_weight_decay_spares_biases_and_scales():
    optimizer = adam(1e-2, 0, 10, "constant", weight_decay=0.5)
    params = {"norm_scale": jnp.ones((2, 3)), "bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}
    gradients = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    assert float(jnp.abs(updates["norm_scale"]).max()) == float(jnp.abs(updates["bias"]).max()) == 0.0
    np.testing.assert_allclose(updates["kernel"], -5e-3, rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = adam(1.0, 0, 10, "constant", clip_norm=1.0)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = optimizer.init(params)
    _, state = optimizer.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, state, params)
    moments = state[1].mu
    np.testing.assert_allclose([moments["a"][0], moments["b"][0]], [0.06, 0.08], rtol=1e-5)


def test_muon_sees_the_kernels_as_matrices_and_leaves_vectors_to_adam():
    params = {
        "conv": {"kernel": jnp.ones((7, 4, 8)), "bias": jnp.ones(8)},
        "first": {"kernel": jnp.ones((7, 1, 8))},
    }
    matrices = convolution_matrices(params)
    assert matrices["conv"]["kernel"] is not None
    assert matrices["conv"]["bias"] is None and matrices["first"]["kernel"] is None
    stacked = {"qkv": jnp.ones((2, 8, 3, 2, 4)), "embedding": jnp.ones((128, 8))}
    matrices = transformer_matrices(stacked)
    assert matrices["qkv"] is not None and matrices["embedding"] is None

    optimizer = muon(1e-2, 0, 10, "constant")
    gradients = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    # An orthogonal update: all singular values of the matrix are about the same, whatever the gradient's are.
    matrix = np.asarray(updates["conv"]["kernel"]).reshape(28, 8)
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.max() / values.min() < 2
    np.testing.assert_allclose(np.sqrt(np.mean(matrix**2)), 0.2 * 1e-2, rtol=0.3)
