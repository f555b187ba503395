"""A SoundStream learner small enough for tests."""

import numpy as np
import optax

from audiolm_jax.codec.adversary.discriminators import Discriminators
from audiolm_jax.codec.learner import SoundStreamLearner
from audiolm_jax.codec.losses import SpectralScales
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.codec.soundstream import SoundStreamConfig

BATCH_SIZE, NUM_SAMPLES = 8, 512
CONFIG = SoundStreamConfig(
    strides=(2, 4), encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8), embed_dim=4, num_quantizers=2,
    codebook_size=8,
)


def tiny_learner(optimizer: optax.GradientTransformation, **changes) -> SoundStreamLearner:
    """A learner of a few thousand parameters; quantizer and discriminators start at step 1."""
    settings = {"quantizer_start_step": 1, "discriminator_start_step": 1} | changes
    return SoundStreamLearner(
        config=CONFIG,
        optimizer=optimizer,
        discriminator_optimizer=optimizer,
        discriminators=Discriminators(channels=2, wave_channels=4, wave_max_channels=8),
        scales=SpectralScales(window_samples=(64,), num_mels=8, fft_samples=64),
        quantizer_settings=QuantizerSettings(start_latents=256, kmeans_iterations=2),
        **settings,
    )


def batch(index: int) -> dict[str, np.ndarray]:
    """Decaying tones, another set for every index."""
    rng = np.random.default_rng(index)
    time = np.arange(NUM_SAMPLES) / 16_000
    tones = np.sin(2 * np.pi * rng.uniform(200, 4000, (BATCH_SIZE, 1)) * time) * np.exp(-50 * time)
    return {"samples": (0.5 * tones + 0.01 * rng.normal(size=tones.shape)).astype(np.float32)}
