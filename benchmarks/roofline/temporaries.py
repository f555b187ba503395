"""The largest arrays that a compiled program makes."""

from audiolm_jax.check.memory import Buffer

from .hlo import Program


def temporary_buffers(program: Program) -> list[Buffer]:
    """The largest arrays that a program makes in HBM, largest first, one for each place and shape."""
    found: dict[tuple[str, str], Buffer] = {}
    for _, instruction, _ in program.executed():
        if instruction.opcode in ("parameter", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "call"):
            continue
        for shape in instruction.shapes:
            if shape.in_hbm:
                written = f"{shape.dtype}[{','.join(map(str, shape.dims))}]"
                name = instruction.op_name.split("/", 1)[-1] or instruction.name
                found[name, written] = Buffer(shape.bytes, name, written)
    return sorted(found.values(), key=lambda buffer: -buffer.bytes)
