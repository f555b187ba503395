"""The report as one HTML page: figures beside the paper's, plots, and recordings to hear, with nothing to load."""

import dataclasses
from collections.abc import Sequence
from html import escape
from itertools import groupby

from audiolm_jax.bundle.model_card import flat
from audiolm_jax.evaluation.generated.paper_values import WITHOUT_COUNTERPART, PaperValue
from audiolm_jax.evaluation.heldout import STATE_WORDS
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_codec_table import codec_columns, codec_rows
from audiolm_jax.evaluation.report.report_metrics import shown_metrics
from audiolm_jax.evaluation.report.report_plan import Metric, NotMeasured
from audiolm_jax.evaluation.report.report_plots import axis_labels, axis_of, level_bars, rung_bars, strip, track
from audiolm_jax.evaluation.report.report_run import Made, Report, in_minutes
from audiolm_jax.evaluation.report.report_words import (
    KIND_NOTES,
    FigureRow,
    figure_rows,
    in_unit,
    ladder_measures,
    measurement_words,
    paper_rows,
    plain,
)
from audiolm_jax.page.listening_page import (
    PLAYER_HINT,
    Clip,
    document,
    header,
    packaged_text,
    player,
    spectrogram_plot,
    time_axis,
)

# Columns of a spectrogram on this page, where many stand beside each other.
_MOST_COLUMNS = 480
# Rows of a table of details that are shown; all of them are in report.json.
_MOST_ROWS = 24
_ARROWS = {
    "": "",
    "lower": ' <span class="better" role="img" aria-label="lower is better">↓</span>',
    "higher": ' <span class="better" role="img" aria-label="higher is better">↑</span>',
}


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """A recording and what was made of it.

    Attributes:
        heading: its name.
        note: one sentence: speaker, text, side of the split.
        rungs: kind ("original", "reconstruction", ...) and clip of each.
    """

    heading: str
    note: str
    rungs: tuple[tuple[str, Clip], ...]


def page(report: Report, clips: Sequence[ClipSet] = ()) -> str:
    """The page as HTML. Audio and pictures are inside it, so it can be moved, mailed and opened without network."""
    beside = _beside_the_paper(report)
    sections = [beside] if beside else []
    if clips:
        sections.append(_listening(clips))
    sections += [_metric_section(metric, report) for metric in _shown(report)]
    sections.append(_not_measured(report.not_measured))
    sections.append(_how(report))
    heading = f"Evaluation of {report.bundle['name']}"
    contents = _contents(report, bool(beside), bool(clips))
    body = "\n".join([header(heading, _lede(report), _facts(report)), contents, *sections])
    style = packaged_text("listening_page.css") + packaged_text("report_page.css")
    return document(heading, body, style, packaged_text("listening_page.js"))


def _lede(report: Report) -> str:
    number, missing = len(report.made), len(report.not_measured)
    made = f"{number} measurement{'' if number == 1 else 's'}"
    told = f"{made} of an AudioLM, beside the values of its paper where there are any"
    if missing:
        told += f"; {missing} could not be made, and the page says why"
    return told + "."


def _facts(report: Report) -> dict[str, str]:
    seconds = sum(made.seconds for made in report.made)
    return {
        "bundle": report.bundle["name"],
        "protocol": report.settings["extent"]["name"],
        "data": ", ".join(folder.rstrip("/").rsplit("/", 1)[-1] for folder in report.settings["folders"]),
        "held out": STATE_WORDS[report.settings["heldout"]],
        "measured": report.when.replace("T", " ").replace("+00:00", " UTC"),
        "took": f"{in_minutes(seconds)} on {report.machine['cpus']} cores",
        "licence of the weights": report.bundle["licence"],
    }


def _contents(report: Report, with_paper: bool, with_clips: bool) -> str:
    links = [("paper", "Beside the paper")] if with_paper else []
    links += [("listen", "Listen")] if with_clips else []
    links += [(metric.name, metric.title) for metric in _shown(report)]
    links += [("missing", "Not measured")]
    items = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _shown(report: Report) -> list[Metric]:
    """Metrics of which something was measured."""
    measured = {made.measurement.metric for made in report.made}
    return [metric for metric in shown_metrics() if metric.name in measured]


def _beside_the_paper(report: Report) -> str:
    groups = []
    for (metric, where, protocol), rows in groupby(
        paper_rows(report), key=lambda pair: (pair[0].metric, pair[0].where, pair[0].protocol)
    ):
        pairs = list(rows)
        if any(row is not None for _, row in pairs):
            title = next(each.title for each in shown_metrics() if each.name == metric)
            groups.append(_paper_group(f"{title}: {where}", protocol, pairs))
    if not groups:
        return ""
    return f"""<section class="card" id="paper" aria-labelledby="paper-title">
<h2 id="paper-title">Beside the paper</h2>
<p>The paper's system has 0.3 billion parameters a stage and heard 60 000 hours. A figure compares with the paper's only
as far as the lines under each heading allow.</p>
<ul class="legend"><li><i class="dot"></i>here, with its 95 % interval</li><li><i class="diamond"></i>paper</li>
<li><i class="tick"></i>chance</li><li>↓ lower is better</li><li>↑ higher is better</li></ul>
{"".join(groups)}
</section>"""


def _paper_group(title: str, protocol: str, pairs: Sequence[tuple[PaperValue, FigureRow | None]]) -> str:
    low, high = axis_of(pairs[0][0].unit, [row for _, row in pairs if row is not None])
    lines = "".join(
        _row(escape(value.words) + _ARROWS[value.better], _value(row), value, track(row, value, low, high))
        for value, row in pairs
    )
    differs = "; ".join(dict.fromkeys(part for value, _ in pairs for part in value.differs.split("; ")))
    caption = f"{escape(title)} <small>Paper: {escape(protocol)}.<br>Here: {escape(differs)}.</small>"
    return _figure_table(caption, lines, axis_labels(low, high, pairs[0][0].unit), with_paper=True)


def _row(words: str, value: str, paper: PaperValue | None, plot: str) -> str:
    """A line of a table of figures; all but `paper` as HTML."""
    theirs = ""
    if paper is not None:
        theirs = f'<td class="number" data-name="paper">{escape(in_unit(paper.value, paper.unit))}</td>'
    drawn = f'<td class="plot">{plot}</td>' if plot else ""
    return f'<tr><th scope="row">{words}</th><td class="number" data-name="here">{value}</td>{theirs}{drawn}</tr>'


def _value(row: FigureRow | None) -> str:
    if row is None:
        return '<span class="soft">not measured</span>'
    return escape(row.text) + (f" <small>{escape(row.interval_text)}</small>" if row.interval else "")


def _figure_table(caption: str, lines: str, axis: str, with_paper: bool) -> str:
    """A table of `_row`s under a caption and, where there is a plot, the labels of its axis; all as HTML."""
    heads = ["figure", "here", *(["paper"] if with_paper else []), *([axis] if axis else [])]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return f"""<table class="figures{"" if axis else " narrow"}"><caption>{caption}</caption>
<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>
"""


def _metric_section(metric: Metric, report: Report) -> str:
    parts = [made for made in report.made if made.measurement.metric == metric.name]
    inner = "".join(_measurement(made, with_heading=len(parts) > 1) for made in parts)
    return f"""<section class="card" id="{metric.name}" aria-labelledby="{metric.name}-title">
<h2 id="{metric.name}-title">{escape(metric.title)}</h2>
<p>{escape(metric.lede)}</p>
{inner}
</section>"""


def _measurement(made: Made, with_heading: bool) -> str:
    measurement = made.measurement
    heading = f"<h3>{escape(measurement_words(made.name))}</h3>" if with_heading else ""
    told = measurement.notes[1:] if measurement.metric == "ladder" else measurement.notes
    notes = "".join(f"<li>{escape(note)}</li>" for note in told)
    return "".join([
        heading,
        _figures(made),
        _plots(measurement),
        f'<ul class="notes">{notes}</ul>' if notes else "",
        f'<div class="more">{_settings(made)}{_details_tables(measurement)}</div>',
    ])


def _figures(made: Made) -> str:
    if made.measurement.metric == "ladder":
        return _ladder(made.measurement)
    return _codecs(made.measurement) if made.measurement.metric == "codec_words" else _figure_tables(made)


def _codecs(measurement: Measurement) -> str:
    """Every codec and bit rate as a row of one table."""
    heads = "".join(
        f'<th scope="col">{escape(words)}{_ARROWS[better]}</th>' for words, better in codec_columns(measurement)
    )
    lines = ""
    for row in codec_rows(measurement):
        cells = [escape(row.kbps), *("" if figure is None else _value(figure) for figure in row.figures)]
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines += f'<tr><th scope="row">{escape(row.words)}</th>{numbers}</tr>'
    return f"""<div class="wide"><table class="codecs"><caption class="hidden">Codecs beside each other</caption>
<thead><tr><th scope="col">heard</th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>
"""


def _figure_tables(made: Made) -> str:
    """The figures, those of one unit in one table, because they share an axis."""
    by_unit: dict[str, list[FigureRow]] = {}
    for row in figure_rows(made.name, made.measurement):
        by_unit.setdefault(row.unit, []).append(row)
    tables = []
    for unit, rows in by_unit.items():
        low, high = axis_of(unit, rows)
        lines = "".join(
            _row(escape(row.words), _value(row), None, track(row, None, low, high) if unit else "") for row in rows
        )
        caption = '<span class="hidden">Figures</span>'
        tables.append(_figure_table(caption, lines, axis_labels(low, high, unit) if unit else "", with_paper=False))
    return "".join(tables)


def _ladder(measurement: Measurement) -> str:
    """The verdict, which is the first note, and bars for every measure."""
    bars = "".join(rung_bars(measure) for measure in ladder_measures(measurement))
    verdict = "".join(measurement.notes[:1])
    told = escape(_sentence(verdict[:1].upper() + verdict[1:]))
    return f'<p class="verdict">{told}</p><div class="ladder">{bars}</div>'


def _plots(measurement: Measurement) -> str:
    """What no table shows: figures by level, and single probabilities."""
    if measurement.metric == "codec":
        usage = [100 * share for share in measurement.figures["code_usage"]]
        names = [str(level + 1) for level in range(len(usage))]
        return level_bars("Codes in use", "% of each codebook", names, [("in use", "made", usage)], 100.0)
    if measurement.metric == "perplexity":
        stages = measurement.details["stages"]
        before_fine = stages.get("coarse") or stages.get("acoustic") or {}
        coarse = len(before_fine.get("heldout_nats_by_level", ()))
        return "".join(_stage_bars(name, row, coarse if name == "fine" else 0) for name, row in stages.items())
    if measurement.metric == "detector":
        sides = (("real", "given"), ("generated", "made"))
        found = measurement.details["probabilities"]
        rows = [(side, kind, list(found[side].values())) for side, kind in sides]
        return strip("Probability of being synthetic", "one dot for each recording", rows)
    return ""


def _stage_bars(name: str, row: dict, levels_before: int) -> str:
    """Nats by level of a stage with several levels, beside counting."""
    if "heldout_nats_by_level" not in row:
        return ""
    series = [
        (words, kind, row[f"{key}_nats_by_level"])
        for key, kind, words in (
            ("heldout", "made", "stage"), ("unigram", "given", "the tokens' own frequencies, corrected"),
            ("train_bigram", "third", "pairs of the training"),
        )
        if f"{key}_nats_by_level" in row
    ]  # fmt: skip
    names = [str(levels_before + level + 1) for level in range(len(series[0][2]))]
    top = max(value for _, _, values in series for value in values)
    return level_bars(f"{name.capitalize()} stage by level", "nats per token", names, series, top)


def _settings(made: Made) -> str:
    m = made.measurement
    blocks = [
        ("counts", m.counts), ("settings", m.settings), ("versions", m.versions),
        ("made", {"when": made.when, "seconds": made.seconds, "key": made.key}),
    ]  # fmt: skip
    lists = "".join(
        f"<h4>{name}</h4><dl>"
        + "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(plain(value))}</dd></div>" for key, value in block.items())
        + "</dl>"
        for name, block in blocks
        if block
    )
    return f"<details><summary>Counts, settings, seeds, versions</summary>{lists}</details>"


def _details_tables(measurement: Measurement) -> str:
    return "".join(_details_table(name, value) for name, value in measurement.details.items())


def _details_table(name: str, value) -> str:
    """A list of rows, or rows by name, as a table; anything else as text."""
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        rows = [{"": key, **dict(flat(row))} for key, row in value.items()]
    elif isinstance(value, dict):
        rows = [{"": key, "value": inner} for key, inner in value.items()]
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        rows = [dict(flat(row)) for row in value]
    else:
        rows = [{"": name.replace("_", " "), "value": value}]
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = "".join(f'<th scope="col">{escape(str(column).replace("_", " "))}</th>' for column in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(plain(row.get(column, '')))}</td>" for column in columns) + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    more = f"<p>{len(rows) - _MOST_ROWS} more in report.json.</p>" if len(rows) > _MOST_ROWS else ""
    title = name.replace("_", " ")
    count = f"{len(rows)} row{'s' * (len(rows) != 1)}"
    return (
        f'<details><summary>{escape(title)}, {count}</summary><div class="wide"><table class="rows">'
        f'<caption class="hidden">{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
        f"</div>{more}</details>"
    )


def _listening(clips: Sequence[ClipSet]) -> str:
    sets = []
    for clip_set in clips:
        rungs = "".join(_rung(kind, clip) for kind, clip in clip_set.rungs)
        sets.append(
            f'<div class="set"><h3>{escape(clip_set.heading)}</h3><p>{escape(clip_set.note)}</p>'
            f'<div class="grid">{rungs}</div></div>'
        )
    return f"""<section class="card" id="listen" aria-labelledby="listen-title">
<h2 id="listen-title">Listen</h2>
<p>The same recording on every rung. {PLAYER_HINT}</p>
{"".join(sets)}
</section>"""


def _rung(kind: str, clip: Clip) -> str:
    title, note = KIND_NOTES[kind]
    return f"""<article aria-label="{escape(clip.title)}">
<h4>{escape(title)} <span>{clip.waveform.seconds:.1f} s</span></h4>
<p>{escape(note)}</p>
{player(clip)}
{spectrogram_plot(clip, _MOST_COLUMNS)}
{time_axis(clip.waveform.seconds)}
</article>"""


def _not_measured(gaps: Sequence[NotMeasured]) -> str:
    items = "".join(
        f"<div><dt>{escape(gap.name.replace('_', ' '))}{' (failed)' if gap.failed else ''}</dt>"
        f"<dd>{escape(_sentence('; '.join(part for part in (gap.reason, gap.remedy) if part)))}</dd></div>"
        for gap in gaps
    )
    others = "".join(f"<li>{escape(line)}</li>" for line in WITHOUT_COUNTERPART)
    listed = f'<dl class="gaps">{items}</dl>' if items else "<p>Everything that this command measures was measured.</p>"
    return f"""<section class="card" id="missing" aria-labelledby="missing-title">
<h2 id="missing-title">Not measured</h2>
{listed}
<h3>In the paper, and in no command</h3>
<ul class="notes">{others}</ul>
</section>"""


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else text + "."


def _how(report: Report) -> str:
    prints = ", ".join(f"{name} {value}" for name, value in report.bundle["fingerprints"].items())
    machine = "; ".join(f"{name} {plain(value)}" for name, value in report.machine.items())
    return f"""<footer><p>Intervals are 95 % percentiles of bootstrap resamples, of speakers where there are several.
Every figure with its settings is in report.json.</p>
<p>Fingerprints: {escape(prints)}.<br>Machine: {escape(machine)}.</p></footer>"""
