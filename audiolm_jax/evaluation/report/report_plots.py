"""The plots of the report's page: SVG and HTML whose text stays text, so that they fit a phone as well as a desk.

Horizontal places are percentages of whatever width there is; nothing is scaled, so lines and letters keep their size.
"""

import math
from collections.abc import Sequence
from html import escape

from audiolm_jax.evaluation.generated.paper_values import PaperValue
from audiolm_jax.evaluation.report.report_words import FigureRow, LadderMeasure, in_unit
from audiolm_jax.page.listening_page import nice_step

_FIXED_AXES = {"%": (0.0, 100.0), "MOS": (1.0, 5.0), "0-1": (0.0, 1.0)}


def axis_of(unit: str, rows: Sequence[FigureRow]) -> tuple[float, float]:
    """Low and high end for figures of one unit: the unit's own where it has ends, wider where a figure needs it."""
    values = [bound for row in rows if row.value is not None for bound in (row.value, *(row.interval or ()))]
    low, high = _FIXED_AXES.get(unit, (0.0, 0.0))
    low, high = min([low, *values]), max([high, *values])
    if (low, high) != _FIXED_AXES.get(unit):
        step = nice_step(max(high - low, 1e-9), 4)
        low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
    return low, high


def track(row: FigureRow | None, paper: PaperValue | None, low: float, high: float) -> str:
    """One line of a dot plot: ours as a dot on its interval, the paper's value as a diamond, chance as a tick."""

    def at(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    parts, told = ['<line class="axis" x1="0" x2="100%" y1="50%" y2="50%"/>'], []
    if paper is not None and paper.chance is not None:
        parts.append(f'<line class="chance" x1="{at(paper.chance)}" x2="{at(paper.chance)}" y1="15%" y2="85%"/>')
    if row is not None and row.interval is not None:
        parts.append(f'<line class="range" x1="{at(row.interval[0])}" x2="{at(row.interval[1])}" y1="50%" y2="50%"/>')
    if row is not None and row.value is not None:
        parts.append(f'<circle class="ours" cx="{at(row.value)}" cy="50%" r="5"/>')
        told.append(f"here {row.text}" + (f", interval {row.interval_text}" if row.interval else ""))
    if paper is not None:
        diamond = '<path class="paper" d="M0-6 6 0 0 6-6 0Z"/>'
        parts.append(f'<svg x="{at(paper.value)}" y="50%" overflow="visible">{diamond}</svg>')
        told.append(f"paper {in_unit(paper.value, paper.unit)}")
        told += [] if paper.chance is None else [f"chance {in_unit(paper.chance, paper.unit)}"]
    label = escape(f"{'; '.join(told)}; axis from {low:g} to {high:g}")
    return f'<svg class="track" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def axis_labels(low: float, high: float, unit: str) -> str:
    """The ends and the middle of the axis that stands above tracks."""
    sign = {"%": " %"}.get(unit, "")
    labels = [f"{value:g}{sign}" for value in (low, (low + high) / 2, high)]
    return '<span class="ends" aria-hidden="true">' + "".join(f"<span>{label}</span>" for label in labels) + "</span>"


def level_bars(
    title: str, unit: str, names: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]], top: float
) -> str:
    """Groups of upright bars, one group for each level.

    Args:
        title, unit: for the caption.
        names: of the levels.
        series: name, CSS class and one value per level of each.
        top: value at the full height.
    """
    groups = []
    for level, level_name in enumerate(names):
        heights = [(kind, 100 * min(values[level] / top, 1)) for _, kind, values in series]
        bars = "".join(f'<i class="{kind}" style="height:{height:.1f}%"></i>' for kind, height in heights)
        groups.append(f'<div class="group"><div>{bars}</div><b>{escape(level_name)}</b></div>')
    legend = "".join(f'<li><i class="{kind}"></i>{escape(name)}</li>' for name, kind, _ in series)
    told = "; ".join(f"{name}: {', '.join(f'{v:.3g}' for v in values)}" for name, _, values in series)
    ticks = "".join(f'<b style="bottom:{share:.0%}">{top * share:.3g}</b>' for share in (0, 0.5, 1))
    return f"""<figure class="levels">
<figcaption><span>{escape(title)} <small>{escape(unit)}</small></span></figcaption>
<ul class="legend">{legend}</ul>
<div class="frame" role="img" aria-label="{escape(f"{title}, {unit}, by level. {told}.")}">
<div class="ticks">{ticks}</div><div class="groups">{"".join(groups)}</div></div>
<p class="under" aria-hidden="true">level</p>
</figure>
"""


def rung_bars(measure: LadderMeasure) -> str:
    """Lying bars with intervals, one for each rung."""
    low, high = axis_of(measure.unit, measure.rows)
    lines = "".join(
        f'<tr><th scope="row">{escape(row.words)}</th><td class="plot">{_bar(row, low, high)}</td>'
        f'<td class="number">{escape(row.text)}{_interval(row)}</td></tr>'
        for row in measure.rows
    )
    wanted = f"<small>{measure.better} is better</small>" if measure.better else ""
    return f'<table class="rungs"><caption>{escape(measure.words)} {wanted}</caption><tbody>{lines}</tbody></table>'


def _bar(row: FigureRow, low: float, high: float) -> str:
    def at(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    zero, end = at(max(low, 0.0)), at(row.value)
    bar = f'<rect class="bar" x="{min(zero, end):.2f}%" width="{abs(end - zero):.2f}%" y="25%" height="50%" rx="2"/>'
    if row.interval:
        start, stop = (at(bound) for bound in row.interval)
        bar += f'<line class="whisker" x1="{start:.2f}%" x2="{stop:.2f}%" y1="50%" y2="50%"/>'
    return f'<svg class="track" aria-hidden="true">{bar}</svg>'


def _interval(row: FigureRow) -> str:
    return f' <small>{escape(row.interval_text)}</small>' if row.interval else ""


def strip(title: str, unit: str, rows: Sequence[tuple[str, str, Sequence[float]]]) -> str:
    """Every value of several sets as a dot between 0 and 1: name, CSS class and values of each set."""
    lines = []
    for name, kind, values in rows:
        dots = "".join(f'<circle class="{kind}" cx="{100 * min(max(v, 0), 1):.2f}%" cy="50%" r="4"/>' for v in values)
        label = escape(f"{name}: {len(values)} values, {sum(v > 0.5 for v in values)} of them above 0.5")
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="plot"><svg class="track dots" role="img" '
            f'aria-label="{label}"><line class="axis" x1="0" x2="100%" y1="50%" y2="50%"/>'
            f'<line class="chance" x1="50%" x2="50%" y1="10%" y2="90%"/>{dots}</svg></td></tr>'
        )
    return (
        f'<table class="rungs"><caption>{escape(title)} <small>{escape(unit)}</small></caption>'
        f'<tbody>{"".join(lines)}<tr aria-hidden="true"><th></th><td class="plot">{axis_labels(0, 1, "")}</td></tr>'
        "</tbody></table>"
    )
