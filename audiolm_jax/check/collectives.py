"""What a compiled program exchanges between chips: its collectives, found in XLA's text.

A collective in the body of a loop stands there once, however often the loop runs, and is counted once; how many of them
are in loops is told beside it. Of a conditional all branches count. What the bytes cost on the links of a slice is for
`benchmarks/tpu_roofline.py`, which follows every loop.
"""

import dataclasses
import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_NAMES = {kind: kind for kind in KINDS} | {
    "ragged-all-to-all": "all-to-all",
    "collective-broadcast": "all-gather",
}
# How the TPU compiler writes what goes between slices.
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TRANSFERS = {kind.replace("-", "_").upper(): kind for kind in KINDS}

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+)(\d*)(?:e\d\w*)?\[([\d,<=]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|\w+_computations?)=(?:\{([^}]*)\}|%?([\w.\-]+))")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")


@dataclasses.dataclass(frozen=True)
class Collectives:
    """All collectives of one kind in a program.

    Attributes:
        count: how many.
        in_loops: of them in the bodies of loops, which run as often as their loop.
        bytes: what a chip puts into all of them, each counted once.
    """

    count: int
    in_loops: int
    bytes: int


def collectives(text: str) -> dict[str, Collectives]:
    """The collectives of a program, by kind, for the kinds that occur.

    Args:
        text: the compiled program (`compiled.as_text()`). An asynchronous pair of start and done is one, and so are the
            parts of one that the compiler spreads over several fusions.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    called: dict[str, set[str]] = {}
    bodies, channels = set(), set()
    computation, sizes = "", {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            computation, sizes = header[1], {}
            continue
        if not (instruction := _INSTRUCTION.match(line)):
            continue
        name, shape, opcode, rest = instruction.groups()
        sizes[name] = _bytes(shape)
        bodies.update(_BODY.findall(rest))
        for several, one in _CALLED.findall(rest):
            called.setdefault(computation, set()).update(each.strip(" %") for each in (several or one).split(","))
        kind = kind_of(opcode, computation, rest)
        channel = _CHANNEL.search(rest) if opcode != "send" else None
        if kind is None or (channel and channel[1] in channels):
            continue
        if channel:
            channels.add(channel[1])
        operands = _OPERAND.findall(rest[: rest.index(")")])
        alone = opcode == "send" or kind == "collective-permute"  # the other operands are no data
        put_in = sum(sizes.get(each, 0) for each in (operands[:1] if alone else operands))
        found.setdefault(kind, []).append((computation, put_in))
    looping = _reached(bodies, called)
    return {
        kind: Collectives(
            count=len(found[kind]),
            in_loops=sum(computation in looping for computation, _ in found[kind]),
            bytes=sum(size for _, size in found[kind]),
        )
        for kind in KINDS if kind in found
    }  # fmt: skip


def kind_of(opcode: str, computation: str, attributes: str) -> str | None:
    """The kind of collective that an instruction is or starts; None for any other.

    Args:
        opcode: of the instruction.
        computation: the name of the one that it stands in.
        attributes: the rest of its line.
    """
    if opcode == "send":
        transfer = _TRANSFER.search(attributes)
        return _TRANSFERS.get(transfer[1], "collective-permute") if transfer else None
    kind = _NAMES.get(opcode.removesuffix("-start"))
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
        # A fusion of an all-reduce with the slice that each chip keeps of it is a reduce-scatter.
        return "reduce-scatter"
    return kind


def _bytes(shape: str) -> int:
    """Of the arrays in a shape's text, those of a tuple together."""
    total = 0
    for dtype, width, dims in _ARRAY.findall(shape):
        bits = int(width) if width else 8 if dtype == "pred" else 0
        total += math.prod(int(size.lstrip("<=")) for size in dims.split(",") if size) * bits // 8
    return total


def _reached(start: set[str], called: dict[str, set[str]]) -> set[str]:
    """These computations and all that they call."""
    reached, waiting = set(), list(start)
    while waiting:
        computation = waiting.pop()
        if computation not in reached:
            reached.add(computation)
            waiting += called.get(computation, ())
    return reached
