#!/usr/bin/env python3
"""How long the steps of an experiment take on TPU chips that are not there: a roofline of its compiled programs.

    python benchmarks/tpu_roofline.py coarse_librilight_paper --topology v4:2x2x4 --train_only [--json FILE]

Compiles what `audiolm check` compiles, with the same arguments, and reads the text of the programs, which is how XLA of
one version happens to write them: `audiolm check` asks the compiler only for what it tells of itself. Every loop is
followed as often as it runs; every instruction takes the longer of its products at the chip's bfloat16 peak and its HBM
traffic at the chip's peak; then come all collectives over the links that a group of chips can use, and nothing
overlaps. The compiler's estimate are the cycles that the TPU compiler writes beside its instructions, where it does.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from roofline.collectives import collectives
from roofline.hlo import parse_program
from roofline.links import LINKS, Links
from roofline.temporaries import temporary_buffers
from roofline.times import CollectiveUse, Places, Roofline, collective_uses, roofline, wrapped_axes
from roofline.work import program_work

from audiolm_jax.check.check import Setup, measure, report, set_up, tell_on_stderr
from audiolm_jax.check.flops import kernel_flops
from audiolm_jax.check.memory import Buffer, largest
from audiolm_jax.check.report import StepReport
from audiolm_jax.check.steps import Step
from audiolm_jax.errors import UserError
from audiolm_jax.parallel.topology import parse_topology

COLUMNS = ("step", "GFLOP/chip", "HBM GB/chip", "ms", "MFU", "ms if all overlaps", "compiler's ms")
SENT_COLUMNS = ("step", "collective", "count", "MB in", "MB ICI", "MB DCN", "ms")
SHOWN_TEMPORARIES = 3


@dataclasses.dataclass(frozen=True)
class StepTime:
    """One call of a compiled step, or one iteration of its loop, on one chip.

    Attributes:
        name: of the step.
        flops: of products that the compiled program executes.
        hbm_bytes: that it reads and writes.
        sent: what it sends, by kind of collective.
        times: of the roofline.
        mfu: model FLOPs a second by the roofline, as a share of the chips' peak.
        temporaries: the largest arrays that it makes in HBM.
    """

    name: str
    flops: float
    hbm_bytes: float
    sent: dict[str, CollectiveUse]
    times: Roofline
    mfu: float | None
    temporaries: tuple[Buffer, ...]

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain values."""
        values = dataclasses.asdict(self)
        values["times"] |= {"step_seconds": self.times.step_seconds, "ideal_seconds": self.times.ideal_seconds}
        return values


def time_step(step: Step, measured: StepReport, compiled: jax.stages.Compiled, setup: Setup) -> StepTime:
    """Reads a compiled step."""
    program = parse_program(compiled.as_text(), step.iterations)
    links = LINKS[setup.chip.name]
    work = program_work(program, kernel_flops(step.traced.jaxpr))
    work = [dataclasses.replace(each, times=each.times / step.iterations) for each in work]
    sent = collective_uses(links, collectives(program, step.num_chips), places(setup, links))
    times = roofline(setup.chip, links.clock_hz, work, sent)
    peak = step.num_chips * setup.chip.peak_flops
    return StepTime(
        name=step.name,
        flops=sum(each.times * each.flops for each in work),
        hbm_bytes=sum(each.times * each.hbm_bytes for each in work),
        sent=sent,
        times=times,
        mfu=measured.flops.model / (peak * times.step_seconds) if times.step_seconds else None,
        temporaries=largest(temporary_buffers(program), SHOWN_TEMPORARIES),
    )


def places(setup: Setup, links: Links) -> Places:
    """Where the chips of the mesh are."""
    position = {device.id: place for place, device in enumerate(setup.topology.devices)}
    order = [position[device.id] for device in setup.mesh.devices.flat]
    slices = tuple(setup.topology.slice_of[place] for place in order)
    return Places(np.asarray(setup.topology.coordinates)[order], slices, wrapped_axes(links, setup.topology.name.shape))


def lines(times: list[StepTime]) -> list[str]:
    """The tables in Markdown, and what is large."""
    def row(cells) -> str:
        return "| " + " | ".join(cells) + " |"

    def milliseconds(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds * 1e3:.4g}"

    found = [row(COLUMNS), "|" + "---|" * len(COLUMNS)]
    for each in times:
        found.append(row((
            each.name, f"{each.flops / 1e9:.4g}", f"{each.hbm_bytes / 1e9:.4g}",
            milliseconds(each.times.step_seconds), f"{each.mfu:.1%}" if each.mfu is not None else "-",
            milliseconds(each.times.ideal_seconds), milliseconds(each.times.compiler_seconds),
        )))  # fmt: skip
    if any(each.sent for each in times):
        found += ["", row(SENT_COLUMNS), "|" + "---|" * len(SENT_COLUMNS)]
    for each in times:
        for kind, use in each.sent.items():
            sizes = (f"{size / 1e6:.1f}" for size in (use.payload_bytes, use.ici_bytes, use.dcn_bytes))
            found.append(row((each.name, kind, str(use.count), *sizes, milliseconds(use.seconds))))
    largest_arrays = "; ".join(map(str, times[0].temporaries)) if times else ""
    return [*found, "", f"largest arrays that the {times[0].name} step makes: {largest_arrays}"] if times else found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="a gin file, or the name of one in gin/exp")
    parser.add_argument("--topology", required=True, metavar="NAME", help="chips, as in v4:2x2x4")
    parser.add_argument("--slices", type=int, default=1, help="how many slices of it (default 1)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="MACRO=VALUE")
    parser.add_argument("--train_only", action="store_true", help="the train step alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report of `audiolm check` with these times")
    args = parser.parse_args()
    try:
        if parse_topology(args.topology, args.slices).generation not in LINKS:
            raise UserError(f"no rates are published for {args.topology}; name a TPU topology")
        setup = set_up(args.experiment, args.topology, args.slices, args.overrides, train_only=args.train_only)
        reports, times = [], []
        for step in setup.steps:
            measured, compiled = measure(step, setup, tell_on_stderr)
            reports.append(measured)
            if not measured.fits:
                break
            times.append(time_step(step, measured, compiled, setup))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = report(args.experiment, args.overrides, setup, reports)
    print("\n".join(lines(times)))
    if args.json:
        values = found.to_json()
        for plain, each in zip(values["steps"], times, strict=False):
            plain["roofline"] = each.to_json()
        args.json.write_text(json.dumps(values, indent=1) + "\n")
    if not found.fits:
        print(f"error: {found.error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
