"""Bootstrap confidence intervals: percentiles over resampled units, 95 %.

The unit is what varies independently: a speaker where recordings of one speaker are alike, else a recording. Units are
put in the order of their names before anything is drawn, so an interval is a function of values and seed alone, not of
the order in which files were found.
"""

from collections.abc import Mapping

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000


def interval_settings(seed: int = 0, resamples: int = RESAMPLES) -> dict:
    """What to write beside figures that have intervals."""
    return {"interval": f"bootstrap percentile, {CONFIDENCE:.0%}", "resamples": resamples, "interval_seed": seed}


def resample_counts(num_units: int, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each unit is drawn in each resample, with replacement: int64[R, U]; every row sums to U."""
    shares = np.full(num_units, 1 / num_units)
    return np.random.default_rng(seed).multinomial(num_units, shares, size=resamples)


def percentile_interval(statistics: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the resamples' statistics float[R]; those that are not defined (NaN) count nowhere."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.asarray(statistics, np.float64), [tail, 1 - tail])
    return float(low), float(high)


def ratio_interval(
    parts: Mapping[str, tuple[float, float]], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Interval of sum of numerators / sum of denominators.

    Args:
        parts: (numerator, denominator) of every unit: (errors, words), (hits, trials), (sum of values, number).
        seed, resamples: of the draws.

    Returns:
        (low, high), or None with fewer than two units, of which nothing can be resampled.
    """
    table = np.array([parts[name] for name in sorted(parts)], np.float64).reshape(-1, 2)
    if len(table) < 2:
        return None
    sums = resample_counts(len(table), seed, resamples) @ table
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    return None if np.isnan(ratios).all() else percentile_interval(ratios)


def mean_interval(values: Mapping[str, float], seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """Interval of the mean of one value per unit; None with fewer than two units."""
    return ratio_interval({name: (value, 1.0) for name, value in values.items()}, seed, resamples)


def by_unit(values: Mapping[str, tuple[float, float]], unit_of: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Sums (numerator, denominator) by unit: values by recording and the unit (speaker) of each recording."""
    sums: dict[str, tuple[float, float]] = {}
    for key in sorted(values):
        numerator, denominator = sums.get(unit_of[key], (0.0, 0.0))
        sums[unit_of[key]] = numerator + values[key][0], denominator + values[key][1]
    return sums
