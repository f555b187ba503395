"""What the codec is trained to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax import spectral
from audiolm_jax.codec import losses
from audiolm_jax.errors import UserError

SCALES = losses.SpectralScales(window_samples=(64, 256), num_mels=16, fft_samples=128)


def noise(batch, num_samples, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, num_samples)).astype(np.float32) * 0.1


def test_spectral_losses_vanish_for_equal_signals_only():
    samples = noise(2, 512)
    for terms in losses.spectral_losses(samples, samples, 16_000, SCALES):
        np.testing.assert_array_equal(terms, [0.0, 0.0])
    for terms in losses.spectral_losses(samples, noise(2, 512, seed=1), 16_000, SCALES):
        assert terms.shape == (2,) and (terms > 0.1).all()


def test_spectral_losses_have_a_finite_gradient_at_silence():
    silence = jnp.zeros((1, 512))
    gradient = jax.jit(jax.grad(lambda made: sum(losses.spectral_losses(silence, made, 16_000, SCALES))[0]))
    assert np.isfinite(gradient(jnp.zeros((1, 512)))).all()


def test_log_mel_loss_of_a_louder_copy_is_the_logarithm_of_the_gain():
    samples = noise(1, 512)
    log_mel, _ = losses.spectral_losses(samples, 2 * samples, 16_000, losses.SpectralScales((256,), 16, 256, floor=0.0))
    assert float(log_mel[0]) == pytest.approx(np.log(2), abs=0.01)


def test_reconstruction_loss_is_the_paper_s_sum():
    samples, made = noise(2, 512), noise(2, 512, seed=1)
    expected = np.zeros(2)
    for window in SCALES.window_samples:
        settings = (16_000, window, window // 4, SCALES.num_mels, max(window, SCALES.fft_samples))
        real, other = (np.asarray(spectral.mel_magnitude(each, *settings), np.float64) for each in (samples, made))
        for row in range(2):
            for frame in range(real.shape[1]):
                expected[row] += np.abs(real[row, frame] - other[row, frame]).sum()
                logs = np.log(real[row, frame] + 1e-5) - np.log(other[row, frame] + 1e-5)
                expected[row] += np.sqrt(window / 2) * np.linalg.norm(logs)
    found = losses.reconstruction_loss(samples, made, 16_000, SCALES)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    gradient = jax.grad(lambda made: jnp.sum(losses.reconstruction_loss(samples, made, 16_000, SCALES)))
    assert np.isfinite(gradient(jnp.asarray(samples))).all()


def test_every_window_has_its_number_of_bands():
    scales = losses.SpectralScales((64, 256), (8, 32), 64)
    assert scales.mels_by_window == (8, 32) and SCALES.mels_by_window == (16, 16)
    assert (losses.spectral_losses(noise(1, 512), noise(1, 512, seed=1), 16_000, scales)[0] > 0).all()
    with pytest.raises(UserError, match="SPECTRAL_MELS has 3 numbers of bands, SPECTRAL_WINDOWS 2 windows"):
        losses.SpectralScales((64, 256), (8, 16, 32))


def test_weights_make_one_loss_of_the_terms():
    weights = losses.LossWeights(log_mel=2.0, correlation=0.5, feature=3.0)
    assert weights.total({"log_mel": 1.0, "correlation": 4.0, "sdr_db": 7.0, "feature": 10.0}) == 2 + 2 + 30


def test_correlation_hears_phases_and_no_levels():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(2, 1700)).astype(np.float32)
    np.testing.assert_allclose(losses.correlation_loss(samples, 0.1 * samples, 16_000), 0.0, atol=1e-3)
    np.testing.assert_allclose(losses.correlation_loss(samples, -samples, 16_000), 2.0, atol=1e-3)
    np.testing.assert_allclose(losses.correlation_loss(samples, rng.normal(size=(2, 1700)), 16_000), 1.0, atol=0.1)
    short = samples[:, :100]  # less than a window
    np.testing.assert_allclose(losses.correlation_loss(short, short, 16_000), 0.0, atol=1e-3)


def test_correlation_of_silence_has_a_gradient():
    silence = np.zeros((1, 400))
    gradient = jax.grad(lambda made: losses.correlation_loss(silence, made, 16_000).sum())(silence)
    assert np.isfinite(gradient).all()


def test_quiet_windows_count_less():
    real = np.random.default_rng(0).normal(size=(1, 640)).astype(np.float32) * np.repeat([1e-5, 1.0], 320)
    made = real * np.repeat([-1.0, 1.0], 320)  # the quiet window is all wrong
    np.testing.assert_allclose(losses.correlation_loss(real, made, 16_000), 0.5, atol=1e-3)


def test_sdr_of_a_scaled_copy():
    samples = noise(2, 400)
    np.testing.assert_allclose(losses.sdr_db(samples, 0.9 * samples), [20.0, 20.0], atol=0.01)
    assert np.isfinite(losses.sdr_db(np.zeros((1, 400), np.float32), np.zeros((1, 400), np.float32))).all()


def judgements(*logits):
    return [(jnp.asarray(values), [jnp.asarray(values)[..., None]]) for values in logits]


def test_hinge_losses():
    real, made = judgements([[2.0, 0.0]], [[1.0]]), judgements([[-2.0, 1.0]], [[-1.0]])
    assert float(losses.discriminator_loss(real, made)) == pytest.approx(((0 + 1) / 2 + (0 + 2) / 2 + 0 + 0) / 2)
    assert float(losses.adversarial_loss(made)) == pytest.approx(((3 + 0) / 2 + 2) / 2)


def test_feature_loss_is_relative_and_moves_only_what_was_made():
    real, made = judgements([[2.0, 2.0]]), judgements([[1.0, 2.0]])
    assert float(losses.feature_loss(real, real)) == 0.0
    assert float(losses.feature_loss(real, made)) == pytest.approx(0.25, rel=1e-2)
    assert float(losses.feature_loss(real, made, relative=False)) == pytest.approx(0.5)
    to_real, to_made = jax.grad(losses.feature_loss, argnums=(0, 1))(real, made)
    assert not np.any([np.any(leaf) for leaf in jax.tree.leaves(to_real)])
    assert np.any([np.any(leaf) for leaf in jax.tree.leaves(to_made)])
