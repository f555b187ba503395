"""The split quantizer of Mimi: a semantic and an acoustic residual quantizer of the same latents, side by side.

Parameters are "codebooks" float32[levels, N, D_q], the semantic levels first, and for each of the two quantizers the
projections "input" [D, D_q] and "output" [D_q, D] in "projections".
"""

from typing import Any

import jax
import jax.numpy as jnp

from audiolm_jax.nearest import nearest

SEMANTIC, ACOUSTIC = "semantic", "acoustic"


def encode(params: Any, latents: jax.Array, num_semantic: int, num_quantizers: int) -> jax.Array:
    """Tokens int32[B, F, num_quantizers] of latents float32[B, F, D], the semantic levels first."""
    codebooks, projections = params["codebooks"], params["projections"]

    def level(residual, index):
        codebook = codebooks[index]
        tokens = nearest(residual, codebook)
        return residual - codebook[tokens], tokens

    tokens = []
    for name, first, end in ((SEMANTIC, 0, num_semantic), (ACOUSTIC, num_semantic, num_quantizers)):
        if first < end:
            residual = jnp.matmul(latents, projections[name]["input"], precision=jax.lax.Precision.HIGHEST)
            tokens.append(jax.lax.scan(level, residual, jnp.arange(first, end))[1])
    return jnp.moveaxis(jnp.concatenate(tokens), 0, -1)


def decode(params: Any, tokens: jax.Array, num_semantic: int) -> jax.Array:
    """Latents float32[B, F, D] of tokens int32[B, F, q] of the first q levels: the sum of what both quantizers give."""
    codebooks, projections = params["codebooks"], params["projections"]
    levels = jnp.arange(tokens.shape[-1])
    entries = codebooks[levels, tokens]
    latents = jnp.sum(entries[..., :num_semantic, :], axis=-2) @ projections[SEMANTIC]["output"]
    if tokens.shape[-1] > num_semantic:
        latents += jnp.sum(entries[..., num_semantic:, :], axis=-2) @ projections[ACOUSTIC]["output"]
    return latents
