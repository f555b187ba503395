"""Detection of synthetic speech (AudioLM, section V-B): continuations against recordings passed through the codec.

Without the codec on the real side the task would be trivial: codecs leave marks that a network hears at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audiolm_jax.bundle.manifest import REAL_CLASS, SYNTHETIC_CLASS
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import interval
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, counted, with_notes
from audiolm_jax.evaluation.voice.report_classifier import network_inputs
from audiolm_jax.evaluation.voice.trained_classifier import Opinion, TrainedClassifier, resampling_notes

THRESHOLD = 0.5


def probabilities(detector: TrainedClassifier, paths: Sequence[str | Path]) -> list[float]:
    """The probability of being synthetic of each file, in their order.

    Raises:
        UserError: the network is no detector, or a file cannot be read.
    """
    label = _synthetic_label(detector)
    return [_probability(detector.opinion_of_file(path), label) for path in paths]


def measure_files(detector: TrainedClassifier, paths: Sequence[str | Path]) -> Measurement:
    """Probabilities of files as a measurement: one figure for each path, as it was given."""
    label = _synthetic_label(detector)
    opinions = {str(path): detector.opinion_of_file(path) for path in _shown(paths)}
    return Measurement(
        metric="detector",
        figures={path: _probability(opinion, label) for path, opinion in opinions.items()},
        counts={"files": len(opinions), "windows": sum(opinion.num_windows for opinion in opinions.values())},
        settings={**detector.settings(), "figure": f"probability of {SYNTHETIC_CLASS!r} against {REAL_CLASS!r}"},
        versions=versions(),
        notes=resampling_notes(opinions, detector.config.sample_rate_hz),
        details={"windows": {path: opinion.num_windows for path, opinion in opinions.items()}},
    )


def measure(
    detector: TrainedClassifier, real: Sequence[Recording], generated: Sequence[Recording], seed: int = 0
) -> Measurement:
    """How well a detector tells recordings through the codec from continuations.

    Args:
        detector: of the classes "reconstruction" and "continuation".
        real: recordings that were passed through the codec.
        generated: continuations, without their prompts.
        seed: of the interval.

    Returns:
        balanced_accuracy, the mean of accuracy_real and accuracy_generated, which are the shares of recordings on the
        right side of 0.5; and area_under_curve, the share of pairs in which the generated one has the larger
        probability (half for equal ones), which depends on no threshold. Intervals resample speakers.

    Raises:
        UserError: one side is empty, or the network is no detector.
    """
    label = _synthetic_label(detector)
    if not real or not generated:
        raise UserError("a detector is measured on recordings of both kinds; give real and generated ones")
    sides = {}
    for side, recordings in (("real", real), ("generated", generated)):
        sides[side] = {recording.key: recording for recording in recordings}
    opinions: dict[str, Opinion] = {}
    for side, recordings in sides.items():
        for key in tqdm(sorted(recordings), desc=f"detector, {side}", disable=not sys.stderr.isatty()):
            opinions[f"{side}/{key}"] = detector.opinion(recordings[key].read())
    synthetic = {
        side: {key: _probability(opinions[f"{side}/{key}"], label) for key in sorted(recordings)}
        for side, recordings in sides.items()
    }
    hits = {
        "real": {key: float(value < THRESHOLD) for key, value in synthetic["real"].items()},
        "generated": {key: float(value >= THRESHOLD) for key, value in synthetic["generated"].items()},
    }
    speaker_of = {side: {key: r.speaker for key, r in recordings.items()} for side, recordings in sides.items()}
    by_speaker = {
        side: interval.by_unit({key: (hit, 1.0) for key, hit in hits[side].items()}, speaker_of[side]) for side in hits
    }
    accuracy = {side: exact_mean(hits[side].values()) for side in hits}
    figures = {
        "balanced_accuracy": (accuracy["real"] + accuracy["generated"]) / 2,
        "accuracy_real": accuracy["real"],
        "accuracy_generated": accuracy["generated"],
        "area_under_curve": _area(list(synthetic["real"].values()), list(synthetic["generated"].values())),
    }
    intervals = {f"accuracy_{side}": interval.ratio_interval(by_speaker[side], seed) for side in hits}
    intervals["balanced_accuracy"] = _balanced_interval(by_speaker["real"], by_speaker["generated"], seed)
    return Measurement(
        metric="detector",
        figures=figures,
        intervals={name: pair for name, pair in intervals.items() if pair is not None},
        counts={
            "real": len(real),
            "generated": len(generated),
            "speakers": len({r.speaker for side in sides.values() for r in side.values()}),
            "windows_real": sum(o.num_windows for key, o in opinions.items() if key.startswith("real/")),
            "windows_generated": sum(o.num_windows for key, o in opinions.items() if key.startswith("generated/")),
        },
        settings={
            **detector.settings(),
            "threshold": THRESHOLD,
            "real_side": "recordings passed through the codec at its full rate",
            "generated_side": "continuations without their prompts",
            **interval.interval_settings(seed),
            "resampled_unit": "speaker",
        },
        versions=versions(),
        notes=(*resampling_notes(opinions, detector.config.sample_rate_hz), *_flawless_notes(by_speaker)),
        details={"probabilities": synthetic},
    )


def _synthetic_label(detector: TrainedClassifier) -> int:
    names = detector.config.class_names
    if set(names) != {REAL_CLASS, SYNTHETIC_CLASS}:
        raise UserError(
            f"{detector.name} tells {len(names)} classes apart ({', '.join(names[:3])}, ...), a detector knows "
            f"{REAL_CLASS} and {SYNTHETIC_CLASS}; train one with `audiolm train detector`"
        )
    return names.index(SYNTHETIC_CLASS)


def _probability(opinion: Opinion, label: int) -> float:
    return float(np.exp(opinion.log_probabilities[label]))


def _shown(paths: Sequence[str | Path]) -> list[str | Path]:
    """The paths, each once."""
    return list(dict.fromkeys(paths))


def _area(real: list[float], generated: list[float]) -> float:
    """Share of pairs in the right order, ties for a half; integer counts, so the order of files does not matter."""
    real_values, generated_values = np.asarray(real), np.asarray(generated)
    larger = int(np.sum(generated_values[:, None] > real_values))
    equal = int(np.sum(generated_values[:, None] == real_values))
    return (2 * larger + equal) / (2 * real_values.size * generated_values.size)


def _flawless_notes(by_speaker: dict[str, dict[str, tuple[float, float]]]) -> tuple[str, ...]:
    """What a bootstrap cannot tell: how large an error may be of which there is no example.

    If a share p of speakers had an error, n speakers without any would be seen with probability (1 - p)^n.
    """
    return tuple(
        f"no error on the {side} side: with {len(units)} speakers the share of speakers with an error may still be "
        f"{1 - (1 - interval.CONFIDENCE) ** (1 / len(units)):.1%} (one-sided {interval.CONFIDENCE:.0%} bound)"
        for side, units in by_speaker.items()
        if all(hits == trials for hits, trials in units.values())
    )


def _balanced_interval(real: dict, generated: dict, seed: int) -> tuple[float, float] | None:
    """Speakers are drawn once for both sides: a speaker's recordings and continuations come and go together."""
    speakers = sorted(set(real) | set(generated))
    if len(speakers) < 2:
        return None
    counts = interval.resample_counts(len(speakers), seed)
    accuracies = []
    for side in (real, generated):
        hits, trials = (counts @ np.array([side.get(name, (0.0, 0.0)) for name in speakers], np.float64)).T
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracies.append(np.where(trials > 0, hits / trials, np.nan))
    balanced = (accuracies[0] + accuracies[1]) / 2
    return None if np.isnan(balanced).all() else interval.percentile_interval(balanced)


def _report_steps(material: Material) -> list[Entry]:
    """The detector of the bundle, or the one that is given."""
    settings, prompts = material.settings, material.prompts.recordings
    if settings.detector is None and "detector" not in material.bundle.classifiers:
        raise Lacking(
            "the bundle carries no detector",
            "train one with `audiolm train detector` and give --detector DIR, or add it to the bundle",
        )
    if "continuation" not in material.kinds:
        raise Lacking("the bundle lacks stages, so nothing is generated", "give a bundle of a whole system")
    network = (
        TrainedClassifier.load(settings.detector) if settings.detector
        else TrainedClassifier.from_bundle(material.bundle, "detector")
    )  # fmt: skip

    def run() -> Measurement:
        real, generated = (_unheard(material.samples[kind]) for kind in ("reconstruction", "continuation"))
        seen = not any(recording.heldout for recording in real)
        notes = ("nothing is held out: the detector may have heard these speakers too",) if seen else ()
        return with_notes(measure(network, real, generated, settings.seed), (*notes, *material.claim.notes))

    inputs = {**material.sample_inputs, "detector": network_inputs(network)}
    what = f"continuations and reconstructions of {counted(prompts)}"
    seconds = 10 + 0.5 * len(prompts) * (1 + settings.extent.num_samples)
    return [Step("detector", "detector", what, inputs, seconds, run, needs=("samples",))]


def _unheard(recordings: Sequence[Recording]) -> list[Recording]:
    """Those of held-out speakers; all where there are none."""
    return [recording for recording in recordings if recording.heldout] or list(recordings)


METRIC = Metric(
    "detector", "Detector of synthetic speech",
    "Whether a classifier tells this system's speech from real speech that went through the same codec.",
    _report_steps, own_input="detector",
)  # fmt: skip
