"""What the work directory of a training tells of its run: figures over steps, phases, faults; read, never written."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.training.logging import METRICS_NAME, read_metrics, trained_seconds

# Of the configuration that a training keeps as config.gin.
_START_STEP = re.compile(r"^(\w+)_START_STEP = (\d+)\s*$", re.MULTILINE)
_STEPS = re.compile(r"^STEPS = (\d+)\s*$", re.MULTILINE)
_LEARNER = re.compile(r"^experiment\.Experiment\.learner = @(?:\w+\.)*(\w+)\(\)", re.MULTILINE)
_STAGE = re.compile(r"^learner\.StageLearner\.stage = @(?:\w+\.)*(\w+)\(\)", re.MULTILINE)
_BROKEN_STEP = re.compile(r"nan_step_(\d+)\.json")
_KINDS = {
    "SoundStreamLearner": "Codec",
    "W2vBertLearner": "w2v-BERT",
    "ClusterPredictionLearner": "Semantic encoder",
    "KMeansLearner": "k-means",
    "ClipClassifierLearner": "Classifier",
    "semantic_stage": "Semantic stage",
    "coarse_stage": "Coarse stage",
    "fine_stage": "Fine stage",
}
_UNKNOWN_KIND = "Training"
_LONGEST_FAULT = 300
# What a line has beside its figures.
_NO_FIGURES = ("step", "split", "seconds", "faults")
EXAMINED = "exam"


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """One figure of a run: values float64[N] after steps int64[N], when so many seconds [N] had been trained."""

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that was named: what, in words; after which steps first and last; whether it still stands."""

    words: str
    first_step: int
    last_step: int
    stands: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A training as its work directory tells it.

    Attributes:
        name: the end of its path, as much of it as tells it from the others.
        workdir: the folder.
        kind: what is trained ("Codec", "Coarse stage" ...); figures of different kinds do not compare.
        phases: (name, first step) of what begins later than the run, such as ("discriminator", 8000).
        num_steps: of the whole run; None where its configuration is not there.
        is_done: whether it has done all of them.
        series: by (split, figure), in the order of the lines.
        faults: what was named, those that stand first.
        passed: the verdict of the last examination; None where there is none.
        examined_step: after which it was made, None without one.
    """

    name: str
    workdir: Path
    kind: str
    phases: tuple[tuple[str, int], ...]
    num_steps: int | None
    is_done: bool
    series: dict[tuple[str, str], Series]
    faults: tuple[Fault, ...]
    passed: bool | None
    examined_step: int | None

    @property
    def last_step(self) -> int:
        """Of the last figures, 0 without any."""
        return max((int(series.steps[-1]) for series in self.series.values()), default=0)

    @property
    def seconds(self) -> float:
        """That it had trained by then, without compilation, evaluation and pauses."""
        return max((float(series.seconds[-1]) for series in self.series.values()), default=0.0)


def find_workdirs(folders: Sequence[str | Path]) -> list[Path]:
    """The work directories that are meant: each folder itself, or, where it is none, those right in it.

    Raises:
        UserError: a folder is not there, or is none and holds none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is not there"
            raise UserError(f"{folder} {what}; name the --workdir of an `audiolm train`, or a folder that holds some")
        inner = [folder] if _is_workdir(folder) else sorted(path for path in folder.iterdir() if _is_workdir(path))
        if not inner:
            raise UserError(f"{folder} has no {METRICS_NAME}, nor has a folder in it; name the --workdir of an "
                            "`audiolm train` that has begun")
        found += inner
    return list(dict.fromkeys(found))


def _is_workdir(folder: Path) -> bool:
    return (folder / METRICS_NAME).is_file()


def read_runs(workdirs: Sequence[str | Path]) -> list[Run]:
    """The runs of work directories, named apart.

    Raises:
        UserError: one is no work directory, or its metrics are not those of a training.
    """
    paths = [Path(workdir).resolve() for workdir in workdirs]
    return [_read_run(Path(given), name) for given, name in zip(workdirs, _names(paths), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that differ."""
    for parts in range(1, max((len(path.parts) for path in paths), default=1)):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(path) for path in paths]


def _read_run(workdir: Path, name: str) -> Run:
    lines = _read_lines(workdir)
    config = _text(workdir / "config.gin")
    kind = _STAGE.search(config) or _LEARNER.search(config)
    num_steps = _STEPS.search(config)
    exams = [line for line in lines if line["split"] == EXAMINED]
    verdict = exams[-1].get("passed") if exams else None
    phases = [(match[1].lower().replace("_", " "), int(match[2])) for match in _START_STEP.finditer(config)]
    return Run(
        name=name,
        workdir=workdir,
        kind=_UNKNOWN_KIND if kind is None else _KINDS.get(kind[1], kind[1]),
        phases=tuple(sorted((phase for phase in phases if phase[1] > 0), key=lambda phase: phase[1])),
        num_steps=None if num_steps is None else int(num_steps[1]),
        is_done=(workdir / "done").exists(),
        series=_series(lines),
        faults=_faults(exams, workdir, max((line["step"] for line in lines), default=0)),
        passed=None if verdict is None else bool(verdict),
        examined_step=exams[-1]["step"] if exams else None,
    )


def _read_lines(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / METRICS_NAME
    try:
        lines = read_metrics(workdir)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text; name the --workdir of an `audiolm train`") from error
    for number, line in enumerate(lines, 1):
        if not (isinstance(line, dict) and type(line.get("step")) is int and isinstance(line.get("split"), str)):
            raise UserError(f"{path}: line {number} has no step and split, so a training did not write it; name the "
                            "--workdir of an `audiolm train`")
    return lines


def _text(path: Path) -> str:
    """A file that need not be there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _series(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Series]:
    known = trained_seconds(lines)
    known_steps, known_seconds = [0, *known], [0.0, *known.values()]
    found: dict[tuple[str, str], tuple[list, list]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in _NO_FIGURES and isinstance(value, (int, float)):
                steps, values = found.setdefault((line["split"], name), ([], []))
                steps.append(line["step"])
                values.append(float(value))
    return {
        key: Series(np.array(steps), np.interp(steps, known_steps, known_seconds), np.array(values))
        for key, (steps, values) in found.items()
    }


def _faults(exams: Sequence[dict[str, Any]], workdir: Path, last_step: int) -> tuple[Fault, ...]:
    """What examinations named, each fault once whatever its numbers were, and steps that broke."""
    found: dict[str, list] = {}
    for line in exams:
        named = line.get("faults", [])
        if not isinstance(named, list):
            continue
        if not named and line.get("passed") == 0.0:
            named = ["the examination was not passed"]
        for words in (" ".join(str(each)[:_LONGEST_FAULT].split()) for each in named):
            # "level 7 of the quantizer has collapsed: it uses 3% of its codes"
            found.setdefault(words.partition(":")[0], []).append((line["step"], words))
    last_exam = exams[-1]["step"] if exams else None
    faults = [Fault(seen[-1][1], seen[0][0], seen[-1][0], seen[-1][0] == last_exam)
              for seen in found.values()]
    for path in workdir.glob("nan_step_*.json"):
        if match := _BROKEN_STEP.fullmatch(path.name):
            step = int(match[1])
            words = f"the loss was not finite, and the run ended; {path.name} names the examples of the batch"
            faults.append(Fault(words, step, step, last_step < step))
    return tuple(sorted(faults, key=lambda fault: (not fault.stands, fault.first_step)))


def to_json(run: Run) -> dict[str, Any]:
    """Of a run: where it is, what was named, and the last value of every figure that is a number."""
    return {
        "name": run.name,
        "workdir": str(run.workdir),
        "kind": run.kind,
        "step": run.last_step,
        "steps": run.num_steps,
        "done": run.is_done,
        "seconds": run.seconds,
        "passed": run.passed,
        "faults": [dataclasses.asdict(fault) for fault in run.faults],
        "figures": {
            f"{split}/{name}": float(series.values[-1])
            for (split, name), series in run.series.items()
            if np.isfinite(series.values[-1])
        },
    }
