"""Words of a closed language and voices of continuations, with a recogniser that is told what to say."""

import dataclasses

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.true_continuations import cut_prompts
from audiolm_jax.evaluation.language.closed_language import measure
from audiolm_jax.evaluation.language.vocabulary import Vocabulary
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.voice.trained_classifier import Opinion

VOCABULARY = Vocabulary(frozenset("the fox went to oslo seven".split()), "words.txt")
RATE_HZ = 8000


@dataclasses.dataclass(frozen=True)
class Told:
    """Says what belongs to the number of samples that it hears, in hundreds."""

    texts: tuple[str, ...]
    version: str = "told 1"
    name: str = "told"
    sample_rate_hz: int = RATE_HZ
    max_seconds: float | None = None
    one_core: bool = False

    def transcribe(self, samples):
        return self.texts[round(len(samples) / 100) - 1]


class FirstSamples:
    """An embedder whose embedding is what the first two samples of a file say."""

    name = "first samples"

    def opinion(self, waveform):
        return Opinion(np.zeros(1), waveform.samples[:2].astype(np.float64), 1)


def recording(folder, key, number, voice=(0.5, 0.1), speaker=None, **settings):
    """A file that makes `Told` say its text of that number, and is heard as a voice."""
    samples = np.full(100 * (number + 1), 0.01, np.float32)
    samples[:2] = voice
    write_audio(folder / f"{key}.wav", Waveform(samples, RATE_HZ))
    return Recording(key, speaker or key.split("/")[0], folder / f"{key}.wav", **settings)


TEXTS = ("The fox went to Oslo.", "The FOX ate 7 apples!", "", "Call me Ishmael, seven.")


@pytest.fixture
def by_kind(tmp_path):
    true = [recording(tmp_path / "true", f"{speaker}/{take}", 0) for speaker in "ab" for take in "01"]
    made = [recording(tmp_path / "made", f"a/0-{index}", 1).sample(tmp_path / f"made/a/0-{index}.wav", index)
            for index in range(2)]  # fmt: skip
    silent = recording(tmp_path / "made", "b/0-0", 2)
    unrelated = [recording(tmp_path / "unrelated", "x/0", 3)]
    return {"true": true, "continuation": [*made, silent], "unrelated": unrelated}


def test_words_are_counted_in_their_normal_form(by_kind):
    measured = measure(by_kind, VOCABULARY, Told(TEXTS))
    figures = measured.figures
    assert figures["word_share_true"] == 1.0
    # "7" is the seven of the language; "ate" and "apples" are none of it, and silence has no words.
    assert figures["word_share_continuation"] == pytest.approx(6 / 10)
    assert figures["word_share_unrelated"] == pytest.approx(1 / 4)
    assert measured.counts["words_continuation"] == 10 and measured.counts["recordings_continuation"] == 3
    assert figures["words_per_second_true"] == pytest.approx(5 / 0.0125)
    assert figures["words_per_second_continuation"] == pytest.approx(10 / (0.025 + 0.025 + 0.0375))
    table = measured.details["by_kind"]["continuation"]
    assert table["most_heard_outside"] == {"apples": 2, "ate": 2} and table["recordings_without_words"] == 1
    assert table["share_of_vocabulary_heard"] == 3 / 6 and table["recordings_all_of_the_language"] == 0
    assert "nothing was heard in 1 of 3 continuation; they count in no share of words" in measured.notes
    rows = {(row["kind"], row["key"]): row for row in measured.details["recordings"]}
    assert rows["unrelated", "x/0"]["outside"] == ["call", "me", "ishmael"]
    assert any("no --classifier" in note for note in measured.notes)
    assert not any(name.startswith("similarity") for name in figures)


def test_intervals_resample_speakers_and_order_changes_nothing(tmp_path):
    texts = tuple("the fox " * inside + "ship " * outside for inside, outside in ((4, 0), (2, 4), (1, 6), (3, 1)))
    true = [recording(tmp_path, f"{speaker}/{take}", number) for number, speaker in enumerate("abcd") for take in "012"]
    measured = measure({"true": true}, VOCABULARY, Told(texts), seed=3)
    inside, total = (8, 4, 2, 6), (8, 8, 8, 7)
    assert measured.figures["word_share_true"] == pytest.approx(sum(inside) / sum(total))
    draws = np.random.default_rng(3).multinomial(4, np.full(4, 0.25), size=1000) @ np.array([inside, total]).T
    expected = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    np.testing.assert_allclose(measured.intervals["word_share_true"], expected)
    again = measure({"true": true[::-1]}, VOCABULARY, Told(texts), seed=3)
    assert again.to_json() == measured.to_json()


def test_a_voice_is_near_to_what_its_speaker_really_said(tmp_path):
    """Two voices at right angles; of three samples one is in the prompt's voice, one half in it, one in the other."""
    a, b = (0.5, 0.0), (0.0, 0.5)
    true = [recording(tmp_path / "true", f"{name}/{take}", 0, voice) for name, voice in (("a", a), ("b", b))
            for take in "01"]  # fmt: skip
    voices = [a, (0.4, 0.3), b]
    made = [recording(tmp_path / "made", f"a/0-{n}", 0, voice, speaker="a") for n, voice in enumerate(voices)]
    by_kind = {"true": true, "continuation": made, "unrelated": [recording(tmp_path / "unrelated", "x/0", 0, b)]}
    figures = measure(by_kind, VOCABULARY, Told(TEXTS), embedder=FirstSamples()).figures
    expected = {
        "similarity_own_voice_true": 1.0, "similarity_other_voices_true": 0.0, "own_voice_nearest_true": 1.0,
        "similarity_own_voice_continuation": (1 + 0.8 + 0) / 3, "similarity_other_voices_continuation": 1.6 / 3,
        "similarity_margin_continuation": 0.2 / 3, "own_voice_nearest_continuation": 2 / 3, "chance_own_voice": 0.5,
    }  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert not [name for name in figures if name.endswith("voice_unrelated")]


def test_a_voice_is_not_compared_with_itself(tmp_path):
    """The only recording of a voice says nothing of how alike its recordings are."""
    true = [recording(tmp_path, "a/0", 0, (0.5, 0.0)), recording(tmp_path, "b/0", 0, (0.0, 0.5))]
    made = [recording(tmp_path / "made", "a/0-0", 0, (0.5, 0.0), speaker="a")]
    measured = measure({"true": true, "continuation": made}, VOCABULARY, Told(TEXTS), embedder=FirstSamples())
    assert measured.figures["similarity_own_voice_true"] is None
    assert measured.figures["similarity_own_voice_continuation"] == pytest.approx(1.0, abs=1e-3)
    assert "2 of 2 true have no other true continuation of their speaker" in measured.notes
    alone = measure({"true": true[:1]}, VOCABULARY, Told(TEXTS), embedder=FirstSamples())
    assert any("fewer than two speakers" in note for note in alone.notes)
    assert not any(name.startswith("similarity") for name in alone.figures)


def test_without_true_continuations_there_is_nothing_to_compare_with():
    with pytest.raises(UserError, match="no true continuations"):
        measure({"true": [], "continuation": []}, VOCABULARY, Told(TEXTS))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("transcripts.tsv", "a/1\ta\tThe fox.\nb/1\tb\tIn 7 cities\n", {"the", "fox", "in", "seven", "cities"}),
        ("two.tsv", "a/1\tGood night\n", {"good", "night"}),
        ("19.trans.txt", "19-1 SOME SNOW\n19-2 SOME RAIN\n", {"some", "snow", "rain"}),
        ("words.txt", "\ufeffwords\nof a list\n", {"words", "of", "a", "list"}),
    ],
)
def test_a_vocabulary_is_the_words_of_any_text(tmp_path, name, content, words):
    (tmp_path / name).write_text(content, encoding="utf-8")
    vocabulary = Vocabulary.read(tmp_path / name)
    assert vocabulary.words == words and vocabulary.name.endswith(name)
    assert vocabulary.digest == Vocabulary(frozenset(words)).digest != VOCABULARY.digest


def test_files_without_words_are_refused_in_one_line(tmp_path):
    (tmp_path / "empty.txt").write_text("...\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bad.tsv").write_text("one column\n")
    for name, message in (("empty.txt", "holds no word"), ("latin.txt", "not UTF-8"), ("bad.tsv", "line 1"),
                          (".", "is no file; give"), ("nowhere", "is no file; give")):  # fmt: skip
        with pytest.raises(UserError, match=message) as raised:
            Vocabulary.read(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_prompts_are_cut_off_to_the_sample(tmp_path):
    samples = np.arange(RATE_HZ * 3, dtype=np.float32) / 2**15
    write_audio(tmp_path / "speech/a/x.wav", Waveform(samples, RATE_HZ))
    source = Recording("a/x", "a", tmp_path / "speech/a/x.wav", heldout=False)
    (made,) = cut_prompts([source], tmp_path / "cut", 1.25, 1.0)
    assert (made.key, made.source_key, made.speaker, made.heldout) == ("a/x", "a/x", "a", False)
    np.testing.assert_allclose(read_audio(made.path).samples, samples[10_000:18_000], atol=1e-4)
    (made,) = cut_prompts([source], tmp_path / "cut", 2.5, 4.0)
    assert len(read_audio(made.path).samples) == 4000
    with pytest.raises(UserError, match="ends within its prompt of 3 s; change --prompt_seconds"):
        cut_prompts([source], tmp_path / "cut", 3.0, 1.0)
