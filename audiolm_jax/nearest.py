"""The nearest entry of a codebook: what turns a vector into a token, in codecs and in k-means."""

import jax
import jax.numpy as jnp


def nearest(vectors: jax.Array, codebook: jax.Array) -> jax.Array:
    """Index int32[...] of the codebook row (of [N, D]) nearest to each of vectors [..., D]; the first of several."""
    # |v|^2 is the same for every row, so it is left out of the distance. In full precision on every backend: rounded to
    # bfloat16, as accelerators multiply by default, one code in thirty of the last level would be another.
    products = jnp.matmul(vectors, codebook.T, precision=jax.lax.Precision.HIGHEST)
    return first_of_the_best(products - 0.5 * jnp.sum(jnp.square(codebook), axis=-1))


def first_of_the_best(scores: jax.Array) -> jax.Array:
    """Index int32[...] of the largest of scores [..., N], the first one of several.

    What argmax gives, in two plain reductions, which XLA vectorises on CPU.
    """
    best = jnp.max(scores, axis=-1, keepdims=True)
    index = jnp.arange(scores.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(scores == best, index, scores.shape[-1] - 1), axis=-1)
