"""What the loop counts between two log lines: metrics, speed, and the time since the last save."""

import math
import time

import jax

from audiolm_jax.errors import UserError
from audiolm_jax.training.state import Metrics


class MetricTotals:
    """Sums of metrics over steps, taken from the device one step late so that host and device work side by side."""

    def __init__(self):
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
        for name, metric in jax.device_get(metrics).items():
            total, weight = float(metric.total), float(metric.weight)
            if name == "loss" and not (math.isfinite(total) and math.isfinite(weight)):
                raise UserError(f"the loss is {total} at step {step}; the last checkpoint is from before it. Lower "
                                "PEAK_LEARNING_RATE, or look at the data of that step")
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += total
            sums[1] += weight

    def take(self) -> dict[str, float]:
        """The means since the last time, and starts anew. Names that nothing was counted for are left out."""
        self.check()
        means = {name: total / weight for name, (total, weight) in self._sums.items() if weight}
        self._sums = {}
        return means


class Clock:
    """Steps and tokens or seconds of audio per second since the last log, and when a save by the clock is due."""

    def __init__(self, save_every_minutes: float):
        """`save_every_minutes` 0: never by the clock."""
        self._save_every_seconds = save_every_minutes * 60.0
        self._last_save = time.monotonic()
        self._unit = ""
        self._rates: dict[str, float] = {}
        self.restart()

    def tick(self, amount: float, unit: str) -> None:
        """One step over `amount` units of data."""
        self._steps += 1
        self._amount += amount
        self._unit = unit

    def rates(self) -> dict[str, float]:
        """Rates since the last restart, and restarts; the first call's include compilation."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        if self._steps:
            self._rates = {"steps_per_s": self._steps / seconds, f"{self._unit}_per_s": self._amount / seconds}
        self.restart()
        return self._rates

    def in_words(self) -> str:
        """The last rates for the progress line."""
        return ", ".join(f"{value:.3g} {name.replace('_per_', '/').replace('_', ' ')}"
                         for name, value in self._rates.items())

    def restart(self) -> None:
        """Begins to count anew: after an evaluation, so that a rate is of training alone."""
        self._start, self._steps, self._amount = time.monotonic(), 0, 0.0

    def save_is_due(self) -> bool:
        """Whether the last save is long enough ago; never with several processes, whose clocks would not agree."""
        if jax.process_count() > 1:
            return False
        return 0 < self._save_every_seconds <= time.monotonic() - self._last_save

    def saved(self) -> None:
        """A save was started now."""
        self._last_save = time.monotonic()
