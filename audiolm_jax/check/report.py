"""The result of a check: as a compact table for people, as plain values for programs."""

import dataclasses
import importlib.metadata
from typing import Any

import jax

from audiolm_jax.check.chips import GIB, Chip
from audiolm_jax.check.collectives import Collectives
from audiolm_jax.check.flops import Flops
from audiolm_jax.check.memory import Buffer, MemoryUse

STEP_COLUMNS = ("step", "HBM GiB", "state", "temp", "TFLOP", "done", "least ms", "XLA GFLOP", "XLA GB")
COLLECTIVE_COLUMNS = ("step", "collective", "count", "in loops", "MB")
_NOTES = (
    "TFLOP: the model's, over all chips; done: executed, with recomputation; least ms: that at the chips' peak.",
    "XLA: its own count of a chip's program, in which the body of a loop counts once, as in MB. See docs/tpu.md.",
)


@dataclasses.dataclass(frozen=True)
class CompilerCount:
    """What XLA counts in a program of one chip: the body of a loop once.

    Attributes:
        flops: multiplications and additions, elementwise ones included.
        accessed_bytes: read and written, in whatever memory of the chip.
    """

    flops: float
    accessed_bytes: float


def compiler_count(compiled: jax.stages.Compiled) -> CompilerCount | None:
    """The compiler's own cost analysis; None where it makes none."""
    counted = compiled.cost_analysis()
    return CompilerCount(counted.get("flops", 0.0), counted.get("bytes accessed", 0.0)) if counted else None


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One compiled step. Figures are per chip unless they say otherwise.

    Attributes:
        name: "train", "eval", "prefill" or "token".
        num_chips: it runs on.
        flops: of the traced function, over all chips.
        fits: whether it fits the chip's memory.
        needed_bytes: of memory.
        argument_bytes: of it, state and batch.
        largest: its largest arrays.
        memory: the compiler's account; None if it did not compile.
        compiler: the compiler's count; None if it did not compile.
        collectives: by kind.
        compile_seconds: it took.
    """

    name: str
    num_chips: int
    flops: Flops
    fits: bool
    needed_bytes: int
    argument_bytes: int
    largest: tuple[Buffer, ...]
    memory: MemoryUse | None = None
    compiler: CompilerCount | None = None
    collectives: dict[str, Collectives] = dataclasses.field(default_factory=dict)
    compile_seconds: float = 0.0

    def least_seconds(self, chip: Chip) -> float:
        """What its products take at the chips' peak: no step is faster."""
        return self.flops.hardware / (self.num_chips * chip.peak_flops)


@dataclasses.dataclass(frozen=True)
class Report:
    """Of one experiment on one topology.

    Attributes:
        experiment, settings: what was built.
        topology: its name.
        simulated: whether CPU devices stood for the chips.
        mesh: devices along each axis.
        batch_size: rows of the global batch.
        num_parameters: of the learner.
        chip: its published figures; None for simulated devices that stand for no chip.
        num_chips: of the mesh.
        steps: in the order they were compiled; the last one is the first that does not fit.
        remedy: which macro to change if it does not fit.
    """

    experiment: str
    settings: tuple[str, ...]
    topology: str
    simulated: bool
    mesh: dict[str, int]
    batch_size: int
    num_parameters: int
    chip: Chip | None
    num_chips: int
    steps: tuple[StepReport, ...]
    remedy: str

    @property
    def fits(self) -> bool:
        """Whether every step fits the memory of a chip."""
        return all(step.fits for step in self.steps)

    @property
    def error(self) -> str | None:
        """One line for what does not fit, with its largest arrays and the macro to change; None if all fits."""
        if self.fits:
            return None
        step = self.steps[-1]
        largest = "; ".join(map(str, step.largest[:3]))
        return (
            f"{self.experiment} does not fit {self.topology}: the {step.name} step needs about "
            f"{step.needed_bytes / GIB:.1f} GiB of a chip's {self.chip.usable_hbm_bytes / GIB:.2f} GiB; largest: "
            f"{largest}; {self.remedy}"
        )

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain values, with the versions that gave them."""
        values = dataclasses.asdict(self)
        values["fits"] = self.fits
        values["error"] = self.error
        values["chip"] = dataclasses.asdict(self.chip) if self.chip else None
        for plain, step in zip(values["steps"], self.steps, strict=True):
            plain["flops"] |= {"model": step.flops.model, "hardware": step.flops.hardware}
            if step.memory:
                plain["memory"]["total"] = step.memory.total
            if self.chip:
                plain["least_seconds"] = step.least_seconds(self.chip)
        values["versions"] = _versions()
        return values

    def to_text(self) -> str:
        """The table that the command prints."""
        train = self.steps[0]
        parts = [
            "\n".join(self._head()),
            "\n".join(map(_row, [STEP_COLUMNS, *(_step_cells(step, self.chip) for step in self.steps)])),
        ]
        sent = [cells for step in self.steps for cells in _collective_cells(step)]
        if sent:
            parts.append("\n".join(map(_row, [COLLECTIVE_COLUMNS, *sent])))
        largest = "largest arrays of a chip: " + "; ".join(map(str, train.largest))
        return "\n\n".join([*parts, "\n".join([largest, *_NOTES])])

    def _head(self) -> list[str]:
        mesh = " x ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        where = f"{self.topology}, {self.num_chips} chip(s)" + (", SIMULATED on CPU" if self.simulated else "")
        lines = [
            f"{self.experiment} on {where}; mesh {mesh}",
            f"batch {self.batch_size}, {self.num_parameters / 1e6:.1f} M parameters",
        ]
        if chip := self.chip:
            lines.append(
                f"a {chip.name} chip: {chip.peak_flops / 1e12:.0f} TFLOP/s bfloat16, {chip.usable_hbm_bytes / GIB:.2f} "
                f"of {chip.hbm_bytes / GIB:.0f} GiB for programs, {chip.hbm_bytes_per_second / 1e9:.0f} GB/s "
                f"({chip.source[0]})"
            )
        return lines


def _collective_cells(step: StepReport) -> list[tuple[str, ...]]:
    return [
        (step.name, kind, str(found.count), str(found.in_loops), f"{found.bytes / 1e6:.1f}")
        for kind, found in step.collectives.items()
    ]


def _step_cells(step: StepReport, chip: Chip | None) -> tuple[str, ...]:
    memory, compiler = step.memory, step.compiler
    return (
        step.name,
        f"{step.needed_bytes / GIB:.2f}",
        f"{memory.arguments / GIB:.2f}" if memory else "-",
        f"{memory.temporaries / GIB:.2f}" if memory else "-",
        f"{step.flops.model / 1e12:.4g}",
        f"{step.flops.hardware / 1e12:.4g}",
        f"{step.least_seconds(chip) * 1e3:.4g}" if chip else "-",
        f"{compiler.flops / 1e9:.4g}" if compiler else "-",
        f"{compiler.accessed_bytes / 1e9:.4g}" if compiler else "-",
    )


def _row(cells: tuple[str, ...]) -> str:
    widths = (8, 18, 9, 9, 9, 9, 9, 11, 9)
    return "  ".join(
        cell.ljust(width) if place == 0 else cell.rjust(max(width, len(cell)))
        for place, (cell, width) in enumerate(zip(cells, widths, strict=False))
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("audiolm_jax", "jax", "jaxlib", "libtpu", "flax"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
