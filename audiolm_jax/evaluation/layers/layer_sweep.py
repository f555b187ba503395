"""Which layer, and how many clusters: ABX and PNMI of all of them, as in AudioLM's figure 3.

A layer's features are computed once, for everything that is measured on them, and every measurement is kept as soon as
it is made: the same command goes on with what is missing.
"""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx import abx
from audiolm_jax.evaluation.abx.abx import AbxSettings
from audiolm_jax.evaluation.abx.frame_features import FrameFeatures, recording_features
from audiolm_jax.evaluation.abx.item_file import read_item_file
from audiolm_jax.evaluation.layers import layer_report
from audiolm_jax.evaluation.layers.layer_features import Representation, TrainedEncoder
from audiolm_jax.evaluation.layers.phone_information import phone_information, phone_spans
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.report.report_plan import Step, file_inputs
from audiolm_jax.evaluation.report.report_run import run_plan
from audiolm_jax.files.outputs import write_results
from audiolm_jax.semantic import kmeans

METRIC = "semantic"
_ITERATIONS = 20  # of Lloyd, after k-means++
_MOST_SCORES = 1 << 26  # of frames and centroids at once


@dataclasses.dataclass(frozen=True)
class SweepSettings:
    """What a sweep depends on besides the encoder.

    Attributes:
        item: an item file in Libri-light's format.
        data: folders of its recordings; the others in them are what k-means and the standardisation are fitted to.
        clusters: K of each tokenizer.
        fit_minutes: of sound that they are fitted to.
        caps: of ABX, with its distance and the seed, which is that of k-means too.
    """

    item: Path
    data: tuple[Path, ...]
    clusters: tuple[int, ...] = (100, 500, 1024)
    fit_minutes: float = 30.0
    caps: AbxSettings = AbxSettings()

    @property
    def seed(self) -> int:
        return self.caps.seed

    @property
    def folders(self) -> str:
        """`data` in words."""
        return ", ".join(map(str, self.data))


@dataclasses.dataclass(frozen=True, eq=False)
class _Material:
    """Frames of one representation.

    Attributes:
        features: of the item file's recordings, standardised where the representation is.
        fitted: float32[N, D] frames that k-means runs on, alike.
        notes: what must be known of them.
    """

    features: FrameFeatures
    fitted: np.ndarray
    notes: tuple[str, ...]


def sweep(
    encoder: TrainedEncoder, representations: tuple[Representation, ...], settings: SweepSettings, output: Path
) -> Measurement:
    """Measures what `output` does not hold yet, and writes layers.json, layers.md and layers.svg into it.

    Returns:
        The best layer and the best clusters by ABX across, as figures; every row in `details`.

    Raises:
        UserError: see `sweep_steps`; or a step could not be made, and the rest was.
    """
    made, gaps = run_plan(sweep_steps(encoder, representations, settings), output)
    rows = layer_report.rows_of([each.measurement for each in made])
    notes = tuple(dict.fromkeys(note for each in made for note in each.measurement.notes))
    told = {
        "encoder": encoder.name, "objective": encoder.objective, "steps": encoder.steps,
        "fingerprint": encoder.fingerprint, "item": str(settings.item), "data": settings.folders,
        "fit_minutes": settings.fit_minutes, **dataclasses.asdict(settings.caps),
    }  # fmt: skip
    title = f"Layers of {encoder.name}: ABX and PNMI"
    files = {"json": layer_report.as_json(rows, told, notes), "md": layer_report.as_markdown(rows, notes).encode(),
             "svg": layer_report.as_svg(rows, title).encode()}
    write_results({output / f"layers.{ending}": data for ending, data in files.items()}, _tell)
    if gaps:
        raise UserError(f"{gaps[0].name} could not be measured: {gaps[0].reason} {gaps[0].remedy}".rstrip())
    return Measurement(
        METRIC, _best_figures(rows), settings=told, versions=versions(), notes=notes, details={"rows": rows}
    )


def _best_figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    best, figures = layer_report.best_rows(rows), {}
    if "features" in best:
        row = best["features"]
        figures |= {"best_layer": row["layer"], "within": row["abx_within"], "across": row["abx_across"]}
    if "centroids" in best:
        row = best["centroids"]
        figures |= {
            "best_clusters_layer": row["layer"], "best_clusters": row["clusters"],
            "clusters_within": row["abx_within"], "clusters_across": row["abx_across"], "pnmi": row["pnmi"],
        }  # fmt: skip
    figures |= {f"mfcc_{name}": row[f"abx_{name}"] for row in rows if row["name"] == "mfcc"
                for name in ("within", "across")}
    return figures


def _tell(path: Path) -> None:
    print(path, file=sys.stderr)


def sweep_steps(
    encoder: TrainedEncoder, representations: tuple[Representation, ...], settings: SweepSettings
) -> list[Step]:
    """A step for the features of each representation, and one for each number of clusters of it.

    Raises:
        UserError: the item file cannot be read, or there is no audio.
    """
    items = read_item_file(settings.item)
    there = _source(representations[0], settings).names
    if not set(items.files.distinct) & set(there):
        named = items.files.distinct[0]
        raise UserError(f"{settings.item} names no recording in {settings.folders}, such as {named}; check --data")
    material = functools.lru_cache(maxsize=1)(lambda index: _material(representations[index], settings, items, there))
    depends = {
        "item": file_inputs(settings.item), "fit_minutes": settings.fit_minutes,
        "abx": dataclasses.asdict(settings.caps), "recordings": hashlib.sha256("\n".join(there).encode()).hexdigest(),
    }  # fmt: skip
    steps = []
    for index, each in enumerate(representations):
        inputs = depends | {"name": each.name, "standardised": each.standardise}
        if each.layer is not None:
            inputs |= {"encoder": encoder.fingerprint, "computed_by": each.settings}
        steps.append(Step(each.name, METRIC, each.title, inputs, 60.0, _continuous(each, settings, material, index)))
        for size in settings.clusters if each.clustered else ():
            name = f"{each.name}_k{size:05d}"
            what, measure = f"{each.title}, {size} clusters", _clustered(each, settings, material, index, size)
            steps.append(Step(name, METRIC, what, inputs | {"clusters": size}, 60.0, measure))
    return steps


def _source(each: Representation, settings: SweepSettings) -> FrameFeatures:
    told = {"audio": settings.folders, "features": each.name}
    return recording_features(settings.data, each.rate_hz, each.hop_samples, each.compute, told)


def _material(each: Representation, settings: SweepSettings, items, there: list[str]) -> _Material:
    """Features of all recordings that are needed, computed now."""
    source = _source(each, settings)
    wanted = set(items.files.distinct)
    tested = [name for name in there if name in wanted]
    others = sorted((name for name in there if name not in wanted), key=lambda n: (hash_bits(settings.seed, n), n))
    frames_wanted = settings.fit_minutes * 60 / float(source.feature_seconds)
    loaded = {name: source.load(name) for name in tqdm(tested, desc=each.title, unit="file", disable=None)}
    fitted, count = [], 0
    for name in tqdm(others, desc=f"{each.title}, to fit to", unit="file", disable=None):
        if count >= frames_wanted:
            break
        fitted.append(source.load(name))
        count += len(fitted[-1])
    notes = ()
    if not fitted:
        fitted = list(loaded.values())
        notes = (f"{settings.folders} holds no recording beside those of the item file: k-means was fitted to these",)
    frames = np.concatenate(fitted)[: round(frames_wanted)]
    if each.standardise:
        mean, std = frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-5)
        frames = (frames - mean) / std
        loaded = {name: (values - mean) / std for name, values in loaded.items()}
    features = dataclasses.replace(source, names=tested, load=loaded.__getitem__)
    return _Material(features, frames, notes)


def _continuous(
    each: Representation, settings: SweepSettings, material: Callable[[int], _Material], index: int
) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        found = material(index)
        measured = abx.measure(settings.item, found.features, found.features.feature_seconds, settings.caps)
        return _measurement(each, None, _abx_figures("", measured), measured, found.notes)

    return measure


def _clustered(
    each: Representation, settings: SweepSettings, material: Callable[[int], _Material], index: int, size: int
) -> Callable[[], Measurement]:
    def measure() -> Measurement:
        found = material(index)
        if len(found.fitted) < size:
            raise UserError(f"{size} clusters of {len(found.fitted)} frames; raise --fit_minutes or lower --clusters")
        centroids = fitted_centroids(found.fitted, size, settings.seed)
        ids = {name: _assigned(found.features.load(name), centroids) for name in found.features.names}
        figures, measured = {}, None
        for ending, load, distance in (
            ("", lambda name: centroids[ids[name]], settings.caps.distance),
            ("_ids", lambda name: ids[name][:, None].astype(np.float32), "identity"),
        ):
            features = dataclasses.replace(found.features, load=load)
            caps = dataclasses.replace(settings.caps, distance=distance)
            measured = abx.measure(settings.item, features, features.feature_seconds, caps)
            figures |= _abx_figures(ending, measured)
        figures |= _phone_figures(settings, ids, features.feature_seconds)
        counts = np.bincount(np.concatenate(list(ids.values())), minlength=size)
        figures["used_clusters"] = int(np.count_nonzero(counts))
        return _measurement(each, size, figures, measured, found.notes)

    return measure


def fitted_centroids(frames: np.ndarray, size: int, seed: int) -> np.ndarray:
    """k-means++ and Lloyd on frames [N, D], of which as many are taken as there is memory for: float32[K, D]."""
    step = -(-len(frames) * size // _MOST_SCORES)
    taken = frames[::step]
    fit = jax.jit(kmeans.fit, static_argnames=("num_clusters", "iterations"))
    found = fit(jax.random.key(seed), taken, np.ones(len(taken), bool), num_clusters=size, iterations=_ITERATIONS)
    return np.asarray(found.centroids)


def _assigned(frames: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    padded = np.pad(frames, ((0, -len(frames) % 512), (0, 0)))  # to a few lengths that are compiled
    return np.asarray(_nearest(jnp.asarray(padded), jnp.asarray(centroids)))[: len(frames)]


_nearest = jax.jit(kmeans.assign)


def _abx_figures(ending: str, measured: Measurement) -> dict[str, Any]:
    return {f"abx_{name}{ending}": measured.figures[name] for name in ("within", "across")}


def _phone_figures(settings: SweepSettings, ids: dict[str, np.ndarray], feature_seconds: Fraction) -> dict[str, Any]:
    items = read_item_file(settings.item)
    spans = phone_spans(items)
    lengths = [len(ids.get(name, ())) for name in items.files.distinct]
    file, frame, phone = spans.frames(lengths, float(feature_seconds))
    if not len(file):
        return {"pnmi": None, "phone_purity": None, "cluster_purity": None, "phone_frames": 0}
    starts = np.cumsum(lengths) - lengths
    flat = np.concatenate([ids[name] for name in items.files.distinct if name in ids])
    return {**phone_information(phone, flat[starts[file] + frame]), "phone_frames": len(file)}


def _measurement(
    each: Representation, size: int | None, figures: dict[str, Any], measured: Measurement, notes: tuple[str, ...]
) -> Measurement:
    figures = {"title": each.title, "name": each.name, "layer": each.layer, "clusters": size, **figures}
    return Measurement(
        METRIC, figures, counts=measured.counts, settings=measured.settings, versions=measured.versions,
        notes=(*measured.notes, *notes),
    )  # fmt: skip
