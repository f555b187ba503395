"""Trains under fire: killed and asked to stop at random moments, started again by the same command each time.

    python -m tests.training.kill_soak --moments 50 --workdir /tmp/soak --document docs/reliability.md

A straight training comes first. Then the same training runs in a directory of its own, and at each moment, drawn from a
seed, its process gets SIGKILL or SIGTERM: while it starts, compiles, restores, trains, evaluates or saves. When it has
come to its end it is compared with the straight one: every byte of the final parameters, optimizer and collections, the
cursor of the data, and every line of metrics.jsonl but the speeds. If moments are left, it begins again in a new
directory. One table row for each moment; the exit code is 1 if anything differs or a step was lost that was saved.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.saved.checkpoints import newest_whole, read_leaves, saved_leaves
from tests.data.tiny_records import write_folder

ROOT = Path(__file__).parents[2]

# A process that does not end by then is stuck.
_PATIENCE_SECONDS = 300

# The marks in a document that the table goes between.
_BEGIN, _END = "<!-- kill_soak -->", "<!-- end of kill_soak -->"


@dataclasses.dataclass(frozen=True)
class Training:
    """A training that can be started again and again.

    Attributes:
      command: what starts it, but the work directory, which is put in place of "WORKDIR".
      window_seconds: of training before a signal, at most; what one life gets done.
    """

    command: tuple[str, ...]
    window_seconds: float

    def start(self, workdir: Path, log: Path) -> subprocess.Popen:
        command = [part.replace("WORKDIR", str(workdir)) for part in self.command]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        with open(log, "wb") as file:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)


@dataclasses.dataclass(frozen=True)
class Moment:
    """One signal and what came of it.

    Attributes:
      signal_name: SIGKILL or SIGTERM.
      after_seconds: since the process was started.
      reached: the last step whose figures were written.
      saved: the newest checkpoint the process left behind; 0 for none.
      began: the step the process began with; None if it ended before it knew.
      resumed: the step that the next process began with.
      exit_code, exit_seconds: of the process, from the signal on.
    """

    signal_name: str
    after_seconds: float
    reached: int
    saved: int
    began: int | None
    resumed: int
    exit_code: int
    exit_seconds: float

    @property
    def is_right(self) -> bool:
        """Nothing that was saved is lost; a process that answered SIGTERM (and was not still starting) lost nothing."""
        in_order = self.exit_code == 0 and self.resumed >= self.reached
        return self.resumed == self.saved and (self.exit_code == -signal.Signals[self.signal_name] or in_order)


def stage_training(folder: Path, steps: int) -> Training:
    """A small semantic stage of the language model on generated token records, through the command line."""
    write_folder(folder / "records", {f"speaker{n}": 6 for n in range(5)})
    settings = {
        "STEPS": steps,
        "SEMANTIC_VOCAB": 16,
        "CROP_SECONDS": 1,
        "NUM_LAYERS": 2,
        "NUM_HEADS": 4,
        "EMBED_DIM": 128,
        "MLP_DIM": 512,
        "BATCH_SIZE": 8,
        "LOG_EVERY": 1,
        "EVAL_EVERY": 50,
        "CHECKPOINT_EVERY": 40,
        "CHECKPOINT_MINUTES": 0.05,
        "WARMUP_STEPS": 10,
    }
    command = [sys.executable, "-m", "audiolm_jax.cli", "train", "semantic_small", "--workdir", "WORKDIR"]
    command += ["--data", str(folder / "records")]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return Training(tuple(command), window_seconds=6.0)


def tiny_training(folder: Path, steps: int) -> Training:
    """The learner of a few hundred parameters, slowed down so that signals meet it at work."""
    options = ["--steps", str(steps), "--seconds_per_batch", "0.01"]
    return Training((sys.executable, "-m", "tests.training.tiny_run", "WORKDIR", *options), window_seconds=1.0)


def last_step(workdir: Path) -> int:
    return max((line["step"] for line in read_metrics(workdir)), default=0)


def saved_step(workdir: Path) -> int:
    folders = (workdir / "checkpoints").glob("[0-9]*")
    return max((int(path.name) for path in folders if path.name.isdigit()), default=0)


def began_at(log: Path, found: int) -> int | None:
    """The step a process began with, by what it printed; `found`: the checkpoint that it found."""
    said = [line for line in log.read_text(errors="replace").splitlines() if ": resuming at step " in line]
    if said:
        return int(said[0].rsplit(" ", 1)[1])
    return None if found else 0


def run_straight(training: Training, workdir: Path) -> float:
    """Runs to the end; returns the seconds until its first step was logged."""
    began, first, log = time.monotonic(), None, workdir.with_suffix(".log")
    process = training.start(workdir, log)
    while process.poll() is None:
        time.sleep(0.05)
        if first is None and last_step(workdir):
            first = time.monotonic() - began
    if process.returncode or not (workdir / "done").exists():
        raise SystemExit(f"the straight run failed; see {log}")
    return first or time.monotonic() - began


def live(training: Training, workdir: Path, log: Path, chance: tuple[signal.Signals, float] | None) -> Moment | None:
    """Starts the training, sends it a signal after some seconds, and waits; None if it came to its end."""
    found = saved_step(workdir)
    process = training.start(workdir, log)
    number, after_seconds = chance or (signal.SIGTERM, 10.0 * _PATIENCE_SECONDS)
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    sent = time.monotonic()
    process.wait(_PATIENCE_SECONDS)
    seconds = time.monotonic() - sent
    if process.returncode not in (0, -number):
        raise SystemExit(f"the run ended with code {process.returncode}; see {log}")
    began = began_at(log, found)
    done = (workdir / "done").exists()
    return None if done else Moment(number.name, after_seconds, last_step(workdir), saved_step(workdir), began, -1,
                                    process.returncode, seconds)


def train_under_fire(
    training: Training, workdir: Path, chances: Iterator[tuple[signal.Signals, float]]
) -> list[Moment]:
    """One training from start to end, with a signal at each moment until they are used up."""
    lives: list[Moment] = []
    while True:
        log, found = workdir.with_suffix(f".{len(lives)}.log"), saved_step(workdir)
        moment = live(training, workdir, log, next(chances, None))
        if moment is None:
            break
        lives.append(moment)
        print(f"{workdir.name}: {moment}", file=sys.stderr, flush=True)
    following = began_at(log, found) or 0
    complete = []
    for moment in reversed(lives):
        complete.append(dataclasses.replace(moment, resumed=following))
        following = moment.began if moment.began is not None else following
    return complete[::-1]


def final_state(workdir: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Every array of the newest checkpoint and its meta."""
    step = newest_whole(workdir)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
        for name, leaf in saved_leaves(workdir, step).items()
    }
    arrays, meta = read_leaves(workdir, step, wanted)
    return {name: np.asarray(array) for name, array in arrays.items()}, meta


def differences(workdir: Path, straight: Path) -> list[str]:
    """How a finished run differs from the straight one; nothing, if all is right."""
    found = []
    (arrays, meta), (expected, expected_meta) = final_state(workdir), final_state(straight)
    found += [f"array {name}" for name in expected if arrays[name].tobytes() != expected[name].tobytes()]
    found += [key for key in ("step", "cursor", "sums") if meta[key] != expected_meta[key]]
    lines, expected_lines = ([without_speeds(line) for line in read_metrics(path)] for path in (workdir, straight))
    found += [f"line {a} instead of {b}" for a, b in zip(lines, expected_lines, strict=False) if a != b][:3]
    if len(lines) != len(expected_lines):
        found.append(f"{len(lines)} lines instead of {len(expected_lines)}")
    for text in (workdir / "metrics.jsonl").read_text().splitlines():
        json.loads(text)  # no half line stays behind
    if (workdir / "checkpoints_damaged").exists():
        found.append("a damaged checkpoint")
    left = [path.name for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]
    return found + [f"{name} left behind" for name in left]


def without_speeds(line: dict) -> dict:
    return {name: value for name, value in line.items()
            if not name.endswith("_per_s") and name not in ("seconds", "checkpoint_seconds")}


def soak(training: Training, folder: Path, num_moments: int, seed: int) -> tuple[list[Moment], list[str], int, float]:
    """All moments, what went wrong, how many trainings came to their end, and the seconds to a first step."""
    chance = random.Random(seed)
    startup_seconds = run_straight(training, folder / "straight")

    def chances(most: int) -> Iterator[tuple[signal.Signals, float]]:
        for _ in range(most):
            # One life in four ends while it starts: imports, compiles, restores.
            early = chance.random() < 0.25
            earliest, span = (0.0, startup_seconds) if early else (startup_seconds, training.window_seconds)
            yield chance.choice([signal.SIGKILL, signal.SIGTERM]), earliest + chance.uniform(0.0, span)

    moments, wrong, rounds = [], [], 0
    while len(moments) < num_moments:
        rounds += 1
        workdir = folder / f"round{rounds}"
        moments += train_under_fire(training, workdir, chances(num_moments - len(moments)))
        found = differences(workdir, folder / "straight")
        wrong += [f"round {rounds}: {text}" for text in found]
        if not found:
            shutil.rmtree(workdir)
    wrong += [f"not right: {moment}" for moment in moments if not moment.is_right]
    return moments, wrong, rounds, startup_seconds


def table(moments: list[Moment], wrong: list[str], rounds: int, startup_seconds: float, seed: int) -> str:
    """The result as Markdown."""
    lost = [max(one.reached - one.resumed, 0) for one in moments]
    slowest = max((one.exit_seconds for one in moments if one.exit_code == 0), default=0.0)
    lines = [
        f"{len(moments)} moments (seed {seed}), {rounds} training(s) from start to end, {startup_seconds:.1f} s from a "
        f"start to its first step: {len(wrong)} differences from the straight run; {sum(lost)} steps computed twice, "
        f"{max(lost, default=0)} at most for one moment; the slowest answer to SIGTERM took {slowest:.1f} s.",
        "",
        "| moment | signal | after, s | reached | saved | resumed at | steps lost | exit code | to exit, s | right |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(moments, start=1):
        lines.append(f"| {number} | {one.signal_name} | {one.after_seconds:.1f} | {one.reached} | {one.saved} | "
                     f"{one.resumed} | {lost[number - 1]} | {one.exit_code} | {one.exit_seconds:.1f} | "
                     f"{'yes' if one.is_right else 'NO'} |")
    return "\n".join(lines + [""] + [f"- {text}" for text in wrong]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--training", choices=("stage", "tiny"), default="stage")
    parser.add_argument("--steps", type=int, default=3000, help="of the whole training")
    parser.add_argument("--workdir", type=Path, required=True, help="made new; work directories and logs stay there")
    parser.add_argument("--document", type=Path, help="put the table, which is also printed, between its two marks")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    folder = arguments.workdir.absolute()
    folder.mkdir(parents=True)
    make = stage_training if arguments.training == "stage" else tiny_training
    moments, wrong, rounds, startup_seconds = soak(
        make(folder, arguments.steps), folder, arguments.moments, arguments.seed
    )
    text = table(moments, wrong, rounds, startup_seconds, arguments.seed)
    print(text)
    if arguments.document:
        before, rest = arguments.document.read_text().split(_BEGIN)
        arguments.document.write_text(f"{before}{_BEGIN}\n{text}{_END}{rest.split(_END)[1]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
