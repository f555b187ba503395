"""Intelligibility: word and character error rates of what a recogniser hears (AudioLM, section IV-C and table II).

Conventions, where the paper leaves them open:
- references and hypotheses are compared in the form of `text_normalisation`;
- an error rate is the sum of substitutions, deletions and insertions of all recordings by the sum of their reference
  words, not a mean over recordings (which is given beside it);
- characters include the single spaces between words;
- every sample of a recording counts as one recording; the bootstrap resamples speakers, with all of their samples.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.interval import by_unit, interval_settings, ratio_interval
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, Step, counted, with_notes
from audiolm_jax.evaluation.words.asr import RECOGNISER_PACKAGES, Recogniser, load_recogniser
from audiolm_jax.evaluation.words.hypotheses import transcribe_files
from audiolm_jax.evaluation.words.text_normalisation import SUMMARY, has_digits, normalise

ORIGINAL = "original"
# What is said in a continuation is new: the words of its source are no reference for it.
NEW_WORDS = ("continuation",)


class Errors(NamedTuple):
    """Edits that turn references into hypotheses, in words or characters, and the length of the references."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        return self.total / self.length


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One recording, what was said and what was heard, both normalised, and the errors between them."""

    recording: Recording
    reference: str
    hypothesis: str
    words: Errors
    characters: Errors


def compare(recording: Recording, reference: str, hypothesis: str) -> Comparison:
    """Aligns two normalised texts with jiwer; the reference holds a word."""
    import jiwer

    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return Comparison(recording, reference, hypothesis, _errors(words), _errors(characters))


def _errors(output: Any) -> Errors:
    length = output.hits + output.substitutions + output.deletions
    return Errors(output.substitutions, output.deletions, output.insertions, length)


def with_transcripts(recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings whose words are known.

    Raises:
        UserError: none are.
    """
    known = [recording for recording in recordings if recording.text is not None]
    if recordings and not known:
        raise UserError(_no_transcript(recordings))
    return known


def measure(
    by_kind: Mapping[str, Sequence[Recording]],
    asr: str | Recogniser = "pocketsphinx",
    cache: Path | None = None,
    seed: int = 0,
) -> Measurement:
    """Error rates of each kind of recordings, those of the originals beside them.

    Args:
        by_kind: "original" and kinds that repeat its words, such as "reconstruction" and "acoustic"; see
            `samples.make_samples`. Continuations are left out, because their words are new.
        asr: a recogniser, or what `asr.load_recogniser` takes.
        cache: a folder in which to keep what was heard, see `hypotheses`.
        seed: of the intervals.

    Returns:
        Figures wer_KIND and cer_KIND, fractions that may exceed 1.

    Raises:
        ValueError: there are no originals, or a key is twice in a kind.
        UserError: no recording has a transcript, one cannot be read, or the recogniser is not there.
    """
    if ORIGINAL not in by_kind:
        raise ValueError("the errors of a recogniser mean nothing without those on the originals")
    kinds = [ORIGINAL, *(kind for kind in by_kind if kind != ORIGINAL and kind not in NEW_WORDS)]
    return _measure({kind: by_kind[kind] for kind in kinds}, {kind: f"_{kind}" for kind in kinds}, asr, cache, seed)


def measure_recordings(
    recordings: Sequence[Recording],
    asr: str | Recogniser = "pocketsphinx",
    cache: Path | None = None,
    seed: int = 0,
) -> Measurement:
    """Error rates of any recordings with transcripts: as `measure`, but the figures are wer and cer."""
    return _measure({"recordings": recordings}, {"recordings": ""}, asr, cache, seed)


def _measure(
    by_kind: Mapping[str, Sequence[Recording]],
    suffixes: Mapping[str, str],
    asr: str | Recogniser,
    cache: Path | None,
    seed: int,
) -> Measurement:
    recogniser = load_recogniser(asr) if isinstance(asr, str) else asr
    spoken = {kind: _in_order(kind, recordings) for kind, recordings in by_kind.items()}
    chosen, notes = _with_reference(spoken)
    paths = [recording.path for recordings in chosen.values() for recording in recordings]
    heard = transcribe_files(recogniser, paths, cache)
    compared = {
        kind: [compare(r, normalise(r.text), normalise(heard[r.path].text)) for r in recordings]
        for kind, recordings in chosen.items()
    }

    everything = [comparison for comparisons in compared.values() for comparison in comparisons]
    speakers = {comparison.recording.speaker for comparison in everything}
    unit = "speaker" if len(speakers) > 1 else "recording"
    figures, intervals, counts = {}, {}, {"speakers": len(speakers)}
    for kind, comparisons in compared.items():
        for name, level in (("wer", "words"), ("cer", "characters")):
            figure = f"{name}{suffixes[kind]}"
            figures[figure] = _pooled(comparisons, level).rate
            if interval := _interval(comparisons, level, unit, seed):
                intervals[figure] = interval
        counts[f"recordings{suffixes[kind]}"] = len(comparisons)
        counts[f"words{suffixes[kind]}"] = _pooled(comparisons, "words").length
    rates = [heard[path].sample_rate_hz for path in paths]
    return Measurement(
        metric="wer",
        figures=figures,
        intervals=intervals,
        counts=counts,
        settings={
            "asr": recogniser.name,
            "asr_version": recogniser.version,
            "normalisation": SUMMARY,
            "pooling": "sum of errors / sum of reference words (characters, with spaces) over all recordings",
            "interval_unit": unit,
            **interval_settings(seed),
        },
        versions=versions("jiwer", "rapidfuzz", *RECOGNISER_PACKAGES),
        notes=(*notes, *_notes_on_hearing(compared, rates, recogniser.sample_rate_hz)),
        details={
            "by_kind": {kind: _table(comparisons) for kind, comparisons in compared.items()},
            "recordings": [
                _row(kind, comparison) for kind, comparisons in compared.items() for comparison in comparisons
            ],
        },
    )


def _in_order(kind: str, recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings of a kind in the order of their keys; raises ValueError for a key that is there twice."""
    ordered = sorted(recordings, key=lambda recording: recording.key)
    for one, other in zip(ordered, ordered[1:], strict=False):
        if one.key == other.key:
            raise ValueError(f"two recordings of kind {kind} have one key {one.key!r}")
    return ordered


def _with_reference(by_kind: Mapping[str, list[Recording]]) -> tuple[dict[str, list[Recording]], list[str]]:
    """Recordings with words to compare with, and notes on the others.

    Raises:
        UserError: a kind has none.
    """
    chosen, notes = {}, []
    for kind, recordings in by_kind.items():
        silent = [recording for recording in recordings if recording.text is None]
        wordless = [recording for recording in recordings if normalise(recording.text or "a") == ""]
        chosen[kind] = [recording for recording in recordings if normalise(recording.text or "")]
        if not recordings:
            raise UserError(f"there are no recordings of kind {kind}")
        if not chosen[kind]:
            raise UserError(_no_transcript(recordings))
        for left_out, why in ((silent, "that have no transcript"), (wordless, "whose transcript holds no word")):
            if left_out:
                notes.append(f"{len(left_out)} {kind} left out {why}, {left_out[0].key} first")
    return chosen, notes


def _no_transcript(recordings: Sequence[Recording]) -> str:
    first = recordings[0].path
    return (
        f"{first} has no transcript, nor has any other of {len(recordings)} recordings; write what is said to "
        f"{first.with_suffix('.txt').name} beside it, or give LibriSpeech's *.trans.txt or a transcripts.tsv (a line "
        "of utterance, tab and text for each)"
    )


def _notes_on_hearing(
    compared: Mapping[str, list[Comparison]], rates_hz: Sequence[int], wanted_hz: int
) -> list[str]:
    """What a reader must know about the recordings that were compared."""
    notes = []
    if others := sum(rate != wanted_hz for rate in rates_hz):
        notes.append(f"{others} of {len(rates_hz)} files have another sample rate and were resampled to {wanted_hz} Hz")
    first_kind, first = next(iter(compared.items()))
    sources = {comparison.recording.source_key for comparison in first}
    for kind, comparisons in compared.items():
        if (here := {comparison.recording.source_key for comparison in comparisons}) != sources:
            notes.append(
                f"{kind} is not of the same recordings as {first_kind}: {len(here & sources)} are in both, "
                f"{len(here - sources)} only in the former, {len(sources - here)} only in the latter"
            )
        if empty := sum(not comparison.hypothesis for comparison in comparisons):
            notes.append(f"nothing was heard in {empty} of {len(comparisons)} {kind}; all of their words are errors")
    if digits := sum(has_digits(comparison.reference) for comparison in first):
        notes.append(f"{digits} transcripts hold digits that the normalisation does not spell")
    if seen := sum(not comparison.recording.heldout for comparison in first):
        notes.append(f"{seen} of {len(first)} recordings are not held out")
    return notes


def _pooled(comparisons: Sequence[Comparison], level: str) -> Errors:
    """Sums over recordings; level is "words" or "characters"."""
    return Errors(*(sum(counts) for counts in zip(*(getattr(c, level) for c in comparisons), strict=True)))


def _interval(comparisons: Sequence[Comparison], level: str, unit: str, seed: int) -> tuple[float, float] | None:
    counts, unit_of = {}, {}
    for comparison in comparisons:
        errors: Errors = getattr(comparison, level)
        key = comparison.recording.key
        counts[key] = errors.total, errors.length
        unit_of[key] = comparison.recording.speaker if unit == "speaker" else comparison.recording.source_key
    return ratio_interval(by_unit(counts, unit_of), seed)


def _table(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What the pooled rates of one kind hide."""
    words = _pooled(comparisons, "words")
    return {
        **words._asdict(),
        "wer_mean_over_recordings": exact_mean(comparison.words.rate for comparison in comparisons),
        "cer_mean_over_recordings": exact_mean(comparison.characters.rate for comparison in comparisons),
        "recordings_without_error": sum(not comparison.words.total for comparison in comparisons),
        "recordings_without_hypothesis": sum(not comparison.hypothesis for comparison in comparisons),
    }


def _row(kind: str, comparison: Comparison) -> dict[str, Any]:
    return {
        "kind": kind,
        "key": comparison.recording.key,
        "speaker": comparison.recording.speaker,
        "reference": comparison.reference,
        "hypothesis": comparison.hypothesis,
        "words": comparison.words.length,
        "word_errors": comparison.words.total,
        "characters": comparison.characters.length,
        "character_errors": comparison.characters.total,
    }


def _report_steps(material: Material) -> list[Entry]:
    """Of originals, reconstructions and acoustic generations."""
    settings, told = material.settings, material.spoken_prompts
    material.require_recogniser("jiwer")

    def run() -> Measurement:
        kinds = {
            kind: [recording for recording in recordings if recording.text]
            for kind, recordings in material.samples.items()
        }
        measured = measure(kinds, settings.asr, material.transcripts_folder, settings.seed)
        return with_notes(measured, material.claim.notes)

    inputs = {**material.sample_inputs, **material.recogniser_inputs, "installed": versions("jiwer")}
    what = f"{counted(told)} with transcripts, {material.recogniser_name}"
    seconds = 10 + 5.0 * len(told) * (3 + settings.extent.num_samples)
    return [Step("wer", "wer", what, inputs, seconds, run, needs=("samples",))]


METRIC = Metric(
    "wer", "Intelligibility",
    "Errors of a speech recogniser on generated speech. Its errors on the originals are the floor: only the "
    "distance to them says something about this system.",
    _report_steps,
)  # fmt: skip
