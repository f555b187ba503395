"""What each instruction of a compiled program does on one chip: multiplications and additions, and bytes of HBM.

Products (`dot`, and `convolution`, which is what XLA makes of most products on TPU) are counted as they are executed,
recomputation included. Of everything else only the traffic with HBM counts: a chip's vector unit keeps up with it.
An operand of a fusion that only reads or writes a part of an array counts as that part.
"""

import dataclasses
import math
import re

from audiolm_jax.check.convolution import meetings

from .hlo import Instruction, Program

# Instructions that move nothing: they name what is there, or their pair or their body is counted.
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "copy-done", "slice-done", "async-start", "async-update", "async-done",
    "opt-barrier", "iota",
    "all-reduce-done", "all-gather-done", "collective-permute-done", "send", "send-done", "recv", "recv-done",
})  # fmt: skip
_MARKERS = ('"AllocateBuffer"', '"AssumeGatherIndicesInBound"', '"ConcatBitcast"', '"Sharding"')
_MOVES = frozenset({"bitcast", "copy", "reshape", "transpose", "convert"})
_SLICES = frozenset({"dynamic-slice", "slice", "gather"})
# Passes over the bfloat16 unit for a product of float32 at a precision; XLA's default on TPU is one.
_PASSES = {"default": 1, "high": 3, "highest": 6}


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one instruction, every time it runs.

    Attributes:
        instruction: the instruction.
        times: how often it runs in a call of the program, or in one iteration of its loop.
        flops: multiplications and additions of its products.
        passes_flops: the same, each product times the passes that its precision takes.
        hbm_bytes: read and written.
    """

    instruction: Instruction
    times: float
    flops: float
    passes_flops: float
    hbm_bytes: float


def program_work(program: Program, kernels: dict[str, float]) -> list[Work]:
    """Everything a program executes that computes or moves something, collectives' own traffic included.

    Args:
        program: the compiled program.
        kernels: multiplications and additions of one call of each kernel (see `flops.kernel_flops`), which cannot be
            read off the program.
    """
    found = []
    for computation, instruction, times in program.executed():
        if instruction.opcode in _FREE or _is_marker(instruction):
            continue
        if instruction.opcode == "custom-call":
            flops = passes_flops = _kernel_flops(instruction, kernels)
        else:
            flops, passes_flops = _flops(program, computation, instruction)
        hbm_bytes = _hbm_bytes(program, computation, instruction)
        if flops or hbm_bytes or instruction.estimated_cycles:
            found.append(Work(instruction, times, flops, passes_flops, hbm_bytes))
    return found


def _is_marker(instruction: Instruction) -> bool:
    """Whether it is a custom call that only names or reserves something."""
    return instruction.opcode == "custom-call" and any(name in instruction.attributes for name in _MARKERS)


def _kernel_flops(instruction: Instruction, kernels: dict[str, float]) -> float:
    # The longest name, because one may be the beginning of another.
    named = [name for name in kernels if name in instruction.name or name in instruction.op_name]
    return kernels[max(named, key=len)] if named else 0.0


def _flops(program: Program, computation: str, instruction: Instruction) -> tuple[float, float]:
    """Multiplications and additions of an instruction, those in its fusion included; plain, and times passes."""
    if instruction.opcode == "fusion":
        pairs = [
            _flops(program, called, inner)
            for called in instruction.called
            for inner in program.computations.get(called, {}).values()
        ]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if instruction.opcode not in ("dot", "convolution"):
        return 0.0, 0.0
    operands = program.computations[computation]
    left, right = (operands[name].shapes[0] for name in instruction.operands[:2])
    if instruction.opcode == "dot":
        contracted = [int(axis) for axis in (instruction.attribute("lhs_contracting_dims") or "").split(",") if axis]
        flops = 2.0 * instruction.shapes[0].size * math.prod(left.dims[axis] for axis in contracted)
    else:
        flops = 2.0 * _convolution_products(instruction, left.dims, right.dims)
    precision = (instruction.attribute("operand_precision") or "default").split(",")
    passes = max(_PASSES.get(each.strip(), 1) for each in precision) if left.dtype == "f32" else 1
    return flops, flops * passes


def _convolution_products(instruction: Instruction, left: tuple[int, ...], right: tuple[int, ...]) -> float:
    """Pairs of input and kernel elements that meet; padding and the holes of a dilated input meet nothing."""
    labels_left, labels_right, labels_out = re.split(r"_|->", instruction.attribute("dim_labels"))
    out = instruction.shapes[0].dims
    window = dict(part.split("=") for part in (instruction.attribute("window") or "").split())
    spatial = [label for label in labels_out if label.isdigit()]

    def numbers(name: str, default: int) -> list[int]:
        return [int(x) for x in window[name].split("x")] if name in window else [default] * len(spatial)

    padding = [int(x.split("_")[0]) for x in window["pad"].split("x")] if "pad" in window else [0] * len(spatial)
    pairs = 1.0
    for place, label in enumerate(sorted(spatial, key=int)):
        pairs *= meetings(
            size=left[labels_left.index(label)],
            kernel=right[labels_right.index(label)],
            out=out[labels_out.index(label)],
            stride=numbers("stride", 1)[place],
            padding=padding[place],
            input_dilation=numbers("lhs_dilate", 1)[place],
            kernel_dilation=numbers("rhs_dilate", 1)[place],
        )
    batch_groups = int(instruction.attribute("batch_group_count") or 1)
    batch = left[labels_left.index("b")] // batch_groups
    return pairs * batch * right[labels_right.index("i")] * out[labels_out.index("f")]


def _hbm_bytes(program: Program, computation: str, instruction: Instruction) -> float:
    operands = program.computations[computation]
    opcode = instruction.opcode
    if opcode == "fusion":
        return _fusion_bytes(program, computation, instruction)
    if opcode in _SLICES:
        source = operands[instruction.operands[0]].shapes[0]
        return (instruction.shapes[0].bytes if source.in_hbm else 0) + _result_bytes(instruction)
    if opcode == "dynamic-update-slice":
        update = operands[instruction.operands[1]].shapes[0]
        return (update.bytes if update.in_hbm else 0) + (update.bytes if instruction.shapes[0].in_hbm else 0)
    if opcode in ("copy-start", "slice-start"):
        # Their results are pairs of place and source, or of source and part.
        moved = min(shape.bytes for shape in instruction.shapes[:2])
        return moved * sum(shape.in_hbm for shape in instruction.shapes[:2])
    if opcode.endswith("-start"):  # of a collective: its result holds its operands too
        return 2 * _operand_bytes(program, computation, instruction)
    if opcode == "broadcast":
        return _result_bytes(instruction)
    return _operand_bytes(program, computation, instruction) + _result_bytes(instruction)


def _operand_bytes(program: Program, computation: str, instruction: Instruction) -> int:
    operands = program.computations[computation]
    shapes = [shape for name in set(instruction.operands) for shape in operands[name].shapes]
    return sum(shape.bytes for shape in shapes if shape.in_hbm)


def _result_bytes(instruction: Instruction) -> int:
    return sum(shape.bytes for shape in instruction.shapes if shape.in_hbm)


def _fusion_bytes(program: Program, computation: str, instruction: Instruction) -> float:
    body = program.computations.get(instruction.called[0], {}) if instruction.called else {}
    users: dict[str, list[Instruction]] = {}
    for inner in body.values():
        for name in inner.operands:
            users.setdefault(name, []).append(inner)
    parameters = {
        int(inner.attribute("parameter") or 0): inner for inner in body.values() if inner.opcode == "parameter"
    }
    outer = program.computations[computation]
    total = 0.0
    for place, name in enumerate(instruction.operands):
        shapes = outer[name].shapes
        parameter = parameters.get(place)
        if parameter is None or len(shapes) != 1:
            total += sum(shape.bytes for shape in shapes if shape.in_hbm)
        elif shapes[0].in_hbm:
            total += _read_bytes(body, users, parameter)
    roots = [inner for inner in body.values() if inner.is_root]
    if roots and roots[0].opcode == "tuple":
        roots = [body[name] for name in roots[0].operands]
    if len(roots) != len(instruction.shapes):
        return total + _result_bytes(instruction)
    return total + sum(
        _written_bytes(body, root) for root, shape in zip(roots, instruction.shapes, strict=True) if shape.in_hbm
    )


def _read_bytes(body: dict[str, Instruction], users: dict[str, list[Instruction]], parameter: Instruction) -> int:
    """Bytes of a fusion's parameter that are read: those of slices where it is only sliced or written into."""
    whole = sum(shape.bytes for shape in parameter.shapes)
    read, waiting = 0, [parameter]
    while waiting:
        current = waiting.pop()
        for user in users.get(current.name, []):
            if user.opcode == "bitcast":
                waiting.append(user)
            elif user.opcode in _SLICES and user.operands[0] == current.name:
                read += user.shapes[0].bytes
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == current.name:
                continue
            else:
                return whole
    return min(read, whole)


def _written_bytes(body: dict[str, Instruction], root: Instruction) -> int:
    whole = sum(shape.bytes for shape in root.shapes)
    while root.opcode in _MOVES and root.operands:
        root = body[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return min(whole, body[root.operands[1]].shapes[0].bytes)
    return whole
