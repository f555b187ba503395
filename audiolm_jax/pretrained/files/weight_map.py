"""How the tensors of a published checkpoint become our parameters, and back; every tensor is used exactly once.

A model describes its parameters as a `WeightMap`: for each of ours where it stands in the checkpoint and how it is laid
out there. Reading compares names and shapes of everything before anything is converted, and tells all differences at
once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError, brief
from audiolm_jax.files import weight_file

Tensors = Mapping[str, np.ndarray]
# Differences that an error shows; the rest is counted.
_SHOWN = 6
# Pairs of names that weight normalisation gives a tensor NAME.weight: magnitude and direction, oldest last. The second
# is what exports are written with, which every version reads.
_NORMED = (("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v"))
# Counts below this are taken for it when sums are divided by them.
_LEAST_COUNT = np.float32(1e-5)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array is laid out in the checkpoint: `read` takes theirs to ours, `write` takes ours to theirs.

    Both only move numbers, so that writing what was read gives the same bits.
    """

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


PLAIN = Layout(lambda array: array, lambda array: array)
# Linear [out, in] to [in, out]; convolution [out, in / groups, kernel] to [kernel, in / groups, out].
REVERSED = Layout(np.transpose, np.transpose)


def folded_transposed(stride: int) -> Layout:
    """A transposed convolution [in, out, 2 S] of stride S to the kernel [2, in, S * out] of `stream.UpConv`.

    The result at step t S + j is what step t gives to tap j and what step t - 1 gives to tap j + S. Ours holds the
    taps of the past step first.
    """

    def read(array: np.ndarray) -> np.ndarray:
        width_in, width_out, _ = array.shape
        halves = array.reshape(width_in, width_out, 2, stride)[:, :, ::-1]
        return halves.transpose(2, 0, 3, 1).reshape(2, width_in, stride * width_out)

    def write(array: np.ndarray) -> np.ndarray:
        _, width_in, folded = array.shape
        halves = array.reshape(2, width_in, stride, folded // stride).transpose(1, 3, 0, 2)[:, :, ::-1]
        return halves.reshape(width_in, folded // stride, 2 * stride)

    return Layout(read, write)


@dataclasses.dataclass(frozen=True)
class Weight:
    """One of our parameters, and the tensor it is in the checkpoint.

    Attributes:
        path: ours, names joined by dots.
        name: theirs, without the prefix of the whole model.
        shape: theirs, as the reference implementation has it.
        layout: theirs against ours.
        normed_axis: for a weight under weight normalisation, the axis of their array whose every index has a magnitude
            of its own; None for any other. `name` then ends in ".weight". A checkpoint without the normalisation is
            read too. The product is kept, so nothing is normalised when the model runs.
        stacked: ours is this index of an array [layers, ...] at `path`; None for an array of its own.
        counts: name of a tensor [shape[0]] that their rows, which are sums, are divided by; None where theirs is the
            parameter itself. Exports hold ones there.
        exported_normed: whether an export has the normalisation; not where the reference implementation only knows it
            from checkpoints that were being trained.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    layout: Layout = PLAIN
    normed_axis: int | None = None
    stacked: int | None = None
    counts: str | None = None
    exported_normed: bool = True


@dataclasses.dataclass(frozen=True)
class Derived:
    """A tensor that the reference implementation stores and inference does not use, such as a running average.

    Attributes:
        name: theirs.
        shape: theirs.
        make: from our nested parameters to it, for exports.
    """

    name: str
    shape: tuple[int, ...]
    make: Callable[[Any], np.ndarray]


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """All tensors of a model.

    Attributes:
        weights: those that we use.
        derived: those that are checked and dropped, and made again for an export. They may be missing.
        prefixes: what may stand before all names, according to the class that the checkpoint was saved from ("" and
            "hubert.", say). The first is what exports are written with.
        heads: beginnings of names that belong to heads on top of the model; they are left out, and listed.
    """

    weights: tuple[Weight, ...]
    derived: tuple[Derived, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    heads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Imported:
    """What reading a checkpoint gave: nested parameters float32, and the names that were left out knowingly."""

    params: dict[str, Any]
    left_out: tuple[str, ...]


def read_weights(tensors: Tensors, weight_map: WeightMap, where: str) -> Imported:
    """Parameters of a checkpoint.

    Args:
        tensors: all of the checkpoint, by name.
        weight_map: of the model that config.json describes.
        where: names the checkpoint in errors.

    Raises:
        UserError: tensors are missing, unknown or of another shape, or hold values that are not finite; all of them
            are told.
    """
    prefix = _prefix(tensors, weight_map)
    # Names with the prefix are of the model; without it they can only be of a head beside it.
    names = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    outside = [name for name in tensors if not name.startswith(prefix)]
    differences, used, arrays = [], set(), []
    for weight in weight_map.weights:
        parts = _parts(weight, names)
        if parts is None:
            differences += _missing(weight, names, prefix)
            continue
        used.update(parts)
        found = [tensors[names[part]] for part in parts]
        wanted = _part_shapes(weight, parts)
        wrong = [
            f"{prefix}{part} is {brief(str(list(array.shape)))}, not {list(shape)}"
            for part, array, shape in zip(parts, found, wanted, strict=True)
            if array.shape != shape
        ]
        differences += wrong
        if not wrong:
            arrays.append((weight, found))
    for derived in weight_map.derived:
        if derived.name in names:
            used.add(derived.name)
            if tensors[names[derived.name]].shape != derived.shape:
                shape = brief(str(list(tensors[names[derived.name]].shape)))
                differences.append(f"{prefix}{derived.name} is {shape}, not {list(derived.shape)}")
    rest = [name for name in names if name not in used]
    unknown = [name for name in (*rest, *outside) if not name.startswith(weight_map.heads)]
    shapes = {name: brief(str(list(tensors[names.get(name, name)].shape))) for name in unknown}
    differences += [f"unknown {brief(name)} {shape}" for name, shape in shapes.items()]
    if differences:
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(
            f"{where} does not hold the model that its config.json describes: {'; '.join(differences[:_SHOWN])}{more}; "
            "give the config.json and the weights of one model"
        )
    params = _assembled(arrays, where)
    return Imported(params, tuple(sorted([*rest, *outside])))


def write_weights(params: Any, weight_map: WeightMap) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, float32 and contiguous; reading them gives the same parameters to the last bit.

    Raises:
        UserError: a parameter is missing or of another shape.
    """
    prefix = weight_map.prefixes[0]
    tensors: dict[str, np.ndarray] = {}
    for weight in weight_map.weights:
        ours = _at(params, weight.path)
        ours = np.asarray(ours if weight.stacked is None else ours[weight.stacked], np.float32)
        array = np.ascontiguousarray(weight.layout.write(ours))
        if array.shape != weight.shape:
            raise UserError(f"the parameter {weight.path} becomes {array.shape}, but {weight.name} is {weight.shape}")
        if weight.normed_axis is None or not weight.exported_normed:
            tensors[prefix + weight.name] = array
            if weight.counts is not None:
                tensors[prefix + weight.counts] = np.ones(weight.shape[0], np.float32)
            continue
        magnitude, direction = _split(array, weight.normed_axis)
        base = prefix + weight.name.removesuffix("weight")
        tensors[base + _NORMED[1][0]], tensors[base + _NORMED[1][1]] = magnitude, direction
    for derived in weight_map.derived:
        array = np.asarray(derived.make(params), order="C")
        assert array.shape == derived.shape, (derived.name, array.shape)
        tensors[prefix + derived.name] = array
    return tensors


def _prefix(tensors: Tensors, weight_map: WeightMap) -> str:
    """The prefix under which most of the names are found."""

    def hits(prefix: str) -> int:
        names = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
        return sum(_parts(weight, names) is not None for weight in weight_map.weights)

    return max(weight_map.prefixes, key=hits)


def _parts(weight: Weight, names) -> tuple[str, ...] | None:
    """Their names of the tensor, or of its magnitude and direction; None if it is not there."""
    if weight.counts is not None:
        return (weight.name, weight.counts) if weight.name in names and weight.counts in names else None
    if weight.name in names:
        return (weight.name,)
    if weight.normed_axis is not None:
        base = weight.name.removesuffix("weight")
        for magnitude, direction in _NORMED:
            if base + magnitude in names and base + direction in names:
                return base + magnitude, base + direction
    return None


def _missing(weight: Weight, names, prefix: str) -> list[str]:
    """A line for every tensor of a weight that is not there."""
    lines = [] if weight.name in names else [f"missing {prefix}{weight.name} {list(weight.shape)}"]
    if weight.counts is not None and weight.counts not in names:
        lines.append(f"missing {prefix}{weight.counts} {[weight.shape[0]]}")
    return lines


def _part_shapes(weight: Weight, parts: tuple[str, ...]) -> list[tuple[int, ...]]:
    """What the tensors that `_parts` found have to be."""
    if weight.counts is not None:
        return [weight.shape, weight.shape[:1]]
    return [weight.shape] if len(parts) == 1 else [_magnitude_shape(weight), weight.shape]


def _magnitude_shape(weight: Weight) -> tuple[int, ...]:
    return tuple(size if axis == weight.normed_axis else 1 for axis, size in enumerate(weight.shape))


def _norms(direction: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(each for each in range(direction.ndim) if each != axis)
    return np.sqrt(np.sum(np.square(direction, dtype=np.float64), axis=others, keepdims=True))


def _product(magnitude: np.ndarray, direction: np.ndarray, axis: int) -> np.ndarray:
    """The weight itself. Where the magnitude is that of the direction, it is the direction to the last bit."""
    norms = _norms(direction, axis)
    ratio = magnitude / np.where(norms > 0, norms, 1.0)
    ratio = np.where(np.abs(ratio - 1.0) < 1e-6, 1.0, ratio)
    return (direction * ratio).astype(np.float32)


def _split(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and direction of a weight. The direction of a zero is any, for the reference would divide by zero."""
    norms = _norms(array, axis)
    direction = np.where(norms > 0, array, np.float32(1.0))
    return norms.astype(np.float32), np.ascontiguousarray(direction)


def _assembled(arrays: list[tuple[Weight, list[np.ndarray]]], where: str) -> dict[str, Any]:
    """Nested parameters of converted arrays."""
    flat: dict[str, Any] = {}
    for weight, found in arrays:
        found = [np.asarray(array, np.float32) for array in found]
        if not all(np.isfinite(array).all() for array in found):
            raise UserError(f"{where}: {weight.name} holds values that are not finite; copy the model again")
        array = found[0]
        if weight.counts is not None:
            array = array / np.maximum(found[1], _LEAST_COUNT)[:, None]
        elif len(found) > 1:
            array = _product(*found, weight.normed_axis)
        array = np.ascontiguousarray(weight.layout.read(array))
        if weight.stacked is None:
            flat[weight.path] = array
        else:
            flat.setdefault(weight.path, {})[weight.stacked] = array
    stacked = {path: value for path, value in flat.items() if isinstance(value, dict)}
    return weight_file.unflatten(
        flat | {path: np.stack([value[index] for index in range(len(value))]) for path, value in stacked.items()}
    )


def _at(params: Any, path: str) -> Any:
    node = params
    for name in path.split("."):
        if name not in node:
            raise UserError(f"the parameters have no {path}; they belong to another model")
        node = node[name]
    return node
