"""Error rates of texts with known errors, heard by a recogniser that is told what to say."""

import dataclasses
import itertools
import json
import random

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.words.word_error import compare, measure, measure_recordings, with_transcripts

pytest.importorskip("jiwer")


@dataclasses.dataclass(frozen=True)
class Told:
    """Says what belongs to the number of samples that it hears."""

    texts: tuple[str, ...]
    version: str = "told 1"
    name: str = "told"
    sample_rate_hz: int = 8000
    max_seconds: float | None = None
    one_core: bool = False

    def transcribe(self, samples):
        return self.texts[round(len(samples) / 80) - 1]


class Studio:
    """Makes recordings, and the recogniser that hears in each what it is told."""

    def __init__(self, folder):
        self.folder = folder
        self.texts = []

    def record(self, key, text, heard, speaker=None, heldout=True, rate_hz=8000, sample=None):
        self.texts.append(heard)
        path = self.folder / f"{len(self.texts)}.wav"
        write_audio(path, Waveform(np.full(len(self.texts) * rate_hz // 100, 0.1), rate_hz))
        recording = Recording(key, speaker or key.split("/")[0], path, text, heldout)
        return recording if sample is None else recording.sample(path, sample)

    @property
    def recogniser(self):
        return Told(tuple(self.texts))


@pytest.fixture
def studio(tmp_path):
    return Studio(tmp_path)


def naive_edits(one, other):
    """Edit distance by the definition, without any library."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]


def test_errors_are_edits():
    rng = random.Random(0)
    for _ in range(50):
        one = " ".join(rng.choices("ab abc b ca".split(), k=rng.randint(1, 8)))
        other = " ".join(rng.choices("ab abc b ca".split(), k=rng.randint(0, 8)))
        found = compare(None, one, other)
        assert found.words.total == naive_edits(one.split(), other.split())
        assert found.words.length == len(one.split())
        assert found.characters.total == naive_edits(one, other) and found.characters.length == len(one)


def three_kinds(studio):
    """Eight words by two speakers: 1 error on originals, 2 on reconstructions, and two samples of each generated."""
    return {
        "original": [
            studio.record("a/1", "One, two three!", "ONE TWO THREE"),
            studio.record("b/1", "four five six seven 8", "four five six eleven eight"),
        ],
        "reconstruction": [
            studio.record("a/1", "One, two three!", "one three"),
            studio.record("b/1", "four five six seven 8", "four five six seven eight nine"),
        ],
        "acoustic": [
            studio.record("a/1", "One, two three!", "", sample=0),
            studio.record("a/1", "One, two three!", "one two three", sample=1),
            studio.record("b/1", "four five six seven 8", "four", sample=0),
            studio.record("b/1", "four five six seven 8", "four five six seven eight", sample=1),
        ],
        "continuation": [studio.record("a/1", "One, two three!", "something else", sample=0)],
    }


def test_rates_are_pooled_over_recordings(studio):
    result = measure(three_kinds(studio), studio.recogniser)
    assert result.figures["wer_original"] == pytest.approx(1 / 8)
    assert result.figures["wer_reconstruction"] == pytest.approx(2 / 8)
    assert result.figures["wer_acoustic"] == pytest.approx((3 + 4) / 16)
    assert result.figures["cer_reconstruction"] == pytest.approx((4 + 5) / (13 + 25))
    assert set(result.figures) == {f"{m}er_{k}" for m in "wc" for k in ("original", "reconstruction", "acoustic")}
    assert result.counts["words_original"] == 8 and result.counts["words_acoustic"] == 16
    assert result.details["by_kind"]["acoustic"]["wer_mean_over_recordings"] == pytest.approx((1 + 4 / 5) / 4)
    assert result.details["by_kind"]["acoustic"]["recordings_without_hypothesis"] == 1
    assert "nothing was heard in 1 of 4 acoustic; all of their words are errors" in result.notes
    row = next(row for row in result.details["recordings"] if row["kind"] == "original" and row["key"] == "b/1")
    assert row["reference"] == "four five six seven eight" and row["word_errors"] == 1
    json.dumps(result.to_json(), allow_nan=False)


def test_intervals_hold_the_figures_and_resample_speakers(studio):
    result = measure(three_kinds(studio), studio.recogniser)
    assert set(result.intervals) == set(result.figures)
    assert result.settings["interval_unit"] == "speaker"
    assert result.intervals["wer_original"] == pytest.approx((0, 1 / 5))
    for name, (low, high) in result.intervals.items():
        assert low <= result.figures[name] <= high
    alone = {"original": [studio.record("a/1", "one", "two"), studio.record("a/2", "one", "one")]}
    single = measure(alone, studio.recogniser)
    assert single.settings["interval_unit"] == "recording" and single.intervals["wer_original"] == (0, 1)


def test_order_changes_nothing(studio):
    kinds = three_kinds(studio)
    expected = measure(kinds, studio.recogniser).to_json()
    shuffled = {kind: recordings[::-1] for kind, recordings in kinds.items()}
    assert measure(shuffled, studio.recogniser).to_json() == expected


def test_what_was_heard_is_kept(studio, tmp_path):
    kinds = three_kinds(studio)
    expected = measure(kinds, studio.recogniser, tmp_path / "asr").to_json()
    deaf = dataclasses.replace(studio.recogniser, texts=())
    assert measure(kinds, deaf, tmp_path / "asr").to_json() == expected


def test_the_errors_of_the_recogniser_itself_are_required(studio):
    with pytest.raises(ValueError, match="originals"):
        measure({"acoustic": [studio.record("a/1", "one", "one")]}, studio.recogniser)
    with pytest.raises(ValueError, match="one key 'a/1'"):
        measure({"original": [studio.record("a/1", "one", "one")] * 2}, studio.recogniser)


def test_recordings_as_they_are(studio):
    recordings = [
        studio.record("a/1", "one two", "one", rate_hz=16_000),
        studio.record("b/1", "three", "three four five six"),
        studio.record("c/1", None, "seven"),
        studio.record("d/1", "?!", "eight"),
        studio.record("e/1", "the 2nd", "the second", heldout=False),
    ]
    result = measure_recordings(recordings, studio.recogniser)
    assert result.figures["wer"] == pytest.approx((1 + 3 + 1) / 5)
    assert result.counts == {"speakers": 3, "recordings": 3, "words": 5}
    assert set(result.notes) == {
        "1 recordings left out that have no transcript, c/1 first",
        "1 recordings left out whose transcript holds no word, d/1 first",
        "1 of 3 files have another sample rate and were resampled to 8000 Hz",
        "1 transcripts hold digits that the normalisation does not spell",
        "1 of 3 recordings are not held out",
    }


def test_kinds_of_other_recordings_are_told(studio):
    kinds = {
        "original": [studio.record("a/1", "one", "one"), studio.record("b/1", "two", "two")],
        "acoustic": [studio.record("a/1", "one", "one", sample=0), studio.record("a/1", "one", "one", sample=1)],
    }
    (note,) = measure(kinds, studio.recogniser).notes
    assert note.startswith("acoustic is not of the same recordings as original: 1 are in both")


def test_a_hash_in_a_file_name_is_part_of_it(studio):
    kinds = {
        "original": [studio.record("a/1#0", "one", "one"), studio.record("a/1#1", "two", "two")],
        "acoustic": [studio.record("a/1#0", "one", "one", sample=0)],
    }
    (note,) = measure(kinds, studio.recogniser).notes
    assert note.startswith("acoustic is not of the same recordings as original: 1 are in both")


def test_a_missing_transcript_is_one_clear_line(studio):
    recordings = [studio.record("a/1", None, "one")]
    for ask in (with_transcripts, lambda found: measure_recordings(found, studio.recogniser)):
        with pytest.raises(UserError, match=r"1.wav has no transcript.*1.txt beside it.*trans.txt.*transcripts.tsv"):
            ask(recordings)
    assert with_transcripts([*recordings, studio.record("b/1", "one", "one")])[0].key == "b/1"
    with pytest.raises(UserError, match="no recordings of kind recordings"):
        measure_recordings([], studio.recogniser)


def test_the_figures_agree_with_jiwer_itself(studio):
    import jiwer

    rng = random.Random(1)
    words = "the cat sat on a mat and ran away".split()
    pairs = [
        (" ".join(rng.choices(words, k=rng.randint(1, 9))), " ".join(rng.choices(words, k=rng.randint(0, 9))))
        for _ in range(20)
    ]
    recordings = [studio.record(f"s{n % 3}/{n}", *pair) for n, pair in enumerate(pairs)]
    result = measure_recordings(recordings, studio.recogniser)
    references, hypotheses = map(list, zip(*pairs, strict=True))
    assert result.figures["wer"] == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-15)
    assert result.figures["cer"] == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-15)
    for one, other in itertools.islice(pairs, 5):
        assert compare(None, one, other).words.rate == pytest.approx(jiwer.wer(one, other), abs=1e-15)
