"""What a mesh with `fsdp` must not keep whole: a large array that was forgotten costs its memory on every device."""

import math
from typing import Any

import jax
from jax.sharding import Mesh

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.rules import FSDP

# Norm scales, biases, counts and tables of a few heads may stay whole; everything larger is split.
LARGEST_WHOLE_BYTES = 1_000_000


def check_split(mesh: Mesh, state: Any) -> None:
    """Refuses a state that keeps a large array whole along `fsdp`.

    Args:
      mesh: the devices; without `fsdp` (size 1) everything is allowed.
      state: a tree of `jax.ShapeDtypeStruct` with shardings.

    Raises:
      UserError: an array, of which every device would hold more than `LARGEST_WHOLE_BYTES`, is not split over `fsdp`;
        the line names the largest one.
    """
    devices = mesh.shape[FSDP]
    if devices == 1:
        return
    whole = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        held = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        if held > LARGEST_WHOLE_BYTES and FSDP not in jax.tree.leaves(tuple(leaf.sharding.spec)):
            whole[jax.tree_util.keystr(path, simple=True, separator="/")] = (held, leaf)
    if not whole:
        return
    name, (held, leaf) = max(whole.items(), key=lambda item: item[1][0])
    what = f"{name} {leaf.dtype}{list(leaf.shape)}"
    others = f" and {len(whole) - 1} more" if len(whole) > 1 else ""
    if any(size % devices == 0 for size in leaf.shape):
        mend = "name its axes in the learner's logical_axes or collection_axes, or set MESH_FSDP=1"
    else:
        mend = f"none of its sizes divides by {devices}; change MESH_FSDP or the macro that gives the size"
    size = f"{held / 1e6:.1f} MB"
    raise UserError(f"with MESH_FSDP={devices} every device would hold all {size} of {what}{others}: {mend}")
