"""Makes the measurements of a plan one after the other, and keeps each as soon as it is there.

Every measurement is a file of its own, OUTPUT/measurements/NAME.json, replaced as a whole, so a report that is stopped
at any moment loses at most the one that was being made; and what takes long inside of one (samples, transcripts,
trainings) resumes by itself. What cannot be measured is part of the report, with the reason.
"""

import dataclasses
import datetime
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_plan import Entry, NotMeasured, Step
from audiolm_jax.extras import how_to_install
from audiolm_jax.files import replace_file
from audiolm_jax.files.outputs import write_results
from audiolm_jax.files.plain_json import parse

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Made:
    """A measurement as it is kept.

    Attributes:
        name: of the step.
        key: hash of what it depends on.
        when: time at which it was made, UTC, ISO 8601.
        seconds: it took.
        measurement: what came out.
    """

    name: str
    key: str
    when: str
    seconds: float
    measurement: Measurement


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that the files of a report are written from.

    Attributes:
        bundle: name, licence and fingerprints of what was measured.
        settings: what was asked for, plain JSON values.
        made: measurements in the order of the plan.
        not_measured: what is missing, and why.
        when: end of the report, UTC, ISO 8601.
        machine: on which it was made.
    """

    bundle: dict[str, Any]
    settings: dict[str, Any]
    made: tuple[Made, ...]
    not_measured: tuple[NotMeasured, ...]
    when: str
    machine: dict[str, Any]

    @property
    def measurements(self) -> dict[str, Measurement]:
        """By name."""
        return {made.name: made.measurement for made in self.made}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bundle": self.bundle,
            "when": self.when,
            "machine": self.machine,
            "settings": self.settings,
            "measurements": {
                made.name: {
                    **made.measurement.to_json(),
                    "made": {"when": made.when, "seconds": made.seconds, "key": made.key},
                }
                for made in self.made
            },
            "not_measured": [dataclasses.asdict(gap) for gap in self.not_measured],
        }


def run_plan(
    plan: Sequence[Entry], output: Path, tell: Callable[[list[Made], list[NotMeasured]], None] = lambda made, gaps: None
) -> tuple[list[Made], list[NotMeasured]]:
    """Makes what is not yet there, a line on stderr for each, and goes on where one cannot be made.

    A mistake in the input or a package that is missing makes a measurement "not measured"; anything else has it
    "failed", and the stack goes to OUTPUT/measurements/NAME.failed.txt.

    Args:
        plan: in the order in which they are made.
        output: folder of the report.
        tell: called after each measurement with all there are by then, the new one last, and with what is missing.
    """
    made: list[Made] = []
    gaps: list[NotMeasured] = []
    for entry in plan:
        result = _result(entry, output, gaps)
        if isinstance(result, NotMeasured):
            gaps.append(result)
        else:
            made.append(result)
            tell(made, gaps)
    return made, gaps


def _result(entry: Entry, output: Path, gaps: Sequence[NotMeasured]) -> Made | NotMeasured:
    """What becomes of an entry, after those before it, with lines on stderr that say so."""
    if isinstance(entry, NotMeasured):
        return entry
    if (kept := read_kept(output, entry)) is not None:
        _say(f"{entry.name}: kept, measured {kept.when}")
        return kept
    started = time.perf_counter()
    gap = _gap_before(entry, gaps)
    if gap is None:
        _say(f"{entry.name}: measuring, about {in_minutes(entry.seconds)}")
        result = _measured(entry, output)
        if isinstance(result, Measurement):
            made = _made(entry, result, time.perf_counter() - started)
            if not any(gap.name in entry.uses for gap in gaps):
                _keep(output, entry, made)
            _say(f"{entry.name}: done in {made.seconds:.0f} s")
            return made
        gap = result
    _say(f"{entry.name}: {'failed' if gap.failed else 'not measured'}: {gap.reason}")
    return gap


def _gap_before(step: Step, gaps: Sequence[NotMeasured]) -> NotMeasured | None:
    """Why a step cannot begin: another one that it needs was not made."""
    for gap in gaps:
        if gap.name in step.needs:
            return NotMeasured(step.name, step.metric, f"it needs {gap.name}, which was not made: {gap.reason}")
    return None


def _measured(step: Step, output: Path) -> Measurement | NotMeasured:
    try:
        return step.measure()
    except UserError as error:
        return NotMeasured(step.name, step.metric, " ".join(str(error).split()))
    except ModuleNotFoundError as error:
        if remedy := how_to_install(error):
            return NotMeasured(step.name, step.metric, f"the package {error.name} is not installed", remedy)
        return _failed(step, output, error)
    except Exception as error:  # noqa: BLE001  one metric must not lose the others
        return _failed(step, output, error)


def _failed(step: Step, output: Path, error: Exception) -> NotMeasured:
    path = _path(output, step.name).with_suffix(".failed.txt")
    replace_file(path, "".join(traceback.format_exception(error)).encode())
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    return NotMeasured(
        step.name, step.metric, f"{type(error).__name__}: {first_line}", f"the stack is in {path}", failed=True
    )


def _path(output: Path, name: str) -> Path:
    return Path(output) / "measurements" / f"{name}.json"


def read_kept(output: Path, step: Step) -> Made | None:
    """The measurement of an earlier run, if it is there, whole, and depends on the same."""
    try:
        plain = parse(_path(output, step.name).read_bytes())
        if plain["key"] != step.key:
            return None
        measurement = Measurement.from_json(plain["measurement"])
        return Made(step.name, plain["key"], plain["when"], plain["seconds"], measurement)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _made(step: Step, measurement: Measurement, seconds: float) -> Made:
    """As it will be read again."""
    return Made(step.name, step.key, utc_now(), round(seconds, 1), Measurement.from_json(measurement.to_json()))


def _keep(output: Path, step: Step, made: Made) -> None:
    plain = {**dataclasses.asdict(made), "measurement": made.measurement.to_json(), "inputs": step.inputs}
    write_results({_path(output, step.name): (json.dumps(plain, indent=1) + "\n").encode()})


def utc_now() -> str:
    """The time, UTC, in seconds, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()


def machine() -> dict[str, Any]:
    """What a reader must know of the machine to believe times."""
    import jax

    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": [device.device_kind for device in jax.devices()],
    }


def say_plan(plan: Sequence[Entry], output: Path) -> None:
    """What will be done, what is kept, and how long it takes, on stderr."""
    total_seconds = 0.0
    for entry in plan:
        if isinstance(entry, NotMeasured):
            _say(f"  {entry.name:22} cannot be measured: {entry.reason}")
            continue
        kept = read_kept(output, entry) is not None
        total_seconds += 0.0 if kept else entry.seconds
        _say(f"  {entry.name:22} {'done already' if kept else 'about ' + in_minutes(entry.seconds):16} {entry.what}")
    _say(f"about {in_minutes(total_seconds)} in all on two cores; stopped, the same command goes on from there")


def in_minutes(seconds: float) -> str:
    """ "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def exit_code(asked_for: frozenset[str], gaps: Sequence[NotMeasured]) -> int:
    """0 where everything was measured that there were inputs for, 1 where one failed or was asked for by name."""
    return int(any(gap.failed or gap.metric in asked_for for gap in gaps))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
