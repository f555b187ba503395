"""How attention's arrays [B, S, H * K] are cut into blocks for the TPU kernels, and put together again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.errors import UserError

LANES = 128
# The smallest VMEM a core is given by default is 16 MiB (v4, v5e); tiles, their gradients and the query gradient of a
# whole sequence must leave room for the blocks in flight and the temporaries of a tile.
MOST_KEPT_VMEM_BYTES = 9 * 2**20
BLOCKS = (384, 256, 128)
# What a grid step costs, in score elements: about a third of a microsecond.
STEP_ELEMENTS = 40_000


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How [B, S, H * K] is cut.

    Attributes:
        batch, heads: B, H.
        head_dim: K, padded where no number of heads fills the lanes.
        group: heads of one grid step.
        block: positions of a block.
        count: blocks of the padded sequence.
        near: tiles next to the diagonal, itself included, that have a bias.
        cell: what tiles of bias are put together from, a divisor of `block`.
        near_cells: like `near`, of cells.
    """

    batch: int
    heads: int
    head_dim: int
    group: int
    block: int
    count: int
    near: int
    cell: int
    near_cells: int

    @property
    def groups(self) -> int:
        return self.heads // self.group

    @property
    def length(self) -> int:
        return self.block * self.count

    @property
    def lanes(self) -> int:
        return self.group * self.head_dim

    def head(self, index: int) -> slice:
        """Lanes of head `index` of a group."""
        return slice(index * self.head_dim, (index + 1) * self.head_dim)


def _near(distances: int, size: int) -> int:
    """How many tiles of `size`, counted from the diagonal, hold a distance before the last, where the far bias begins.

    Tile d holds the distances d * size - size + 1 .. d * size + size - 1.
    """
    return max(1, -(-(distances - 1 + size - 1) // size))


def _kept_bytes(group: int, head_dim: int, block: int, count: int, near: int) -> int:
    return 4 * group * (2 * near * block * block + count * block * head_dim)


def tiling_of(shape: tuple[int, ...], bias_shape: tuple[int, int], block: int | None) -> Tiling:
    """The cut of q's shape [B, S, H * K]; the block that makes the least work if none is given.

    Raises:
        UserError: nothing fits into VMEM.
    """
    batch, length, width = shape
    heads, distances = bias_shape
    head_dim = width // heads
    whole = (size for size in range(1, heads + 1) if heads % size == 0 and size * head_dim % LANES == 0)
    group = next(whole, heads if heads == 1 or heads * head_dim <= LANES else 1)
    if group == 1 < heads:
        # No number of heads fills registers: each gets lanes of its own.
        head_dim = -(-head_dim // LANES) * LANES
    choices = []
    for size in BLOCKS if block is None else (block,):
        count = -(-length // size)
        near, cell = min(count, _near(distances, size)), LANES if size % LANES == 0 else size
        if block is not None or _kept_bytes(group, head_dim, size, count, near) <= MOST_KEPT_VMEM_BYTES:
            work = count * (count + 1) // 2 * (group * size * size + STEP_ELEMENTS)
            near_cells = min(count * size // cell, _near(distances, cell))
            choices.append((work, Tiling(batch, heads, head_dim, group, size, count, near, cell, near_cells)))
    if not choices:
        raise UserError(
            f"a sequence of {length} tokens with {distances} distances of relative bias is too long for the TPU "
            "attention kernel; set ATTENTION to 'xla'"
        )
    return min(choices, key=lambda choice: choice[0])[1]


def tiles_in_order(tiling: Tiling, by_key: bool) -> tuple[jax.Array, jax.Array]:
    """int32[T] query block and int32[T] key block of every grid step."""
    pairs = [(query, key) for query in range(tiling.count) for key in range(query + 1)]
    if by_key:
        pairs.sort(key=lambda pair: pair[::-1])
    return tuple(jnp.asarray(np.array(pairs, np.int32)[:, axis]) for axis in (0, 1))


def padded(x: jax.Array, tiling: Tiling) -> jax.Array:
    """[B, S, H * K] to [B, whole blocks, H * padded K]."""
    batch, length, width = x.shape
    extra = tiling.head_dim - width // tiling.heads
    if extra:
        x = jnp.pad(x.reshape(batch, length, tiling.heads, -1), ((0, 0), (0, 0), (0, 0), (0, extra)))
    return jnp.pad(x.reshape(batch, length, -1), ((0, 0), (0, tiling.length - length), (0, 0)))


def cut(x: jax.Array, tiling: Tiling, shape: tuple[int, int, int]) -> jax.Array:
    """The inverse of `padded`."""
    batch, length, width = shape
    x = x[:, :length]
    if x.shape != shape:
        x = x.reshape(batch, length, tiling.heads, -1)[..., : width // tiling.heads]
    return x.reshape(shape)


def per_query(x: jax.Array, tiling: Tiling) -> jax.Array:
    """float32[B, H, S] to float32[B, groups, group, whole blocks]."""
    x = jnp.pad(x, ((0, 0), (0, 0), (0, tiling.length - x.shape[2])))
    return x.reshape(tiling.batch, tiling.groups, tiling.group, tiling.length)
