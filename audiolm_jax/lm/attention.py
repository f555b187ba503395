"""Causal self-attention with T5's relative position bias, shared by all layers (AudioLM, section IV-B).

The bias depends on the distance between query and key alone, so it is carried as one row per head, `distance_bias`
float32[H, S], and laid out as a band matrix without a gather. Sequences are padded at their end only, so the causal
mask is the only mask that training needs.

`causal_attention` is what runs on CPU and fills the cache of generation: it cuts the queries into blocks, never
computes scores above the last key of a block, and has its own backward pass. Accelerators train with the kernels of
`flash_tpu` and `flash_gpu`; `flash_attention` chooses. `reference_attention` is the same function written plainly;
tests hold all of them equal to it in values and in gradients.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

# Finite, so that a masked score minus a masked maximum is never inf - inf.
MASKED = -1e30
# Attention weights of a layer are kept for the backward pass up to this size (of the full float32 square), because
# that is faster than computing them again; beyond it memory stays linear in S.
MOST_KEPT_BYTES = 64 * 2**20


def relative_bucket(distance: np.ndarray, num_buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of a distance to the past (T5, causal case).

    The first half of the buckets hold one distance each, the second half grow logarithmically up to `max_distance`,
    and everything further shares the last one.

    Args:
        distance: int[...], query position minus key position, not negative.
        num_buckets: number of buckets.
        max_distance: distance at which the last bucket begins to hold everything.

    Returns:
        int32[...] in 0 .. num_buckets - 1.
    """
    distance = np.asarray(distance)
    exact = num_buckets // 2
    scale = (num_buckets - exact) / math.log(max_distance / exact)
    logarithmic = exact + (np.log(np.maximum(distance, 1) / exact) * scale).astype(np.int32)
    return np.where(distance < exact, distance, np.minimum(logarithmic, num_buckets - 1)).astype(np.int32)


def distance_bias(table: jax.Array, length: int, num_buckets: int, max_distance: int) -> jax.Array:
    """Bias of every distance 0 .. length - 1: table float[buckets, H] to float32[H, length]."""
    bucket = relative_bucket(np.arange(length), num_buckets, max_distance)
    # A product with a constant, because on CPU its gradient is much cheaper than that of a gather.
    one_hot = jnp.asarray(bucket[None, :] == np.arange(num_buckets)[:, None], jnp.float32)
    return jnp.einsum("nh,ns->hs", table.astype(jnp.float32), one_hot, precision="highest")


def nearer_bias(bias: jax.Array, count: int) -> jax.Array:
    """The bias of distances 0 .. count - 1 when that of the last distance of all is subtracted from every one.

    Softmax does not see the difference, and all further distances then have no bias. float32[H, D], whose last entry
    is also that of all further distances, to float32[H, count].
    """
    nearer = (bias - bias[:, -1:])[:, :count]
    return jnp.pad(nearer, ((0, 0), (0, count - nearer.shape[1])))


def nearer_bias_gradient(d_nearer: jax.Array, distances: int) -> jax.Array:
    """Gradient of `bias` float32[H, distances] from that of scores summed by distance, float32[H, count].

    The gradient of a softmax sums to zero, so the last entry, which stands for any number of distances, gets minus
    the sum of all others.
    """
    nearer = d_nearer[:, : distances - 1]
    nearer = jnp.pad(nearer, ((0, 0), (0, distances - 1 - nearer.shape[1])))
    return jnp.concatenate([nearer, -jnp.sum(nearer, axis=1, keepdims=True)], axis=1)


def band_matrix(bias: jax.Array, start: int, size: int) -> jax.Array:
    """Rows start .. start + size - 1 of the bias matrix, keys 0 .. start + size - 1, the future masked.

    bias float32[H, S] -> float32[H, size, start + size]; entry (i, j) is bias[start + i - j].
    """
    num_heads, keys = bias.shape[0], start + size
    # Row i of a band matrix is one row read from a place that moves back by one: lay `size` copies of a row of
    # width keys + size end to end, and cut them at width keys + size - 1.
    row = jnp.concatenate(
        [jnp.flip(bias[:, :keys], axis=1), jnp.full((num_heads, size), MASKED, bias.dtype)], axis=1
    )
    width = keys + size
    rolled = jnp.roll(row, -(size - 1), axis=1)
    flat = jnp.broadcast_to(rolled[:, None], (num_heads, size, width)).reshape(num_heads, size * width)
    return flat[:, : size * (width - 1)].reshape(num_heads, size, width - 1)[:, :, :keys]


def _blocks(length: int, block: int) -> list[tuple[int, int]]:
    """(first query, number of queries) of every block."""
    return [(start, min(block, length - start)) for start in range(0, length, block)]


def _block_size(length: int) -> int:
    # At most eight blocks: 56 % of the full square remains, and the compiled program stays short.
    return max(64, -(-length // (8 * 64)) * 64)


def _scores(q: jax.Array, k: jax.Array, band: jax.Array) -> jax.Array:
    """q [B, H, q, K], k [B, H, k, K], band float32[H, q, k] -> float32[B, H, q, k]."""
    return jnp.einsum("bhqd,bhkd->bhqk", q, k, preferred_element_type=jnp.float32) + band[None]


def _forward(q, k, v, bias):
    """The output [B, H, S, K], and per block the weights before division, their sums and their shifts."""
    out, blocks = [], []
    for start, size in _blocks(q.shape[2], _block_size(q.shape[2])):
        end = start + size
        scores = _scores(q[:, :, start:end], k[:, :, :end], band_matrix(bias, start, size))
        highest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - highest).astype(v.dtype)
        total = jnp.sum(weights, axis=-1, keepdims=True, dtype=jnp.float32)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, v[:, :, :end], preferred_element_type=jnp.float32)
        # Dividing the K mixed values is cheaper than dividing up to S weights.
        out.append((mixed / total).astype(v.dtype))
        blocks.append((weights, total, highest))
    return jnp.concatenate(out, axis=2), blocks


@jax.custom_vjp
def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
    """softmax(q k^T + bias) v over the past and the present.

    Args:
        q, k, v: [B, H, S, K] in the compute dtype; q is already scaled.
        bias: float32[H, S], the bias of every distance (see `distance_bias`).

    Returns:
        [B, H, S, K] in the compute dtype; the softmax is float32.
    """
    return _forward(q, k, v, bias)[0]


def _causal_attention_fwd(q, k, v, bias):
    out, blocks = _forward(q, k, v, bias)
    if 4 * q.shape[0] * q.shape[1] * q.shape[2] ** 2 > MOST_KEPT_BYTES:
        # Kept, they would grow with S squared; they are computed again instead.
        blocks = [(None, total, highest) for _, total, highest in blocks]
    return out, (q, k, v, bias, out, blocks)


def _causal_attention_bwd(residuals, d_out):
    q, k, v, bias, out, blocks = residuals
    dtype = v.dtype
    delta = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    d_q = []
    d_k, d_v = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    d_bias = jnp.zeros_like(bias)
    cuts = _blocks(q.shape[2], _block_size(q.shape[2]))
    for (start, size), (weights, total, highest) in zip(cuts, blocks, strict=True):
        end = start + size
        q_block = q[:, :, start:end]
        band, band_vjp = jax.vjp(functools.partial(band_matrix, start=start, size=size), bias)
        if weights is None:
            weights = jnp.exp(_scores(q_block, k[:, :, :end], band) - highest).astype(dtype)
        # The weights are not divided by their sum; what they meet is.
        d_block = (d_out[:, :, start:end] / total).astype(dtype)
        d_weights = jnp.einsum("bhqd,bhkd->bhqk", d_block, v[:, :, :end], preferred_element_type=jnp.float32)
        d_scores = weights * (d_weights - delta[:, :, start:end] / total)
        d_bias += band_vjp(jnp.sum(d_scores, axis=0))[0]
        d_scores = d_scores.astype(dtype)
        d_q.append(jnp.einsum("bhqk,bhkd->bhqd", d_scores, k[:, :, :end], preferred_element_type=jnp.float32))
        d_k = d_k.at[:, :, :end].add(
            jnp.einsum("bhqk,bhqd->bhkd", d_scores, q_block, preferred_element_type=jnp.float32)
        )
        d_v = d_v.at[:, :, :end].add(
            jnp.einsum("bhqk,bhqd->bhkd", weights, d_block, preferred_element_type=jnp.float32)
        )
    return jnp.concatenate(d_q, axis=2).astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), d_bias


causal_attention.defvjp(_causal_attention_fwd, _causal_attention_bwd)


def reference_attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
    """`causal_attention`, written as its definition; for tests."""
    scores = _scores(q, k, band_matrix(bias, 0, q.shape[2]))
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bhqk,bhkd->bhqd", weights, v)
