"""The result of a check: as a compact table for people, as plain values for programs."""

import dataclasses
import importlib.metadata
from typing import Any

from audiolm_jax.check.chips import GIB, Chip
from audiolm_jax.check.flops import Flops
from audiolm_jax.check.memory import Buffer, MemoryUse
from audiolm_jax.check.roofline import CollectiveUse, Roofline

STEP_COLUMNS = ("step", "HBM GiB", "state", "temp", "TFLOP", "done", "GFLOP/chip", "GB/chip", "ms", "MFU")
COLLECTIVE_COLUMNS = ("step", "collective", "count", "MB in", "MB ICI", "MB DCN", "ms")


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
        chip_flops: of products that the compiled program executes.
        chip_hbm_bytes: that it reads and writes.
        collectives: by kind.
        times: of the roofline; None without a chip.
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
    chip_flops: float = 0.0
    chip_hbm_bytes: float = 0.0
    collectives: dict[str, CollectiveUse] = dataclasses.field(default_factory=dict)
    times: Roofline | None = None
    compile_seconds: float = 0.0

    def mfu(self, chip: Chip) -> float | None:
        """Model FLOPs a second by the roofline, as a share of the chips' peak."""
        if self.times is None or self.times.step_seconds == 0:
            return None
        return self.flops.model / (self.num_chips * chip.peak_flops * self.times.step_seconds)


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
            if step.times:
                plain["times"] |= {"step_seconds": step.times.step_seconds, "ideal_seconds": step.times.ideal_seconds}
                plain["mfu"] = step.mfu(self.chip)
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
        end = [_times_line(train.times)] if train.times else []
        end.append("largest arrays of a chip: " + "; ".join(map(str, train.largest)))
        end.append("TFLOP: the model's, over all chips; done: executed, with recomputation. See docs/tpu.md.")
        return "\n\n".join([*parts, "\n".join(end)])

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
    cells = []
    for kind, use in step.collectives.items():
        sizes = (f"{size / 1e6:.1f}" for size in (use.payload_bytes, use.ici_bytes, use.dcn_bytes))
        cells.append((step.name, kind, str(use.count), *sizes, f"{use.seconds * 1e3:.2f}"))
    return cells


def _times_line(times: Roofline) -> str:
    line = (
        f"train step {times.step_seconds * 1e3:.1f} ms = {times.core_seconds * 1e3:.1f} products and memory "
        f"({times.compute_seconds * 1e3:.1f} and {times.hbm_seconds * 1e3:.1f} by themselves) + "
        f"{times.collective_seconds * 1e3:.1f} collectives, nothing overlapped; "
        f"{times.ideal_seconds * 1e3:.1f} ms if all overlapped"
    )
    if times.compiler_seconds is None:
        return line
    return line + f"; {times.compiler_seconds * 1e3:.1f} ms by the compiler's own estimate, vector code included"


def _step_cells(step: StepReport, chip: Chip | None) -> tuple[str, ...]:
    memory, mfu = step.memory, step.mfu(chip) if chip else None
    return (
        step.name,
        f"{step.needed_bytes / GIB:.2f}",
        f"{memory.arguments / GIB:.2f}" if memory else "-",
        f"{memory.temporaries / GIB:.2f}" if memory else "-",
        f"{step.flops.model / 1e12:.4g}",
        f"{step.flops.hardware / 1e12:.4g}",
        f"{step.chip_flops / 1e9:.4g}",
        f"{step.chip_hbm_bytes / 1e9:.4g}",
        f"{step.times.step_seconds * 1e3:.4g}" if step.times else "-",
        f"{mfu:.1%}" if mfu is not None else "-",
    )


def _row(cells: tuple[str, ...]) -> str:
    widths = (8, 18, 9, 9, 9, 9, 11, 9, 9, 7)
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
