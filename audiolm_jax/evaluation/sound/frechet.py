"""Fréchet audio distance: how far apart two sets of recordings lie in the space of an embedding (Kilgour et al. 2019).

Each set is taken for a normal distribution: with means m and covariances S of its embeddings (divided by N - 1),

    FAD = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

The value is in units of the embedding, squared, and says nothing across embeddings. It is biased: small sets look
farther apart than they are, by an amount that falls with 1 / N. So the number of embeddings belongs beside every value,
and `fad_infinity` is the value for sets without end, by a straight line in 1 / N as in Gui et al. (2023).
"""

import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import ORIGINAL
from audiolm_jax.evaluation.interval import interval_settings, percentile_interval, resample_counts
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, counted
from audiolm_jax.evaluation.sound.embeddings import Embeddings, embed_recordings
from audiolm_jax.evaluation.voice.report_classifier import network_inputs
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

RESAMPLES = 200
# Parts that the units are split into to see how the distance grows as sets shrink, and how often they are split so.
_SPLITS = {2: 12, 3: 8, 4: 6}
# With fewer embeddings for each dimension the growth is not yet that of 1 / N, and nothing is extrapolated; with normal
# distributions of 16 dimensions the extrapolated value is 3 % off at 4 embeddings for each, and 60 % at 2.
_EMBEDDINGS_PER_DIMENSION = 4
_MIN_UNITS = 8


class _Set(NamedTuple):
    """`rows`: float64[N, D]. `units`: int[N], the unit of each row among the units of both sets."""

    rows: np.ndarray
    units: np.ndarray


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) in float64, at least 0.

    The trace of the root is the sum of the singular values of S1^(1/2) S2^(1/2). So it is right without full rank too,
    where the root of the product is badly determined.

    Args:
        mean_a, mean_b: float[D].
        covariance_a, covariance_b: float[D, D], symmetric, without negative eigenvalues.
    """
    difference = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    product = _square_root(covariance_a) @ _square_root(covariance_b)
    common = np.sum(np.linalg.svd(product, compute_uv=False))
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * common
    return float(max(distance, 0.0))


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def measure(reference: Embeddings, generated: Embeddings, seed: int = 0) -> Measurement:
    """FAD of two sets with bootstrap intervals.

    The units that are resampled are speakers where both sets have several, else recordings, each with all of its
    samples. Units that stand in both sets are drawn for both at once, and those of one set among themselves. A resample
    is farther apart than the sets by about their bias once more. So the interval of `fad` is the spread of the
    resamples around their mean, laid around the value, and that of `fad_infinity` is the basic bootstrap interval,
    which removes a bias instead of doubling it.

    Args:
        reference, generated: embeddings of one kind.
        seed: of resamples and splits.

    Returns:
        Figures fad and fad_infinity, the latter None where a set has fewer than four embeddings for each dimension or
        fewer than eight units. details.growth: mean FAD of the sets' halves, thirds and quarters.

    Raises:
        UserError: the embeddings have different lengths, or a set has fewer than two of them.
    """
    a, b, unit = _sets(reference, generated)
    strata = _strata(a, b)
    dimension = a.rows.shape[1]
    # Matrices of this size gain nothing by a second thread, and wait a hundredfold where others keep the cores busy.
    with threadpool_limits(1, "blas"):
        value = _distance(a, b, np.ones(_num_units(a, b)))
        growth, infinity, why_not = _extrapolation(a, b, strata, value, seed)
        resamples = _resamples(a, b, strata, seed)
    intervals = _intervals(value, infinity, resamples)
    notes = list(dict.fromkeys((*reference.notes, *generated.notes)))
    if (fewest := min(len(a.rows), len(b.rows))) < dimension:
        notes.append(f"{fewest} embeddings of {dimension} numbers: fewer than dimensions, so the value is mostly bias")
    if why_not:
        notes.append(f"fad_infinity is left out: {why_not}")
    return Measurement(
        metric="fad",
        figures={"fad": value, "fad_infinity": infinity},
        intervals=intervals,
        counts={
            "reference_embeddings": len(a.rows), "generated_embeddings": len(b.rows), "dimension": dimension,
            "reference_recordings": len(reference.by_key), "generated_recordings": len(generated.by_key),
            "units": _num_units(a, b),
        },
        settings={
            **reference.settings, **generated.settings, "covariance": "divided by N - 1", "resampled": unit,
            **interval_settings(seed, RESAMPLES),
            "interval": "95% of bootstrap resamples; fad: around the value, fad_infinity: basic",
        },
        versions=versions(),
        notes=tuple(notes),
        details={"growth": growth},
    )  # fmt: skip


def _sets(reference: Embeddings, generated: Embeddings) -> tuple[_Set, _Set, str]:
    """Both sets around the reference's mean, and what their units are, which are numbered in the order of names."""
    lengths = {vectors.shape[1] for both in (reference, generated) for vectors in both.by_key.values()}
    if len(lengths) != 1:
        raise UserError(f"the embeddings have different lengths: {', '.join(map(str, sorted(lengths)))} numbers")
    by_speaker = all(len(set(both.speaker_of.get(key) for key in both.by_key)) > 1 for both in (reference, generated))

    def unit_of(embeddings: Embeddings, key: str) -> str:
        return embeddings.speaker_of[key] if by_speaker else embeddings.source_of.get(key, key)

    names = sorted({unit_of(both, key) for both in (reference, generated) for key in both.by_key})
    index = {name: number for number, name in enumerate(names)}
    sets = []
    for embeddings in (reference, generated):
        keys = sorted(embeddings.by_key)
        rows = np.concatenate([np.asarray(embeddings.by_key[key], np.float64) for key in keys])
        lengths_of = [len(embeddings.by_key[key]) for key in keys]
        if len(rows) < 2:
            raise UserError("a set has fewer than two embeddings, and so no covariance; give more recordings")
        sets.append(_Set(rows, np.repeat([index[unit_of(embeddings, key)] for key in keys], lengths_of)))
    middle = sets[0].rows.mean(axis=0)
    a, b = (_Set(each.rows - middle, each.units) for each in sets)
    return a, b, "speaker" if by_speaker else "recording"


def _num_units(a: _Set, b: _Set) -> int:
    return 1 + int(max(a.units.max(), b.units.max()))


def _strata(a: _Set, b: _Set) -> list[np.ndarray]:
    """Numbers of the units in both sets, in the first alone and in the second alone; empty ones are left out."""
    in_a, in_b = np.unique(a.units), np.unique(b.units)
    parts = (np.intersect1d(in_a, in_b), np.setdiff1d(in_a, in_b), np.setdiff1d(in_b, in_a))
    return [part for part in parts if len(part)]


def _resamples(a: _Set, b: _Set, strata: list[np.ndarray], seed: int) -> np.ndarray:
    """FAD float[R] with the units of each stratum drawn again; none where there is nothing to draw."""
    if max(map(len, strata)) < 2:
        return np.zeros(0)
    counts = np.zeros((RESAMPLES, _num_units(a, b)))
    for number, stratum in enumerate(strata):
        counts[:, stratum] = resample_counts(len(stratum), len(strata) * seed + number, RESAMPLES)
    quiet = a.rows.shape[1] < 64 or not sys.stderr.isatty()
    return np.array([_distance(a, b, row) for row in tqdm(counts, desc="resampling", disable=quiet)])


def _intervals(value: float, infinity: float | None, resamples: np.ndarray) -> dict[str, tuple[float, float]]:
    """Of fad the resamples' spread laid around the value, of fad_infinity the basic bootstrap interval."""
    defined = resamples[np.isfinite(resamples)]
    if not defined.size:
        return {}
    low, high = percentile_interval(defined)
    bias = exact_mean(defined) - value
    intervals = {"fad": (max(low - bias, 0.0), high - bias)}
    if infinity is not None:
        intervals["fad_infinity"] = (2 * value - high, 2 * value - low)
    return intervals


def _distance(a: _Set, b: _Set, counts: np.ndarray) -> float:
    """FAD with every unit as often as `counts` says; NaN where that leaves fewer than two rows."""
    weights = [counts[each.units].astype(np.float64) for each in (a, b)]
    if min(weight.sum() for weight in weights) < 2:
        return float("nan")
    (mean_a, covariance_a), (mean_b, covariance_b) = (
        _moments(each.rows, weight) for each, weight in zip((a, b), weights, strict=True)
    )
    return frechet_distance(mean_a, covariance_a, mean_b, covariance_b)


def _moments(rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of rows that stand as often as their weights say."""
    total = weights.sum()
    mean = weights @ rows / total
    centred = rows - mean
    return mean, (centred * weights[:, None]).T @ centred / (total - 1)


def _extrapolation(
    a: _Set, b: _Set, strata: list[np.ndarray], value: float, seed: int
) -> tuple[list[dict[str, float]], float | None, str]:
    """(rows of parts and mean FAD, the line's value for sets without end or None, why it is None).

    Both sets shrink together, unit by unit, so the bias of either is taken off, as is that of a few speakers.
    """
    fewest, dimension = min(len(a.rows), len(b.rows)), a.rows.shape[1]
    if fewest < _EMBEDDINGS_PER_DIMENSION * dimension:
        return [], None, f"it needs {_EMBEDDINGS_PER_DIMENSION * dimension} embeddings in each set, got {fewest}"
    if min(len(np.unique(each.units)) for each in (a, b)) < _MIN_UNITS:
        return [], None, f"it needs {_MIN_UNITS} speakers or recordings in each set"
    rng = np.random.default_rng(seed)
    growth = [{"parts": 1, "fad": value}]
    for parts, times in _SPLITS.items():
        values = []
        for _ in range(times):
            part_of = np.zeros(_num_units(a, b), np.int64)
            for stratum in strata:
                part_of[stratum] = rng.permutation(len(stratum)) % parts
            values += [_distance(a, b, part_of == part) for part in range(parts)]
        growth.append({"parts": parts, "fad": exact_mean(value for value in values if np.isfinite(value))})
    # Sets split into p parts are of size N / p, so a line in 1 / N is one in p; sets without end are at p = 0.
    design = np.array([(1.0, row["parts"]) for row in growth])
    (infinity, _), *_ = np.linalg.lstsq(design, np.array([row["fad"] for row in growth]), rcond=None)
    return growth, float(infinity), ""


def _report_steps(material: Material) -> list[Entry]:
    """Every kind of samples against the originals, in every embedding that there is."""
    bundle, prompts = material.bundle, material.prompts.recordings
    if not prompts:
        raise Lacking("there are no samples to compare with the originals")
    inputs, embeddings = material.sample_inputs, ["log_mel", "semantic"]
    if "speaker" in bundle.classifiers:
        inputs["speaker"] = network_inputs(TrainedClassifier.from_bundle(bundle, "speaker"))
        embeddings.append("speaker")
    kinds = [kind for kind in material.kinds if kind != ORIGINAL]
    what = f"{', '.join(kinds)} against {counted(prompts)}"
    seconds = 5 + 0.2 * len(prompts) * (3 + 2 * material.settings.extent.num_samples)
    runs = {f"fad_{name}": functools.partial(_measure_kinds, material, name, kinds) for name in embeddings}
    return [Step(name, "fad", what, inputs, seconds, run, needs=("samples",)) for name, run in runs.items()]


def _measure_kinds(material: Material, embedding: str, kinds: Sequence[str]) -> Measurement:
    """All kinds in one measurement: fad_KIND, and fad_infinity_KIND where it is defined."""
    embedded = {
        kind: embed_recordings(material.samples[kind], embedding, material.bundle) for kind in (ORIGINAL, *kinds)
    }
    found = {kind: measure(embedded[ORIGINAL], embedded[kind], material.settings.seed) for kind in kinds}
    figures = {f"{name}_{kind}": value for kind, m in found.items() for name, value in m.figures.items()}
    kinds_of: dict[str, list[str]] = {}
    for kind, m in found.items():
        for note in m.notes:
            kinds_of.setdefault(note, []).append(kind)
    return Measurement(
        metric="fad",
        figures={name: value for name, value in figures.items() if value is not None},
        intervals={f"{name}_{kind}": pair for kind, m in found.items() for name, pair in m.intervals.items()},
        counts={f"{name}_{kind}": count for kind, m in found.items() for name, count in m.counts.items()},
        settings={"reference": "the prompts, whole", **found[kinds[0]].settings},
        versions=versions(),
        notes=tuple(f"{', '.join(kinds)}: {note}" for note, kinds in kinds_of.items()),
        details={"growth": {kind: m.details["growth"] for kind, m in found.items()}},
    )


METRIC = Metric(
    "fad", "Fréchet audio distance",
    "How far generated speech lies from the originals as a whole, in the space of an embedding. 0 is the same "
    "distribution; small sets overestimate it, so compare sets of one size only.",
    _report_steps,
)  # fmt: skip
