"""What a compiled program sends between chips: every collective, how often it runs, and the bytes on the wire.

The bytes follow the ring algorithms. Over n chips that hold S bytes each before the operation, a chip sends
2 S (n - 1) / n for an all-reduce, S (n - 1) for an all-gather, S (n - 1) / n for a reduce-scatter and for an
all-to-all, and S for a permutation. Between slices, where the data-centre network is much slower than the links of a
slice, an operation is done inside every slice first, and each chip sends its share of the result to the other slices.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from audiolm_jax.check.collectives import kind_of

from .hlo import Instruction, Program

_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"mesh\[([^\]]*)\](?:\(([^)]*)\))?\s*\{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?(?:=(\d+))?")


@dataclasses.dataclass(frozen=True, eq=False)
class Collective:
    """One collective of a program.

    Attributes:
        kind: one of `audiolm_jax.check.collectives.KINDS`.
        bytes: what each chip puts in, each time.
        groups: int[G, n], positions in the mesh of the chips that work together; of a permutation its pairs [P, 2].
        times: how often it runs in a call of the program.
        name: where it comes from.
        between_slices: whether it is the part of a collective that the compiler has split off for the data-centre
            network, among the chips at the same place of every slice; `groups` are then all chips.
    """

    kind: str
    bytes: int
    groups: np.ndarray
    times: int
    name: str
    between_slices: bool = False

    @property
    def group_size(self) -> int:
        """Chips that work together."""
        return self.groups.shape[1]

    def sent_bytes(self, slice_of: Sequence[int]) -> tuple[float, float]:
        """Bytes that a chip sends over the links of its slice, and over the data-centre network, each time.

        Args:
            slice_of: the slice of every position in the mesh.
        """
        if self.between_slices:
            return 0.0, self._dcn_bytes(len(set(slice_of)))
        size = self.group_size
        if self.kind == "collective-permute":
            crosses = any(slice_of[source] != slice_of[target] for source, target in self.groups.tolist())
            return (0.0, float(self.bytes)) if crosses else (float(self.bytes), 0.0)
        slices = max(len({slice_of[place] for place in group}) for group in self.groups.tolist())
        inside = max(size // slices, 1)
        if self.kind == "all-reduce":
            return 2 * self.bytes * _others(inside), 2 * self.bytes / inside * _others(slices)
        if self.kind == "all-gather":
            return self.bytes * slices * (inside - 1), self.bytes * (slices - 1)
        if self.kind == "reduce-scatter":
            return self.bytes * _others(inside), self.bytes / inside * _others(slices)
        return self.bytes / slices * _others(inside), self.bytes * _others(slices)

    def _dcn_bytes(self, slices: int) -> float:
        if self.kind == "all-reduce":
            return 2 * self.bytes * _others(slices)
        if self.kind == "all-gather":
            return float(self.bytes * (slices - 1))
        return float(self.bytes) if self.kind == "collective-permute" else self.bytes * _others(slices)


def _others(size: int) -> float:
    return (size - 1) / size


def collectives(program: Program, num_devices: int) -> list[Collective]:
    """All collectives of a program on `num_devices` chips; an asynchronous pair of start and done is one."""
    found, seen = [], set()
    for computation, instruction, times in program.executed():
        for holder, inner in _inside(program, computation, instruction):
            kind = kind_of(inner.opcode, holder, inner.attributes)
            if kind is None:
                continue
            operands = program.computations[holder]
            if inner.opcode == "send":
                size = operands[inner.operands[0]].shapes[0].bytes
                everyone = np.arange(num_devices)[None]
                found.append(Collective(kind, size, everyone, times, inner.op_name, between_slices=True))
                continue
            # Parts of one asynchronous operation, spread over several fusions, have the same channel.
            channel = inner.attribute("channel_id")
            if channel is not None and (computation, channel) in seen:
                continue
            seen.add((computation, channel))
            size = sum(shape.bytes for name in inner.operands for shape in operands[name].shapes)
            groups = _groups(inner, num_devices)
            if inner.opcode.startswith("collective-permute"):
                size = sum(shape.bytes for shape in operands[inner.operands[0]].shapes)
                groups = groups[groups[:, 0] != groups[:, 1]]
            if groups.size and groups.shape[1] > 1:
                found.append(Collective(kind, size, groups, times, inner.op_name))
    return found


def _inside(program: Program, computation: str, instruction: Instruction):
    """The instruction itself, or what is in the fusion that it is: pairs of computation and instruction."""
    if instruction.opcode != "fusion":
        yield computation, instruction
        return
    for called in instruction.called:
        for inner in program.computations.get(called, {}).values():
            yield from _inside(program, called, inner)


def _groups(instruction: Instruction, num_devices: int) -> np.ndarray:
    """int[G, n] of a collective."""
    text = instruction.attributes
    pairs = re.search(r"source_target_pairs=(\{\{.*?\}\}|\{\})", text)
    if pairs:
        return np.asarray(re.findall(r"\{(\d+),(\d+)\}", pairs[1]), int).reshape(-1, 2)
    listed = re.search(r"replica_groups=(\{\{.*?\}\})", text)
    if listed:
        return np.asarray([[int(x) for x in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed[1])])
    start = text.find("replica_groups=")
    if start >= 0:
        iota, mesh = _IOTA.match(text, start + 15), _MESH.match(text, start + 15)
        if iota:
            shape, dims = (tuple(map(int, iota[place].split(","))) for place in (1, 2))
            order = tuple(map(int, iota[3].split(","))) if iota[3] else range(len(dims))
            return np.arange(np.prod(dims)).reshape(dims).transpose(tuple(order)).reshape(shape)
        if mesh:
            return _mesh_groups(mesh[1], mesh[2], mesh[3])
    return np.arange(num_devices)[None]


def _mesh_groups(axes: str, devices: str | None, reduced: str) -> np.ndarray:
    """Groups written as a mesh and the axes that are reduced: mesh['a'=4,'b'=2] {'a'}; a part of one is 'a':(1)2."""
    sizes = {name: int(size) for name, _, _, size in _AXIS.findall(axes)}
    places = np.arange(np.prod(list(sizes.values()), dtype=int))
    if devices:
        iota = _IOTA.match(devices)
        if iota is None and "<=" not in devices:
            places = np.asarray([int(x) for x in devices.split(",")])
    split, kept, moved = [], [], []
    parts = {name: (int(before or 1), int(size or 0)) for name, before, size, _ in _AXIS.findall(reduced)}
    for name, size in sizes.items():
        before, taken = parts.get(name, (1, 1))
        taken = size if name in parts and taken == 0 else taken
        start = len(split)
        split += [before, taken, size // (before * taken)]
        kept += [start, start + 2]
        moved.append(start + 1)
    grid = places.reshape(split).transpose(kept + moved)
    return grid.reshape(-1, int(np.prod([split[place] for place in moved])))
