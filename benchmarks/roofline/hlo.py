"""Reading XLA's compiled programs: instructions with shapes and operands, and how often each one runs.

XLA's own cost analysis counts the body of a loop once. Here loops count as often as they run, and nested ones multiply.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

ITEM_BITS = {
    "pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
    "f8e4m3fn": 8, "f8e5m2": 8, "f8e4m3": 8, "f8e3m4": 8, "f4e2m1fn": 4,
}  # fmt: skip

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(?:calls|to_apply|true_computation|false_computation|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# Hours of a chip for one instruction: what the compiler writes where it has no estimate lies far above.
_UNKNOWN_CYCLES = 10**13
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array of a program.

    Attributes:
        dtype: XLA's name of its type ("bf16").
        dims: its sizes on one device.
        in_hbm: False where the compiler keeps it in memory on the chip (VMEM, CMEM, SMEM).
    """

    dtype: str
    dims: tuple[int, ...]
    in_hbm: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes of the elements, without what tiling pads."""
        return self.size * ITEM_BITS.get(self.dtype, 0) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
        name, opcode: as in the text.
        shapes: of its result; several of a tuple.
        operands: names of instructions of the same computation.
        attributes: the rest of its line.
        is_root: whether its result is that of the computation.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """The computations it calls: a fusion's, a reduction's, the branches of a conditional."""
        found = _CALLED.findall(self.attributes)
        for branches in _BRANCHES.findall(self.attributes):
            found += [name.strip().lstrip("%") for name in branches.split(",")]
        return tuple(found)

    @functools.cached_property
    def op_name(self) -> str:
        """Where it comes from in the traced functions."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def estimated_cycles(self) -> int | None:
        """The TPU compiler's own estimate of its time, in cycles of the chip; None where it gives none or gave up."""
        found = _CYCLES.search(self.attributes)
        return int(found[1]) if found and int(found[1]) < _UNKNOWN_CYCLES else None

    def attribute(self, name: str) -> str | None:
        """The value of an attribute that is one word or one bracket ("window={...}" gives what is in the braces)."""
        found = re.search(rf"\b{name}=(?:\{{([^{{}}]*)\}}|([^\s,]+))", self.attributes)
        return None if found is None else found[1] if found[1] is not None else found[2]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: instructions by name, for every computation, in their order.
        entry: name of the computation that runs.
        unknown_trips: how often a loop is taken to run whose length is not known before.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str
    unknown_trips: int = 1

    def executed(self) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, number of times) of everything that runs outside fusions.

        Of the branches of a conditional, the one that writes the most bytes.
        """
        yield from self._executed(self.entry, 1)

    def _executed(self, name: str, times: int) -> Iterator[tuple[str, Instruction, int]]:
        for instruction in self.computations.get(name, {}).values():
            yield name, instruction, times
            if instruction.opcode == "while":
                trips = self.trip_count(name, instruction)
                yield from self._executed(instruction.attribute("body").lstrip("%"), times * trips)
            elif instruction.opcode == "conditional":
                yield from self._executed(max(instruction.called, key=self._written_bytes), times)
            elif instruction.opcode in ("call", "async-start"):
                for called in instruction.called:
                    yield from self._executed(called, times)

    def trip_count(self, computation: str, loop: Instruction) -> int:
        """How often a loop runs.

        Written beside the loop on some platforms; on TPU it is read off: a counter from a constant to a constant.
        """
        written = _TRIPS.search(loop.attributes)
        if written:
            return int(written[1])
        condition = self.computations.get(loop.attribute("condition").lstrip("%"), {})
        body = self.computations.get(loop.attribute("body").lstrip("%"), {})
        test = next((each for each in condition.values() if each.is_root), None)
        if test is None or test.opcode != "compare" or test.attribute("direction") != "LT":
            return self.unknown_trips
        place = self._place(condition, test.operands[0])
        stop = self._constant(condition, test.operands[1])
        start = self._constant_of_tuple(self.computations[computation], loop.operands[0], place)
        step = self._step(body, place)
        if None in (place, stop, start, step) or step < 1:
            return self.unknown_trips
        return max(0, -(-(stop - start) // step))

    @staticmethod
    def _follow(computation: dict[str, Instruction], name: str) -> Instruction | None:
        """The instruction that makes a value, behind those that only move it."""
        found = computation.get(name)
        while found is not None and found.opcode in ("copy", "bitcast", "convert", "copy-start", "copy-done"):
            found = computation.get(found.operands[0])
        return found

    def _constant(self, computation: dict[str, Instruction], name: str) -> int | None:
        found = self._follow(computation, name)
        value = re.search(r"\bconstant=(-?\d+)(?:\s|,|$)", found.attributes) if found is not None else None
        return int(value[1]) if value and found.opcode == "constant" else None

    def _place(self, computation: dict[str, Instruction], name: str) -> int | None:
        found = self._follow(computation, name)
        return int(found.attribute("index")) if found is not None and found.opcode == "get-tuple-element" else None

    def _constant_of_tuple(self, computation: dict[str, Instruction], name: str, place: int | None) -> int | None:
        found = self._follow(computation, name)
        if found is None or found.opcode != "tuple" or place is None:
            return None
        return self._constant(computation, found.operands[place])

    def _step(self, body: dict[str, Instruction], place: int | None) -> int | None:
        root = next((each for each in body.values() if each.is_root), None)
        if root is None or root.opcode != "tuple" or place is None:
            return None
        added = self._follow(body, root.operands[place])
        if added is None or added.opcode != "add" or self._place(body, added.operands[0]) != place:
            return None
        return self._constant(body, added.operands[1])

    def _written_bytes(self, name: str) -> int:
        return sum(shape.bytes for _, each, times in self._executed(name, 1) for shape in each.shapes * times)


def parse_program(text: str, unknown_trips: int = 1) -> Program:
    """The program in XLA's text form (`compiled.as_text()`); see `Program.unknown_trips`."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
            continue
        if line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _parse_instruction(bool(found[1]), found[2], found[3])
            current[instruction.name] = instruction
    return Program(computations, entry, unknown_trips)


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """The arrays in a shape's text, those of a tuple one after the other."""
    shapes = []
    for dtype, dims, layout in _ARRAY.findall(text):
        if dtype in ITEM_BITS:
            sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
            space = _SPACE.search(layout)
            shapes.append(Shape(dtype, sizes, space is None or space[1] == "0"))
    return tuple(shapes)


def _parse_instruction(is_root: bool, name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    operands, attributes = rest[opening + 1 : closing], rest[closing + 1 :]
    opcode = rest[:opening]
    if opcode in ("constant", "parameter"):
        attributes = f" {opcode}={operands}{attributes}"
        operands = ""
    return Instruction(name, opcode, parse_shapes(shape), tuple(_NAME.findall(operands)), attributes, is_root)


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] == "(":
            depth += 1
        elif text[index] == ")":
            depth -= 1
            if depth == 0:
                return index
    raise ValueError(f"no closing parenthesis in {text[:80]!r}")
