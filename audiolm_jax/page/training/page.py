"""The page of trainings: what was named first, then curves of all runs side by side, and their sounds."""

import base64
import dataclasses
import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

import numpy as np

from audiolm_jax.page.listening_page import document, header, packaged_text
from audiolm_jax.page.png import VIRIDIS, colour
from audiolm_jax.page.training.clips import TrainingClip
from audiolm_jax.page.training.curves import Curve, HorizontalAxis, Mark, curve_plot, number
from audiolm_jax.page.training.runs import EXAMINED, Fault, Run, Series

STEPS, SECONDS = "steps", "seconds"
_NUM_COLOURS = 8
# Steps whose sounds are on the page, the newest ones.
_NUM_HEARD_STEPS = 3
_LEVEL = re.compile(r"(?P<name>.+?)[/_]level_(?P<level>\d+)")
_UNQUANTIZED = "_unquantized"
_SPLITS = {"train": "", "eval": "held out", EXAMINED: "examined"}

# Of plots, in order: heading, and what it says.
_LOSS, _CODES, _OTHER, _EXAM, _SPEED = "Loss", "Masks, predictions and codes", "Terms and norms", "Examination", "Speed"
_SECTIONS = {
    _LOSS: "What is minimised, in training and on held-out speakers.",
    _EXAM: "Whole held-out recordings, looked at while it trains. A loss does not tell what these do.",
    _CODES: "How much is masked and predicted right, and how many of the classes or codes are in use.",
    _OTHER: "What the loss is made of, and how large the updates are.",
    _SPEED: "How fast it trains, without compilation, evaluation and pauses.",
}
_CODE_WORDS = ("accuracy", "perplexity", "masked_share", "usage", "clusters", "most_frequent")
# Better values lie at the named side; others say nothing by themselves.
_BETTER = {
    "loss": "lower", "nats_per_token": "lower", "log_mel_distance": "lower", "words_changed": "lower", "mel": "lower",
    "log_mel": "lower", "correlation": "lower", "visqol": "higher", "si_sdr_db": "higher", "sdr_db": "higher",
    "accuracy": "higher", "usage": "higher", "perplexity": "higher", "masked_accuracy": "higher",
    "contrastive_accuracy": "higher", "masked_prediction_accuracy": "higher", "abx_within": "lower",
    "abx_across": "lower",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PageSettings:
    """How the curves are drawn.

    Attributes:
        axis: "steps", or "seconds" for the time that was trained, without compilation, evaluation and pauses.
        log_axis: whether the horizontal axis is logarithmic, which shows the first steps.
        smooth: log lines that the curves of training are the mean of; 1 shows them as they are.
        reload_seconds: how often the page loads itself again; None for never.
    """

    axis: str = STEPS
    log_axis: bool = False
    smooth: int = 9
    reload_seconds: float | None = None


AS_THEY_COME = PageSettings()


def page(
    runs: Sequence[Run],
    clips: Sequence[tuple[Sequence[TrainingClip], str | None]],
    settings: PageSettings = AS_THEY_COME,
) -> str:
    """The page as HTML, with all that it shows inside the file.

    Args:
        runs: of any kinds; those of one kind share plots.
        clips: of each run what `clips.read_clips` gave.
        settings: how it is drawn.
    """
    kinds = list(dict.fromkeys(run.kind for run in runs))
    styles = {run.name: f"run{index % _NUM_COLOURS + 1}" for index, run in enumerate(runs)}
    parts = [_faults(runs, styles)]
    for kind in kinds:
        chosen = [run for run in runs if run.kind == kind]
        parts.append(_kind(kind, chosen, styles, settings, alone=len(kinds) == 1))
    parts += [_sounds(run, found, missing) for run, (found, missing) in zip(runs, clips, strict=True)]
    names = ", ".join(run.name for run in runs) if len(runs) <= 4 else f"{len(runs)} trainings"
    smooth = f"{settings.smooth} log lines" if settings.smooth > 1 else "none"
    facts = {"trainings": str(len(runs)), "horizontal axis": _axis_words(settings), "smoothing": smooth}
    lede = "Figures of metrics.jsonl. Plain lines are of training, with what they are the mean of behind them; dashed "
    lede += "ones with points are of speakers that it never heard."
    head = header(f"Training of {names}", lede, facts)
    every = settings.reload_seconds
    body = f'{head}\n<div data-reload-seconds="{every or 0:g}"></div>\n' + "\n".join(parts)
    style = "".join(map(packaged_text, ("listening_page.css", "report_page.css", "training_page.css")))
    return document(f"Training of {names}", body, style, packaged_text("training_page.js"))


def _axis_words(settings: PageSettings) -> str:
    return ("trained time" if settings.axis == SECONDS else "steps") + (", logarithmic" if settings.log_axis else "")


def _faults(runs: Sequence[Run], styles: dict[str, str]) -> str:
    """What is wrong, run by run, and how far each has come."""
    rows = "".join(
        f'<tr><th scope="row"><i class="chip {styles[run.name]}"></i>{escape(run.name)} <small>{escape(run.kind)}'
        f"</small></th><td>{_progress(run)}</td><td>{_verdict(run)}</td></tr>"
        for run in runs
    )
    stands = sum(fault.stands for run in runs for fault in run.faults)
    said = f"{stands} fault{'s' * (stands != 1)} named" if stands else "No fault stands"
    return f"""<section class="card{" wrong" if stands else ""}" id="faults" aria-labelledby="faults-title">
<h2 id="faults-title">{said}</h2>
<div class="wide"><table class="runs"><thead><tr><th scope="col">run</th><th scope="col">has come to</th>
<th scope="col">what was named</th></tr></thead><tbody>{rows}</tbody></table></div>
</section>"""


def _progress(run: Run) -> str:
    steps = f"step {run.last_step:,}" + (f" of {run.num_steps:,}" if run.num_steps else "")
    state = ", done" if run.is_done else ""
    return f"{steps}{state}<small>{_duration(run.seconds)} trained</small>"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _verdict(run: Run) -> str:
    if run.examined_step is None:
        last = '<p class="soft">not examined</p>' if not run.faults else ""
    else:
        words = {True: "passed", False: "not passed", None: "no verdict"}[run.passed]
        last = f'<p class="{"good" if run.passed else "soft"}">step {run.examined_step:,}: {words}</p>'
    return last + "".join(map(_fault, run.faults))


def _fault(fault: Fault) -> str:
    when = f"step {fault.last_step:,}"
    if fault.first_step != fault.last_step:
        when = f"steps {fault.first_step:,} to {fault.last_step:,}"
    end = "" if fault.stands else " (not any more)"
    return f'<p class="{"fault" if fault.stands else "soft"}">{escape(fault.words)} <small>{when}{end}</small></p>'


def _kind(kind: str, runs: Sequence[Run], styles: dict[str, str], settings: PageSettings, alone: bool) -> str:
    """All plots of runs that compare."""
    axis, per_unit = _axis(runs, settings)
    marks = _marks(runs, settings, per_unit)
    plots: dict[str, list[str]] = {name: [] for name in _SECTIONS}
    names = dict.fromkeys(_plot_of(key) for run in runs for key in run.series)
    for plot in filter(None, names):
        curves = [
            curve
            for run in runs
            for key, series in run.series.items()
            if _plot_of(key) == plot and len(series.steps)
            for curve in _curves(run, key, series, styles, settings, per_unit, len(runs) > 1)
        ]
        plots[_section_of(plot)].append(curve_plot(_title(plot[1]), _note(plot), curves, axis, marks))
    for run in runs:
        levels = groupby(sorted(filter(_by_level, run.series), key=_level_key), key=lambda key: _level_key(key)[:2])
        for (split, name), keys in levels:
            whose = run.name if len(runs) > 1 else ""
            curves = _level_curves(run, list(keys), settings, per_unit)
            note = " ".join(filter(None, (_SPLITS.get(split, split), whose)))
            plots[_section_of((split, name))].append(curve_plot(f"{_title(name)} by level", note, curves, axis, marks))
    heading = "" if alone else f'<h2 class="kind">{escape(kind)}</h2>'
    cards = [
        f'<section class="card"><h2>{escape(name)}</h2><p>{escape(_SECTIONS[name])}</p>'
        f'<div class="plots">{"".join(found)}</div></section>'
        for name, found in plots.items()
        if found
    ]
    return heading + "\n".join(cards)


def _by_level(key: tuple[str, str]) -> bool:
    return _LEVEL.fullmatch(key[1]) is not None


def _level_key(key: tuple[str, str]) -> tuple[str, str, int]:
    match = _LEVEL.fullmatch(key[1])
    return key[0], match["name"], int(match["level"])


def _plot_of(key: tuple[str, str]) -> tuple[str, str] | None:
    """Which plot a figure is in: training and held-out ones share one; None for figures of single levels."""
    split, name = key
    if _by_level(key):
        return None
    return (EXAMINED if split == EXAMINED else "", name.removesuffix(_UNQUANTIZED))


def _section_of(plot: tuple[str, str]) -> str:
    split, name = plot
    if any(words in name for words in _CODE_WORDS) and split != EXAMINED:
        return _CODES
    if split == EXAMINED:
        return _EXAM
    if name.endswith("_per_s") or name == "checkpoint_seconds":
        return _SPEED
    return _LOSS if name in ("loss", "nats_per_token") or name.startswith("nats") else _OTHER


def _title(name: str) -> str:
    words = name.replace("_per_s", " per second").replace("_db", " in dB").replace("/", ", ").replace("_", " ")
    known = (("visqol", "ViSQOL"), ("si sdr", "SI-SDR"), ("sdr", "SDR"), ("abx", "ABX"), ("mlm", "MLM"))
    for plain, proper in known:
        if words.startswith(plain):
            return proper + words[len(plain) :]
    return words[:1].upper() + words[1:]


def _note(plot: tuple[str, str]) -> str:
    better = _BETTER.get(plot[1])
    return f"{better} is better" if better else ""


def _axis(runs: Sequence[Run], settings: PageSettings) -> tuple[HorizontalAxis, float]:
    """The horizontal axis of some runs, and how many steps or seconds one of its units is."""
    key = "seconds" if settings.axis == SECONDS else "steps"
    values = [getattr(series, key) for run in runs for series in run.series.values()]
    together = np.concatenate([*values, np.zeros(0)]).astype(np.float64)
    high = max(float(together.max(initial=0.0)), 1.0)
    positive = together[together > 0]
    low = float(positive.min(initial=high)) if settings.log_axis else 0.0
    low = min(low, high / 2)
    if settings.axis == STEPS:
        return HorizontalAxis("steps", low, high, settings.log_axis), 1.0
    unit, title = (1.0, "trained seconds") if high < 120 else (60.0, "trained minutes")
    if high >= 7200:
        unit, title = 3600.0, "trained hours"
    return HorizontalAxis(title, low / unit, high / unit, settings.log_axis), unit


def _marks(runs: Sequence[Run], settings: PageSettings, per_unit: float) -> list[Mark]:
    """Where phases begin, each place once."""
    found: dict[tuple[str, float], list[str]] = {}
    for run in runs:
        for name, step in run.phases:
            if step > run.last_step:
                continue
            at = float(step) if settings.axis == STEPS else _seconds_at(run, step) / per_unit
            found.setdefault((name, at), []).append(run.name)
    return [
        Mark(name if len(whose) == len(runs) else f"{name} ({', '.join(whose)})", at)
        for (name, at), whose in sorted(found.items(), key=lambda item: item[0][1])
    ]


def _seconds_at(run: Run, step: int) -> float:
    longest = max(run.series.values(), key=lambda series: len(series.steps))
    return float(np.interp(step, longest.steps, longest.seconds))


def _xs(series: Series, settings: PageSettings, per_unit: float) -> np.ndarray:
    return (series.seconds if settings.axis == SECONDS else series.steps.astype(np.float64)) / per_unit


def _curves(
    run: Run, key: tuple[str, str], series: Series, styles: dict[str, str], settings: PageSettings, per_unit: float,
    named: bool,
) -> list[Curve]:  # fmt: skip
    split, name = key
    kind = "" if split == EXAMINED else _SPLITS.get(split, split)
    if name.endswith(_UNQUANTIZED):
        kind = f"{kind}, unquantized".removeprefix(", ")
    words = ", ".join(filter(None, (run.name if named else "", kind))) or ("last" if split == EXAMINED else "training")
    style = styles[run.name] + (" heldout" if split == "eval" else "")
    style += " unquantized" if name.endswith(_UNQUANTIZED) else ""
    smooth = settings.smooth if split == "train" else 1
    return [Curve(words, style, _xs(series, settings, per_unit), series.values, smooth)]


def _level_curves(run: Run, keys: Sequence[tuple[str, str]], settings: PageSettings, per_unit: float) -> list[Curve]:
    """One curve for each level, from the first one's colour to the last one's."""
    curves = []
    for index, key in enumerate(keys):
        series = run.series[key]
        # The ends of the palette are too dark or too light for one of the two kinds of paper.
        rgb = colour(np.array(0.3 + 0.5 * index / max(len(keys) - 1, 1)), VIRIDIS)
        smooth = settings.smooth if key[0] == "train" else 1
        hexadecimal = "#" + "".join(f"{int(channel):02x}" for channel in rgb)
        curves.append(
            Curve(str(_level_key(key)[2]), "level", _xs(series, settings, per_unit), series.values, smooth, hexadecimal)
        )
    return curves


def _sounds(run: Run, clips: Sequence[TrainingClip], missing: str | None) -> str:
    """Players of the newest clips."""
    if missing is not None:
        clips, told = (), f"<p>{escape(missing[:1].upper() + missing[1:])}.</p>"
    elif not clips:
        return ""
    else:
        told = "<p>Made of held-out recordings while it trained.</p>"
    heard = sorted({clip.step for clip in clips}, reverse=True)[:_NUM_HEARD_STEPS]
    sets = []
    for step in heard:
        cells = "".join(_cell(clip) for clip in clips if clip.step == step)
        sets.append(f'<details{" open" if step == heard[0] else ""}><summary>step {step:,}</summary>'
                    f'<div class="grid">{cells}</div></details>')
    return f"""<section class="card sounds"><h2>Sounds of {escape(run.name)}</h2>
{told}{"".join(sets)}</section>"""


def _cell(clip: TrainingClip) -> str:
    sound = base64.b64encode(clip.wav).decode("ascii")
    name = escape(clip.name.replace("/", ": ").replace("_", " "))
    picture = ""
    if clip.spectrogram_png is not None:
        data = base64.b64encode(clip.spectrogram_png).decode("ascii")
        picture = f'<img alt="Log-mel spectrogram" src="data:image/png;base64,{data}">'
    return (f'<article aria-label="{name}"><h4>{name}</h4><audio controls preload="none" aria-label="{name}, step '
            f'{number(clip.step)}" src="data:audio/wav;base64,{sound}"></audio>{picture}</article>')
