"""The report as Markdown: the paper's table first, then every metric with its figures, notes and settings."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from audiolm_jax.evaluation.generated.paper_values import WITHOUT_COUNTERPART
from audiolm_jax.evaluation.heldout import STATE_WORDS
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_codec_table import codec_columns, codec_rows
from audiolm_jax.evaluation.report.report_metrics import shown_metrics
from audiolm_jax.evaluation.report.report_run import Made, Report, in_minutes
from audiolm_jax.evaluation.report.report_words import (
    KIND_WORDS,
    FigureRow,
    figure_rows,
    in_unit,
    ladder_measures,
    measurement_words,
    paper_rows,
    plain,
)


def markdown(report: Report) -> str:
    """The whole report."""
    seconds = sum(made.seconds for made in report.made)
    prints = ", ".join(f"{name} `{value}`" for name, value in report.bundle["fingerprints"].items())
    lines = [
        f"# Evaluation of {report.bundle['name']}",
        "",
        f"{report.when}, protocol {report.settings['extent']['name']}, {in_minutes(seconds)} on "
        f"{report.machine['cpus']} cores, JAX {report.machine['jax']}. Fingerprints: {prints}. Held out: "
        f"{STATE_WORDS[report.settings['heldout']]}.",
        "",
        *paper_table(report),
    ]
    for metric in shown_metrics():
        parts = [made for made in report.made if made.measurement.metric == metric.name]
        if parts:
            lines += [f"## {metric.title}", "", metric.lede, ""]
        for made in parts:
            lines += [f"### {measurement_words(made.name)}", ""] if len(parts) > 1 else []
            lines += figure_lines(made)
            lines += _settings(made)
    lines += ["## Not measured", ""]
    for gap in report.not_measured:
        told = "; ".join(part for part in (gap.reason, gap.remedy) if part)
        lines.append(f"- {gap.name}{' (failed)' if gap.failed else ''}: {told}.")
    lines += [f"- {line}" for line in WITHOUT_COUNTERPART]
    return "\n".join(lines) + "\n"


def paper_table(report: Report) -> list[str]:
    """Lines of the table of our figures beside the paper's, and what differs; none if nothing has a counterpart."""
    pairs = [(value, row) for value, row in paper_rows(report) if row is not None]
    if not pairs:
        return []
    rows = [
        (value.words, row.text, row.interval_text, in_unit(value.value, value.unit), value.where)
        for value, row in pairs
    ]
    lines = ["## Beside the paper", "", *_table(("figure", "here", "95 % interval", "paper", "where"), rows), ""]
    for (where, protocol), group in groupby(pairs, key=lambda pair: (pair[0].where, pair[0].protocol)):
        differs = dict.fromkeys(part for value, _ in group for part in value.differs.split("; "))
        lines.append(f"- {where}: {protocol}. Here: {'; '.join(differs)}.")
    return [*lines, ""]


def figure_lines(made: Made) -> list[str]:
    """The figures of one measurement as a table, and its notes."""
    measurement = made.measurement
    if measurement.metric == "ladder":
        return [*_ladder(measurement), *(f"- {note}" for note in measurement.notes), ""]
    if measurement.metric == "codec_words":
        return [*_codecs(measurement), *(f"- {note}" for note in measurement.notes), ""]
    rows = [(row.words, row.text, row.interval_text) for row in figure_rows(made.name, measurement)]
    rows += [(name.replace("_", " "), text, "") for name, text in _other_figures(measurement)]
    lines = [*_table(("figure", "value", "95 % interval"), rows), ""] if rows else []
    return lines + [f"- {note}" for note in measurement.notes] + ([""] if measurement.notes else [])


def _ladder(measurement: Measurement) -> list[str]:
    """A row for every measure, a column for every rung."""
    rungs = [KIND_WORDS[rung["rung"]] for rung in measurement.details["rungs"]]
    rows = []
    for measure in ladder_measures(measurement):
        cells = {row.words: _with_interval(row) for row in measure.rows}
        rows.append((measure.words, *(cells.get(rung, "") for rung in rungs)))
    return [*_table(("measure", *rungs), rows), ""]


def _codecs(measurement: Measurement) -> list[str]:
    """A row for every codec and bit rate."""
    columns = ("heard", *(words for words, _ in codec_columns(measurement)))
    rows = [
        (row.words, row.kbps, *("" if figure is None else _with_interval(figure) for figure in row.figures))
        for row in codec_rows(measurement)
    ]
    return [*_table(columns, rows), ""]


def _with_interval(row: FigureRow) -> str:
    return row.text + (f" ({row.interval_text})" if row.interval else "")


def _other_figures(measurement: Measurement) -> Iterator[tuple[str, str]]:
    """Figures that are no single numbers."""
    for name, value in measurement.figures.items():
        if isinstance(value, (list, tuple)):
            yield name, " ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value)
        elif isinstance(value, (str, bool)):
            yield name, str(value)


def _settings(made: Made) -> list[str]:
    m = made.measurement
    blocks = {"counts": m.counts, "settings": m.settings, "versions": m.versions}
    told = [f"{name}: {plain(block)}" for name, block in blocks.items() if block]
    return [*(f"*{line}*  " for line in told), f"*measured: {made.when}, {in_minutes(made.seconds)}*", ""]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]
