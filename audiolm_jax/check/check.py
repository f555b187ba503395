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
from audiolm_jax.check.flops import count_flops
from audiolm_jax.check.memory import (
    argument_buffers,
    largest,
    memory_use,
    needed_bytes,
    ran_out,
    remedy,
    traced_buffers,
)
from audiolm_jax.check.report import Report, StepReport, compiler_count
from audiolm_jax.check.steps import Step, sampling_steps, training_steps
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.parallel.mesh import make_mesh
from audiolm_jax.parallel.topology import Topology, open_topology, parse_topology
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.program import Program, make_program

NO_DATA = "no_data"
_SHOWN_BUFFERS = 5
Tell = Callable[[str], None]


def tell_on_stderr(line: str) -> None:
    """Prints a line of progress."""
    print(line, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Setup:
    """An experiment laid out over the devices of a topology.

    Attributes:
        topology: with its devices.
        chip: what is published about them; None for simulated ones that stand for no chip.
        mesh: of the devices.
        macros: of the experiment.
        program: its train and eval step.
        steps: to compile.
    """

    topology: Topology
    chip: Chip | None
    mesh: jax.sharding.Mesh
    macros: dict[str, Any]
    program: Program
    steps: tuple[Step, ...]


def check(
    exp: str | Path,
    topology: str,
    slices: int = 1,
    overrides: Sequence[str] = (),
    data: Sequence[str] = (),
    train_only: bool = False,
    tell: Tell = tell_on_stderr,
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
    setup = set_up(exp, topology, slices, overrides, data, train_only, tell)
    reports = []
    for step in setup.steps:
        reports.append(measure(step, setup, tell)[0])
        if not reports[-1].fits:
            break
    return report(exp, overrides, setup, reports)


def set_up(
    exp: str | Path,
    topology: str,
    slices: int = 1,
    overrides: Sequence[str] = (),
    data: Sequence[str] = (),
    train_only: bool = False,
    tell: Tell = tell_on_stderr,
) -> Setup:
    """Builds an experiment and traces its steps for a topology; arguments and errors as those of `check`."""
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
    return Setup(opened, chip, mesh, macros, program, tuple(steps))


def report(exp: str | Path, overrides: Sequence[str], setup: Setup, steps: Sequence[StepReport]) -> Report:
    """The report of the measured steps of an experiment."""
    return Report(
        experiment=str(exp),
        settings=tuple(overrides),
        topology=str(setup.topology.name),
        simulated=setup.topology.simulated,
        mesh=dict(setup.mesh.shape),
        batch_size=setup.program.batch_size,
        num_parameters=sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(setup.program.state.params)),
        chip=setup.chip,
        num_chips=setup.mesh.size,
        steps=tuple(steps),
        remedy=remedy(setup.macros, _temporaries_dominate(steps[-1])),
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


def measure(step: Step, setup: Setup, tell: Tell) -> tuple[StepReport, jax.stages.Compiled | None]:
    """Compiles one step, and takes what the compiler and the traced function say of it.

    Returns:
        (the report, the compiled program; None if it does not fit).

    Raises:
        UserError: XLA cannot compile it for another reason than memory.
    """
    flops = count_flops(step.traced.jaxpr)
    arguments = argument_buffers(step.arguments)
    shown = largest(arguments + traced_buffers(step.traced.jaxpr, step.num_chips), _SHOWN_BUFFERS)
    tell(f"compiling the {step.name} step for {step.num_chips} chip(s) ...")
    started = time.perf_counter()
    try:
        with _interruptible():
            compiled = step.traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not ran_out(str(error)):
            generation = setup.topology.name.generation
            raise UserError(f"{generation}: XLA cannot compile the {step.name} step: {first_line(error)}") from error
        tell(f"the {step.name} step does not fit")
        held = sum(buffer.bytes for buffer in arguments)
        needed = held + (needed_bytes(str(error)) or 0)
        return StepReport(step.name, step.num_chips, flops, False, needed, held, shown), None
    seconds = time.perf_counter() - started
    tell(f"the {step.name} step is compiled after {seconds:.0f} s")
    memory = memory_use(compiled)
    try:
        sent = collectives(compiled.as_text())
    except jax.errors.JaxRuntimeError as error:
        # A libtpu that is newer than jaxlib can write programs that jaxlib cannot read.
        tell(f"its collectives are not known: jaxlib cannot read this libtpu's program ({first_line(error)}); "
             "install the libtpu that belongs to this jax: pip install 'jax[tpu]'")
        sent = {}
    found = StepReport(
        name=step.name,
        num_chips=step.num_chips,
        flops=flops,
        fits=setup.chip is None or memory is None or memory.total <= setup.chip.usable_hbm_bytes,
        needed_bytes=memory.total if memory else 0,
        argument_bytes=memory.arguments if memory else 0,
        largest=shown,
        memory=memory,
        compiler=compiler_count(compiled),
        collectives=sent,
        compile_seconds=seconds,
    )
    return found, compiled


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
