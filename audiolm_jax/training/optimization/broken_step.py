"""What is written down about a step whose loss is not a finite number, so that it can be looked at."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax import files
from audiolm_jax.parallel import hosts


class RecentSteps:
    """The batches of the last two steps: a step's figures come from the device while the next one is computed."""

    def __init__(self, workdir: str | Path, feed: Any):
        """`feed` names the examples of a batch; the report goes to `workdir`."""
        self._workdir = Path(workdir)
        self._feed = feed
        self._recent: dict[int, tuple[dict[str, int], dict[str, np.ndarray]]] = {}

    def note(self, step: int, cursor: dict[str, int], batch: dict[str, np.ndarray]) -> None:
        """`step` is made of `batch` (this process's rows), which follows `cursor`."""
        self._recent = {number: kept for number, kept in self._recent.items() if number == step - 1}
        self._recent[step] = (cursor, batch)

    def report(self, step: int, values: dict[str, float]) -> str:
        """Writes `workdir/nan_step_<step>.json` and returns where to look, as the end of a sentence.

        The file holds the step, its metrics, the cursor before its batch, the names of the batch's examples in the
        order of its rows, and for each array of the batch its shape, least and greatest value, and the rows that hold
        numbers that are not finite.
        """
        cursor, batch = self._recent[step]
        path = self._workdir / f"nan_step_{step}.json"
        if hosts.is_main():
            report = {
                "step": step,
                "metrics": {name: _plain(value) for name, value in values.items()},
                "cursor": cursor,
                "examples": self._feed.example_names(cursor),
                "arrays_of_process_0": {name: _summary(np.asarray(array)) for name, array in batch.items()},
            }
            try:
                files.replace_file(path, (json.dumps(report, indent=1) + "\n").encode())
            except OSError as error:
                return f"its cursor is {cursor} ({path} cannot be written: {error.strerror})"
        return f"its examples are named in {path}"


def _summary(array: np.ndarray) -> dict[str, Any]:
    finite = np.isfinite(array.reshape(len(array), -1))
    numbers = array[np.isfinite(array)]
    return {
        "shape": list(array.shape),
        "min": _plain(numbers.min()) if numbers.size else None,
        "max": _plain(numbers.max()) if numbers.size else None,
        "rows_not_finite": np.flatnonzero(~finite.all(axis=1)).tolist(),
    }


def _plain(value: Any) -> float | str:
    """A JSON number; what JSON has no number for, in words."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
