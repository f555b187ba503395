"""What a compiled program needs of a chip's memory, and what takes the most of it."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

from audiolm_jax.check.chips import GIB

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A large array on one chip.

    Attributes:
        bytes: its size there.
        name: the path in the state or batch, or the place in the model that makes it.
        shape: type and sizes on one chip ("bf16[16,2304,4096]").
    """

    bytes: int
    name: str
    shape: str

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {self.bytes / GIB:.2f} GiB"


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Of a program, on one chip, in bytes, as the compiler says.

    Attributes:
        arguments: what it is given: state and batch.
        temporaries: what it needs while it runs.
        outputs: what it returns, without what takes the place of arguments.
        code: the program itself.
    """

    arguments: int
    temporaries: int
    outputs: int
    code: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.arguments + self.temporaries + self.outputs + self.code


def memory_use(compiled: jax.stages.Compiled) -> MemoryUse | None:
    """What the compiler has reserved; None where it does not say."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    return MemoryUse(
        arguments=stats.argument_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        outputs=max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes),
        code=stats.generated_code_size_in_bytes,
    )


def argument_buffers(arguments: Any) -> list[Buffer]:
    """The arrays of a program's arguments on one chip, largest first; a tree of shapes with shardings."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(arguments)[0]:
        dims = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
        size = math.prod(dims) * getattr(leaf.dtype, "itemsize", 4)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.append(Buffer(size, name, f"{leaf.dtype}[{','.join(map(str, dims))}]"))
    return sorted(found, key=lambda buffer: -buffer.bytes)


def traced_buffers(jaxpr: Any, num_chips: int) -> list[Buffer]:
    """The largest arrays of a traced function, as if divided evenly among the chips, largest first.

    The compiler makes a program of it: an array that it fuses into what reads it takes no memory.
    """
    found: dict[tuple[str, str], Buffer] = {}
    waiting = [(jaxpr.jaxpr, "")]
    while waiting:
        current, outer = waiting.pop()
        for equation in current.eqns:
            stack = f"{outer}/{equation.source_info.name_stack}".strip("/")
            name = f"{stack}/{equation.primitive.name}".strip("/")
            inner = list(core.jaxprs_in_params(equation.params))
            waiting += [(each, stack) for each in inner]
            if inner:
                continue
            for variable in equation.outvars:
                shape = variable.aval
                if getattr(shape, "shape", None):
                    size = math.prod(shape.shape) * shape.dtype.itemsize // num_chips
                    written = f"{shape.dtype}[{','.join(map(str, shape.shape))}] / {num_chips}"
                    found[name, written] = Buffer(size, name, written)
    return sorted(found.values(), key=lambda buffer: -buffer.bytes)


def needed_bytes(message: str) -> int | None:
    """What the compiler says that it would need, from its message that memory ran out; None if it does not."""
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds", message) or re.search(r"Used ([\d.]+)([KMGT]) of", message)
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])


def ran_out(message: str) -> bool:
    """Whether a compiler's message says that a chip's memory ran out; that of its vector unit is a kernel's mistake."""
    return ("RESOURCE_EXHAUSTED" in message or "Ran out of memory" in message) and "vmem" not in message.lower()


def largest(buffers: Sequence[Buffer], count: int) -> tuple[Buffer, ...]:
    """The largest, one of each size: an array that is handed on or changed in place appears at many places."""
    by_size: dict[int, Buffer] = {}
    for buffer in buffers:
        by_size.setdefault(buffer.bytes, buffer)
    return tuple(sorted(by_size.values(), key=lambda buffer: -buffer.bytes)[:count])


def remedy(macros: Mapping[str, Any], temporaries_dominate: bool) -> str:
    """Which macro to change when an experiment with these macros does not fit."""
    options = []
    if macros.get("REMAT", "full") != "full":
        options.append("set REMAT=full, so that activations are computed again and not kept")
    if macros.get("MESH_FSDP", -1) != -1:
        options.append("set MESH_FSDP=-1 and MESH_DATA=1, so that the chips share parameters and optimizer state")
    if not temporaries_dominate:
        options.reverse()
    if "BATCH_SIZE" in macros:
        options.insert(1, "lower BATCH_SIZE")
    return ", or ".join([*options[:2], "take more chips"])
