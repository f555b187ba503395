"""What a report consists of: each metric's declaration, which stands beside its `measure`, and its steps.

A declaration says under which words the figures are shown, and makes the steps from what the metrics of a report share.
A step is one measurement with everything that its figures depend on. The hash of that is its key: a report that is
started again keeps the measurements whose keys are the same, and makes the others.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiolm_jax import __version__
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.recordings import Recording

if TYPE_CHECKING:
    from audiolm_jax.evaluation.report.report_material import Material


@dataclasses.dataclass(frozen=True)
class Step:
    """One measurement that can be made.

    Attributes:
        name: of its file and in the report; that of the metric where the metric has one measurement.
        metric: name of its declaration.
        what: what it is measured on, in a few words.
        inputs: everything that the figures depend on, plain JSON values.
        seconds: how long it takes on two cores, roughly.
        measure: makes it.
        needs: steps that must have been made before.
        uses: steps that come before, and without which less is measured; that is then not kept for the next run.
    """

    name: str
    metric: str
    what: str
    inputs: dict[str, Any]
    seconds: float
    measure: Callable[[], Measurement]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what the figures depend on, and of our version."""
        text = json.dumps({"version": __version__, "step": self.name, **self.inputs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class NotMeasured:
    """A measurement that was not made.

    Attributes:
        name, metric: as in `Step`.
        reason: why, in one sentence.
        remedy: what would supply it; "" where the reason says so itself.
        failed: whether it broke down, in place of lacking something.
    """

    name: str
    metric: str
    reason: str
    remedy: str = ""
    failed: bool = False


Entry = Step | NotMeasured


class Lacking(Exception):
    """Why nothing of a metric can be measured, in one sentence, and what would supply it."""

    def __init__(self, reason: str, remedy: str = ""):
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric's part of a report.

    Attributes:
        name: of the part, and of --only.
        title, lede: heading of the part, and one or two sentences on what its figures say.
        entries: its steps, in order, made from what the metrics share; raises `Lacking` where there can be none.
        own_input: the setting that nothing but this metric is measured on; "" where there is none.
    """

    name: str
    title: str
    lede: str
    entries: Callable[["Material"], list[Entry]]
    own_input: str = ""

    def plan(self, material: "Material") -> list[Entry]:
        """Its steps, or why there are none."""
        try:
            return self.entries(material)
        except Lacking as lacking:
            return [NotMeasured(self.name, self.name, lacking.reason, lacking.remedy)]


def recording_inputs(recordings: Sequence[Recording]) -> list[list]:
    """What of recordings goes into a key: names, lengths of files, parts of them, texts and the side of the split."""
    ordered = sorted(recordings, key=lambda r: r.key)
    return [[r.key, r.path.stat().st_size, r.text, r.heldout, *map(list, r.ranges)] for r in ordered]


def file_inputs(path: Path) -> str:
    """What of one file goes into a key: the hash of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def with_notes(measurement: Measurement, notes: Sequence[str]) -> Measurement:
    """A measurement with further notes, each once."""
    return dataclasses.replace(measurement, notes=tuple(dict.fromkeys((*measurement.notes, *notes))))


def counted(recordings: Sequence[Recording]) -> str:
    """ "1 recording" or "12 recordings"."""
    return f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"


def short_hash(value: Any) -> str:
    """8 hexadecimal digits of plain JSON values, for names of folders."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
