"""What every metric returns: figures with intervals, counts and settings, as plain JSON values."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Iterable
from typing import Any

from audiolm_jax import __version__

# Names that a figure may not have, because they are beside the figures in the JSON.
_PARTS = ("metric", "intervals", "counts", "settings", "versions", "notes", "details")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The result of one metric.

    Attributes:
        metric: its name, that of the command ("abx").
        figures: the headline values by name, at the top level of the JSON; None where a value is not defined.
        intervals: bootstrap confidence intervals (low, high) at 95 %, by figure name; see `interval`.
        counts: how many of what was measured ("recordings", "speakers", "words").
        settings: everything that the figures depend on: protocol, mapping, seeds, file names.
        versions: of the packages that computed them.
        notes: one sentence each that a reader must know (resampled, left out, seen in training).
        details: tables: rows per file, per phone pair, per frequency band.
    """

    metric: str
    figures: dict[str, Any]
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if taken := set(self.figures) & set(_PARTS):
            raise ValueError(f"figures of {self.metric} may not be named {', '.join(sorted(taken))}")
        if unknown := set(self.intervals) - set(self.figures):
            raise ValueError(f"{self.metric} has intervals of no figure: {', '.join(sorted(unknown))}")

    def to_json(self) -> dict[str, Any]:
        """Figures at the top level, everything else under its own name; NaN becomes None, which JSON can hold."""
        parts = {name: getattr(self, name) for name in _PARTS if name != "metric"}
        return _plain({"metric": self.metric, **self.figures, **parts})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Measurement":
        """The measurement that `to_json` gave."""
        parts = {name: values[name] for name in _PARTS if name in values}
        parts["notes"] = tuple(parts.get("notes", ()))
        parts["intervals"] = {name: tuple(pair) for name, pair in parts.get("intervals", {}).items()}
        return cls(figures={name: value for name, value in values.items() if name not in _PARTS}, **parts)


def versions(*packages: str) -> dict[str, str]:
    """Versions of ours, JAX, NumPy and the named packages that are installed."""
    found = {"audiolm_jax": __version__}
    for package in ("jax", "numpy", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def exact_mean(values: Iterable[float]) -> float:
    """Mean that does not depend on the order of the values; NaN of none."""
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
