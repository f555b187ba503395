"""The measures of the ladder, each on every rung where it is defined; a rung is a kind of samples.

Nothing is defined anew here: word errors, voices, distances and embeddings are those of the other evaluations.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audiolm_jax.audio import resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import ACOUSTIC, CONTINUATION, FINE, ORIGINAL, RECONSTRUCTION
from audiolm_jax.evaluation.pairs import mean_figures
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.sound import frechet
from audiolm_jax.evaluation.sound.embeddings import embed_recordings
from audiolm_jax.evaluation.sound.signal_quality import log_mel_distance, si_sdr_db
from audiolm_jax.evaluation.sound.sound_figures import UNITS, sound_figures
from audiolm_jax.evaluation.sound.visqol import visqol_is_installed, visqol_settings, visqol_speech
from audiolm_jax.evaluation.voice import speaker
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
from audiolm_jax.evaluation.words import word_error
from audiolm_jax.evaluation.words.asr import RECOGNISER_PACKAGES, Recogniser
from audiolm_jax.extras import how_to_install

Kinds = Mapping[str, Sequence[Recording]]

_NEW_WORDS = "its words are new, so there is no transcript to compare with"
_NEW_CONTENT = "it goes on where the prompt stops, so there is no original to compare with"
_FREE_TIMING = "when each sound comes is drawn anew, so it cannot be compared with the original moment by moment"
_NEW_VOICE = "its voice is drawn anew on purpose, because semantic tokens do not say whose it is"


@dataclasses.dataclass(frozen=True)
class Column:
    """One measure on every rung.

    Attributes:
        name: of the figure, behind the kind.
        words: what it is, for a sentence.
        better: "low" or "high"; None where neither is.
        values: by kind; None where it is not defined.
        intervals: by kind.
        undefined: by kind, why there is no value.
        expected: by kind, why a loss there is no failure.
        of_original: what the original itself has by definition, where that is not measured.
    """

    name: str
    words: str
    better: str | None
    values: dict[str, float | None]
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    undefined: dict[str, str] = dataclasses.field(default_factory=dict)
    expected: dict[str, str] = dataclasses.field(default_factory=dict)
    of_original: float | None = None

    def comparable(self, kind: str) -> float | None:
        """The value of a rung where losses are looked for, None where it does not count."""
        if kind == ORIGINAL and self.of_original is not None:
            return self.of_original
        return None if kind in self.expected else self.values.get(kind)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Measures that come from one evaluation, with what belongs beside them."""

    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    packages: tuple[str, ...] = ()


def intelligibility(by_kind: Kinds, asr: str | Recogniser, cache: Path | None, seed: int) -> Columns:
    """Word and character error rates, see `word_error`; of continuations there are none."""
    if not any(recording.text for recording in by_kind[ORIGINAL]):
        return Columns(notes=("word errors are left out: no recording has a transcript",))
    repeated = {kind: recordings for kind, recordings in by_kind.items() if kind != CONTINUATION}
    try:
        found = word_error.measure(repeated, asr, cache, seed)
    except ModuleNotFoundError as error:
        return _not_installed("word errors are", error)
    columns = tuple(
        Column(
            name,
            words,
            "low",
            {kind: found.figures.get(f"{name}_{kind}") for kind in by_kind},
            {kind: found.intervals[f"{name}_{kind}"] for kind in by_kind if f"{name}_{kind}" in found.intervals},
            undefined=_of_those(by_kind, {CONTINUATION: _NEW_WORDS}),
        )
        for name, words in (("wer", "word errors"), ("cer", "character errors"))
    )
    settings = {name: value for name, value in found.settings.items() if name.startswith(("asr", "norm", "pool"))}
    return Columns(columns, found.notes, settings, ("jiwer", *RECOGNISER_PACKAGES))


def voices(by_kind: Kinds, bundle: Bundle, classifier: TrainedClassifier | None, seed: int) -> Columns:
    """Accuracy of a classifier of speakers, and similarity to the original, see `speaker`."""
    embedder = TrainedClassifier.from_bundle(bundle, "speaker") if "speaker" in bundle.classifiers else None
    if classifier is None and embedder is None:
        return Columns(notes=(
            f"speakers are left out: no classifier is given, and bundle {bundle.name} carries no speaker network",
        ))  # fmt: skip
    found = speaker.measure(classifier, by_kind, seed, embedder)
    columns = []
    for name, words in (("accuracy", "speaker accuracy"), ("similarity", "speaker similarity")):
        values = {kind: found.figures.get(f"{name}_{kind}") for kind in by_kind if f"{name}_{kind}" in found.figures}
        if any(value is not None for value in values.values()):
            columns.append(
                Column(
                    name,
                    words,
                    "high",
                    values,
                    {kind: found.intervals[f"{name}_{kind}"] for kind in values if f"{name}_{kind}" in found.intervals},
                    expected=_of_those(by_kind, {ACOUSTIC: _NEW_VOICE}),
                    of_original=1.0 if name == "similarity" else None,
                )
            )
    settings = {"speaker_accuracy": found.settings["accuracy"], "speaker_similarity": found.settings["similarity"]}
    return Columns(tuple(columns), found.notes, settings)


def distances(by_kind: Kinds, seed: int) -> Columns:
    """ViSQOL, SI-SDR and mel distance to the original, of the rungs that keep its timing."""
    originals = {recording.key: recording for recording in by_kind[ORIGINAL]}
    with_visqol = visqol_is_installed()
    undefined = _of_those(by_kind, {ACOUSTIC: _FREE_TIMING, CONTINUATION: _NEW_CONTENT})
    columns = {
        name: Column(name, words, better, {kind: None for kind in undefined}, {}, undefined, of_original=of_original)
        for name, words, better, of_original in (
            *((("visqol", "ViSQOL", "high", 5.0),) if with_visqol else ()),
            ("log_mel_distance", "mel distance", "low", 0.0),
            # Not a measure of loss: fine tokens that sound the same need not give the same waveform.
            ("si_sdr_db", "SI-SDR", None, None),
        )
    }
    notes = [] if with_visqol else ["ViSQOL is left out: visqol-python is not installed (extra eval)"]
    for kind in (RECONSTRUCTION, FINE):
        pairs = [(originals[one.source_key], one) for one in by_kind.get(kind, ()) if one.source_key in originals]
        rows, unit_of, refused = _distance_rows(kind, pairs, tuple(columns))
        if refused:
            notes.append(f"{len(refused)} of {len(pairs)} {kind} are not compared: {refused[0]}")
        means, intervals = mean_figures(rows, unit_of, seed)
        for name, column in columns.items():
            if by_kind.get(kind):
                column.values[kind] = means.get(name)
            if name in intervals:
                column.intervals[kind] = intervals[name]
    settings = visqol_settings() if with_visqol else {}
    return Columns(tuple(columns.values()), tuple(notes), settings, ("visqol-python",))


def _distance_rows(
    kind: str, pairs: Sequence[tuple[Recording, Recording]], names: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, str], list[str]]:
    """(distances by key, speaker by key, why some pairs have none)."""
    rows, unit_of, refused = {}, {}, []
    for original, made in tqdm(pairs, desc=f"distances, {kind}", disable=not sys.stderr.isatty()):
        a = original.read()
        rate_hz = a.sample_rate_hz
        b = resample(made.read(), rate_hz)
        length = min(len(a.samples), len(b.samples))
        one, other = a.samples[:length], b.samples[:length]
        try:
            row = {"log_mel_distance": log_mel_distance(one, other, rate_hz), "si_sdr_db": si_sdr_db(one, other)}
            if "visqol" in names:
                row["visqol"] = visqol_speech(one, other, rate_hz).moslqo
        except ValueError as error:
            refused.append(str(error))
            continue
        rows[made.key], unit_of[made.key] = row, made.speaker
    return rows, unit_of, refused


def sound_distance(by_kind: Kinds, seed: int) -> Columns:
    """Fréchet distance of log-mel statistics from the originals, see `frechet`.

    Of the drawn kinds the first sample of each recording counts, because the distance falls with the number of
    embeddings, and rungs are to be compared.
    """
    firsts = {
        kind: [recording for recording in recordings if recording.sample_index in (None, 0)]
        for kind, recordings in by_kind.items()
    }
    values, intervals, undefined, notes = {}, {}, {}, []
    try:
        reference = embed_recordings(firsts[ORIGINAL], "log_mel")
        for kind in by_kind:
            if kind != ORIGINAL:
                found = frechet.measure(reference, embed_recordings(firsts[kind], "log_mel"), seed)
                values[kind] = found.figures["fad"]
                intervals |= {kind: found.intervals["fad"]} if "fad" in found.intervals else {}
                notes += [note for note in found.notes if not note.startswith("fad_infinity")]
    except UserError as error:
        return Columns(notes=(f"FAD is left out: {error}",))
    column = Column("fad", "FAD", "low", values, intervals, undefined, of_original=0.0)
    settings = {"fad": "log-mel statistics of seconds, first sample of each recording, against the originals"}
    return Columns((column,), tuple(dict.fromkeys(notes)), settings)


def plain_sound(by_kind: Kinds, seed: int) -> Columns:
    """Level, spectrum and voice of every rung; see `sound_figures`."""
    columns = {name: Column(name, words, None, {}) for name, words in UNITS.items()}
    short = 0
    for kind, recordings in by_kind.items():
        rows = {}
        for recording in tqdm(recordings, desc=f"sound, {kind}", disable=not sys.stderr.isatty()):
            waveform = recording.read()
            try:
                rows[recording.key] = sound_figures(waveform)
            except ValueError:
                short += 1
        means, intervals = mean_figures(rows, {recording.key: recording.speaker for recording in recordings}, seed)
        for name, column in columns.items():
            column.values[kind] = means.get(name)
            if name in intervals:
                column.intervals[kind] = intervals[name]
    notes = (f"{short} recordings are too short for level and pitch",) if short else ()
    return Columns(tuple(columns.values()), notes, {"sound": dict(UNITS)})


def _of_those(by_kind: Kinds, reasons: dict[str, str]) -> dict[str, str]:
    return {kind: why for kind, why in reasons.items() if kind in by_kind}


def _not_installed(what: str, error: ModuleNotFoundError) -> Columns:
    remedy = how_to_install(error)
    if remedy is None:
        raise error
    return Columns(notes=(f"{what} left out: {remedy}",))
