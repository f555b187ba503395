"""Whether continuations of a closed language stay in it, and in the prompt's voice.

A system that learned a small language should go on in it: of the words that a recogniser hears in the new part, most
are words of the language, where babble or another text has only what words they share by chance. And the voice should
be that of the prompt (AudioLM, section IV-D): nearer to what its speaker really went on to say than to other speakers.
What was really said, and speech of another kind, stand beside what was made: only between them a figure says something.

Conventions:
- words are compared in the form of `text_normalisation`; a share is the sum of the words of the language by the sum of
  all words heard, over all recordings of a kind;
- silence holds no word, so it does not lower a share: `words_per_second_KIND` stands beside it;
- a voice is the speaker of the true continuations; the similarity to it is the mean cosine to all of these, a true
  continuation itself left out;
- the bootstrap resamples speakers, with all of their recordings and samples.
"""

import collections
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import interval
from audiolm_jax.evaluation.language.vocabulary import Vocabulary
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier, cosine
from audiolm_jax.evaluation.words.asr import Recogniser, load_recogniser
from audiolm_jax.evaluation.words.hypotheses import transcribe_files
from audiolm_jax.evaluation.words.text_normalisation import SUMMARY, normalise

TRUE, RECONSTRUCTION, CONTINUATION, UNRELATED = "true", "reconstruction", "continuation", "unrelated"
# In the order of their rows: all are new parts without their prompts.
KINDS = (TRUE, RECONSTRUCTION, CONTINUATION, UNRELATED)
_MOST_LISTED = 20


@dataclasses.dataclass(frozen=True)
class Heard:
    """One recording and the words that were heard in it."""

    recording: Recording
    seconds: float
    words: list[str]
    outside: list[str]


def measure(
    by_kind: Mapping[str, Sequence[Recording]],
    vocabulary: Vocabulary,
    asr: str | Recogniser = "pocketsphinx",
    cache: Path | None = None,
    seed: int = 0,
    embedder: TrainedClassifier | None = None,
) -> Measurement:
    """Words of the language, and the voice, of each kind of continuations.

    Args:
        by_kind: new parts without their prompts by KINDS; "true" among them. Each sample has the speaker of its prompt.
        vocabulary: the words of the language.
        asr: a recogniser, or what `asr.load_recogniser` takes.
        cache: a folder in which to keep what was heard, see `hypotheses`.
        seed: of the intervals.
        embedder: whose embeddings tell voices apart; None for words alone.

    Returns:
        word_share_KIND, of the words heard those of the language, None where nothing was heard; words_per_second_KIND.
        With an embedder, of every kind but "unrelated": similarity_own_voice_KIND and similarity_other_voices_KIND,
        mean cosines to true continuations of the prompt's speaker and of the others (speakers weigh alike);
        similarity_margin_KIND, the difference; own_voice_nearest_KIND, how often no other speaker's are nearer; and
        chance_own_voice.

    Raises:
        UserError: there are no true continuations, one cannot be read, or the recogniser is not there.
    """
    if not by_kind.get(TRUE):
        raise UserError("there are no true continuations to compare with; give --data of longer recordings")
    recogniser = load_recogniser(asr) if isinstance(asr, str) else asr
    ordered = {kind: sorted(by_kind[kind], key=lambda r: r.key) for kind in KINDS if by_kind.get(kind)}
    heard = _hear(ordered, vocabulary, recogniser, cache)
    tables: dict[str, _Table] = {}
    for kind, found in heard.items():
        tables |= _words(kind, found)
    figures, notes = {}, _silence_notes(heard)
    if embedder is None:
        notes.append("voices are not compared: the bundle carries no speaker network, and no --classifier is given")
    else:
        voices, why_not = _voices(ordered, embedder)
        tables |= voices
        notes += why_not
        if voices:
            figures["chance_own_voice"] = 1 / len({one.speaker for one in ordered[TRUE] if one.has_speaker})
    intervals = {}
    for name, table in tables.items():
        figures[name] = table.ratio
        if (pair := interval.ratio_interval(table.by_unit(), seed)) is not None:
            intervals[name] = pair
    counts = {f"recordings_{kind}": len(found) for kind, found in heard.items()}
    counts |= {f"words_{kind}": sum(len(one.words) for one in found) for kind, found in heard.items()}
    counts |= {f"speakers_{kind}": len({one.recording.speaker for one in found}) for kind, found in heard.items()}
    return Measurement(
        metric="words",
        figures=dict(sorted(figures.items(), key=lambda item: _place(item[0]))),
        intervals=intervals,
        counts=counts | {"vocabulary": len(vocabulary.words)},
        settings={
            "vocabulary": vocabulary.name,
            "vocabulary_digest": vocabulary.digest,
            "asr": recogniser.name,
            "asr_version": recogniser.version,
            "normalisation": SUMMARY,
            "pooling": "sum of words of the language / sum of words heard over all recordings of a kind",
            "similarity": None if embedder is None else f"cosine of pooled activations of {embedder.name}",
            "interval_unit": "speaker (recording, where a kind has one speaker)",
            **interval.interval_settings(seed),
        },
        versions=versions("faster-whisper", "ctranslate2", "pocketsphinx", "torch", "transformers"),
        notes=tuple(notes),
        details={
            "by_kind": {kind: _table_of(found, vocabulary) for kind, found in heard.items()},
            "recordings": [_row(kind, one) for kind, found in heard.items() for one in found],
        },
    )


@dataclasses.dataclass(frozen=True)
class _Table:
    """(numerator, denominator) of each recording's part of a figure, and who speaks in it, by key."""

    parts: dict[str, tuple[float, float]]
    recordings: Mapping[str, Recording]

    @property
    def ratio(self) -> float | None:
        """Sum of numerators by sum of denominators, None for none."""
        keys = sorted(self.parts)
        total = exact_mean(self.parts[key][1] for key in keys) if keys else 0.0
        return exact_mean(self.parts[key][0] for key in keys) / total if total else None

    def by_unit(self) -> dict[str, tuple[float, float]]:
        """Sums by speaker, or by recording where there is one speaker."""
        several = len({self.recordings[key].speaker for key in self.parts}) > 1
        unit_of = {key: r.speaker if several else r.source_key for key, r in self.recordings.items()}
        return interval.by_unit(self.parts, unit_of)


def _hear(
    by_kind: Mapping[str, list[Recording]], vocabulary: Vocabulary, recogniser: Recogniser, cache: Path | None
) -> dict[str, list[Heard]]:
    hypotheses = transcribe_files(recogniser, [r.path for found in by_kind.values() for r in found], cache)
    heard: dict[str, list[Heard]] = {}
    for kind, recordings in by_kind.items():
        for recording in recordings:
            words = normalise(hypotheses[recording.path].text).split()
            one = Heard(recording, recording.read().seconds, words, vocabulary.outside(words))
            heard.setdefault(kind, []).append(one)
    return heard


def _words(kind: str, found: Sequence[Heard]) -> dict[str, _Table]:
    """The figures of what was heard."""
    recordings = {one.recording.key: one.recording for one in found}
    shares = {one.recording.key: (len(one.words) - len(one.outside), len(one.words)) for one in found}
    rates = {one.recording.key: (len(one.words), one.seconds) for one in found}
    return {
        f"word_share_{kind}": _Table(shares, recordings),
        f"words_per_second_{kind}": _Table(rates, recordings),
    }


def _voices(
    by_kind: Mapping[str, list[Recording]], embedder: TrainedClassifier
) -> tuple[dict[str, _Table], list[str]]:
    """The figures of the voices, and notes on what of them is missing."""
    true = [recording for recording in by_kind[TRUE] if recording.has_speaker]
    if len({recording.speaker for recording in true}) < 2:
        return {}, ["voices are not compared: the true continuations are of fewer than two speakers"]
    spoken = {kind: [r for r in by_kind[kind] if r.has_speaker] for kind in KINDS if kind in by_kind}
    spoken.pop(UNRELATED, None)
    everything = [recording for recordings in spoken.values() for recording in recordings]
    embeddings = {}
    for recording in tqdm(everything, desc="voices", disable=not sys.stderr.isatty()):
        embeddings[recording.path] = embedder.opinion(recording.read()).embedding
    tables, notes = {}, []
    for kind, recordings in spoken.items():
        own, others, margin, nearest = {}, {}, {}, {}
        for recording in recordings:
            by_voice = _similarity_by_voice(recording, true, embeddings)
            mine = by_voice.pop(recording.speaker, None)
            if mine is None or not by_voice:
                continue
            rest = exact_mean(by_voice[speaker] for speaker in sorted(by_voice))
            own[recording.key], others[recording.key] = (mine, 1.0), (rest, 1.0)
            margin[recording.key] = (mine - rest, 1.0)
            nearest[recording.key] = (float(mine >= max(by_voice.values())), 1.0)
        if left_out := len(recordings) - len(own):
            notes.append(f"{left_out} of {len(recordings)} {kind} have no other true continuation of their speaker")
        by_key = {recording.key: recording for recording in recordings}
        tables |= {
            f"similarity_own_voice_{kind}": _Table(own, by_key),
            f"similarity_other_voices_{kind}": _Table(others, by_key),
            f"similarity_margin_{kind}": _Table(margin, by_key),
            f"own_voice_nearest_{kind}": _Table(nearest, by_key),
        }
    return tables, notes


def _similarity_by_voice(
    recording: Recording, true: Sequence[Recording], embeddings: Mapping[Path, np.ndarray]
) -> dict[str, float]:
    """Mean cosine to the true continuations of each speaker, without the recording itself where it is one of them."""
    cosines = collections.defaultdict(list)
    for other in true:
        if other.path != recording.path:
            cosines[other.speaker].append(cosine(embeddings[recording.path], embeddings[other.path]))
    return {speaker: exact_mean(found) for speaker, found in cosines.items()}


def _silence_notes(heard: Mapping[str, Sequence[Heard]]) -> list[str]:
    notes = []
    for kind, found in heard.items():
        if silent := sum(not one.words for one in found):
            notes.append(f"nothing was heard in {silent} of {len(found)} {kind}; they count in no share of words")
    if seen := sum(not one.recording.heldout for one in heard[TRUE]):
        notes.append(f"{seen} of {len(heard[TRUE])} recordings are not held out")
    return notes


def _place(figure: str) -> tuple[int, int]:
    """Words before voices, and the kinds in their order."""
    kinds = [place for place, kind in enumerate(KINDS) if figure.endswith(f"_{kind}")]
    names = ("word_share", "words_per_second", "similarity_own", "similarity_other", "similarity_margin", "own_voice")
    return next((n for n, name in enumerate(names) if figure.startswith(name)), len(names)), *kinds, 0


def _table_of(found: Sequence[Heard], vocabulary: Vocabulary) -> dict[str, Any]:
    """What the share of one kind hides: which words these are, and how much of the language is said."""
    words = collections.Counter(word for one in found for word in one.words)
    outside = collections.Counter(word for one in found for word in one.outside)
    return {
        "words": words.total(),
        "words_of_the_language": words.total() - outside.total(),
        "share_of_vocabulary_heard": len(words.keys() & vocabulary.words) / len(vocabulary.words),
        "recordings_without_words": sum(not one.words for one in found),
        "recordings_all_of_the_language": sum(bool(one.words) and not one.outside for one in found),
        "most_heard": _listed(words),
        "most_heard_outside": _listed(outside),
    }


def _listed(counts: collections.Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_LISTED])


def _row(kind: str, one: Heard) -> dict[str, Any]:
    return {
        "kind": kind,
        "key": one.recording.key,
        "speaker": one.recording.speaker,
        "seconds": round(one.seconds, 3),
        "heard": " ".join(one.words),
        "words": len(one.words),
        "words_of_the_language": len(one.words) - len(one.outside),
        "outside": one.outside,
    }
