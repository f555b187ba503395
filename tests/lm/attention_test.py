"""The attention that runs against its definition, and the relative bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.lm import attention as attention_module
from audiolm_jax.lm.attention import causal_attention, distance_bias, reference_attention, relative_bucket


def inputs(length):
    key = jax.random.key(length)
    q, k, v, weight = (jax.random.normal(jax.random.fold_in(key, i), (2, 3, length, 8)) for i in range(4))
    return (q, k, v, jax.random.normal(key, (3, length))), weight


# One block, two whole blocks, a shorter last block; with the weights kept and with the weights computed again.
@pytest.mark.parametrize(("length", "kept_bytes"), [(5, 0), (128, 2**30), (150, 0), (150, 2**30)])
def test_values_and_gradients_equal_the_reference(length, kept_bytes, monkeypatch):
    monkeypatch.setattr(attention_module, "MOST_KEPT_BYTES", kept_bytes)
    arguments, weight = inputs(length)

    def both(attention):
        def weighted(*args):
            out = attention(*args)
            return jnp.sum(out * weight), out

        return jax.jit(jax.value_and_grad(weighted, argnums=(0, 1, 2, 3), has_aux=True))(*arguments)

    (_, fast), fast_grads = both(causal_attention)
    (_, plain), plain_grads = both(reference_attention)
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    for ours, theirs in zip(fast_grads, plain_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4, rtol=1e-4)


def test_the_definition_by_hand():
    (q, k, v, bias), _ = inputs(6)
    out = reference_attention(q, k, v, bias)
    for i in range(6):
        scores = np.array([np.dot(q[1, 2, i], k[1, 2, j]) + bias[2, i - j] for j in range(i + 1)])
        shares = np.exp(scores - scores.max())
        np.testing.assert_allclose(out[1, 2, i], shares / shares.sum() @ np.asarray(v[1, 2, : i + 1]), atol=1e-5)


def test_large_scores_stay_finite():
    (q, k, v, bias), _ = inputs(5)
    grads = jax.grad(lambda *args: causal_attention(*args).sum(), argnums=(0, 1, 2, 3))(q * 1e4, k, v, bias)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_buckets_are_exact_then_logarithmic_then_one():
    bucket = relative_bucket(np.arange(400), num_buckets=32, max_distance=128)
    assert bucket[:16].tolist() == list(range(16))
    assert (np.diff(bucket) >= 0).all()
    assert bucket[127] == 31 and (bucket[128:] == 31).all()
    # 16 * (128 / 16) ** (j / 16) is where bucket 16 + j begins.
    for j in range(1, 16):
        begin = int(np.ceil(16 * 8 ** (j / 16) - 1e-9))
        assert bucket[begin] == 16 + j and bucket[begin - 1] == 15 + j


def test_bias_is_the_table_row_of_the_bucket():
    table = jax.random.normal(jax.random.key(0), (8, 3))
    bias = distance_bias(table, 50, num_buckets=8, max_distance=20)
    np.testing.assert_allclose(bias, np.asarray(table)[relative_bucket(np.arange(50), 8, 20)].T, rtol=1e-6)
