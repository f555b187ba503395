"""Whose voice is it: the paper's speaker classification (AudioLM, Table III), and similarity of embeddings.

Accuracy: a classifier of speakers hears each recording in windows and names a speaker, which is compared with the
speaker of the recording, or of the prompt where it is a continuation (the prompt itself is not heard). Similarity: the
cosine between the embeddings of a recording and of its original, beside that of recordings of one speaker and of two.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import interval
from audiolm_jax.evaluation.generated.samples import RECONSTRUCTION, make_samples
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.pairs import paired_files
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, NotMeasured, Step, counted, with_notes
from audiolm_jax.evaluation.voice import report_classifier
from audiolm_jax.evaluation.voice.trained_classifier import Opinion, TrainedClassifier, cosine, resampling_notes

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True, eq=False)
class _Heard:
    """The recordings of one kind with what the networks say of them."""

    recordings: list[Recording]
    opinions: dict[str, Opinion]  # of the classifier, by key; empty without one
    embeddings: dict[str, np.ndarray]  # by key


def measure(
    classifier: TrainedClassifier | None,
    by_kind: Mapping[str, Sequence[Recording]],
    seed: int = 0,
    embedder: TrainedClassifier | None = None,
) -> Measurement:
    """Accuracy and similarity of every kind of recordings.

    Args:
        classifier: of speakers; None for similarity alone.
        by_kind: recordings by "original", "reconstruction", "acoustic", "continuation" ...; a made recording has the
            speaker of its source, whose key is its `source_key`.
        seed: of the intervals.
        embedder: whose embeddings are compared; the classifier's own if not given.

    Returns:
        For every kind accuracy_KIND, over recordings whose speaker is one of the classes, and
        heldout_accuracy_KIND, over those that the classifier was not trained on, but on others of their speaker, where
        there are any (of its data folder only); chance; and similarity_KIND to the originals. Of the originals
        similarity_same_speaker and similarity_different_speakers, the scale of the others, and similarity_halves, of
        the two halves of a recording. Intervals resample speakers; a figure that nothing goes into is None.

    Raises:
        UserError: there is neither network, or no recordings, or one cannot be read.
    """
    embedder = embedder or classifier
    if embedder is None:
        raise UserError("give a speaker classifier (--classifier DIR), or a bundle that carries a speaker network")
    if not any(by_kind.values()):
        raise UserError("there are no recordings to compare; give --data")
    heard = {kind: _hear(kind, recordings, classifier, embedder) for kind, recordings in by_kind.items()}
    figures, values, notes = {}, {}, []
    if classifier is not None:
        known = set(classifier.config.class_names)
        unknown = sorted({r.speaker for kind in heard.values() for r in kind.recordings} - known)
        if unknown:
            notes.append(f"{len(unknown)} speakers are no classes of the classifier and count in no accuracy")
        figures["chance"] = 1 / classifier.config.num_classes
        for kind, found in heard.items():
            hits = _hits(classifier, found)
            unheard = {key: hit for key, hit in hits.items() if key in classifier.heldout_keys}
            values[f"accuracy_{kind}"] = _with_speakers(hits, found)
            if unheard:
                values[f"heldout_accuracy_{kind}"] = _with_speakers(unheard, found)
        notes += list(_rate_notes(classifier, heard))
    if ORIGINAL in heard:
        for kind, found in heard.items():
            if kind != ORIGINAL:
                values[f"similarity_{kind}"] = _with_speakers(_similarities(found, heard[ORIGINAL]), found)
        values |= _scale(heard[ORIGINAL], embedder)
    intervals = {}
    for name, (table, speaker_of) in values.items():
        figures[name] = exact_mean([table[key] for key in sorted(table)]) if table else None
        units = interval.by_unit({key: (value, 1.0) for key, value in table.items()}, speaker_of)
        if (pair := interval.ratio_interval(units, seed)) is not None:
            intervals[name] = pair
    return Measurement(
        metric="speaker",
        figures=figures,
        intervals=intervals,
        counts={name: len(table) for name, (table, _) in values.items()},
        settings={
            "accuracy": None if classifier is None else classifier.settings(),
            "similarity": {"embedding": f"pooled activations of {embedder.name}, mean over windows", "of": "cosine"},
            "protocol": "the classifier hears what was made, without the prompt; the answer is the source's speaker",
            **interval.interval_settings(seed),
            "resampled_unit": "speaker",
        },
        versions=versions(),
        notes=tuple(notes),
        details={} if classifier is None else {"answers": _answers(classifier, heard)},
    )


def compare(
    embedder: TrainedClassifier, reference: str | Path, compared: str | Path, seed: int = 0
) -> Measurement:
    """Similarity of files that pair by name, of two folders, or of two files.

    Returns:
        similarity, the mean cosine of the pairs; its interval resamples pairs.

    Raises:
        UserError: a file has no partner, or cannot be read.
    """
    pairing = paired_files(reference, compared)
    values, opinions = {}, {}
    for pair in tqdm(pairing.pairs, desc="similarity", disable=not sys.stderr.isatty()):
        first, second = (embedder.opinion_of_file(path) for path in (pair.reference, pair.degraded))
        opinions |= {f"reference/{pair.key}": first, f"compared/{pair.key}": second}
        values[pair.key] = cosine(first.embedding, second.embedding)
    notes = resampling_notes(opinions, embedder.config.sample_rate_hz)
    if pairing.without_reference:
        notes += (f"{len(pairing.without_reference)} files of {compared} have no partner in {reference}",)
    low_high = interval.mean_interval(values, seed)
    return Measurement(
        metric="speaker",
        figures={"similarity": exact_mean([values[name] for name in sorted(values)])},
        intervals={} if low_high is None else {"similarity": low_high},
        counts={"pairs": len(values)},
        settings={**embedder.settings(), **interval.interval_settings(seed), "resampled_unit": "pair"},
        versions=versions(),
        notes=notes,
        details={"similarity": values},
    )


def _hear(
    kind: str, recordings: Sequence[Recording], classifier: TrainedClassifier | None, embedder: TrainedClassifier
) -> _Heard:
    recordings = sorted(recordings, key=lambda recording: recording.key)
    opinions, embeddings = {}, {}
    for recording in tqdm(recordings, desc=f"speaker, {kind}", disable=not sys.stderr.isatty()):
        waveform = recording.read()
        if classifier is not None:
            opinions[recording.key] = classifier.opinion(waveform)
        one = opinions[recording.key] if embedder is classifier else embedder.opinion(waveform)
        embeddings[recording.key] = one.embedding
    return _Heard(recordings, opinions, embeddings)


def _hits(classifier: TrainedClassifier, found: _Heard) -> dict[str, float]:
    """1 where the speaker is named, 0 where another one is, for recordings of speakers that are classes."""
    known = set(classifier.config.class_names)
    return {
        recording.key: float(_answer(classifier, found.opinions[recording.key]) == recording.speaker)
        for recording in found.recordings
        if recording.speaker in known
    }


def _answer(classifier: TrainedClassifier, opinion: Opinion) -> str:
    return classifier.config.class_names[int(np.argmax(opinion.log_probabilities))]


def _with_speakers(table: dict[str, float], found: _Heard) -> tuple[dict[str, float], dict[str, str]]:
    return table, {recording.key: recording.speaker for recording in found.recordings}


def _similarities(made: _Heard, originals: _Heard) -> dict[str, float]:
    """Cosine of each made recording to its original, where that is there."""
    return {
        recording.key: cosine(made.embeddings[recording.key], originals.embeddings[recording.source_key])
        for recording in made.recordings
        if recording.source_key in originals.embeddings
    }


def _scale(originals: _Heard, embedder: TrainedClassifier) -> dict[str, tuple[dict[str, float], dict[str, str]]]:
    """Cosines between originals: of one speaker, of two, and of the halves of a recording.

    A pair of two speakers belongs, as a unit of resampling, to the first of them. Recordings of which nobody knows who
    speaks are in no pair.
    """
    same, different, first_of = {}, {}, {}
    known = [recording for recording in originals.recordings if recording.has_speaker]
    for one, other in itertools.combinations(known, 2):
        name = f"{one.key}|{other.key}"
        first_of[name] = one.speaker
        table = same if one.speaker == other.speaker else different
        table[name] = cosine(originals.embeddings[one.key], originals.embeddings[other.key])
    halves = {}
    for recording in originals.recordings:
        waveform = recording.read()
        middle = len(waveform.samples) // 2
        parts = (waveform.samples[:middle], waveform.samples[middle:])
        if middle:
            first, second = (embedder.opinion(Waveform(part, waveform.sample_rate_hz)).embedding for part in parts)
            halves[recording.key] = cosine(first, second)
    speaker_of = {recording.key: recording.speaker for recording in originals.recordings}
    return {
        "similarity_same_speaker": (same, first_of),
        "similarity_different_speakers": (different, first_of),
        "similarity_halves": (halves, speaker_of),
    }


def _answers(classifier: TrainedClassifier, heard: Mapping[str, _Heard]) -> dict[str, dict[str, str]]:
    """Who was named, by kind and key."""
    return {
        kind: {key: _answer(classifier, found.opinions[key]) for key in sorted(found.opinions)}
        for kind, found in heard.items()
    }


def _rate_notes(classifier: TrainedClassifier, heard: Mapping[str, _Heard]) -> tuple[str, ...]:
    opinions = {f"{kind}/{key}": one for kind, found in heard.items() for key, one in found.opinions.items()}
    return resampling_notes(opinions, classifier.config.sample_rate_hz)


def _report_steps(material: Material) -> list[Entry]:
    """The classifier, if none is given, and what it hears."""
    settings, prompts = material.settings, material.prompts.recordings
    reason = report_classifier.why_no_classifier(material)
    has_embedder = "speaker" in material.bundle.classifiers
    entries: list[Entry] = []
    needs = ["samples"]
    if reason:
        # Of a bundle with a network for voices the similarity can be measured all the same.
        name = report_classifier.STEP if has_embedder else "speaker"
        remedy = "give --data with several speakers, one folder each, or --classifier DIR"
        entries.append(NotMeasured(name, "speaker", reason, remedy))
        if not has_embedder:
            return entries
    elif settings.classifier is None:
        entries.append(report_classifier.classifier_step(material))
        needs.append(report_classifier.STEP)

    def run() -> Measurement:
        classifier = None if reason else report_classifier.speaker_classifier(material)
        embedder = TrainedClassifier.from_bundle(material.bundle, "speaker") if has_embedder else None
        by_kind = dict(material.samples)
        if classifier is not None:
            for kind, more in _unheard(material, classifier).items():
                by_kind[kind] = [*by_kind[kind], *more]
        measured = measure(classifier, by_kind, settings.seed, embedder)
        notes = (f"speaker accuracy is left out: {reason}",) if reason else ()
        return with_notes(measured, (*notes, *material.seen_notes))

    inputs = {**material.sample_inputs, "classifier": report_classifier.classifier_inputs(material)}
    inputs["classifier_recordings"] = settings.extent.classifier_recordings
    what = f"{counted(prompts)} and what was made of them"
    seconds = 20 + 0.5 * len(prompts) * (2 + 3 * settings.extent.num_samples)
    return [*entries, Step("speaker", "speaker", what, inputs, seconds, run, needs=tuple(needs))]


def _unheard(material: Material, classifier: TrainedClassifier) -> Mapping[str, list[Recording]]:
    """Originals and reconstructions of recordings that a classifier was not trained on, without the prompts."""
    left = classifier.heldout_keys - {recording.key for recording in material.prompts.recordings}
    unheard = [recording for recording in material.recordings if recording.key in left]
    chosen = shared_out(unheard, material.settings.extent.classifier_recordings)
    kinds = (ORIGINAL, RECONSTRUCTION)
    return make_samples(material.bundle, chosen, material.samples_folder, material.sample_settings, kinds)


METRIC = Metric(
    "speaker", "Speaker",
    "Whether a classifier hears the prompt's speaker: in the codec's output, in speech from semantic tokens alone, "
    "and in continuations of three seconds.",
    _report_steps,
)  # fmt: skip
