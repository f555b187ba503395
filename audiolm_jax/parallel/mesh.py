"""The device mesh, and where each array of a run lies on it.

A mesh has three axes on every machine, from one CPU to a pod: `data` (copies of the model), `fsdp` (each device keeps a
part of every parameter and gathers it when needed) and `tensor` (each device computes a part of every layer). One
table, `parallel.rules`, says which named axis of an array goes to which of them.
"""

import contextlib
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.rules import LOGICAL_AXIS_RULES

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_SPEC = PartitionSpec(("data", "fsdp"))


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """How many devices each mesh axis has; at most one of them is -1 and takes what the others leave."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(sizes: MeshSizes, devices=None) -> Mesh:
    """The mesh over `devices` (all of `jax.devices()` if not given).

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = [sizes.data, sizes.fsdp, sizes.tensor]
    fixed = int(np.prod([size for size in shape if size != -1]))
    written = ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, shape, strict=True))
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"mesh sizes {written}: each must be positive, and one of them at most may be -1")
    if len(devices) % fixed or (-1 not in shape and fixed != len(devices)):
        raise UserError(f"mesh sizes {written} do not fit {len(devices)} device(s); change MESH_DATA, MESH_FSDP or "
                        "MESH_TENSOR")
    shape = [len(devices) // fixed if size == -1 else size for size in shape]
    return Mesh(np.asarray(devices).reshape(shape), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


@contextlib.contextmanager
def mesh_context(mesh: Mesh):
    """Within it, traced code knows the mesh, and flax's logical constraints resolve by our table.

    The abstract mesh, because it works alike for devices of this process, of other processes and of a TPU topology that
    is only compiled for; which devices a program runs on is told by the shardings of its arguments and results.
    """
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(LOGICAL_AXIS_RULES):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Rows of a global batch are split over `data` and `fsdp`.

    Raises:
      UserError: the rows do not divide by the number of devices that share them.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % parts:
        raise UserError(f"a batch of {batch_size} rows does not divide by {parts} devices (MESH_DATA x MESH_FSDP); "
                        "change BATCH_SIZE")
    return NamedSharding(mesh, BATCH_SPEC)


def host_rows(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """The rows of a global batch that this process's devices hold, ascending; what its feed has to read.

    Processes may share rows (where `tensor` spans hosts), and a process's rows need not be neighbours.
    """
    parts = batch_sharding(mesh, batch_size).addressable_devices_indices_map((batch_size,))
    return tuple(sorted({row for (part,) in parts.values() for row in range(*part.indices(batch_size))}))


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """This process's rows (those of `host_rows`, in that order) as global arrays of `batch_size` rows on the mesh."""
    sharding = batch_sharding(mesh, batch_size)
    position = {row: place for place, row in enumerate(host_rows(mesh, batch_size))}

    def place(rows: np.ndarray) -> jax.Array:
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            return rows[position[start] : position[start] + stop - start]

        return jax.make_array_from_callback((batch_size, *rows.shape[1:]), sharding, part)

    return {name: place(np.asarray(rows)) for name, rows in batch.items()}


def state_shardings(mesh: Mesh, abstract_state: Any, logical_axes: Any | None) -> Any:
    """A NamedSharding for every leaf of a TrainState.

    Args:
      mesh: where the state will lie.
      abstract_state: a TrainState of shapes (`jax.eval_shape(learner.init, ...)`).
      logical_axes: a tree like `abstract_state.params` whose leaves are tuples (or PartitionSpecs) of axis names, or
        None: all replicated.

    Returns:
      a tree like `abstract_state`. A leaf outside `params` whose path ends with a parameter's path and which has its
      shape (an optimizer moment, an average) lies where that parameter lies; every other one is replicated.
    """
    specs = {}
    if logical_axes is not None:
        named = jax.tree_util.tree_flatten_with_path(logical_axes, is_leaf=_is_axes)[0]
        axes_of = {_names(path): tuple(axes) for path, axes in named}
        for path, leaf in jax.tree_util.tree_flatten_with_path(abstract_state.params)[0]:
            axes = axes_of.get(_names(path), ())
            specs[_names(path)] = (leaf.shape, _partition_spec(mesh, leaf.shape, axes))

    def sharding(path, leaf):
        names = _names(path)
        for start in range(len(names)):
            shape, spec = specs.get(names[start:], (None, None))
            if shape == leaf.shape:
                return NamedSharding(mesh, spec)
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def _names(path) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _is_axes(node) -> bool:
    return isinstance(node, (tuple, PartitionSpec))


def _partition_spec(mesh: Mesh, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
    """Logical names to mesh axes; an axis that the mesh does not divide evenly stays whole."""
    if len(axes) != len(shape):
        return PartitionSpec()
    spec = nn.logical_to_mesh_axes(axes, LOGICAL_AXIS_RULES)
    kept = []
    for size, entry in zip(shape, spec, strict=True):
        parts = [entry] if isinstance(entry, str) else list(entry or ())
        devices = int(np.prod([mesh.shape[axis] for axis in parts], dtype=int))
        kept.append(entry if parts and size % devices == 0 else None)
    return PartitionSpec(*kept)
