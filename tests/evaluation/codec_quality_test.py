"""Distances between waveforms and the use of codes."""

import json

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import codec_quality
from audiolm_jax.evaluation.codec_quality import (
    code_counts,
    code_perplexity,
    code_usage,
    compare,
    entropy_nats,
    log_mel_distance,
    paired_files,
    si_sdr_db,
    visqol_speech,
)

RATE_HZ = 16_000


def speechlike(seconds=3.0, seed=0):
    """Harmonics with a moving pitch, in syllables with pauses: active enough for ViSQOL."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, 1)
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.01
    sound = voice * syllables + noise
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def noisy(samples, db, seed=1):
    noise = np.random.default_rng(seed).normal(size=len(samples))
    noise *= np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-db / 20)
    return (samples + noise).astype(np.float32)


def test_si_sdr_is_the_noise_level_whatever_the_scale():
    samples = speechlike()
    assert si_sdr_db(samples, samples) == 100.0
    assert si_sdr_db(samples, 0.3 * samples) == pytest.approx(100.0)
    assert si_sdr_db(samples, 0.1 * noisy(samples, 12)) == pytest.approx(12, abs=0.2)
    assert si_sdr_db(samples, np.zeros_like(samples)) == -100.0


def test_si_sdr_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="silent"):
        si_sdr_db(np.zeros(10), np.ones(10))
    with pytest.raises(ValueError, match="same length"):
        si_sdr_db(np.ones(10), np.ones(11))


def test_log_mel_distance_of_a_gain_is_its_logarithm():
    samples = np.random.default_rng(0).normal(size=RATE_HZ).astype(np.float32)
    assert log_mel_distance(samples, samples, RATE_HZ) == 0.0
    assert log_mel_distance(samples, 0.5 * samples, RATE_HZ) == pytest.approx(np.log(2), abs=0.01)


def test_visqol_orders_degradations_and_tops_at_identity():
    pytest.importorskip("visqol")
    samples = speechlike()
    scores = [visqol_speech(samples, noisy(samples, db)).moslqo for db in (30, 15, 0)]
    assert visqol_speech(samples, samples).moslqo == pytest.approx(5.0, abs=1e-3)
    assert 5.0 > scores[0] > scores[1] > scores[2] >= 1.0
    assert visqol_speech(samples, np.zeros_like(samples)).moslqo == 1.0


def test_visqol_equals_the_package_called_by_hand():
    api_module = pytest.importorskip("visqol.api")
    api = api_module.VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    samples, degraded = speechlike(), noisy(speechlike(), 10)
    by_hand = api.measure_from_arrays(samples.astype(np.float64), degraded.astype(np.float64), RATE_HZ)
    assert visqol_speech(samples, degraded).moslqo == by_hand.moslqo


def test_code_statistics():
    tokens = np.stack([np.arange(8) % 4, np.zeros(8, int)], axis=-1)[None]  # [1, 8, 2]
    counts = code_counts(tokens, 8)
    np.testing.assert_array_equal(counts[0], [2, 2, 2, 2, 0, 0, 0, 0])
    np.testing.assert_allclose(code_usage(counts), [0.5, 0.125])
    np.testing.assert_allclose(code_perplexity(counts), [4, 1])
    np.testing.assert_allclose(entropy_nats(counts), [np.log(4), 0])
    assert entropy_nats(np.zeros(4)) == 0
    with pytest.raises(ValueError, match="0..3"):
        code_counts(tokens + 1, 4)


def test_recordings_of_other_rates_and_lengths_compare():
    samples = speechlike()
    coarse = Waveform(samples[::2].copy(), RATE_HZ // 2)
    figures = compare(Waveform(samples, RATE_HZ), coarse, with_visqol=False)
    assert figures.keys() == {"si_sdr_db", "log_mel_distance"}
    with pytest.raises(UserError, match="cannot compare"):
        compare(Waveform(np.zeros(RATE_HZ), RATE_HZ), Waveform(samples, RATE_HZ), with_visqol=False)


def test_folders_pair_by_name(tmp_path, capsys):
    for folder, name in (("a", "x.wav"), ("b", "x.flac"), ("a", "s/y.wav"), ("b", "s/y.wav")):
        write_audio(tmp_path / folder / name, Waveform(speechlike(1.0), RATE_HZ))
    pairs = paired_files(tmp_path / "a", tmp_path / "b")
    assert [pair[1].relative_to(tmp_path / "b").as_posix() for pair in pairs] == ["s/y.wav", "x.flac"]
    code = codec_quality.main(["--reference", f"{tmp_path}/a", "--degraded", f"{tmp_path}/b", "--no_visqol"])
    assert code == 0
    assert json.loads(capsys.readouterr().out)["num_files"] == 2

    write_audio(tmp_path / "a" / "lonely.wav", Waveform(speechlike(1.0), RATE_HZ))
    assert codec_quality.main(["--reference", f"{tmp_path}/a", "--degraded", f"{tmp_path}/b"]) == 2
    assert "lonely.wav has no partner" in capsys.readouterr().err
