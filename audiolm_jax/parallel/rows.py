"""Operations that XLA does not divide over devices, done by each device on its own rows of the batch."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec


def by_rows(function: Callable[..., jax.Array], batch: jax.Array, *whole: jax.Array) -> jax.Array:
    """function(batch, *whole), for a function that treats every row of the batch alike.

    XLA splits most operations by what it is told of their arguments, but not an FFT and not a convolution in groups:
    left alone, every device would gather the global batch and compute all of it.

    Args:
      function: [B, ...] and the rest to [B, ...].
      batch: its rows lie where `act_batch` says.
      whole: arrays that every row needs, parameters for example.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(batch, *whole)
    rows = nn.logical_to_mesh_axes(("act_batch",))
    parts = math.prod(mesh.shape[axis] for axis in jax.tree.leaves(tuple(rows)))
    if parts == 1 or batch.shape[0] % parts:
        return function(batch, *whole)
    in_specs = (rows, *(PartitionSpec() for _ in whole))
    return jax.shard_map(function, in_specs=in_specs, out_specs=rows)(batch, *whole)
