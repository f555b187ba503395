#!/usr/bin/env python3
"""What each learner of a small system reaches after 10 minutes, an hour, five hours and at the end of its training.

    python benchmarks/recipe.py work/ --write docs/recipe.md
    python benchmarks/recipe.py work/ --codec other/codec --output plots/

Reads the metrics.jsonl of the trainings that launch/train_small.sh makes in a work directory; any that are not there
are passed over, and --codec, --encoder and so on name others. Of each it draws a plot of its held-out figures against
the time that it trained (no pauses, no compilation, no evaluation), recipe-<learner>.png, and a table with the figures
of the evaluation nearest to each time. With --write they go between the markers of a Markdown file, and the plots into
its folder. A training that is under way or was short has empty columns. Needs matplotlib (extra benchmarks).
"""

import argparse
import dataclasses
import io
import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from markdown_table import check_markers, write_table  # noqa: E402

from audiolm_jax.files import replace_file  # noqa: E402
from audiolm_jax.training.logging import read_metrics, trained_seconds  # noqa: E402

NAME = Path(__file__).name
TIMES = {"10 minutes": 600.0, "1 hour": 3600.0, "5 hours": 18000.0}
# An evaluation stands for a time that it is at most this factor away from.
NEAREST = 1.25
# Of the pages of the project: what was made, what is given, text, rules, paper.
MADE, GIVEN, INK, SOFT, RULE, AREA = "#c2410c", "#5f6b7a", "#1b1d22", "#5d626c", "#dedcd4", "#fcfcfa"
TICKS = {"1 min": 60.0, "10 min": 600.0, "1 h": 3600.0, "5 h": 18000.0, "1 day": 86400.0, "3 days": 259200.0}
# Macros of steps at which a training changes, and what begins there.
PHASES = {"QUANTIZER_START_STEP": "quantizer", "DISCRIMINATOR_START_STEP": "discriminators"}


class Figure(NamedTuple):
    """One line of a table: where it stands in metrics.jsonl, its title, and how it is written."""

    split: str
    name: str
    title: str
    form: str = "{:.3g}"


LOSS = Figure("eval", "loss", "held-out loss", "{:.3f}")
STAGE = (
    Figure("eval", "nats_per_token", "held-out nats per token", "{:.2f}"),
    Figure("eval", "accuracy", "tokens that are the likeliest", "{:.1%}"),
)
# By learner: the names of its folder, and its figures; those that a training does not have are left out.
LEARNERS = {
    "codec": (("codec",), (
        LOSS,
        Figure("exam", "visqol", "ViSQOL", "{:.2f}"),
        Figure("exam", "words_changed", "words changed", "{:.1%}"),
        Figure("exam", "si_sdr_db", "SI-SDR in dB", "{:.1f}"),
        Figure("exam", "log_mel_distance", "mel distance", "{:.3f}"),
        Figure("exam", "usage", "codes in use, worst level", "{:.0%}"),
    )),
    "encoder": (("encoder", "w2v_bert"), (
        LOSS,
        Figure("eval", "contrastive_accuracy", "contrastive accuracy", "{:.1%}"),
        Figure("eval", "masked_prediction_accuracy", "masked accuracy", "{:.1%}"),
        Figure("eval", "masked_accuracy", "masked accuracy", "{:.1%}"),
        Figure("eval", "code_perplexity", "codebook perplexity", "{:.0f}"),
        Figure("exam", "target_perplexity", "target perplexity", "{:.0f}"),
        Figure("exam", "prediction_perplexity", "prediction perplexity", "{:.0f}"),
        Figure("exam", "abx_within", "ABX within speakers", "{:.1%}"),
        Figure("exam", "abx_across", "ABX across speakers", "{:.1%}"),
    )),
    "kmeans": (("kmeans",), (LOSS,)),
    "semantic": (("semantic",), STAGE),
    "coarse": (("coarse",), STAGE),
    "fine": (("fine",), STAGE),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A figure of a run: at steps int[N] the seconds float[N] that it had trained, and the values float[N]."""

    figure: Figure
    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray

    def at(self, seconds: float) -> float | None:
        """The value nearest to a time; None where none is near."""
        nearest = int(np.argmin(np.abs(np.log(self.seconds / seconds))))
        factor = self.seconds[nearest] / seconds
        return float(self.values[nearest]) if 1 / NEAREST <= factor <= NEAREST else None


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a work directory tells of its training.

    Attributes:
      curves: of the figures that it has, in their order.
      seconds, steps: trained in all.
      phases: seconds at which each began, by name.
      is_done: whether it has come to its end.
    """

    curves: list[Curve]
    seconds: float
    steps: int
    phases: dict[str, float]
    is_done: bool


def read_run(folder: Path, figures: tuple[Figure, ...]) -> Run | None:
    """The run of a work directory; None where it has trained nothing yet."""
    lines = read_metrics(folder)
    trained = {step: seconds for step, seconds in trained_seconds(lines).items() if seconds > 0}
    if not trained:
        return None
    known_steps, known_seconds = [0, *trained], [0.0, *trained.values()]

    def at_steps(steps) -> np.ndarray:
        return np.interp(steps, known_steps, known_seconds)

    curves = []
    for figure in figures:
        points = {
            line["step"]: line[figure.name]
            for line in lines
            if line["split"] == figure.split and line["step"] > 0 and _is_number(line.get(figure.name))
        }
        if points:
            steps = np.array(list(points))
            curves.append(Curve(figure, steps, at_steps(steps), np.array(list(points.values()), float)))
    phases = {name: float(at_steps(step)) for name, step in _phase_steps(folder).items() if 0 < step <= max(trained)}
    return Run(curves, max(trained.values()), max(trained), phases, (folder / "done").exists())


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _phase_steps(folder: Path) -> dict[str, int]:
    """Steps at which phases begin, by the configuration of a run."""
    path = folder / "config.gin"
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        macro, _, value = line.partition(" = ")
        if macro in PHASES and value.strip().isdigit():
            found[PHASES[macro]] = int(value)
    return found


def table(run: Run) -> str:
    """The figures of a run at each time, in Markdown."""
    last = "the end" if run.is_done else "so far"
    head = ("", *TIMES, f"{last}: {duration(run.seconds)}, {run.steps:,} steps")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for curve in run.curves:
        cells = [*map(curve.at, TIMES.values()), float(curve.values[-1])]
        lines.append(f"| {curve.figure.title} | "
                     + " | ".join("" if value is None else curve.figure.form.format(value) for value in cells) + " |")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plot(run: Run, name: str) -> bytes:
    """A PNG with a panel for each figure of a run, against the time on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Drawing

    columns = min(len(run.curves), 3)
    rows = math.ceil(len(run.curves) / columns)
    drawing = Drawing(figsize=(3.2 * columns, 2.1 * rows + 0.3), dpi=100, facecolor="white", layout="constrained")
    drawing.suptitle(f"{name}: held out, against the time trained", color=INK, fontsize=9, x=0.01, ha="left")
    first = min(float(curve.seconds[0]) for curve in run.curves)
    low, high = min(first, run.seconds / 2) / 1.15, run.seconds * 1.15
    for index, curve in enumerate(run.curves):
        axes = drawing.add_subplot(rows, columns, index + 1, facecolor=AREA)
        for phase, seconds in run.phases.items():
            if low < seconds < high:
                axes.axvline(seconds, color=GIVEN, linewidth=0.7, linestyle=(0, (3, 2)))
                axes.annotate(phase, (seconds, 1), (2, -2), xycoords=("data", "axes fraction"), va="top", rotation=90,
                              textcoords="offset points", color=SOFT, fontsize=5.5)
        axes.plot(curve.seconds, curve.values, color=MADE, linewidth=1.3, marker="o", markersize=2)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = {label: seconds for label, seconds in TICKS.items() if low <= seconds <= high}
        axes.set_xticks(list(ticks.values()), list(ticks))
        axes.set_xticks([], minor=True)
        axes.set_title(curve.figure.title, color=INK, fontsize=8, loc="left")
        axes.tick_params(colors=SOFT, labelsize=7, width=0.5, length=2)
        axes.grid(color=RULE, linewidth=0.5)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(RULE)
    written = io.BytesIO()
    drawing.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the one that launch/train_small.sh was given")
    for name, (folders, _) in LEARNERS.items():
        default = " or ".join(f"WORKDIR/{folder}" for folder in folders)
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"default {default}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the markers of these tables")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the plots (default that of --write)")
    arguments = parser.parse_args()
    runs = {}
    for name, (folders, figures) in LEARNERS.items():
        candidates = [given] if (given := getattr(arguments, name)) else [arguments.workdir / each for each in folders]
        folder = next((each for each in candidates if (each / "metrics.jsonl").is_file()), None)
        if given and folder is None:
            raise SystemExit(f"{NAME}: {given} holds no metrics.jsonl; give --{name} the work directory of a training")
        run = read_run(folder, figures) if folder else None
        if run is None or not run.curves:
            print(f"{name}: nothing yet in {folder or candidates[0]}", file=sys.stderr)
            continue
        runs[name] = run
    if not runs:
        raise SystemExit(f"{NAME}: no training in {arguments.workdir} has been evaluated yet")
    if arguments.write:
        for name in runs:
            check_markers(arguments.write, f"{NAME} {name}")
    output = arguments.output or (arguments.write.parent if arguments.write else None)
    for name, run in runs.items():
        picture = f"recipe-{name}.png"
        if output is not None:
            replace_file(output / picture, plot(run, name))
        if arguments.write:
            link = Path(os.path.relpath(output / picture, arguments.write.parent)).as_posix()
            shown = f"\n![Held-out figures of the {name} against the time that it trained]({link})\n"
            write_table(arguments.write, f"{NAME} {name}", table(run) + shown)
        else:
            print(f"{name}\n\n{table(run)}")


if __name__ == "__main__":
    main()
