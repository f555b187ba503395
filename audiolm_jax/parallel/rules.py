"""The single table from logical axis names to mesh axes, the same for TPU, GPU and CPU.

Parameters name their axes where they are made (`nn.with_logical_partitioning`), collections in their learner's
`collection_axes`, activations where they are computed (`nn.with_logical_constraint`); nothing else in the project says
where an array lives. Activation axes begin with `act_`, cache axes with `cache_`, so that no rule depends on the order
of this table.

Sizes that the mesh does not divide: a parameter's axis that its mesh axis does not divide stays whole, and if that was
`fsdp`, the largest other axis that can be divided is split instead (`mesh_axes`). Nothing is padded, so that a
checkpoint holds the same arrays whatever mesh it was made on. What then is still whole and large is an error
(`parallel.replication`).
"""

import math
from collections.abc import Mapping

DATA = "data"
FSDP = "fsdp"
TENSOR = "tensor"
MESH_AXES = (DATA, FSDP, TENSOR)

# (logical axis, mesh axis or axes). None: never split.
LOGICAL_AXIS_RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    # Parameters. One matrix holds `embed` and at most one of vocab, heads and mlp, hence fsdp against tensor.
    ("vocab", TENSOR),
    ("embed", FSDP),
    ("heads", TENSOR),
    ("head_dim", None),
    ("mlp", TENSOR),
    ("layers", None),
    ("conv_in", None),
    ("conv_out", FSDP),
    # Activations: the batch is split over data and fsdp, widths over tensor.
    ("act_batch", (DATA, FSDP)),
    ("act_length", None),
    ("act_embed", None),
    ("act_heads", TENSOR),
    ("act_mlp", TENSOR),
    ("act_vocab", TENSOR),
    # The decoder's cache.
    ("cache_batch", (DATA, FSDP)),
    ("cache_length", None),
    ("cache_heads", TENSOR),
)

# A scan over layers would have to gather a split axis of layers at every step.
_NEVER_IN_PLACE_OF_ANOTHER = ("layers",)


def mesh_axes(
    shape: tuple[int, ...], axes: tuple[str | None, ...], mesh_sizes: Mapping[str, int]
) -> tuple[str | tuple[str, ...] | None, ...]:
    """What each axis of a stored array is split over, for a PartitionSpec.

    Args:
      shape: of the array.
      axes: its logical axes, None for an axis without a name; empty for an array without names, which stays whole.
      mesh_sizes: devices along each mesh axis.
    """
    if len(axes) != len(shape):
        return ()
    rules = dict(LOGICAL_AXIS_RULES)
    wanted = [rules[name] if name is not None else None for name in axes]
    split = [(axis,) if axis is not None and size % mesh_sizes[axis] == 0 else () for size, axis in zip(
        shape, wanted, strict=True)]
    if FSDP in wanted and (FSDP,) not in split:
        for place in sorted(range(len(shape)), key=lambda place: -shape[place]):
            parts = (*split[place], FSDP)
            divides = shape[place] % math.prod(mesh_sizes[axis] for axis in parts) == 0
            if divides and axes[place] not in _NEVER_IN_PLACE_OF_ANOTHER:
                split[place] = parts
                break
    return tuple(parts if len(parts) > 1 else parts[0] if parts else None for parts in split)
