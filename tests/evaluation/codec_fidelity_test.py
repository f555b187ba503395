"""Fidelity of a codec of random weights, and how its codes are used."""

import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.measurement import exact_mean
from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.evaluation.sound import codec_fidelity
from audiolm_jax.evaluation.sound.code_usage import code_perplexity
from audiolm_jax.evaluation.sound.codec_fidelity import codec_clip, levels_by_name, measure
from tests.evaluation.speechlike import RATE_HZ, speechlike
from tests.tiny_system import tiny_tokenizers


@pytest.fixture(scope="module")
def bundle():
    return tiny_tokenizers()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three speakers with two recordings each; one is too short to compare, one of another rate, one broken."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(3):
        for number in range(2):
            samples = speechlike(3.1, seed=2 * speaker + number) * (0.2 + 0.1 * speaker)
            write_audio(root / f"s{speaker}" / f"{number}.wav", Waveform(samples, RATE_HZ))
    write_audio(root / "s0" / "short.wav", Waveform(speechlike(1.0), RATE_HZ))
    write_audio(root / "s1" / "other.wav", Waveform(speechlike(2.0), 8_000))
    (root / "s2" / "broken.wav").write_bytes(b"RIFF")
    return find_recordings([root], 0)


@pytest.fixture
def without_visqol(monkeypatch):
    monkeypatch.setattr(codec_fidelity, "visqol_is_installed", lambda: False)


def test_figures_are_those_of_clips_and_all_codes(bundle, recordings, without_visqol):
    measured = measure(bundle, recordings, max_clips=40)
    assert levels_by_name(bundle) == {"0.8kbps": 4}
    clips = measured.details["clips"]
    assert list(clips) == sorted(clips) and len(clips) == 7  # all but the short and the broken one
    assert measured.counts == {
        "recordings": 8, "speakers": 3, "clips": 7, "clip_speakers": 3, "left_out": 1, "frames": 6 * 155 + 50 + 200,
    }  # fmt: skip
    for name in ("si_sdr_db", "log_mel_distance"):
        assert measured.figures[name] == exact_mean(clip["0.8kbps"][name] for clip in clips.values())
        low, high = measured.intervals[name]
        assert low <= measured.figures[name] <= high
    assert not any(name.startswith("visqol") for name in measured.figures)

    tokens = []
    for recording in recordings:
        if recording.path.stem == "broken":
            continue
        samples = read_audio(recording.path, bundle.codec.sample_rate_hz).samples
        tokens.append(encode_chunked(bundle.codec, bundle.codec_params, samples[None])[0])
    tokens = np.concatenate(tokens)
    for level in range(4):
        counts = np.bincount(tokens[:, level], minlength=16)
        assert measured.figures["code_usage"][level] == np.mean(counts > 0)
        assert measured.figures["code_perplexity"][level] == pytest.approx(code_perplexity(counts))
        low, high = measured.details["levels"][level]["code_perplexity_interval"]
        assert 1 <= low <= high <= 16
    notes = " ".join(measured.notes)
    assert "1 of 8 recordings were resampled" in notes and "broken.wav" in notes and "visqol-python" in notes
    assert json.loads(json.dumps(measured.to_json()))["metric"] == "codec"


def test_order_changes_nothing_and_clips_are_shared_out(bundle, recordings, without_visqol):
    measured = measure(bundle, recordings, max_clips=3)
    assert measure(bundle, list(reversed(recordings)), max_clips=3) == measured
    measured = measure(bundle, [recording for recording in recordings if recording.path.stem in "01"], max_clips=3)
    assert {clip["speaker"] for clip in measured.details["clips"].values()} == {"s0", "s1", "s2"}


def test_visqol_of_the_full_rate_is_among_the_figures(bundle, recordings):
    pytest.importorskip("visqol")
    measured = measure(bundle, recordings, max_clips=1)
    assert 1 <= measured.figures["visqol_speech_0.8kbps"] <= 5
    assert measured.settings["visqol_mapping"] == "exponential"
    assert measured.intervals == {}


def test_long_recordings_are_heard_at_their_beginning(bundle, monkeypatch):
    monkeypatch.setattr(codec_fidelity, "MAX_SECONDS", 2.0)
    samples = speechlike(3.0)
    tokens = encode_chunked(bundle.codec, bundle.codec_params, samples[None])[0]
    long = codec_clip(bundle, Waveform(samples, RATE_HZ), tokens, None)
    changed = np.concatenate([samples[: 2 * RATE_HZ], np.zeros(RATE_HZ, np.float32)])
    assert codec_clip(bundle, Waveform(changed, RATE_HZ), tokens, None) == long


def test_mistakes_are_one_line(bundle, recordings, tmp_path, capsys):
    with pytest.raises(UserError, match="no recordings"):
        measure(bundle, [])
    with pytest.raises(UserError, match="all are shorter than 3 s"):
        measure(bundle, [recording for recording in recordings if recording.path.stem == "short"])
    with pytest.raises(UserError, match="broken"):
        measure(bundle, [recording for recording in recordings if recording.path.stem == "broken"])
    made = export_bundle(bundle, tmp_path / "bundle")
    write_audio(tmp_path / "speech" / "one.wav", Waveform(speechlike(), RATE_HZ))
    assert cli.main(["eval", "codec", "--bundle", str(made.path), "--data", str(tmp_path / "speech")]) == 2
    assert "no held-out recordings" in capsys.readouterr().err
