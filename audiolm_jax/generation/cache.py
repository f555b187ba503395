"""How the decoder's cache lies in memory, and over the devices of a mesh.

Keys and values of a layer are stored as rows [R, C, K], one row for every head of every continuation, because the
products of a decoding step then take the cache as it lies; with two axes for continuations and heads, XLA on CPU
copies all of it at every token.

A device holds some of the continuations (`cache_batch`) and, with tensor parallelism, some of the heads
(`cache_heads`). Its rows must be neighbours in R, so rows are counted by group of heads first, then by continuation,
then by head within the group; without tensor parallelism there is one group, and R is simply [B, H].
"""

import math

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec


def to_rows(heads: jax.Array) -> jax.Array:
    """[B, H, ...] -> [R, ...], R = B * H."""
    batch, num_heads, *rest = heads.shape
    groups = _head_groups(num_heads)
    grouped = heads.reshape(batch, groups, num_heads // groups, *rest)
    return constrain_rows(grouped.swapaxes(0, 1).reshape(batch * num_heads, *rest), num_heads)


def from_rows(rows: jax.Array, num_heads: int) -> jax.Array:
    """[R, ...] -> [B, H, ...]; the inverse of `to_rows`."""
    groups, rest = _head_groups(num_heads), rows.shape[1:]
    grouped = rows.reshape(groups, -1, num_heads // groups, *rest)
    return grouped.swapaxes(0, 1).reshape(-1, num_heads, *rest)


def constrain_rows(rows: jax.Array, num_heads: int) -> jax.Array:
    """Keeps rows [R, ...] where they belong; without a mesh, `rows` as they are."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return rows
    axes = (*_axes("cache_heads"), *_axes("cache_batch")) if _head_groups(num_heads) > 1 else _axes("cache_batch")
    return jax.lax.with_sharding_constraint(rows, PartitionSpec(axes))


def _head_groups(num_heads: int) -> int:
    """In how many groups the mesh splits the heads; 1 where it does not divide them."""
    mesh = jax.sharding.get_abstract_mesh()
    groups = 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in _axes("cache_heads"))
    return groups if num_heads % groups == 0 else 1


def _axes(name: str) -> tuple[str, ...]:
    """Mesh axes of a logical axis."""
    return tuple(jax.tree.leaves(tuple(nn.logical_to_mesh_axes((name,)))))
