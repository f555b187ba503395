"""MFCC, their deltas and what is left of them when voice and room are taken out."""

import numpy as np
import scipy.fft

from audiolm_jax.semantic.mfcc import deltas, mfcc, pooled, row_standardised


def test_cepstra_are_the_orthonormal_cosine_transform_with_slopes_behind():
    log_mel = np.random.default_rng(0).standard_normal((2, 30, 80)).astype(np.float32)
    found = np.asarray(mfcc(log_mel))
    assert found.shape == (2, 30, 39)
    expected = scipy.fft.dct(log_mel, norm="ortho")[..., :13]
    np.testing.assert_allclose(found[..., :13], expected, atol=1e-4)
    np.testing.assert_allclose(found[..., 13:26], deltas(expected), atol=1e-4)
    np.testing.assert_allclose(found[..., 26:], deltas(deltas(expected)), atol=1e-4)


def test_the_delta_of_a_ramp_is_its_slope_and_of_a_constant_nothing():
    ramp = np.stack([0.3 * np.arange(20.0), np.full(20, 5.0)], axis=-1)[None]
    found = np.asarray(deltas(ramp))[0]
    np.testing.assert_allclose(found[2:-2, 0], 0.3, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], 0.0, atol=1e-6)


def test_pooling_is_the_mean_of_neighbours():
    frames = np.arange(24.0).reshape(1, 12, 2)
    np.testing.assert_allclose(pooled(frames, 4)[0], frames[0].reshape(3, 4, 2).mean(axis=1))


def test_a_row_is_standardised_over_its_own_frames():
    rng = np.random.default_rng(1)
    frames = (rng.standard_normal((2, 50, 3)) * [1, 10, 0.1] + [5, -3, 0]).astype(np.float32)
    valid = np.arange(50) < np.array([[50], [20]])
    found = np.asarray(row_standardised(frames, valid))
    np.testing.assert_allclose(found[1, :20].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found[1, :20].std(axis=0), 1, atol=1e-3)
    assert not found[1, 20:].any()
    frames[1, 20:] = 1e3  # padding counts nowhere
    np.testing.assert_array_equal(row_standardised(frames, valid), found)
