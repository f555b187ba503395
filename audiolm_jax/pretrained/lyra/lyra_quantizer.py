"""The residual quantizer of Lyra V2: many levels of few entries, of which neighbouring ones can be one token.

A token of N joined levels is a number of N digits, the first level's digit first. `codebooks` is float32[levels, K, D].
"""

import jax
import jax.numpy as jnp

from audiolm_jax.nearest import first_of_the_best


def encode(codebooks: jax.Array, latents: jax.Array, num_quantizers: int, join_levels: int) -> jax.Array:
    """Tokens int32[B, F, num_quantizers] of latents float32[B, F, D]."""

    def level(residual, codebook):
        distances = jnp.sum(jnp.square(residual[..., None, :] - codebook), axis=-1)
        codes = first_of_the_best(-distances)
        # The reference takes away the entry as rounded by its straight-through gradient.
        return residual - (residual + (codebook[codes] - residual)), codes

    codes = jax.lax.scan(level, latents, codebooks[: num_quantizers * join_levels])[1]
    digits = codes.reshape(num_quantizers, join_levels, *codes.shape[1:])
    tokens = jnp.tensordot(_places(codebooks, join_levels), digits, ((0,), (1,)))
    return jnp.moveaxis(tokens, 0, -1)


def decode(codebooks: jax.Array, tokens: jax.Array, join_levels: int) -> jax.Array:
    """Latents float32[B, F, D] of tokens int32[B, F, q]: the sum of their entries, level after level."""
    digits = tokens[..., None] // _places(codebooks, join_levels) % codebooks.shape[1]
    codes = digits.reshape(*tokens.shape[:2], -1)

    def level(total, inputs):
        codebook, chosen = inputs
        return total + codebook[chosen], None

    used = codebooks[: codes.shape[-1]]
    start = jnp.zeros((*tokens.shape[:2], codebooks.shape[-1]), codebooks.dtype)
    return jax.lax.scan(level, start, (used, jnp.moveaxis(codes, -1, 0)))[0]


def _places(codebooks: jax.Array, join_levels: int) -> jax.Array:
    """What a digit of each of the joined levels counts, int32[join_levels]."""
    return jnp.asarray([codebooks.shape[1] ** place for place in reversed(range(join_levels))], jnp.int32)
