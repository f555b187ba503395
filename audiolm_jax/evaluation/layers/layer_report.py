"""What a sweep of layers is written as: a figure like AudioLM's third, a table, and JSON."""

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.page.listening_page import nice_step

_PANELS = (
    ("ABX within speaker", "abx_within", "lower is better"),
    ("ABX across speakers", "abx_across", "lower is better"),
    ("PNMI of the clusters", "pnmi", "higher is better"),
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP = 300, 240, 46, 44, 40, 22  # of a panel, and around it, in pixels
_COLOURS = ("#c2410c", "#0e7490", "#7c3aed", "#4d7c0f", "#be185d", "#a16207")
_STYLE = (
    "svg{background:#fff;color:#1b1d22;font:12px system-ui,-apple-system,'Segoe UI',sans-serif}"
    "text{fill:currentColor}.soft{fill:#5d626c}.grid{stroke:#dedcd4}polyline.line{fill:none;stroke-width:2}"
    ".whole{stroke:#5f6b7a;fill:#5f6b7a}.base{stroke:#5d626c;stroke-width:1.5;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){svg{background:#1c1e22;color:#eceae4}.soft{fill:#a2a6ae}.grid{stroke:#33363d}"
    ".whole{stroke:#96a3b4;fill:#96a3b4}.base{stroke:#a2a6ae}}"
)


def rows_of(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The figures of each measurement of `layer_sweep`, in their order."""
    return [dict(measurement.figures) for measurement in measurements]


def as_json(rows: Sequence[dict[str, Any]], settings: dict[str, Any], notes: Sequence[str]) -> bytes:
    """All figures, what they depend on, and what a reader must know."""
    return (json.dumps({"settings": settings, "rows": list(rows), "notes": list(notes)}, indent=1) + "\n").encode()


def as_markdown(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """A table, a line for each row; shares in percent."""
    names = ("abx_within", "abx_across", "abx_within_ids", "abx_across_ids", "pnmi", "phone_purity", "cluster_purity")
    head = (
        "features", "clusters", "ABX within", "across", "within, ids", "across, ids", "PNMI", "phone purity",
        "cluster purity",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|---:" + "|---:" * len(names) + "|"]
    for row in rows:
        cells = [f"{row[name]:.1%}" if row.get(name) is not None else "" for name in names]
        clusters = str(row["clusters"] or "")
        lines.append("| " + " | ".join([row["title"], clusters, *cells]) + " |")
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def best_rows(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The layer with the lowest ABX across, and the layer and clusters with the lowest of their centroids."""
    layers = [row for row in rows if row["layer"] is not None and row["abx_across"] is not None]
    plain = [row for row in layers if row["clusters"] is None]
    clustered = [row for row in layers if row["clusters"] is not None]
    found = {}
    for name, among in (("features", plain), ("centroids", clustered)):
        if among:
            found[name] = min(among, key=lambda row: row["abx_across"])
    return found


def as_svg(rows: Sequence[dict[str, Any]], title: str) -> str:
    """Three panels over the layers: a line for the features and one for the centroids of each number of clusters, and
    MFCC as a broken line."""
    clusters = sorted({row["clusters"] for row in rows if row["clusters"]})
    series = [("features, standardised", None, None)]
    series += [(f"{size} clusters", size, _COLOURS[k % len(_COLOURS)]) for k, size in enumerate(clusters)]
    width, height = 3 * _WIDTH + 2 * _GAP, _HEIGHT + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>'
    ]
    for place, (words, figure, better) in enumerate(_PANELS):
        panel = _panel(rows, words, figure, better, series)
        parts.append(f'<g transform="translate({place * (_WIDTH + _GAP)} 0)">{panel}</g>')
    x = _LEFT
    for words, _, colour in (*series, ("MFCC, 10 ms", None, "base")):
        stroke = f'class="{colour or "whole"}"' if colour in (None, "base") else f'stroke="{colour}"'
        parts.append(
            f'<line {stroke} stroke-width="2" x1="{x}" x2="{x + 18}" y1="{height - 12}" y2="{height - 12}"/>'
            f'<text x="{x + 24}" y="{height - 8}">{escape(words)}</text>'
        )
        x += 40 + 7 * len(words)
    return "".join(parts) + "</svg>\n"


def _panel(rows, words: str, figure: str, better: str, series) -> str:
    layers = sorted({row["layer"] for row in rows if row["layer"] is not None})
    base = next((row.get(figure) for row in rows if row["name"] == "mfcc"), None)
    lines = {
        key: [(row["layer"], row[figure]) for row in rows
              if row["layer"] is not None and row["clusters"] == key and row.get(figure) is not None]
        for _, key, _ in series
    }  # fmt: skip
    values = [value for points in lines.values() for _, value in points] + ([] if base is None else [base])
    if not values:
        return f'<text x="{_LEFT}" y="20">{escape(words)}: not defined</text>'
    step = nice_step(max(max(values) - min(values), 0.01), 4)
    low, high = math.floor(min(values) / step) * step, math.floor(max(values) / step + 1) * step
    right, floor = _WIDTH - 6, _HEIGHT - _BOTTOM

    def at_layer(layer: int) -> str:
        across = (layer - layers[0]) / max(layers[-1] - layers[0], 1)
        return f"{_LEFT + 8 + across * (right - _LEFT - 16):.1f}"

    def at_value(value: float) -> str:
        return f"{floor - (value - low) / (high - low) * (floor - _TOP):.1f}"

    parts = [
        f'<text x="{_LEFT}" y="18" font-weight="600">{escape(words)}</text>',
        f'<text class="soft" x="{_LEFT}" y="34">{better}</text>',
        f'<text class="soft" x="{right}" y="{floor + 34}" text-anchor="end">layer</text>',
    ]
    for tick in range(round((high - low) / step) + 1):
        y = at_value(low + tick * step)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        label = f"{low + tick * step:.3g}"
        parts.append(f'<text class="soft" x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{label}</text>')
    for layer in layers[:: -(-len(layers) // 13) or 1]:
        parts.append(f'<text class="soft" x="{at_layer(layer)}" y="{floor + 18}" text-anchor="middle">{layer}</text>')
    if base is not None:
        y = at_value(base)
        parts.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
    for name, key, colour in series:
        paint = 'class="whole"' if colour is None else f'stroke="{colour}" fill="{colour}"'
        told = f"{name}: " + ", ".join(f"layer {layer} {value:.3f}" for layer, value in lines[key])
        places = [(at_layer(layer), at_value(value)) for layer, value in lines[key]]
        line = " ".join(f"{x},{y}" for x, y in places)
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in places)
        parts.append(f'<g {paint}><title>{escape(told)}</title><polyline class="line" points="{line}"/>{dots}</g>')
    return "".join(parts)
