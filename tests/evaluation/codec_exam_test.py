"""The examination of a codec: what it measures on held-out recordings, and which faults it names."""

import types

import jax
import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.data.corpora.corpora import open_corpora
from audiolm_jax.data.feed.feed import AudioFeed
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.sound import codec_exam
from audiolm_jax.evaluation.sound.code_usage import code_counts, code_perplexity, code_usage
from audiolm_jax.evaluation.sound.codec_exam import CodecExam
from audiolm_jax.evaluation.sound.visqol import VisqolScore
from audiolm_jax.evaluation.words.words_changed import words_changed
from tests.evaluation.speechlike import RATE_HZ, speechlike
from tests.tiny_system import tiny_tokenizers

EXAM = CodecExam(num_clips=2, clip_seconds=1.5, usage_seconds=4)


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """Four speakers with two recordings each, two of them held out."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(4):
        for number in range(2):
            sound = Waveform(speechlike(1.2 + number, seed=2 * speaker + number), RATE_HZ)
            write_audio(root / f"s{speaker}" / f"{number}.wav", sound)
    return feed_of(root, heldout_speakers=2)


def feed_of(root, heldout_speakers):
    return AudioFeed(open_corpora("folder", (root,), heldout_speakers, 0), RATE_HZ, 6400, 2)


@pytest.fixture
def params():
    return jax.tree.map(np.array, tiny_tokenizers().codec_params)


@pytest.fixture(autouse=True)
def quick_visqol(monkeypatch):
    """ViSQOL has tests of its own, and takes seconds: here 5 for what is unchanged, else 2."""
    monkeypatch.setattr(codec_exam, "visqol_is_installed", lambda: True)
    monkeypatch.setattr(
        codec_exam, "visqol_speech", lambda a, b, rate_hz: VisqolScore(5.0 if np.array_equal(a, b) else 2.0, 1.0)
    )


def examine(feed, params, exam=EXAM):
    codec = tiny_tokenizers().codec
    learner = types.SimpleNamespace(codec=lambda: codec, codec_params=lambda state: params)
    return exam(learner, feed, types.SimpleNamespace(step=np.int32(7)))


def perfect(monkeypatch):
    """A codec whose sound is the original's."""
    through = codec_exam._through
    monkeypatch.setattr(codec_exam, "_through", lambda codec, params, clips: (clips, through(codec, params, clips)[1]))


def useful(params):
    """Codebooks that halve what is left at every level, as trained ones do."""
    rng = np.random.default_rng(0)
    codec = tiny_tokenizers().codec
    latents = np.asarray(codec.latents(params, speechlike(3.0)[None]))[0]
    for level in range(4):
        entries = latents[rng.choice(len(latents), 16, replace=False)]
        nearest = np.argmin(np.sum((latents[:, None] - entries) ** 2, axis=-1), axis=1)
        params["codebooks"][level] = entries
        latents = latents - entries[nearest]
    return params


def test_a_codec_without_faults_passes_by_its_sound(feed, params, monkeypatch):
    assert examine(feed, useful(params)).passed is False
    perfect(monkeypatch)
    found = examine(feed, useful(params))
    assert (found.step, found.faults, found.passed) == (7, (), True)
    assert (found.figures["visqol"], found.figures["si_sdr_db"], found.figures["log_mel_distance"]) == (5.0, 100.0, 0.0)
    monkeypatch.setattr(codec_exam, "visqol_is_installed", lambda: False)
    assert examine(feed, useful(params)).passed is None


def test_use_of_codes_is_that_of_held_out_recordings(feed, params):
    found = examine(feed, params)
    codec, tokens = tiny_tokenizers().codec, []
    for utterance in feed.corpora[0].heldout:
        samples = feed._cache.read(utterance).astype(np.float32) / 32768
        tokens.append(encode_chunked(codec, params, samples[None])[0])
    counts = code_counts(np.concatenate(tokens), 16)
    for level in range(4):
        name = f"level_{level + 1:02d}"
        assert found.figures[f"usage/{name}"] == code_usage(counts)[level]
        assert found.figures[f"perplexity/{name}"] == pytest.approx(code_perplexity(counts)[level])
    assert found.figures["usage"] == code_usage(counts).min()


def test_a_collapsed_level_is_named(feed, params, monkeypatch):
    perfect(monkeypatch)
    params = useful(params)
    params["codebooks"][2] = 1e-4
    found = examine(feed, params)
    assert found.passed is False
    assert found.faults == ("level 3 of the quantizer has collapsed: it uses 6.2% of its codes",)


def test_a_level_that_makes_things_worse_is_named(feed, params, monkeypatch):
    perfect(monkeypatch)
    params = useful(params)
    params["codebooks"][1] += 3 * np.abs(params["codebooks"][0]).max()
    found = examine(feed, params)
    assert found.passed is False
    blown_up = [fault.split(":")[0] for fault in found.faults if "blown up" in fault]
    assert blown_up == ["level 2 of the quantizer has blown up"]


def test_silence_noise_and_broken_numbers_are_named(feed, params):
    last = params["decoder"]["last"]
    for factor, words in ((0.0, "decoder is silent"), (1e4, "decoder has blown up"), (np.nan, "sound is not finite")):
        scaled_last = {name: factor * leaf for name, leaf in last.items()}
        scaled = params | {"decoder": params["decoder"] | {"last": scaled_last}}
        found = examine(feed, scaled)
        assert found.passed is False and any(words in fault for fault in found.faults), found
    broken = params | {"encoder": jax.tree.map(lambda leaf: np.nan * leaf, params["encoder"])}
    assert any("latents are not finite" in fault for fault in examine(feed, broken).faults)


def test_nothing_is_judged_without_codebooks_or_held_out_speakers(feed, params):
    assert examine(feed, params | {"codebooks": np.zeros((4, 16, 4), np.float32)}) is None
    assert examine(feed_of(feed.corpora[0].root, heldout_speakers=0), params) is None


def test_words_that_change_are_counted(feed, params, monkeypatch):
    originals = []

    def transcribe(samples):
        is_original = any(np.array_equal(samples, original) for original in originals)
        return "One, two three four." if is_original else "one two tree four"

    recogniser = type("Scripted", (), {"sample_rate_hz": RATE_HZ, "transcribe": staticmethod(transcribe)})()
    monkeypatch.setattr(codec_exam, "_recogniser", lambda name: recogniser)
    pairs = [(np.full(9, 0.1 * n, np.float32), np.full(9, 0.5 + n, np.float32)) for n in range(2)]
    originals.extend(original for original, _ in pairs)
    assert words_changed(recogniser, pairs, RATE_HZ) == pytest.approx(1 / 4)
    assert "words_changed" in examine(feed, params, CodecExam(2, 1.5, 4, asr="some")).figures


def test_a_recogniser_that_is_missing_is_told_before_the_training(tmp_path):
    with pytest.raises(UserError, match="there is no recogniser"):
        CodecExam(asr=str(tmp_path / "whisper"))
