"""The residual quantizer of DAC: each level projects to a few dimensions and looks for the entry of the same direction.

`codebooks` is float32[levels, N, d]; `projections` is {"inward": to d dimensions, "outward": back to D}, each with a
kernel [levels, in, out] and a bias [levels, out].
"""

from typing import Any

import jax
import jax.numpy as jnp

from audiolm_jax.nearest import first_of_the_best

_LEAST_NORM = 1e-12
_EXACT = jax.lax.Precision.HIGHEST  # Small products whose rounding decides tokens; the default on TPU is coarser.


def _normalised(vectors: jax.Array) -> jax.Array:
    """vectors [..., d] of length one; zeros stay zeros."""
    norms = jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True))
    return vectors / jnp.maximum(norms, _LEAST_NORM)


def _nearest_direction(vectors: jax.Array, codebook: jax.Array) -> jax.Array:
    """Index int32[...] of the entry (of [N, d]) whose direction is nearest to that of each of vectors [..., d]."""
    vectors, codebook = _normalised(vectors), _normalised(codebook)
    # Summed in the order of the reference, so that near-ties are rounded to ties alike. That it adds the last term
    # only matters to entries of zeros, for which it is 0 and not 1.
    products = jnp.matmul(2.0 * vectors, codebook.T, precision=_EXACT)
    scores = -(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True) - products)
    return first_of_the_best(scores + jnp.sum(jnp.square(codebook), axis=-1))


def encode(params: Any, latents: jax.Array, num_quantizers: int) -> jax.Array:
    """Tokens int32[B, F, num_quantizers] of latents float32[B, F, D]."""

    def level(residual, weights):
        codebook, inward, outward = weights
        vectors = jnp.matmul(residual, inward["kernel"], precision=_EXACT) + inward["bias"]
        tokens = _nearest_direction(vectors, codebook)
        # The reference goes on with the entry as rounded by its straight-through gradient.
        entries = vectors + (codebook[tokens] - vectors)
        chosen = jnp.matmul(entries, outward["kernel"], precision=_EXACT) + outward["bias"]
        return residual - chosen, tokens

    projections = params["projections"]
    levels = (params["codebooks"], projections["inward"], projections["outward"])
    used = jax.tree.map(lambda array: array[:num_quantizers], levels)
    return jnp.moveaxis(jax.lax.scan(level, latents, used)[1], 0, -1)


def decode(params: Any, tokens: jax.Array) -> jax.Array:
    """Latents float32[B, F, D]: the sum of the projected entries that tokens int32[B, F, q] name."""
    num_levels = tokens.shape[-1]
    outward = params["projections"]["outward"]
    entries = params["codebooks"][jnp.arange(num_levels), tokens]
    latents = jnp.einsum("bfqd,qde->bfe", entries, outward["kernel"][:num_levels], precision=_EXACT)
    return latents + jnp.sum(outward["bias"][:num_levels], axis=0)
