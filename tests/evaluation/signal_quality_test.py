"""Distances between waveforms; PESQ and STOI where their packages are installed."""

import numpy as np
import pytest

from audiolm_jax import spectral
from audiolm_jax.evaluation.sound.signal_quality import PESQ_MAX_SECONDS, log_mel_distance, pesq_mos, si_sdr_db, stoi
from tests.evaluation.speechlike import RATE_HZ, noisy, speechlike


def test_si_sdr_is_the_noise_level_whatever_the_scale():
    samples = speechlike()
    assert si_sdr_db(samples, samples) == 100.0
    assert si_sdr_db(samples, 0.3 * samples) == pytest.approx(100.0)
    assert si_sdr_db(samples, 0.1 * noisy(samples, 12)) == pytest.approx(12, abs=0.2)
    assert si_sdr_db(samples, np.zeros_like(samples)) == -100.0


def test_si_sdr_of_orthogonal_parts_is_their_ratio():
    time = np.arange(RATE_HZ) / RATE_HZ
    tone, other = np.sin(2 * np.pi * 200 * time), np.sin(2 * np.pi * 300 * time)
    assert si_sdr_db(tone, 5 * tone + 0.5 * other + 3) == pytest.approx(20, abs=1e-6)


def test_si_sdr_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="silent"):
        si_sdr_db(np.zeros(10), np.ones(10))
    with pytest.raises(ValueError, match="same length"):
        si_sdr_db(np.ones(10), np.ones(11))


def test_log_mel_distance_of_a_gain_is_its_logarithm():
    samples = np.random.default_rng(0).normal(size=RATE_HZ).astype(np.float32)
    assert log_mel_distance(samples, samples, RATE_HZ) == 0.0
    assert log_mel_distance(samples, 0.5 * samples, RATE_HZ) == pytest.approx(np.log(2), abs=0.01)
    with pytest.raises(ValueError, match="1024 samples"):
        log_mel_distance(samples[:1023], samples[:1023], RATE_HZ)


@pytest.mark.parametrize("num_samples", [1024, 1024 + 255 * 256, 1024 + 256 * 256, 90_001])
def test_log_mel_distance_in_blocks_is_that_of_the_whole(num_samples):
    rng = np.random.default_rng(0)
    reference = rng.normal(size=num_samples)
    estimate = reference + rng.normal(size=num_samples)
    window, filters = np.hanning(1025)[:-1], spectral.mel_filters(RATE_HZ, 1024, 80)
    log_mels = []
    for samples in (reference, estimate):
        frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * window
        log_mels.append(np.log(np.abs(np.fft.rfft(frames)) / 512 @ filters + 1e-5))
    expected = np.mean(np.abs(log_mels[0] - log_mels[1]))
    assert log_mel_distance(reference, estimate, RATE_HZ) == pytest.approx(expected, rel=1e-5)


def test_pesq_equals_the_package_and_tops_at_identity():
    package = pytest.importorskip("pesq")
    samples = speechlike()
    worse = noisy(samples, 10)
    assert pesq_mos(samples, samples, RATE_HZ) == pytest.approx(4.644, abs=1e-3)
    assert pesq_mos(samples, samples, RATE_HZ, "nb") == pytest.approx(4.549, abs=1e-3)
    assert pesq_mos(samples, worse, RATE_HZ) == pytest.approx(package.pesq(RATE_HZ, samples, worse, "wb"), abs=1e-6)
    narrow = pesq_mos(samples[::2], worse[::2], RATE_HZ // 2, "nb")
    assert narrow == pytest.approx(package.pesq(RATE_HZ // 2, samples[::2], worse[::2], "nb"), abs=1e-6)
    assert pesq_mos(samples, worse, RATE_HZ) < pesq_mos(samples, noisy(samples, 30), RATE_HZ)


def test_pesq_is_none_where_it_is_not_defined():
    pytest.importorskip("pesq")
    samples = speechlike()
    assert pesq_mos(samples, np.zeros_like(samples), RATE_HZ) is None
    assert pesq_mos(np.zeros_like(samples), samples, RATE_HZ) is None
    assert pesq_mos(samples[:1000], samples[:1000], RATE_HZ) is None
    # Longer speech kills the process that asks for it.
    long = np.tile(samples, int(PESQ_MAX_SECONDS // 3) + 1)
    assert pesq_mos(long, long, RATE_HZ) is None


def test_stoi_equals_the_package_and_leaves_the_generator_alone():
    package = pytest.importorskip("pystoi")
    samples = speechlike()
    worse = noisy(samples, 5)
    assert stoi(samples, samples, RATE_HZ) == pytest.approx(1, abs=1e-6)
    assert stoi(samples, worse, RATE_HZ) == package.stoi(samples.astype(float), worse.astype(float), RATE_HZ)
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    extended = stoi(samples, worse, RATE_HZ, extended=True)
    assert np.random.random() == expected
    assert stoi(samples, worse, RATE_HZ, extended=True) == extended
    by_package = package.stoi(samples.astype(float), worse.astype(float), RATE_HZ, extended=True)
    assert extended == pytest.approx(by_package, abs=1e-6)
    assert stoi(samples[:3000], samples[:3000], RATE_HZ) is None
    assert stoi(samples[:100], samples[:100], RATE_HZ) is None
