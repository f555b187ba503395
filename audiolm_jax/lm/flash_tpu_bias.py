"""The bias of the distance as tiles of scores in VMEM, made of a vector, and the sum of their gradients.

A tile depends on the distance to the diagonal alone. It is put together from cells, each made by rolling row k of the
vector's copies by k; the gradient goes the same way back.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from audiolm_jax.lm.attention import MASKED, nearer_bias
from audiolm_jax.lm.flash_tpu_tiling import Tiling


def bias_rows(bias: jax.Array, tiling: Tiling) -> jax.Array:
    """float32[H, D] to float32[groups, group, (near_cells + 1) * cell], of distances from -cell on; masked below 0."""
    nearer = nearer_bias(bias, tiling.near_cells * tiling.cell)
    rows = jnp.pad(nearer, ((0, 0), (tiling.cell, 0)), constant_values=MASKED)
    return rows.reshape(tiling.groups, tiling.group, -1)


def _shear(x: jax.Array, back: bool) -> jax.Array:
    """Rolls row r of [n, m] right by r places, or left: by powers of two, as v4 has no rotation with a stride."""
    row = jax.lax.broadcasted_iota(jnp.int32, x.shape, 0)
    step = 1
    while step < x.shape[0]:
        x = jnp.where((row & step) != 0, pltpu.roll(x, x.shape[1] - step if back else step, 1), x)
        step *= 2
    return x


def _cells_by_distance(tiling: Tiling) -> dict[int, list[tuple[int, slice, slice]]]:
    """Near tiles cut into cells: (tile, its keys, its queries) of every cell, by the distance of the cell's corner.

    The distance is in cells; it is negative where the cell lies in the future.
    """
    cells = {}
    per_side = tiling.block // tiling.cell
    for tile in range(tiling.near):
        for down in range(per_side):
            for across in range(per_side):
                keys, queries = (slice(at * tiling.cell, (at + 1) * tiling.cell) for at in (down, across))
                cells.setdefault(tile * per_side + across - down, []).append((tile, keys, queries))
    return cells


def make_tiles(tiling: Tiling, rows_ref, tiles_ref):
    """tiles[h, d, k, q] = bias of distance d * block + q - k."""
    cell = tiling.cell
    for head in range(tiling.group):
        for distance, places in _cells_by_distance(tiling).items():
            if 0 <= distance < tiling.near_cells:
                row = rows_ref[head : head + 1, distance * cell : (distance + 2) * cell]
                made = _shear(jnp.broadcast_to(row, (cell, 2 * cell)), back=False)[:, cell:]
            else:
                made = jnp.full((cell, cell), MASKED if distance < 0 else 0.0, jnp.float32)
            for tile, keys, queries in places:
                tiles_ref[head, tile, keys, queries] = made


def sum_tiles(tiling: Tiling, d_tiles_ref, d_rows_ref):
    """The transposition of `make_tiles`."""
    cell = tiling.cell
    d_rows_ref[...] = jnp.zeros_like(d_rows_ref)
    for head in range(tiling.group):
        for distance, places in _cells_by_distance(tiling).items():
            if 0 <= distance < tiling.near_cells:
                d_made = sum(d_tiles_ref[head, tile, keys, queries] for tile, keys, queries in places)
                wide = jnp.concatenate([jnp.zeros_like(d_made), d_made], axis=1)
                column_sums = jnp.sum(_shear(wide, back=True), axis=0, keepdims=True)
                d_rows_ref[head : head + 1, distance * cell : (distance + 2) * cell] += column_sums
