"""What the loop counts and shows: metrics and speed between two log lines, the time left, and when it compiles."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import tqdm

from audiolm_jax.errors import UserError
from audiolm_jax.training.state import Metrics


class MetricTotals:
    """Sums of metrics over steps, taken from the device one step late so that host and device work side by side."""

    def __init__(self, report: Callable[[int, dict[str, float]], str] | None = None):
        """`report` is told step and metrics when a loss is not finite, and returns where to look, in words."""
        self._report = report
        self._pending: tuple[int, Metrics] | None = None
        self._sums: dict[str, list[float]] = {}

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes in the metrics added before, then keeps these for the next call."""
        self.check()
        self._pending = (step, metrics)

    def check(self) -> None:
        """Takes in what is pending.

        Raises:
          UserError: a loss that is not a finite number, with its step.
        """
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        counted = {name: (float(one.total), float(one.weight)) for name, one in jax.device_get(metrics).items()}
        if not all(map(math.isfinite, counted["loss"])):
            total, weight = counted["loss"]
            values = {name: total / weight if weight else math.nan for name, (total, weight) in counted.items()}
            where = f"; {self._report(step, values)}" if self._report is not None else ""
            raise UserError(f"the loss is {total if math.isfinite(weight) else weight} at step {step}; the last "
                            f"checkpoint is from before it{where}. Lower PEAK_LEARNING_RATE, or look at that data")
        for name, (total, weight) in counted.items():
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += total
            sums[1] += weight

    def take(self) -> dict[str, float]:
        """The means since the last time, and starts anew. Names that nothing was counted for are left out."""
        self.check()
        means = {name: total / weight for name, (total, weight) in self._sums.items() if weight}
        self._sums = {}
        return means

    def sums(self) -> dict[str, list[float]]:
        """[total, weight] of each metric since the last `take`, for a checkpoint between two log lines."""
        self.check()
        return {name: list(sums) for name, sums in self._sums.items()}

    def go_on_from(self, sums: dict[str, list[float]]) -> None:
        """Begins with the sums that a checkpoint kept, so that the next line is that of a straight run."""
        self._sums = {name: list(values) for name, values in sums.items()}


class Clock:
    """Steps and tokens or seconds of audio per second since the last log, how long was trained in all, and when a save
    by the clock is due.

    Attributes:
      seconds: spent in steps since the run began, in all of its sessions; without pauses, compilation, evaluation and
        clips.
    """

    def __init__(self, save_every_minutes: float, seconds: float = 0.0):
        """`save_every_minutes` 0: never by the clock; `seconds` were trained by the sessions before this one."""
        self.seconds = seconds
        self._save_every_seconds = save_every_minutes * 60.0
        self._last_save = time.monotonic()
        self._unit = ""
        self._rates: dict[str, float] = {}
        self.restart()

    def tick(self, amount: float, unit: str) -> None:
        """One step over `amount` units of data."""
        now = time.monotonic()
        self.seconds += now - self._last_tick
        self._last_tick = now
        self._steps += 1
        self._amount += amount
        self._unit = unit

    def rates(self, save_seconds: float | None = None) -> dict[str, float]:
        """Rates since the last restart, and restarts.

        `save_seconds`: how long a checkpoint took, if one was completed since.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        if self._steps:
            self._rates = {"steps_per_s": self._steps / seconds, f"{self._unit}_per_s": self._amount / seconds}
        self.restart()
        return self._rates if save_seconds is None else {**self._rates, "checkpoint_seconds": save_seconds}

    def in_words(self) -> str:
        """The last rates for the progress line."""
        return ", ".join(f"{value:.3g} {name.replace('_per_', '/').replace('_', ' ')}"
                         for name, value in self._rates.items())

    def restart(self) -> None:
        """Begins to count anew: after an evaluation, so that a rate is of training alone."""
        self._start, self._steps, self._amount = time.monotonic(), 0, 0.0
        self._last_tick = self._start

    def leave_out(self, seconds: float) -> None:
        """Does not count the last `seconds`, in which something was compiled."""
        self._start += seconds
        self._last_tick += seconds

    def save_is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return 0 < self._save_every_seconds <= time.monotonic() - self._last_save

    def saved(self) -> None:
        """A save was started now."""
        self._last_save = time.monotonic()


class StepBar(tqdm.tqdm):
    """The line with steps, speed and the time left; it stays on the screen when the run ends."""

    def __init__(self, name: str, steps: int, done: int, shown: bool):
        """`done` of `steps` are behind; not `shown` by processes other than the first."""
        super().__init__(
            total=steps,
            initial=done,
            desc=name,
            unit="step",
            dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 30.0,  # a log file needs no line a second
            disable=not shown,
        )

    def leave_out(self, seconds: float) -> None:
        """Does not count the last `seconds`: the time left is that of steps, which are compiled once."""
        if not self.disable:
            self.start_t += seconds
            self.last_print_t += seconds


class Timer(Protocol):
    """What counts time that passes."""

    def leave_out(self, seconds: float) -> None:
        """Does not count the last `seconds`."""


# A program that is compiled sooner is not spoken of, and how often is told that one still is.
_QUIET_SECONDS, _TOLD_EVERY_SECONDS = 1.0, 30.0


class FirstCalls:
    """Tells of first calls of jitted functions, which compile them for seconds to many minutes."""

    def __init__(self, name: str, shown: bool):
        """`name`: of the learner; nothing is told if not `shown`."""
        self._name, self._shown = name, shown
        self._called: set[str] = set()

    @contextlib.contextmanager
    def of(self, what: str, *timers: Timer) -> Iterator[None]:
        """Around every call of one function: tells that `what` is compiled, if this is the first.

        The timers leave the time of a first call out.
        """
        if what in self._called:
            yield
            return
        self._called.add(what)
        began, ended = time.monotonic(), threading.Event()
        teller = threading.Thread(target=self._tell, args=(what, began, ended), daemon=True, name="compiling")
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
        seconds = time.monotonic() - began
        if seconds > _QUIET_SECONDS:
            self._write(f"compiled {what} in {seconds:.0f} s")
        for timer in timers:
            timer.leave_out(seconds)

    def _tell(self, what: str, began: float, ended: threading.Event) -> None:
        if ended.wait(_QUIET_SECONDS):
            return
        self._write(f"compiling {what}; this happens once")
        while not ended.wait(_TOLD_EVERY_SECONDS):
            self._write(f"still compiling {what}, {time.monotonic() - began:.0f} s")

    def _write(self, line: str) -> None:
        if self._shown:
            tqdm.tqdm.write(f"{self._name}: {line}", file=sys.stderr)
            sys.stderr.flush()
