"""Kaldi log-mel frames: filters, frames one by one in float64, standardised rows, silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.pretrained.speech import kaldi_mel

log_mel = jax.jit(kaldi_mel.log_mel)
standardised = jax.jit(kaldi_mel.standardised)


def noise(seed, num_samples):
    """Coloured noise of changing loudness, float32[T]."""
    rng = np.random.default_rng(seed)
    colour = np.convolve(rng.normal(size=num_samples), 0.9 ** np.arange(60))[:num_samples]
    return (0.05 * (1 + np.sin(np.arange(num_samples) / 900)) * colour).astype(np.float32)


def by_frame(samples):
    """The definition, frame by frame in float64: float64[M, 80]."""
    frames = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(np.float64) * 32768
        frame -= frame.mean()
        emphasised = frame - 0.97 * np.append(frame[0], frame[:-1])
        spectrum = np.fft.rfft(emphasised * np.hanning(400) ** 0.85, 512)
        frames.append(np.log(np.maximum(np.abs(spectrum) ** 2 @ kaldi_mel.filters(80), 2.0**-23)))
    return np.array(frames)


def test_filters_are_those_of_the_reference():
    filters = kaldi_mel.filters(80)
    assert filters.shape == (257, 80)
    # (bin, mel, weight) of SeamlessM4TFeatureExtractor().mel_filters, transformers 5.24.
    for place, mel, weight in (
        (1, 0, 0.5039832471226665),
        (2, 1, 0.8642766297563913),
        (10, 10, 0.917748897479398),
        (59, 40, 0.9724268132757897),
        (128, 60, 0.9839234351478473),
        (180, 70, 0.6365793793819021),
        (248, 79, 0.9477717513348195),
        (250, 79, 0.7082255804165867),
    ):
        assert filters[place, mel] == pytest.approx(weight, abs=1e-6)
    assert filters.sum(dtype=np.float64) == pytest.approx(250.75082173646217, abs=1e-5)
    # Between the first and the last centre, neighbours share every bin.
    np.testing.assert_allclose(filters[2:247].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("num_samples, frames", [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_only_whole_windows_are_frames(num_samples, frames):
    assert kaldi_mel.num_mel_frames(num_samples) == frames
    assert kaldi_mel.num_mel_frames(np.array([num_samples]))[0] == frames
    assert jax.eval_shape(kaldi_mel.log_mel, jnp.zeros((2, num_samples))).shape == (2, frames, 80)


def test_frames_are_as_defined():
    samples = np.stack([noise(0, 7_777), 0.03 + noise(1, 7_777)])
    np.testing.assert_allclose(log_mel(samples), [by_frame(row) for row in samples], rtol=0, atol=3e-5)


def test_silence_is_finite():
    for level in (0.0, 0.25):
        mel = log_mel(np.full((2, 7_777), level, np.float32))
        assert np.allclose(mel, np.log(2.0**-23))
        assert np.all(np.abs(standardised(mel)) < 0.01)


def test_rows_have_mean_zero_and_sample_variance_one():
    mel = np.random.default_rng(0).normal(3, 2, (3, 20, 5)).astype(np.float32)
    counts = np.int32([20, 7, 1])
    made = np.asarray(standardised(mel, counts))
    for row, count in enumerate(counts):
        alone = mel[row, :count].astype(np.float64)
        wanted = (alone - alone.mean(axis=0)) / np.sqrt(alone.var(axis=0, ddof=min(1, count - 1)) + 1e-7)
        np.testing.assert_allclose(made[row, :count], wanted, atol=1e-5)
        assert np.all(made[row, count:] == 0)
    np.testing.assert_allclose(standardised(mel)[0], made[0], atol=1e-6)


def test_pairs_hold_frames_side_by_side():
    mel = jnp.arange(1.0, 11.0).reshape(1, 5, 2)
    np.testing.assert_array_equal(kaldi_mel.paired(mel)[0], [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]])
