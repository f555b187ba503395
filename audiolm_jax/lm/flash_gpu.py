"""Causal attention with a bias of the distance as Pallas kernels for GPU (Triton): forward, and three for backward.

Neither scores nor a bias of [S, S] ever lie in memory. Sequences are cut into blocks of `block` positions; a program
holds one block of one head in registers and walks over the other blocks that it meets, never over tiles of scores that
lie wholly in the future:

    forward, d_q: one query block, over its keys       d_k and d_v: one key block, over its queries

The bias is constant from some distance on and, as softmax ignores a constant, is taken to be 0 there: only tiles near
the diagonal read it, from the vector of distances, which stays in the cache of the processor. Its gradient is a kernel
of its own over those near tiles: a program holds one of them and walks over the rows of the batch, so that nothing is
added up atomically and a step gives the same bits every time. What is left, [H, S, near tiles], is added up along its
diagonals by XLA.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from audiolm_jax.lm.attention import MASKED, band_matrix, nearer_bias, nearer_bias_gradient

# Blocks are smaller for wide heads, so that a program stays within the 160 KB of shared memory of an A100: 115 KB is
# the most that any of the kernels takes, with float32 heads of 64.
MOST_BLOCK = 64
MOST_BLOCK_BYTES = 64 * 256
# The narrowest operand of a Triton product.
LEAST_WIDTH = 16


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """How [B, S, H * K] is cut.

    Attributes:
        batch, heads: B, H.
        head_dim: K, padded to a power of two.
        block: positions of a block.
        count: blocks of the padded sequence.
        near: tiles next to the diagonal, itself included, that have a bias.
    """

    batch: int
    heads: int
    head_dim: int
    block: int
    count: int
    near: int

    @property
    def length(self) -> int:
        return self.block * self.count


def _tiling(q: jax.Array, bias: jax.Array, block: int | None) -> _Tiling:
    """The cut of arrays like q [B, S, H * K]."""
    (batch, length, width), (heads, distances) = q.shape, bias.shape
    head_dim = max(LEAST_WIDTH, pl.next_power_of_2(width // heads))
    size = block or max(LEAST_WIDTH, min(MOST_BLOCK, MOST_BLOCK_BYTES // (head_dim * q.dtype.itemsize)))
    count = -(-length // size)
    # Tile d holds the distances d * size - size + 1 .. d * size + size - 1; the far bias begins at distances - 1.
    near = max(1, min(count, -(-(distances - 1 + size - 1) // size)))
    return _Tiling(batch, heads, head_dim, size, count, near)


def _padded(x: jax.Array, tiling: _Tiling) -> jax.Array:
    """[B, S, H * K] to [B, whole blocks, H * padded K]."""
    batch, length, width = x.shape
    extra = tiling.head_dim - width // tiling.heads
    x = x.reshape(batch, length, tiling.heads, -1)
    x = jnp.pad(x, ((0, 0), (0, tiling.length - length), (0, 0), (0, extra)))
    return x.reshape(batch, tiling.length, -1)


def _cut(x: jax.Array, tiling: _Tiling, shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `_padded`."""
    batch, length, width = shape
    x = x.reshape(batch, tiling.length, tiling.heads, -1)[:, :length, :, : width // tiling.heads]
    return x.reshape(shape)


def _rows(tiling: _Tiling, index) -> pl.Slice:
    return pl.ds(index * tiling.block, tiling.block)


def _scores(tiling: _Tiling, bias_ref, q, k, distance, near: bool):
    """q [q, K], k [k, K] to float32[q, k], with bias and mask in the tile that is `distance` from the diagonal."""
    scores = plgpu.dot(q, k, trans_b=True)
    if not near:
        return scores
    places = jnp.arange(tiling.block)
    past = distance * tiling.block + places[:, None] - places[None, :]
    return jnp.where(past >= 0, scores + bias_ref[jnp.maximum(past, 0)], MASKED)


def _forward_kernel(tiling, bias_ref, q_ref, k_ref, v_ref, out_ref, log_sum_ref):
    query = pl.program_id(2)
    q = q_ref[...]

    def step(near, key, carry):
        mixed, top, total = carry
        k, v = k_ref[_rows(tiling, key)], v_ref[_rows(tiling, key)]
        scores = _scores(tiling, bias_ref, q, k, query - key, near)
        new_top = jnp.maximum(top, jnp.max(scores, axis=1))
        weights, shrink = jnp.exp(scores - new_top[:, None]), jnp.exp(top - new_top)
        mixed = mixed * shrink[:, None] + plgpu.dot(weights.astype(v.dtype), v)
        return mixed, new_top, total * shrink + jnp.sum(weights, axis=1)

    carry = (
        jnp.zeros((tiling.block, tiling.head_dim), jnp.float32),
        jnp.full(tiling.block, MASKED, jnp.float32),
        jnp.zeros(tiling.block, jnp.float32),
    )
    first_near = jnp.maximum(query - tiling.near + 1, 0)
    carry = lax.fori_loop(0, first_near, functools.partial(step, False), carry)
    mixed, top, total = lax.fori_loop(first_near, query + 1, functools.partial(step, True), carry)
    out_ref[...] = (mixed / total[:, None]).astype(out_ref.dtype)
    log_sum_ref[...] = top + jnp.log(total)


def _d_scores(scores, log_sum, delta, d_out, v):
    """Weights and the gradient of scores, float32[q, k]."""
    weights = jnp.exp(scores - log_sum[:, None])
    return weights, weights * (plgpu.dot(d_out, v, trans_b=True) - delta[:, None])


def _d_q_kernel(tiling, bias_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_q_ref):
    query = pl.program_id(2)
    q, d_out, log_sum, delta = q_ref[...], d_out_ref[...], log_sum_ref[...], delta_ref[...]

    def step(near, key, d_q):
        k, v = k_ref[_rows(tiling, key)], v_ref[_rows(tiling, key)]
        scores = _scores(tiling, bias_ref, q, k, query - key, near)
        _, d_scores = _d_scores(scores, log_sum, delta, d_out, v)
        return d_q + plgpu.dot(d_scores.astype(k.dtype), k)

    d_q = jnp.zeros((tiling.block, tiling.head_dim), jnp.float32)
    first_near = jnp.maximum(query - tiling.near + 1, 0)
    d_q = lax.fori_loop(0, first_near, functools.partial(step, False), d_q)
    d_q = lax.fori_loop(first_near, query + 1, functools.partial(step, True), d_q)
    d_q_ref[...] = d_q.astype(d_q_ref.dtype)


def _d_kv_kernel(tiling, bias_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_k_ref, d_v_ref):
    key = pl.program_id(2)
    k, v = k_ref[...], v_ref[...]

    def step(near, query, carry):
        d_k, d_v = carry
        rows = _rows(tiling, query)
        q, d_out = q_ref[rows], d_out_ref[rows]
        scores = _scores(tiling, bias_ref, q, k, query - key, near)
        weights, d_scores = _d_scores(scores, log_sum_ref[rows], delta_ref[rows], d_out, v)
        d_k += plgpu.dot(d_scores.astype(q.dtype), q, trans_a=True)
        return d_k, d_v + plgpu.dot(weights.astype(d_out.dtype), d_out, trans_a=True)

    zero = jnp.zeros((tiling.block, tiling.head_dim), jnp.float32)
    first_far = jnp.minimum(key + tiling.near, tiling.count)
    carry = lax.fori_loop(key, first_far, functools.partial(step, True), (zero, zero))
    d_k, d_v = lax.fori_loop(first_far, tiling.count, functools.partial(step, False), carry)
    d_k_ref[...], d_v_ref[...] = d_k.astype(d_k_ref.dtype), d_v.astype(d_v_ref.dtype)


def _d_bias_kernel(tiling, bias_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref, d_tile_ref):
    # The last of the near tiles of a row is the one on the diagonal.
    query, distance = pl.program_id(1), tiling.near - 1 - pl.program_id(2)
    rows, keys = _rows(tiling, query), _rows(tiling, jnp.maximum(query - distance, 0))

    def step(row, d_tile):
        q, k = q_ref[row, rows], k_ref[row, keys]
        scores = _scores(tiling, bias_ref, q, k, distance, near=True)
        log_sum, delta = log_sum_ref[row, rows], delta_ref[row, rows]
        return d_tile + _d_scores(scores, log_sum, delta, d_out_ref[row, rows], v_ref[row, keys])[1]

    # Left of the first block there is nothing.
    batch = jnp.where(query >= distance, jnp.int32(tiling.batch), jnp.int32(0))
    d_tile_ref[...] = lax.fori_loop(0, batch, step, jnp.zeros((tiling.block, tiling.block), jnp.float32))


def _specs(tiling: _Tiling) -> dict[str, pl.BlockSpec]:
    """Blocks of programs (row, head, block): arrays [B, S, H * K] and scalars [B, H, S], of a block or of all."""
    return {
        "bias": pl.BlockSpec((None, tiling.near * tiling.block), lambda row, head, block: (head, 0)),
        "block": pl.BlockSpec((None, tiling.block, tiling.head_dim), lambda row, head, block: (row, block, head)),
        "all": pl.BlockSpec((None, tiling.length, tiling.head_dim), lambda row, head, block: (row, 0, head)),
        "block_scalars": pl.BlockSpec((None, None, tiling.block), lambda row, head, block: (row, head, block)),
        "all_scalars": pl.BlockSpec((None, None, tiling.length), lambda row, head, block: (row, head, 0)),
    }


def _call(kernel, name, tiling, grid, in_specs, out_specs, out_shape, interpret):
    return pl.pallas_call(
        functools.partial(kernel, tiling),
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name=name,
    )


def forward(q, k, v, bias, *, block: int | None = None, interpret: bool = False) -> tuple[jax.Array, jax.Array]:
    """softmax(q k^T + bias) v over the past and the present.

    Args:
        q, k, v: [B, S, H * K] in the compute dtype; q is already scaled.
        bias: float32[H, D], the bias of every distance; the last entry also of all further ones.
        block: positions of a block, a power of two of at least 16; None to choose.
        interpret: run as plain JAX on any device, for tests.

    Returns:
        out [B, S, H * K] and log_sum float32[B, H, S], the logarithm of the softmax's denominator when the bias of
        the last distance is subtracted from all.
    """
    tiling = _tiling(q, bias, block)
    specs = _specs(tiling)
    padded = [_padded(x, tiling) for x in (q, k, v)]
    out, log_sum = _call(
        _forward_kernel,
        "distance_attention_forward",
        tiling,
        (tiling.batch, tiling.heads, tiling.count),
        in_specs=[specs[name] for name in ("bias", "block", "all", "all")],
        out_specs=[specs["block"], specs["block_scalars"]],
        out_shape=[
            jax.ShapeDtypeStruct(padded[2].shape, v.dtype),
            jax.ShapeDtypeStruct((tiling.batch, tiling.heads, tiling.length), jnp.float32),
        ],
        interpret=interpret,
    )(nearer_bias(bias, tiling.near * tiling.block), *padded)
    return _cut(out, tiling, q.shape), log_sum[:, :, : q.shape[1]]


def backward(
    q, k, v, bias, out, log_sum, d_out, *, block: int | None = None, interpret: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Gradients of `forward`'s q, k, v and bias from its arguments, its results and the gradient of `out`."""
    tiling = _tiling(q, bias, block)
    specs = _specs(tiling)
    batch, length, _ = q.shape
    products = d_out.astype(jnp.float32) * out.astype(jnp.float32)
    delta = jnp.sum(products.reshape(batch, length, tiling.heads, -1), axis=-1).transpose(0, 2, 1)
    beyond = ((0, 0), (0, 0), (0, tiling.length - length))
    arguments = (
        nearer_bias(bias, tiling.near * tiling.block),
        *(_padded(x, tiling) for x in (q, k, v, d_out)),
        jnp.pad(log_sum, beyond),
        jnp.pad(delta, beyond),
    )
    grid = (tiling.batch, tiling.heads, tiling.count)
    like_q, like_k, like_v = (jax.ShapeDtypeStruct(arguments[1].shape, x.dtype) for x in (q, k, v))
    d_q = _call(
        _d_q_kernel, "distance_attention_d_q", tiling, grid,
        in_specs=[
            specs[name] for name in ("bias", "block", "all", "all", "block", "block_scalars", "block_scalars")
        ],
        out_specs=specs["block"], out_shape=like_q, interpret=interpret,
    )(*arguments)  # fmt: skip
    d_k, d_v = _call(
        _d_kv_kernel, "distance_attention_d_kv", tiling, grid,
        in_specs=[specs[name] for name in ("bias", "all", "block", "block", "all", "all_scalars", "all_scalars")],
        out_specs=[specs["block"], specs["block"]], out_shape=[like_k, like_v], interpret=interpret,
    )(*arguments)  # fmt: skip
    d_bias = _d_bias(tiling, arguments, interpret)
    return *(_cut(x, tiling, q.shape) for x in (d_q, d_k, d_v)), nearer_bias_gradient(d_bias, bias.shape[1])


def _d_bias(tiling: _Tiling, arguments: tuple[jax.Array, ...], interpret: bool) -> jax.Array:
    """float32[H, near * block]: the gradient of scores, summed over the batch and by distance."""
    width = tiling.near * tiling.block
    whole = pl.BlockSpec((tiling.batch, tiling.length, tiling.head_dim), lambda head, block, tile: (0, 0, head))
    scalars = pl.BlockSpec((tiling.batch, None, tiling.length), lambda head, block, tile: (0, head, 0))
    d_tiles = _call(
        _d_bias_kernel, "distance_attention_d_bias", tiling, (tiling.heads, tiling.count, tiling.near),
        in_specs=[
            pl.BlockSpec((None, width), lambda head, block, tile: (head, 0)), *(whole,) * 4, *(scalars,) * 2
        ],
        out_specs=pl.BlockSpec(
            (None, None, tiling.block, tiling.block), lambda head, block, tile: (head, block, 0, tile)
        ),
        out_shape=jax.ShapeDtypeStruct((tiling.heads, tiling.count, tiling.block, width), jnp.float32),
        interpret=interpret,
    )(*arguments)  # fmt: skip
    # The near tiles of any row of blocks, side by side, are the last rows of a band matrix of their width.
    rows = functools.partial(band_matrix, start=width - tiling.block, size=tiling.block)
    _, transposed = jax.vjp(rows, jnp.zeros((tiling.heads, width), jnp.float32))
    return transposed(jnp.sum(d_tiles, axis=1))[0]
