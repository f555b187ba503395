"""The training loop, one for every learner. Read `train` from top to bottom: it is the whole story."""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from audiolm_jax.data.feed.batches import BatchShapes
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import to_plain
from audiolm_jax.parallel import hosts
from audiolm_jax.parallel.mesh import (
    MeshSizes,
    global_batch,
    host_rows,
    make_mesh,
    mesh_context,
)
from audiolm_jax.ranges import Count, NotNegative, Seed, Whole
from audiolm_jax.training.examination import EXAMINATION, Examiner
from audiolm_jax.training.learner import Batch, Learner
from audiolm_jax.training.logging import RunLog
from audiolm_jax.training.optimization.broken_step import RecentSteps
from audiolm_jax.training.program import make_program, sample_key
from audiolm_jax.training.progress import Clock, FirstCalls, MetricTotals, StepBar
from audiolm_jax.training.saved.checkpoints import Checkpoints
from audiolm_jax.training.saved.warm_start import WarmStart
from audiolm_jax.training.saved.work_directory import WorkDirectory
from audiolm_jax.training.state import TrainState
from audiolm_jax.training.stop_signal import StopSignal

_log = logging.getLogger(__name__)


class Feed(Protocol):
    """Where batches come from. The order is a pure function of the feed's seed and the cursor's few integers.

    `rows` are those of the GLOBAL batch that this process's devices hold (`parallel.mesh.host_rows`), so that every
    process reads what it needs and nothing else; not given, they are all.
    """

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a global training batch, known without reading anything."""

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a global held-out batch."""

    def initial_cursor(self) -> dict[str, int]:
        """The cursor before the first batch."""

    def batches(
        self, cursor: dict[str, int], rows: Sequence[int] | None = None
    ) -> Iterator[tuple[Batch, dict[str, int]]]:
        """Endless batches from a cursor on, each with the cursor that comes after it."""

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """The held-out batches, the last one padded with rows of `example_weights` 0."""

    def example_names(self, cursor: dict[str, int]) -> list[str]:
        """For people: which examples the global batch after a cursor holds, one string for each row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """Something to listen to: samples float32[T] in -1..1."""

    name: str
    samples: np.ndarray
    sample_rate_hz: int


# Makes clips for TensorBoard from the current state and a key: reconstructions, continuations of held-out prompts.
Sampler = Callable[[Learner, Feed, TrainState, jax.Array], list[Clip]]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How long, and how often what happens. Every "every" is in steps and 0 means never; the final step does all.

    Attributes:
      steps: updates of the whole run, counted from its beginning and not from where it was resumed.
      seed: root of all the run's randomness but the feed's.
      log_every_steps: train metrics, averaged since the last time.
      eval_every_steps: the whole held-out feed, and the examination.
      sample_every_steps: clips for TensorBoard.
      checkpoint_every_steps: saves by count.
      checkpoint_every_minutes: saves by the clock, whichever comes first; 0 for never.
      keep_checkpoints: how many stay; two at least.
    """

    steps: Count
    seed: Seed = 0
    log_every_steps: Whole = 50
    eval_every_steps: Whole = 1000
    sample_every_steps: Whole = 0
    checkpoint_every_steps: Whole = 1000
    checkpoint_every_minutes: NotNegative = 10.0
    keep_checkpoints: Count = 2


def train(
    learner: Learner,
    feed: Feed,
    workdir: str | Path | WorkDirectory,
    options: RunOptions,
    mesh_sizes: MeshSizes | None = None,
    sampler: Sampler | None = None,
    examiner: Examiner | None = None,
    warm_start: WarmStart | None = None,
    meta: dict[str, Any] | None = None,
) -> TrainState:
    """Trains until `options.steps`, or until SIGTERM; started again with the same arguments it goes on.

    A run that was stopped and resumed at any point computes what a straight one computes, bit for bit on the same
    mesh: the data order is a function of the cursor in the checkpoint, and randomness a function of (seed, step).

    Every process of a job calls it with the same arguments. Process 0 alone writes figures and shows progress; all of
    them save, and stop after the same step.

    Args:
      learner: what is trained.
      feed: its batches.
      workdir: where checkpoints, metrics.jsonl, tensorboard and, at the end, the file `done` go. It is made when all
        that can be refused has been, and no other training may use it meanwhile.
      options: lengths and periods.
      mesh_sizes: devices per mesh axis; all devices as `data` if not given.
      sampler: makes clips to listen to while it trains; only where one process has the whole model.
      examiner: judges the model wherever it is evaluated; what it finds last is kept with the checkpoints.
      warm_start: another run that a NEW run takes its first values from; a resumed run ignores it.
      meta: JSON values to keep with every checkpoint (gin text, fingerprints).

    Returns:
      the last state. `workdir/done` exists if it is at `options.steps`, and does not if a signal stopped the run.

    Raises:
      UserError: the loss is not finite (the step is named), the batch does not fit the mesh, the checkpoint is of
        another model, the directory is in use, a file cannot be written (the last checkpoint stays whole).
    """
    directory = workdir if isinstance(workdir, WorkDirectory) else WorkDirectory(Path(workdir))
    workdir = directory.path
    if warm_start is not None and not directory.holds_run:
        warm_start.check()
    mesh = make_mesh(mesh_sizes or MeshSizes())
    sampler = sampler if hosts.count() == 1 else None

    with contextlib.ExitStack() as stack:
        stack.enter_context(mesh_context(mesh))
        stop = stack.enter_context(StopSignal(learner.name, shown=hosts.is_main()))
        first_calls = FirstCalls(learner.name, shown=hosts.is_main())
        # Shapes first: what the state will look like and where each part of it lies, before any of it exists.
        program = make_program(learner, feed.batch_shapes(), feed.eval_batch_shapes(), mesh, options.seed)
        batch_size = program.batch_size
        rows = host_rows(mesh, batch_size)
        cursor = feed.initial_cursor()
        # Data too, so that a new run that is refused leaves no directory behind.
        first_batch = None if directory.holds_run else next(feed.batches(cursor, rows))[0]

        stack.enter_context(directory.held())
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(workdir, options.keep_checkpoints)))
        stack.enter_context(hosts.leaving_if_others_are_gone())  # closing the checkpoints would wait for them

        # Restore, or begin.
        totals = MetricTotals(report=(recent := RecentSteps(workdir, feed)).report)
        meta = {"learner": learner.name, **(meta or {})}
        saved: dict[str, Any] = {}
        restored = checkpoints.restore(program.state)
        if restored is not None:
            state, saved = restored
            _refuse_other_data(workdir, saved, meta)
            cursor, meta = saved["cursor"], {**meta, **{name: saved[name] for name in _KEPT_META if name in saved}}
            totals.go_on_from(saved.get("sums", {}))
            if hosts.is_main():
                print(f"{learner.name}: resuming at step {int(state.step)}", flush=True)
        else:
            first_batch = first_batch or next(feed.batches(cursor, rows))[0]
            with first_calls.of("the initial state"):
                state = program.init(global_batch(first_batch, mesh, batch_size))
            if warm_start is not None:
                state, meta["origin"] = warm_start.apply(state, meta.get("fingerprints"))
        step = int(state.step)
        run_log = stack.enter_context(contextlib.closing(RunLog(workdir, resumed_step=step)))

        def save() -> None:
            checkpoints.save(state, {**meta, "cursor": cursor, "sums": totals.sums(), "seconds": clock.seconds})

        def evaluate() -> str | None:
            """Writes the held-out metrics; a request to stop cuts it short, and the next start evaluates again."""
            held_out = MetricTotals()
            for batch in feed.eval_batches(rows):
                with first_calls.of("the evaluation", progress):
                    metrics = program.eval_step(state, global_batch(batch, mesh, batch_size))
                held_out.add(step, metrics)
                if asked := agreement.decide(stop.received, False).stop:
                    return asked
            if (values := held_out.take()) and hosts.is_main():
                run_log.scalars(step, "eval", values)
                progress.write(f"{learner.name} step {step}: held-out " + _in_words(values))
            return None

        def examine() -> None:
            with first_calls.of("the examination", progress):
                found = examiner(learner, feed, state)
            if found is None:
                return
            meta[EXAMINATION] = to_plain(found)
            verdict = {} if found.passed is None else {"passed": float(found.passed)}
            run_log.scalars(step, "exam", {**found.figures, **verdict}, found.faults)
            if hosts.is_main():
                progress.write(f"{learner.name} step {step}: examination {found.in_words()}")

        def listen() -> None:
            with first_calls.of("the clips", progress):
                clips = sampler(learner, feed, state, sample_key(options.seed, step))
            for clip in clips:
                run_log.audio(step, clip.name, clip.samples, clip.sample_rate_hz)

        agreement = hosts.Agreement()  # on when to stop and when to save, among all processes
        clock = Clock(options.checkpoint_every_minutes, saved.get("seconds", run_log.seconds))
        progress = stack.enter_context(StepBar(learner.name, options.steps, step, shown=hosts.is_main()))
        # Asked for while the state was made: no step is compiled for minutes only to be stopped after it.
        stopped = agreement.decide(stop.received, False).stop
        unevaluated = not stopped and restored is not None and _due(step, options.eval_every_steps, options)
        if unevaluated and hosts.from_main("evaluated", str(run_log.last_eval_step)) != str(step):
            stopped = evaluate()  # the run was stopped between the save and the evaluation of this step
            clock.restart()

        batches = feed.batches(cursor, rows) if step < options.steps and not stopped else ()
        for batch, next_cursor in batches:
            recent.note(step + 1, cursor, batch)
            if count := program.start_batches(step):
                coming = (global_batch(each, mesh, batch_size) for each, _ in feed.batches(cursor, rows))
                with first_calls.of("what a phase starts from", clock, progress):
                    state = program.start(state, itertools.islice(coming, count))
            phase = program.phase(step)
            what = "the training step" if phase is None else f"the training step ({phase})"
            with first_calls.of(what, clock, progress):
                state, metrics = program.train_step(state, global_batch(batch, mesh, batch_size), phase)
            totals.add(step + 1, metrics)  # waits for the figures of the step BEFORE, and checks them
            cursor, step = next_cursor, step + 1
            clock.tick(*_amount(batch, feed, batch_size))
            progress.update()
            checkpoints.check()  # a save in the background that failed ends the run now, not hours later
            decision = agreement.decide(stop.received, clock.save_is_due())
            stopped, last = decision.stop, step >= options.steps

            if _due(step, options.log_every_steps, options):
                values, rates = totals.take(), clock.rates(checkpoints.take_save_seconds())
                run_log.scalars(step, "train", {**values, **rates, "seconds": clock.seconds})
                progress.set_postfix_str(f"loss {values.get('loss', np.nan):.4f}, {clock.in_words()}", refresh=False)
            if examiner is not None and not stopped and _due(step, options.eval_every_steps, options):
                examine()  # before the save, which keeps what it finds
                clock.restart()
            # Evaluation and samples do not change the state, so a save before them loses nothing if they are cut off.
            if last or stopped or decision.save or _due(step, options.checkpoint_every_steps, options):
                save()  # looks at this step's loss first: a state that is broken is never kept
                clock.saved()
            if not stopped and _due(step, options.eval_every_steps, options):
                stopped = evaluate()
                clock.restart()
            if not stopped and sampler is not None and _due(step, options.sample_every_steps, options):
                listen()
                clock.restart()
            if stopped:
                save()  # once: a step that is saved already is left alone
            if stopped or last:
                break

        checkpoints.wait()
        # Stopped in the very last step, the run is not done: its evaluation is missing, and the next start makes it.
        if not stopped:
            directory.mark_done(step)
        elif hosts.is_main() and step == 0:
            _log.warning("%s: %s before the first step. The same command begins again", learner.name, stopped)
        elif hosts.is_main():
            seconds = checkpoints.take_save_seconds()
            _log.warning("%s: %s at step %d; saved%s. The same command goes on from there", learner.name, stopped, step,
                         f" in {seconds:.1f} s" if seconds is not None else "")
    return state


# What a checkpoint knows of its run beside what the run is started with.
_KEPT_META = ("origin", EXAMINATION)


def _refuse_other_data(workdir: Path, saved: dict[str, Any], meta: dict[str, Any]) -> None:
    if saved.get("fingerprints") != meta.get("fingerprints"):
        raise UserError(f"{workdir} learned tokens of other tokenizers than those in the data folder; give another "
                        "--workdir, or the tokens it began with")
    if saved.get("classifier") != meta.get("classifier"):
        raise UserError(f"{workdir} learned other classes than those in the data folder; give another --workdir, or "
                        "the data it began with")


def _due(step: int, every_steps: int, options: RunOptions) -> bool:
    return every_steps > 0 and (step % every_steps == 0 or step >= options.steps)


def _amount(batch: Batch, feed: Feed, batch_size: int) -> tuple[float, str]:
    """How much a global batch holds, by its rows here: tokens of a language model, seconds of an audio batch."""
    num_rows = len(next(iter(batch.values())))
    if "ids" in batch:
        return float(np.sum(batch["ids"] != 0)) * batch_size / num_rows, "tokens"
    if "samples" in batch and hasattr(feed, "sample_rate_hz"):
        return batch["samples"].size * batch_size / num_rows / feed.sample_rate_hz, "audio_seconds"
    return float(batch_size), "examples"


def _in_words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
