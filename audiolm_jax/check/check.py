"""Builds an experiment, compiles its real steps for a topology, and measures the compiled programs."""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from audiolm_jax.check.chips import CHIPS, Chip
from audiolm_jax.check.collectives import collectives
from audiolm_jax.check.flops import count_flops, kernel_flops
from audiolm_jax.check.hlo import parse_program
from audiolm_jax.check.memory import (
    argument_buffers,
    largest,
    memory_use,
    needed_bytes,
    ran_out,
    remedy,
    temporary_buffers,
    traced_buffers,
)
from audiolm_jax.check.report import Report, StepReport
from audiolm_jax.check.roofline import Places, collective_uses, roofline, wrapped_axes
from audiolm_jax.check.steps import Step, sampling_steps, training_steps
from audiolm_jax.check.work import program_work
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.parallel.mesh import make_mesh
from audiolm_jax.parallel.topology import Topology, open_topology, parse_topology
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.program import make_program

NO_DATA = "no_data"
_SHOWN_BUFFERS = 5
Tell = Callable[[str], None]


def check(
    exp: str | Path,
    topology: str,
    slices: int = 1,
    overrides: Sequence[str] = (),
    data: Sequence[str] = (),
    train_only: bool = False,
    tell: Tell = lambda line: print(line, file=sys.stderr, flush=True),
) -> Report:
    """Compiles an experiment's train, eval and sampling steps for a topology that need not be there.

    Args:
        exp: a gin file, or the name of one in gin/exp.
        topology: "v4:2x2x4" and so on; see `parallel.topology.SHAPES`.
        slices: how many slices of it.
        overrides: "MACRO=VALUE" each.
        data: folders, for an experiment that looks into them when it is built; none of the others needs any.
        train_only: compile the train step and nothing else, which takes a third of the time.
        tell: is called with lines of progress.

    Returns:
        the measured figures. `report.fits` tells whether it fits; `report.error` is the line to print if it does not.

    Raises:
        UserError: an unknown topology or experiment, or sizes that do not go with the mesh.
    """
    opened = open_topology(parse_topology(topology, slices))
    chip = CHIPS.get(opened.name.generation)
    if opened.simulated and chip is not None:
        tell(f"libtpu is not installed: {opened.name} is simulated by {len(opened.devices)} CPU devices, so memory and "
             "traffic are estimates; install audiolm_jax[check]")
    built, macros = _build(exp, overrides, data)
    mesh = make_mesh(built.mesh, opened.devices)
    program = make_program(
        built.learner, built.feed.batch_shapes(), built.feed.eval_batch_shapes(), mesh, built.options.seed
    )
    steps = training_steps(program, built.options.steps - 1)
    steps = steps[:1] if train_only else steps + sampling_steps(built, mesh)
    places = _places(opened, chip, mesh)
    reports = []
    for step in steps:
        reports.append(_measure(step, chip, places, opened.name.generation, tell))
        if not reports[-1].fits:
            break
    return Report(
        experiment=str(exp),
        settings=tuple(overrides),
        topology=str(opened.name),
        simulated=opened.simulated,
        mesh=dict(mesh.shape),
        batch_size=program.batch_size,
        num_parameters=sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(program.state.params)),
        chip=chip,
        num_chips=mesh.size,
        steps=tuple(reports),
        remedy=remedy(macros, _temporaries_dominate(reports[-1])),
    )


def _build(exp, overrides, data) -> tuple[experiment.Experiment, dict[str, Any]]:
    """The experiment, with folders that nothing looks into, and its macros."""
    overrides, data = list(overrides), list(data) or NO_DATA
    configuration.parse(exp, overrides, data)
    if configuration.macros().get("W2V_BERT", NO_DATA) is None:
        # k-means wants the directory of its encoder; to compile it, no weights are needed.
        overrides.append(f"W2V_BERT={NO_DATA}")
    built, _ = experiment.load(exp, overrides, data)
    return built, configuration.macros()


def _places(topology: Topology, chip: Chip | None, mesh: jax.sharding.Mesh) -> Places:
    position = {device.id: place for place, device in enumerate(topology.devices)}
    order = [position[device.id] for device in mesh.devices.flat]
    wraps = wrapped_axes(chip, topology.name.shape) if chip else (False,) * topology.coordinates.shape[1]
    return Places(topology.coordinates[order], tuple(topology.slice_of[place] for place in order), wraps)


def _measure(step: Step, chip: Chip | None, places: Places, generation: str, tell: Tell) -> StepReport:
    """Compiles one step and counts what is in it."""
    flops = count_flops(step.traced.jaxpr)
    arguments = argument_buffers(step.arguments)
    tell(f"compiling the {step.name} step for {step.num_chips} chip(s) ...")
    started = time.perf_counter()
    try:
        with _interruptible():
            compiled = step.traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not ran_out(str(error)):
            raise UserError(f"{generation}: XLA cannot compile the {step.name} step: {first_line(error)}") from error
        tell(f"the {step.name} step does not fit")
        held = sum(buffer.bytes for buffer in arguments)
        return StepReport(
            step.name, step.num_chips, flops,
            largest=largest(arguments + traced_buffers(step.traced.jaxpr, step.num_chips), _SHOWN_BUFFERS),
            needed_bytes=held + (needed_bytes(str(error)) or 0), argument_bytes=held, fits=False,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    tell(f"the {step.name} step is compiled after {seconds:.0f} s")
    memory = memory_use(compiled)
    try:
        program = parse_program(compiled.as_text(), step.iterations)
    except jax.errors.JaxRuntimeError as error:
        # A libtpu that is newer than jaxlib can write programs that jaxlib cannot read.
        tell(f"its traffic and times are not known: jaxlib cannot read this libtpu's program ({first_line(error)}); "
             "install the libtpu that belongs to this jax: pip install 'jax[tpu]'")
        program = None
    temporaries = [] if program is None else temporary_buffers(program)
    work = [] if program is None else program_work(program, kernel_flops(step.traced.jaxpr))
    work = [dataclasses.replace(each, times=each.times / step.iterations) for each in work]
    uses = collective_uses(chip, collectives(program, step.num_chips), places) if chip and program else {}
    return StepReport(
        name=step.name,
        num_chips=step.num_chips,
        flops=flops,
        memory=memory,
        needed_bytes=memory.total if memory else 0,
        argument_bytes=memory.arguments if memory else 0,
        largest=largest(arguments + temporaries, _SHOWN_BUFFERS),
        chip_flops=sum(each.times * each.flops for each in work),
        chip_hbm_bytes=sum(each.times * each.hbm_bytes for each in work),
        collectives=uses,
        times=roofline(chip, work, uses) if chip and program else None,
        compile_seconds=seconds,
        fits=chip is None or memory is None or memory.total <= chip.usable_hbm_bytes,
    )


@contextlib.contextmanager
def _interruptible():
    """Lets ^C end the process at once: a compilation takes minutes, and Python would hear of it only afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _temporaries_dominate(step: StepReport) -> bool:
    return step.needed_bytes > 2 * step.argument_bytes
