"""Snake: its squared sine against the one of NumPy, near and far from zero."""

import jax
import numpy as np

from audiolm_jax.pretrained.dac.snake import EPSILON, Snake, squared_sine


def test_squared_sine():
    rng = np.random.default_rng(0)
    for reach, tolerance in ((1e-3, 1e-12), (4.0, 3e-7), (100.0, 3e-7), (1e4, 5e-7)):
        angle = rng.uniform(-reach, reach, 50_000).astype(np.float32)
        wanted = np.sin(angle.astype(np.float64)) ** 2
        np.testing.assert_allclose(jax.jit(squared_sine)(angle), wanted, rtol=0, atol=tolerance)


def test_squared_sine_is_as_good_relatively_near_zero_as_a_small_alpha_needs():
    angle = np.logspace(-15, 0, 1000).astype(np.float32)
    np.testing.assert_allclose(squared_sine(angle), np.sin(angle.astype(np.float64)) ** 2, rtol=4e-7)


def test_its_slope_is_that_of_the_squared_sine():
    angle = np.linspace(-20, 20, 997, dtype=np.float32)
    slope = jax.vmap(jax.grad(squared_sine))(angle)
    np.testing.assert_allclose(slope, np.sin(2 * angle.astype(np.float64)), atol=5e-6)


def test_every_channel_has_its_own_alpha():
    x = np.random.default_rng(1).normal(size=(2, 5, 4)).astype(np.float32)
    alpha = np.float32([1.7, -0.3, 0.0, 20.0])
    wanted = x + np.sin(alpha * x.astype(np.float64)) ** 2 / (alpha + EPSILON)
    np.testing.assert_allclose(Snake().apply({"params": {"alpha": alpha}}, x), wanted, atol=2e-6)
