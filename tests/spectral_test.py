"""Spectra against NumPy and librosa."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from audiolm_jax import spectral


def noise(batch, num_samples):
    return np.random.default_rng(0).normal(size=(batch, num_samples)).astype(np.float32)


@pytest.mark.parametrize(("window", "hop"), [(8, 2), (8, 8), (10, 4), (400, 160)])
def test_frames_are_windows_at_every_hop(window, hop):
    samples = noise(2, 1000)
    frames = np.asarray(spectral.frame(jnp.asarray(samples), window, hop))
    assert frames.shape == (2, 1 + (1000 - window) // hop, window)
    for index in range(frames.shape[1]):
        np.testing.assert_array_equal(frames[:, index], samples[:, index * hop : index * hop + window])


def test_fewer_samples_than_a_window_are_refused():
    with pytest.raises(ValueError, match="fewer than one window"):
        spectral.frame(jnp.zeros((1, 7)), 8, 2)


@pytest.mark.parametrize("fft", [None, 512])
def test_stft_equals_that_of_librosa(fft):
    samples = noise(1, 1200)
    found = np.asarray(spectral.stft(jnp.asarray(samples), 256, 64, fft))[0]
    windowed = np.stack([samples[0, start : start + 256] for start in range(0, 1200 - 255, 64)])
    expected = np.fft.rfft(windowed * librosa.filters.get_window("hann", 256), n=fft or 256)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    magnitude = spectral.stft_magnitude(jnp.asarray(samples), 256, 64, fft)[0]
    np.testing.assert_allclose(magnitude, np.abs(expected), atol=1e-4)


def test_every_mel_channel_carries_signal():
    for fft, num_mels in ((64, 64), (128, 64), (512, 64), (2048, 80)):
        filters = spectral.mel_filters(16_000, fft, num_mels)
        assert filters.shape == (fft // 2 + 1, num_mels)
        assert (filters.sum(axis=0) > 0).all()


def test_long_filters_are_those_of_librosa():
    expected = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=40, htk=True, norm=None)
    np.testing.assert_allclose(spectral.mel_filters(16_000, 2048, 40), expected.T, rtol=1e-5)


@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 5000.0])
def test_a_tone_lies_in_its_mel_channel(frequency_hz):
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(4000) / 16_000).astype(np.float32)
    mel = np.asarray(spectral.log_mel(jnp.asarray(tone)[None], 16_000, 1024, 256, 40))[0]
    assert mel.shape == (1 + (4000 - 1024) // 256, 40)
    centres = librosa.mel_frequencies(n_mels=42, fmax=8000, htk=True)[1:-1]
    assert (mel.argmax(axis=-1) == np.abs(centres - frequency_hz).argmin()).all()


def test_stft_peak_of_a_full_scale_sine_is_a_quarter_of_the_window():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000).astype(np.float32)
    for window in (512, 2048):
        peak = spectral.stft_magnitude(jnp.asarray(tone)[None], window, 256).max()
        assert peak == pytest.approx(window / 4, rel=0.01)


def test_the_gradient_at_silence_is_finite():
    gradient = jax.grad(lambda samples: spectral.log_mel(samples, 16_000, 256, 64, 16).sum())(jnp.zeros((1, 1024)))
    assert np.isfinite(gradient).all()
