"""Causal attention with a bias of the distance as two Pallas kernels for TPU: forward, and backward.

Neither scores nor a bias of [S, S] ever lie in HBM. A sequence is cut into n blocks of `block` positions, which makes
n x n tiles of scores; a kernel visits the n (n + 1) / 2 tiles that are not wholly in the future, one per grid step
(the list of tiles is a scalar argument, so that a tile of the future costs nothing, not even an empty step):

    forward: query blocks from the top,         backward: key blocks from the left,
    of each the key blocks from the left        of each the query blocks from the diagonal down

      0 . . .                                     0 . . .
      1 2 . .                                     1 4 . .
      3 4 5 .                                     2 5 7 .
      6 7 8 9                                     3 6 8 9

The grid is (group of heads, row of the batch, tile). A group is as many heads as fill the 128 lanes of a register (two
of width 64), so that arrays stay [B, S, H * K] in HBM: no transposition on the way in or out, and no lane that only
pads. Inside, a tile is kept transposed, keys down and queries across: maximum, sum and logarithm of a query are then
rows that spread over the tile for free, and of the five products of the backward pass none needs a transposed tile.

The bias is bias[query - key] and constant from some distance on. Softmax ignores a constant, so the far one is
subtracted from all, and tiles beyond it have no bias at all. The others depend on the distance to the diagonal alone
and not on the row of the batch: they are made in VMEM once per group of heads, from a vector, by rolling row k of its
copies by k. Their gradient is summed in VMEM over blocks and batch, rolled back and added up column by column once
per group. The far entry's gradient is minus the sum of all others, because a softmax's gradient sums to zero.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from audiolm_jax.lm.attention import MASKED, nearer_bias_gradient
from audiolm_jax.lm.flash_tpu_bias import bias_rows, make_tiles, sum_tiles
from audiolm_jax.lm.flash_tpu_tiling import Tiling, cut, padded, per_query, tiles_in_order, tiling_of


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.dot(left, right, preferred_element_type=jnp.float32)


def _scores(keys: jax.Array, queries: jax.Array) -> jax.Array:
    """[k, K], [q, K] to float32[k, q]."""
    return jax.lax.dot_general(keys, queries, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def _near_or_far(tiling: Tiling, distance: jax.Array, tiles_ref, step):
    """Runs step(bias of a head: index -> [k, q] or None)."""
    pl.when(distance < tiling.near)(lambda: step(lambda head: tiles_ref[head, distance]))
    pl.when(distance >= tiling.near)(lambda: step(None))


def _forward_kernel(
    tiling, query_block, key_block, rows_ref, q_ref, k_ref, v_ref,
    out_ref, log_sum_ref, tiles_ref, mixed_ref, top_ref, sum_ref
):  # fmt: skip
    row, tile = pl.program_id(1), pl.program_id(2)
    query, key = query_block[tile], key_block[tile]
    pl.when((row == 0) & (tile == 0))(lambda: make_tiles(tiling, rows_ref, tiles_ref))

    @pl.when(key == 0)
    def _():
        mixed_ref[...] = jnp.zeros_like(mixed_ref)
        top_ref[...] = jnp.full_like(top_ref, MASKED)
        sum_ref[...] = jnp.zeros_like(sum_ref)

    def step(bias_of):
        q, k, v = q_ref[...], k_ref[...], v_ref[...]
        v_across = v.T
        for head in range(tiling.group):
            lanes, one = tiling.head(head), slice(head, head + 1)
            scores = _scores(k[:, lanes], q[:, lanes])
            scores = scores if bias_of is None else scores + bias_of(head)
            before = top_ref[one, :]
            top = jnp.maximum(before, jnp.max(scores, axis=0, keepdims=True))
            weights = jnp.exp(scores - top)
            shrink = jnp.exp(before - top)
            top_ref[one, :] = top
            sum_ref[one, :] = sum_ref[one, :] * shrink + jnp.sum(weights, axis=0, keepdims=True)
            mixed_ref[lanes, :] = mixed_ref[lanes, :] * shrink + _product(v_across[lanes], weights.astype(v.dtype))

    _near_or_far(tiling, query - key, tiles_ref, step)

    @pl.when(key == query)
    def _():
        for head in range(tiling.group):
            lanes, one = tiling.head(head), slice(head, head + 1)
            mixed_ref[lanes, :] = mixed_ref[lanes, :] / sum_ref[one, :]
            log_sum_ref[one, :] = top_ref[one, :] + jnp.log(sum_ref[one, :])
        out_ref[...] = mixed_ref[...].T.astype(out_ref.dtype)


def _backward_kernel(
    tiling, query_block, key_block, rows_ref, q_ref, k_ref, v_ref, d_out_ref, log_sum_ref, delta_ref,
    d_q_ref, d_k_ref, d_v_ref, d_rows_ref, tiles_ref, d_tiles_ref, d_q_sum, d_k_sum, d_v_sum
):  # fmt: skip
    row, tile = pl.program_id(1), pl.program_id(2)
    query, key = query_block[tile], key_block[tile]

    @pl.when((row == 0) & (tile == 0))
    def _():
        make_tiles(tiling, rows_ref, tiles_ref)
        d_tiles_ref[...] = jnp.zeros_like(d_tiles_ref)

    @pl.when(key == 0)
    def _():
        d_q_sum[query] = jnp.zeros(d_q_sum.shape[1:], jnp.float32)

    @pl.when(query == key)
    def _():
        d_k_sum[...] = jnp.zeros_like(d_k_sum)
        d_v_sum[...] = jnp.zeros_like(d_v_sum)

    def step(bias_of):
        q, k, v, d_out = q_ref[...], k_ref[...], v_ref[...], d_out_ref[...]
        k_across = k.T
        for head in range(tiling.group):
            lanes, one = tiling.head(head), slice(head, head + 1)
            scores = _scores(k[:, lanes], q[:, lanes])
            scores = scores if bias_of is None else scores + bias_of(head)
            weights = jnp.exp(scores - log_sum_ref[one, :])
            d_v_sum[:, lanes] += _product(weights.astype(v.dtype), d_out[:, lanes])
            d_scores = weights * (_scores(v[:, lanes], d_out[:, lanes]) - delta_ref[one, :])
            if bias_of is not None:
                d_tiles_ref[head, query - key] += d_scores
            d_scores = d_scores.astype(q.dtype)
            d_k_sum[:, lanes] += _product(d_scores, q[:, lanes])
            d_q_sum[query, lanes, :] += _product(k_across[lanes], d_scores)

    _near_or_far(tiling, query - key, tiles_ref, step)

    # Key blocks come in order, so the diagonal tile is the last of its query block.
    @pl.when(query == key)
    def _():
        d_q_ref[...] = d_q_sum[query].T.astype(d_q_ref.dtype)

    @pl.when(query == tiling.count - 1)
    def _():
        d_k_ref[...] = d_k_sum[...].astype(d_k_ref.dtype)
        d_v_ref[...] = d_v_sum[...].astype(d_v_ref.dtype)

    @pl.when((row == tiling.batch - 1) & (tile == pl.num_programs(2) - 1))
    def _():
        sum_tiles(tiling, d_tiles_ref, d_rows_ref)


def _specs(tiling: Tiling) -> tuple[pl.BlockSpec, ...]:
    """Blocks at the query, at the key, a query's scalars, a group's bias."""
    by_query = pl.BlockSpec(
        (None, tiling.block, tiling.lanes), lambda group, row, tile, query, key: (row, query[tile], group)
    )
    by_key = pl.BlockSpec(
        (None, tiling.block, tiling.lanes), lambda group, row, tile, query, key: (row, key[tile], group)
    )
    scalars = pl.BlockSpec(
        (None, None, tiling.group, tiling.block), lambda group, row, tile, query, key: (row, group, 0, query[tile])
    )
    bias = pl.BlockSpec(
        (None, tiling.group, (tiling.near_cells + 1) * tiling.cell), lambda group, row, tile, query, key: (group, 0, 0)
    )
    return by_query, by_key, scalars, bias


def _like(x: jax.Array, tiling: Tiling) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((tiling.batch, tiling.length, tiling.heads * tiling.head_dim), x.dtype)


def _cost(tiling: Tiling, products: int, arrays: int, dtype: jnp.dtype) -> pl.CostEstimate:
    """For XLA's schedule: `products` of matrices per tile, `arrays` [B, S, H * K] that are read or written."""
    scores = tiling.batch * tiling.heads * tiling.block**2 * (tiling.count * (tiling.count + 1) // 2)
    array_bytes = tiling.batch * tiling.length * tiling.heads * tiling.head_dim * dtype.itemsize
    return pl.CostEstimate(
        flops=2 * products * scores * tiling.head_dim, transcendentals=scores, bytes_accessed=arrays * array_bytes
    )


def _call(kernel, name, tiling, by_key, in_specs, out_specs, out_shape, scratch_shapes, cost, interpret):
    tiles = tiles_in_order(tiling, by_key)
    call = pl.pallas_call(
        functools.partial(kernel, tiling),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(tiling.groups, tiling.batch, len(tiles[0])),
            in_specs=in_specs,
            out_specs=out_specs,
            scratch_shapes=scratch_shapes,
        ),
        out_shape=out_shape,
        # Groups share nothing; rows and tiles share what is summed in VMEM.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary", "arbitrary")),
        cost_estimate=cost,
        interpret=interpret,
        name=name,
    )
    return functools.partial(call, *tiles)


def forward(q, k, v, bias, *, block: int | None = None, interpret: bool = False) -> tuple[jax.Array, jax.Array]:
    """softmax(q k^T + bias) v over the past and the present.

    Args:
        q, k, v: [B, S, H * K] in the compute dtype; q is already scaled.
        bias: float32[H, D], the bias of every distance; the last entry also of all further ones.
        block: positions of a block, on a TPU a multiple of 128; None to choose.
        interpret: run as plain JAX on any device, for tests.

    Returns:
        out [B, S, H * K] and log_sum float32[B, H, S], the logarithm of the softmax's denominator when the bias of
        the last distance is subtracted from all.

    Raises:
        UserError: the sequence does not fit into VMEM.
    """
    tiling = tiling_of(q.shape, bias.shape, block)
    by_query, by_key, scalars, bias_spec = _specs(tiling)
    call = _call(
        _forward_kernel, "distance_attention_forward", tiling, by_key=False,
        in_specs=[bias_spec, by_query, by_key, by_key],
        out_specs=[by_query, scalars],
        out_shape=[
            _like(v, tiling),
            jax.ShapeDtypeStruct((tiling.batch, tiling.groups, tiling.group, tiling.length), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((tiling.group, tiling.near, tiling.block, tiling.block), jnp.float32),
            pltpu.VMEM((tiling.lanes, tiling.block), jnp.float32),
            pltpu.VMEM((tiling.group, tiling.block), jnp.float32),
            pltpu.VMEM((tiling.group, tiling.block), jnp.float32),
        ],
        cost=_cost(tiling, products=2, arrays=4, dtype=q.dtype),
        interpret=interpret,
    )  # fmt: skip
    out, log_sum = call(bias_rows(bias, tiling), *(padded(x, tiling) for x in (q, k, v)))
    length = q.shape[1]
    return cut(out, tiling, q.shape), log_sum.reshape(tiling.batch, tiling.heads, -1)[:, :, :length]


def backward(
    q, k, v, bias, out, log_sum, d_out, *, block: int | None = None, interpret: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Gradients of `forward`'s q, k, v and bias from its arguments, its results and the gradient of `out`."""
    tiling = tiling_of(q.shape, bias.shape, block)
    by_query, by_key, scalars, bias_spec = _specs(tiling)
    tiles = pltpu.VMEM((tiling.group, tiling.near, tiling.block, tiling.block), jnp.float32)
    rows = bias_rows(bias, tiling)
    call = _call(
        _backward_kernel, "distance_attention_backward", tiling, by_key=True,
        in_specs=[bias_spec, by_query, by_key, by_key, by_query, scalars, scalars],
        # The gradient of a query block is complete, and written, when its key block is the current one.
        out_specs=[by_key, by_key, by_key, bias_spec],
        out_shape=[*(_like(x, tiling) for x in (q, k, v)), jax.ShapeDtypeStruct(rows.shape, jnp.float32)],
        scratch_shapes=[
            tiles,
            tiles,
            pltpu.VMEM((tiling.count, tiling.lanes, tiling.block), jnp.float32),
            pltpu.VMEM((tiling.block, tiling.lanes), jnp.float32),
            pltpu.VMEM((tiling.block, tiling.lanes), jnp.float32),
        ],
        cost=_cost(tiling, products=5, arrays=7, dtype=q.dtype),
        interpret=interpret,
    )  # fmt: skip
    length = q.shape[1]
    products = d_out.astype(jnp.float32) * out.astype(jnp.float32)
    delta = jnp.sum(products.reshape(tiling.batch, length, tiling.heads, -1), axis=-1).transpose(0, 2, 1)
    *d_qkv, d_rows = call(
        rows, *(padded(x, tiling) for x in (q, k, v, d_out)), per_query(log_sum, tiling), per_query(delta, tiling)
    )
    d_nearer = d_rows.reshape(tiling.heads, -1)[:, tiling.cell :]
    return *(cut(x, tiling, q.shape) for x in d_qkv), nearer_bias_gradient(d_nearer, bias.shape[1])
