"""A plot of curves as SVG and HTML: it fits any width, its lines keep their thickness and its letters their size."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

import numpy as np

from audiolm_jax.page.listening_page import nice_step

# Of the picture, which is stretched to the width there is.
_WIDTH, _HEIGHT = 1000, 300
# Columns that a longer curve is gathered into.
_MOST_COLUMNS = 500
# Values whose largest is so many times the least are shown on a logarithmic axis.
_LOG_RATIO = 10.0
# A curve of no more values than this shows each of them.
_MOST_DOTS = 60


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """One line of a plot.

    Attributes:
        name: for the legend.
        style: CSS classes of line and legend: "run1" is the colour of the first run, "heldout" and "unquantized" are
            kinds of lines.
        xs: float[N], rising.
        ys: float[N]; where one is not finite the line has a gap.
        smooth: values that the line is the mean of; more than one show the values themselves as a pale line behind it.
        colour: in place of that of the style, "" for none.
    """

    name: str
    style: str
    xs: np.ndarray
    ys: np.ndarray
    smooth: int = 1
    colour: str = ""


@dataclasses.dataclass(frozen=True)
class HorizontalAxis:
    """What all plots of one kind share.

    Attributes:
        title: such as "steps".
        low, high: its ends.
        is_log: whether it is logarithmic.
    """

    title: str
    low: float
    high: float
    is_log: bool = False

    def share(self, value):
        """Where a value, or an array of them, lies between the ends, 0 to 1."""
        if self.is_log:
            low, high = math.log(self.low), math.log(self.high)
            return (np.log(np.maximum(value, self.low)) - low) / max(high - low, 1e-12)
        return (np.asarray(value, np.float64) - self.low) / max(self.high - self.low, 1e-12)

    def ticks(self) -> list[float]:
        """Values to write below it."""
        return _log_ticks(self.low, self.high) if self.is_log else _linear_ticks(self.low, self.high, 6)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A line at a value of the horizontal axis, with its name."""

    name: str
    at: float


def curve_plot(
    title: str, note: str, curves: Sequence[Curve], axis: HorizontalAxis, marks: Sequence[Mark] = ()
) -> str:
    """A figure with a caption, a legend that gives the last values, and the curves, on axes that fit them."""
    smoothed = [_smoothed(curve) for curve in curves]
    low, high, is_log = _range_of(curves, smoothed)
    place = _vertical(low, high, is_log)
    drawn = "".join(_drawn(curve, line, axis, place) for curve, line in zip(curves, smoothed, strict=True))
    ticks = _log_ticks(low, high) if is_log else _linear_ticks(low, high, 4)
    labels = "".join(
        f'<b style="bottom:{100 * place(value):.2f}%">{number(value)}</b>' for value in ticks if low <= value <= high
    )
    grid = "".join(f'<i class="grid" style="bottom:{100 * place(value):.2f}%"></i>' for value in ticks[:12])
    scale = " <small>logarithmic</small>" if is_log else ""
    told = "; ".join(f"{curve.name}: {_last(curve)}" for curve in curves)
    alt = escape(f"{title} over {axis.title}, from {number(low)} to {number(high)}. Last values: {told}.")
    legend = "".join(_legend_row(curve) for curve in curves)
    return f"""<figure class="curves">
<figcaption><span>{escape(title)} <small>{escape(note)}</small>{scale}</span></figcaption>
<ul class="legend">{legend}</ul>
<div class="frame"><div class="ticks" aria-hidden="true">{labels}</div>
<div class="area" role="img" aria-label="{alt}">{grid}<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none"
 aria-hidden="true">{drawn}</svg>{_marks(marks, axis)}</div></div>
{_below(axis)}
</figure>
"""


def _legend_row(curve: Curve) -> str:
    colour = f' style="--line:{curve.colour}"' if curve.colour else ""
    return f'<li><i class="{curve.style}"{colour}></i>{escape(curve.name)} <b>{_last(curve)}</b></li>'


def number(value: float) -> str:
    """A value in a few characters: 12k, 3.61, 0.0042, 1e-07."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    for least, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if least <= size < 1e12:
            return f"{value / (1e3 if letter == 'k' else least):.3g}{letter}"
    return f"{value:.4g}" if size >= 1000 else f"{value:.3g}"


def _last(curve: Curve) -> str:
    return number(float(curve.ys[-1])) if len(curve.ys) else "none"


def _smoothed(curve: Curve) -> np.ndarray:
    """Means over `smooth` neighbours; fewer at the ends, and none of values that are not finite."""
    if curve.smooth <= 1 or len(curve.ys) < 3:
        return curve.ys
    finite = np.isfinite(curve.ys)
    before = curve.smooth // 2
    after = curve.smooth - before
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, curve.ys, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    starts = np.maximum(np.arange(len(finite)) - before, 0)
    ends = np.minimum(np.arange(len(finite)) + after, len(finite))
    means = (sums[ends] - sums[starts]) / np.maximum(counts[ends] - counts[starts], 1)
    return np.where(finite, means, np.nan)


def _range_of(curves: Sequence[Curve], smoothed: Sequence[np.ndarray]) -> tuple[float, float, bool]:
    """Low and high end of the vertical axis, and whether it is logarithmic."""
    values = np.concatenate([*smoothed, np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0, False
    # The pale lines as far as they are not single outliers.
    raw = np.concatenate([curve.ys[np.isfinite(curve.ys)] for curve in curves])
    low, high = min(values.min(), np.percentile(raw, 1)), max(values.max(), np.percentile(raw, 99))
    if low > 0 and high / low >= _LOG_RATIO:
        return low * (low / high) ** 0.04, high * (high / low) ** 0.04, True
    spread = (high - low) or abs(high) or 1.0
    return low - 0.05 * spread, high + 0.05 * spread, False


def _vertical(low: float, high: float, is_log: bool):
    """A function from a value, or an array of them, to its height, 0 to 1 within the plot."""
    if is_log:
        return lambda value: (np.log(np.maximum(value, low * 1e-3)) - math.log(low)) / (math.log(high) - math.log(low))
    return lambda value: (np.asarray(value, np.float64) - low) / (high - low)


def _drawn(curve: Curve, line: np.ndarray, axis: HorizontalAxis, place) -> str:
    colour = f' style="--line:{curve.colour}"' if curve.colour else ""
    xs = _WIDTH * axis.share(curve.xs)
    paths = ""
    if line is not curve.ys:
        paths += f'<path class="raw {curve.style}"{colour} d="{_path(*_extremes(xs, curve.ys), place)}"/>'
    paths += f'<path class="{curve.style}"{colour} d="{_path(*_gathered(xs, line), place)}"/>'
    if len(line) <= _MOST_DOTS and curve.smooth <= 1:
        dots = "".join(
            f"M{x:.1f} {_HEIGHT * (1 - y):.1f}h0"
            for x, y in zip(xs, np.clip(place(line), -2, 3), strict=True)
            if math.isfinite(y)
        )
        paths += f'<path class="dots {curve.style}"{colour} d="{dots}"/>'
    return paths


def _columns(xs: np.ndarray) -> list[np.ndarray]:
    """Indices of the values in each column that has any."""
    which = np.minimum((np.clip(xs, 0, _WIDTH) * _MOST_COLUMNS / _WIDTH).astype(int), _MOST_COLUMNS - 1)
    return np.split(np.arange(len(xs)), np.flatnonzero(np.diff(which)) + 1)


def _gathered(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of each column of a long curve; a column with a value that is not finite is a gap."""
    if len(xs) <= _MOST_COLUMNS:
        return xs, ys
    columns = _columns(xs)
    return np.array([xs[column].mean() for column in columns]), np.array([ys[column].mean() for column in columns])


def _extremes(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each column of a long curve."""
    if len(xs) <= 2 * _MOST_COLUMNS:
        return xs, ys
    columns = _columns(xs)
    both = [(ys[column].min(), ys[column].max()) for column in columns]
    return np.repeat([xs[column].mean() for column in columns], 2), np.array(both).reshape(-1)


def _path(xs: np.ndarray, ys: np.ndarray, place) -> str:
    """A line through points, with gaps where one is not finite; far beyond the picture it is bent."""
    parts, begins = [], True
    with np.errstate(invalid="ignore"):
        heights = np.clip(place(ys), -2, 3)
    for x, y, value in zip(xs.tolist(), heights.tolist(), ys.tolist(), strict=True):
        if not math.isfinite(value):
            begins = True
            continue
        parts.append(f"{'M' if begins else 'L'}{x:.1f} {_HEIGHT * (1 - y):.1f}")
        begins = False
    return "".join(parts)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    if high <= low:
        return [low]
    step = nice_step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, int(math.floor(high / step + 1e-9)) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, fewer where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 6:
            return ticks
    return ticks[:: -(-len(ticks) // 6)]


def _marks(marks: Sequence[Mark], axis: HorizontalAxis) -> str:
    found = []
    for row, mark in enumerate(mark for mark in marks if axis.low <= mark.at <= axis.high):
        share = float(axis.share(mark.at))
        side = "left" if share < 0.6 else "right"
        place = f"left:{100 * share:.2f}%"
        found.append(
            f'<i class="mark" style="{place}"></i>'
            f'<b class="mark {side}" style="{place};top:{row % 4 * 0.95:.2f}rem">{escape(mark.name)}</b>'
        )
    return "".join(found)


def _below(axis: HorizontalAxis) -> str:
    labels = "".join(
        f'<b style="left:{100 * float(axis.share(value)):.2f}%">{number(value)}</b>' for value in axis.ticks()
    )
    return f'<div class="time" aria-hidden="true"><div>{labels}</div><span>{escape(axis.title)}</span></div>'
