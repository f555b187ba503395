"""Another voice and another microphone: what moves where, and by what it is decided."""

import jax
import numpy as np
import pytest

from audiolm_jax.semantic.network.front_end import NUM_MELS, SAMPLE_RATE_HZ, log_mel_frames
from audiolm_jax.semantic.perturbation import Perturbation, warp_matrices

NOTHING = Perturbation(warp=0.0, tilt_db=0.0, equaliser_db=0.0, gain_db=0.0)


def noise(rows=3):
    return np.random.default_rng(0).standard_normal((rows, 5, NUM_MELS)).astype(np.float32)


def tone(pitch_hz):
    return np.sin(2 * np.pi * pitch_hz * np.arange(6400) / SAMPLE_RATE_HZ).astype(np.float32)[None]


def test_a_factor_of_one_moves_nothing_and_every_band_gets_one_share():
    found = np.asarray(warp_matrices(np.float32([1.0, 0.85, 1.2]), NUM_MELS, SAMPLE_RATE_HZ))
    np.testing.assert_allclose(found[0], np.eye(NUM_MELS), atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-4)  # between two bands, by the distance to each


@pytest.mark.parametrize("factor", [0.85, 1.18])
def test_a_tone_moves_to_where_another_tone_is(factor):
    """Band n takes what stands at its frequency times the factor, so a tone goes to its pitch over the factor."""
    warp = warp_matrices(np.float32([factor]), NUM_MELS, SAMPLE_RATE_HZ)[0]
    moved = np.asarray(log_mel_frames(tone(1500.0)) @ warp)[0, 20]
    there = np.asarray(log_mel_frames(tone(1500.0 / factor)))[0, 20]
    still = np.asarray(log_mel_frames(tone(1500.0)))[0, 20]
    assert abs(int(moved.argmax()) - int(there.argmax())) <= 1
    assert abs(int(moved.argmax()) - int(still.argmax())) > 2


def test_the_end_of_the_band_stays():
    for factor in (0.85, 1.18):
        top = np.asarray(warp_matrices(np.float32([factor]), NUM_MELS, SAMPLE_RATE_HZ))[0, :, -1]
        assert abs(int(top.argmax()) - (NUM_MELS - 1)) <= 1


def test_with_everything_at_nought_nothing_changes():
    changed = NOTHING(jax.random.key(0), noise(), SAMPLE_RATE_HZ)
    np.testing.assert_allclose(changed, noise(), atol=5e-3)


def test_a_row_is_changed_throughout_alike_by_its_own_draw_and_the_key_alone():
    perturbation = Perturbation(warp=0.0)
    apart = np.asarray(perturbation(jax.random.key(1), noise(), SAMPLE_RATE_HZ)) - noise()
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:, :1], apart.shape), atol=1e-2)
    assert np.abs(apart[0] - apart[1]).max() > 0.05
    again = np.asarray(perturbation(jax.random.key(1), noise(), SAMPLE_RATE_HZ)) - noise()
    np.testing.assert_array_equal(apart, again)


def test_a_gain_has_its_bounds_in_decibels():
    gain = Perturbation(warp=0.0, tilt_db=0.0, equaliser_db=0.0, gain_db=6.0)
    log_mel = noise(rows=200)
    nepers = np.asarray(gain(jax.random.key(2), log_mel, SAMPLE_RATE_HZ) - log_mel).mean(axis=(1, 2))
    gains_db = nepers * 20 / np.log(10)
    assert 5.0 < np.abs(gains_db).max() <= 6.01 and gains_db.min() < 0 < gains_db.max()


def test_a_share_of_the_rows_stays_as_it_is():
    half = Perturbation(share=0.5)
    log_mel = noise(rows=100)
    changed = np.asarray(half(jax.random.key(3), log_mel, SAMPLE_RATE_HZ))
    same = (changed == log_mel).all(axis=(1, 2))
    assert 25 < same.sum() < 75
