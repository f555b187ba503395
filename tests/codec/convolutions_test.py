"""The activation of the codec."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.codec.convolutions import elu


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-7), (jnp.bfloat16, 0.0)])
def test_elu_and_its_gradient(dtype, tolerance):
    x = jnp.asarray([-1e30, -100.0, -3.0, -1e-3, -0.0, 0.0, 1e-3, 2.0, 100.0, 1e30], dtype)
    wide = x.astype(jnp.float32)
    assert elu(x).dtype == dtype
    np.testing.assert_allclose(elu(x), nn.elu(wide).astype(dtype), atol=tolerance, rtol=0)
    gradient = jax.grad(lambda x: elu(x).sum())(wide)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: nn.elu(x).sum())(wide), atol=2e-7, rtol=0)
