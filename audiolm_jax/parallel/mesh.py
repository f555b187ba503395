"""The device mesh, and where each array of a run lies on it.

A mesh has three axes on every machine, from one CPU to a pod: `data` (copies of the model), `fsdp` (each device keeps a
part of every parameter and gathers it when needed) and `tensor` (each device computes a part of every layer). One
table, `parallel.rules`, says which named axis of an array goes to which of them.
"""

import bisect
import contextlib
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.rules import DATA, FSDP, LOGICAL_AXIS_RULES, MESH_AXES, mesh_axes

BATCH_SPEC = PartitionSpec((DATA, FSDP))


@dataclasses.dataclass(frozen=True)
class MeshSizes:
    """How many devices each mesh axis has, and how the mesh lies over several slices.

    A slice is what one fast network joins: a TPU slice, or a host with its GPUs. Between slices only one axis
    communicates: `data` (gradients, once a step), or `fsdp` where the model does not fit one slice. `tensor`
    communicates within every layer and never leaves a slice.

    Attributes:
      data, fsdp, tensor: devices along each axis, all slices together; at most one of them is -1 and takes what the
        others leave.
      slices: how many there are; -1 for as many as the devices say, which is 1 where they say nothing.
      slice_axis: "data" or "fsdp", the axis that spans them; its size is a multiple of `slices`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    slices: int = -1
    slice_axis: str = DATA

    def __post_init__(self):
        shape = (self.data, self.fsdp, self.tensor)
        if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
            raise UserError(f"mesh sizes {_written(shape)}: each must be positive, and one of them at most may be -1; "
                            "change MESH_DATA, MESH_FSDP or MESH_TENSOR")
        if self.slices < 1 and self.slices != -1:
            raise UserError(f"MESH_SLICES is {self.slices}, but must be positive, or -1 for what the devices say")
        if self.slice_axis not in (DATA, FSDP):
            raise UserError(f"MESH_SLICE_AXIS is '{self.slice_axis}', but must be data or fsdp")

    def shape(self, num_devices: int) -> tuple[int, int, int]:
        """Devices along data, fsdp and tensor, the -1 filled.

        Raises:
          UserError: the sizes do not multiply to the number of devices.
        """
        shape = (self.data, self.fsdp, self.tensor)
        fixed = math.prod(size for size in shape if size != -1)
        if num_devices % fixed or (-1 not in shape and fixed != num_devices):
            raise UserError(f"mesh sizes {_written(shape)} do not fit {num_devices} device(s); change MESH_DATA, "
                            "MESH_FSDP or MESH_TENSOR")
        return tuple(num_devices // fixed if size == -1 else size for size in shape)


def make_mesh(sizes: MeshSizes, devices=None) -> Mesh:
    """The mesh over `devices` (all of `jax.devices()` if not given), neighbours in it being neighbours in the network.

    Raises:
      UserError: the sizes do not fit the devices or their slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    return Mesh(arrange(sizes, devices), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def arrange(sizes: MeshSizes, devices: Sequence[Any]) -> np.ndarray:
    """Devices in the order of a mesh: an array of objects [data, fsdp, tensor].

    Within a TPU slice the axes are laid along the wires of its torus, `tensor` the shortest. Elsewhere devices stand in
    the order given, `tensor` innermost, so that it stays on one host as long as that has enough devices. Slices follow
    each other along `sizes.slice_axis`.

    Raises:
      UserError: the sizes do not fit the devices or their slices.
    """
    shape = sizes.shape(len(devices))
    parts = _slices(sizes, devices)
    axis = MESH_AXES.index(sizes.slice_axis)
    if shape[axis] % len(parts):
        raise UserError(f"mesh sizes {_written(shape)}: {sizes.slice_axis} spans the {len(parts)} slices and must be a "
                        f"multiple of them; change MESH_{sizes.slice_axis.upper()}, MESH_SLICE_AXIS or MESH_SLICES")
    within = tuple(size // len(parts) if place == axis else size for place, size in enumerate(shape))
    try:
        blocks = [mesh_utils.create_device_mesh(within, part, allow_split_physical_axes=True) for part in parts]
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UserError(f"mesh sizes {_written(within)} cannot be laid out on a slice of {len(parts[0])} devices "
                        f"({str(error).splitlines()[0]}); change MESH_DATA, MESH_FSDP or MESH_TENSOR") from error
    return np.concatenate(blocks, axis=axis)


def _slices(sizes: MeshSizes, devices: Sequence[Any]) -> list[list[Any]]:
    """The devices of each slice."""
    by_slice: dict[int, list[Any]] = {}
    for device in devices:
        # A device of a topology of one slice that is only compiled for has no slice_index.
        by_slice.setdefault(getattr(device, "slice_index", 0) if _is_tpu(device) else 0, []).append(device)
    found = [by_slice[index] for index in sorted(by_slice)]
    count = len(found) if sizes.slices == -1 else sizes.slices
    if not _is_tpu(devices[0]) and len(devices) % count == 0:
        # These do not say which slice they are of: equal parts in their order, which is that of the hosts.
        each = len(devices) // count
        return [list(devices[first : first + each]) for first in range(0, len(devices), each)]
    if count != len(found) or len({len(part) for part in found}) > 1:
        raise UserError(f"MESH_SLICES is {count}, but the {len(devices)} devices are of slices of "
                        f"{', '.join(str(len(part)) for part in found)}; change MESH_SLICES")
    return found


def _is_tpu(device: Any) -> bool:
    return device.platform == "tpu"


def _written(shape: Sequence[int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, shape, strict=True))


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


@functools.lru_cache(maxsize=16)  # the same for every batch of a run
def host_rows(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """The rows of a global batch that this process's devices hold, ascending; what its feed has to read.

    Processes may share rows (where `tensor` spans hosts), and a process's rows need not be neighbours.
    """
    parts = batch_sharding(mesh, batch_size).addressable_devices_indices_map((batch_size,))
    return tuple(sorted({row for (part,) in parts.values() for row in range(*part.indices(batch_size))}))


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, jax.Array]:
    """This process's rows (those of `host_rows`, in that order) as global arrays of `batch_size` rows on the mesh."""
    sharding, held = batch_sharding(mesh, batch_size), host_rows(mesh, batch_size)

    def place(rows: np.ndarray) -> jax.Array:
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            first = bisect.bisect_left(held, start)
            return rows[first : first + stop - start]

        return jax.make_array_from_callback((batch_size, *rows.shape[1:]), sharding, part)

    return {name: place(np.asarray(rows)) for name, rows in batch.items()}


def state_shardings(mesh: Mesh, abstract_state: Any, logical_axes: Any | None, collection_axes: Any = None) -> Any:
    """A NamedSharding for every leaf of a TrainState.

    Args:
      mesh: where the state will lie.
      abstract_state: a TrainState of shapes (`jax.eval_shape(learner.init, ...)`).
      logical_axes: a tree like `abstract_state.params` whose leaves are tuples (or PartitionSpecs) of axis names, or
        None: all replicated.
      collection_axes: likewise, a tree like `abstract_state.collections`, or the part of it that has names.

    Returns:
      a tree like `abstract_state`. A leaf of the optimizer's state (a moment, an average) lies where the parameter lies
      that has its shape and whose path is contained in its own: optimizers wrap their trees of parameters in levels of
      their own, before the path and, where a learner has several optimizers, within it. Every other one is replicated.
    """
    params = _specs(mesh, abstract_state.params, logical_axes)
    collections = _specs(mesh, abstract_state.collections, collection_axes)
    # By shape and last name, so that every leaf is compared with a few parameters only; the longest path first.
    alike: dict[Any, list[tuple[str, ...]]] = {}
    for path, (shape, _) in sorted(params.items(), key=lambda item: -len(item[0])):
        alike.setdefault((shape, path[-1:]), []).append(path)

    def of_parameter(path, leaf):
        names = _names(path)
        for candidate in alike.get((leaf.shape, names[-1:]), ()):
            if _contains(names, candidate):
                return params[candidate][1]
        return PartitionSpec()

    specs = abstract_state.replace(
        step=PartitionSpec(),
        params=jax.tree_util.tree_map_with_path(lambda path, _: params[_names(path)][1], abstract_state.params),
        opt_state=jax.tree_util.tree_map_with_path(of_parameter, abstract_state.opt_state),
        collections=jax.tree_util.tree_map_with_path(
            lambda path, _: collections[_names(path)][1], abstract_state.collections
        ),
    )
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, PartitionSpec))


def _specs(mesh: Mesh, shapes: Any, axes: Any | None) -> dict[tuple[str, ...], tuple[tuple[int, ...], PartitionSpec]]:
    """Path to (shape, where it lies) for every leaf of a tree; `axes` may lack leaves."""
    named = jax.tree_util.tree_flatten_with_path(axes, is_leaf=_is_axes)[0]
    axes_of = {_names(path): tuple(leaf) for path, leaf in named}
    specs = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        spec = PartitionSpec(*mesh_axes(leaf.shape, axes_of.get(_names(path), ()), mesh.shape))
        specs[_names(path)] = (leaf.shape, spec)
    return specs


def _contains(names: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether all of `path` stands in `names`, in its order."""
    rest = iter(names)
    return all(name in rest for name in path)


def _names(path) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _is_axes(node) -> bool:
    return isinstance(node, (tuple, PartitionSpec))
