"""Random changes of training clips that no codec makes, so that a classifier does not lean on what codecs lose.

The paper's recipe has none of them: all zero is that recipe.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import NotNegative, Share, Whole

_DB = math.log(10) / 20  # natural logarithms of a magnitude in one decibel


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly each clip is changed; every draw is uniform between nothing and the bound.

    Attributes:
        gain_db: level, plus or minus.
        tilt_db: of a random smooth curve over frequency (two cosines), as an equaliser makes it, plus or minus.
        noise_db: loudest white noise relative to the clip's level, for example -10; None for none. Drawn between this
            and 50 dB below the clip.
        jitter_db: deviation of independent noise on every bin of the log-mel.
        patch_db: deviation of noise that is one value on each patch of the log-mel, see `_PATCH`.
        blur: largest share of the log-mel that is replaced by its local mean over 5 frames and 3 mels.
        masked_mels: most mel bins in a row that are set to the clip's mean.
        masked_frames: the same for frames.
    """

    gain_db: NotNegative = 0.0
    tilt_db: NotNegative = 0.0
    noise_db: float | None = None
    jitter_db: NotNegative = 0.0
    patch_db: NotNegative = 0.0
    blur: Share = 0.0
    masked_mels: Whole = 0
    masked_frames: Whole = 0

    def __post_init__(self):
        bounds = dataclasses.asdict(self)
        bounds.pop("noise_db")
        if min(bounds.values()) < 0 or self.blur > 1:
            raise UserError("bounds of the augmentation must not be negative, and blur at most 1; 0 turns one off")


_QUIETEST_NOISE_DB = -50.0
_PATCH = (5, 4)  # [frames, mels]
_BLUR_WINDOW = (5, 3)  # [frames, mels]


def change_samples(samples: jax.Array, rng: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Samples [B, T] with another level and added noise."""
    gain_rng, level_rng, noise_rng = jax.random.split(rng, 3)
    rows = (samples.shape[0], 1)
    if augmentation.noise_db is not None:
        level_db = jax.random.uniform(level_rng, rows, minval=_QUIETEST_NOISE_DB, maxval=augmentation.noise_db)
        power = jnp.mean(jnp.square(samples), axis=1, keepdims=True)
        samples += jax.random.normal(noise_rng, samples.shape) * jnp.sqrt(power) * 10 ** (level_db / 20)
    if augmentation.gain_db:
        gain_db = jax.random.uniform(gain_rng, rows, minval=-augmentation.gain_db, maxval=augmentation.gain_db)
        samples *= 10 ** (gain_db / 20)
    return samples


def change_log_mel(mel: jax.Array, rng: jax.Array, augmentation: Augmentation, nats_per_unit: float) -> jax.Array:
    """Log-mel [B, T, F], in units of so many nats, equalised, roughened and masked."""
    tilt_rng, jitter_rng, noise_rng, mel_rng, frame_rng, patch_rng, blur_rng = jax.random.split(rng, 7)
    batch, frames, mels = mel.shape
    per_db = _DB / nats_per_unit
    if augmentation.tilt_db:
        weights = jax.random.uniform(tilt_rng, (batch, 2), minval=-1.0, maxval=1.0) * augmentation.tilt_db * per_db
        place = (jnp.arange(mels) + 0.5) / mels
        curves = jnp.stack([jnp.cos(math.pi * place), jnp.cos(2 * math.pi * place)])
        mel += (weights @ curves)[:, None]
    if augmentation.blur:
        share = jax.random.uniform(blur_rng, (batch, 1, 1)) * augmentation.blur
        local = nn.avg_pool(mel[..., None], _BLUR_WINDOW, padding="SAME", count_include_pad=False)[..., 0]
        mel = (1 - share) * mel + share * local
    if augmentation.patch_db:
        size_rng, value_rng = jax.random.split(patch_rng)
        deviation = jax.random.uniform(size_rng, (batch, 1, 1)) * augmentation.patch_db * per_db
        coarse = jax.random.normal(value_rng, (batch, -(-frames // _PATCH[0]), -(-mels // _PATCH[1])))
        fine = jnp.repeat(jnp.repeat(coarse, _PATCH[0], axis=1), _PATCH[1], axis=2)
        mel += deviation * fine[:, :frames, :mels]
    if augmentation.jitter_db:
        deviation = jax.random.uniform(jitter_rng, (batch, 1, 1)) * augmentation.jitter_db * per_db
        mel += deviation * jax.random.normal(noise_rng, mel.shape)
    mean = jnp.mean(mel, axis=(1, 2), keepdims=True)
    if augmentation.masked_mels:
        mel = jnp.where(_span(mel_rng, batch, mels, augmentation.masked_mels)[:, None, :], mean, mel)
    if augmentation.masked_frames:
        mel = jnp.where(_span(frame_rng, batch, frames, augmentation.masked_frames)[:, :, None], mean, mel)
    return mel


def _span(rng: jax.Array, batch: int, length: int, longest: int) -> jax.Array:
    """bool[B, length], True in one stretch of 0 to `longest` places for each row."""
    width_rng, start_rng = jax.random.split(rng)
    width = jax.random.randint(width_rng, (batch, 1), 0, longest + 1)
    start = jnp.floor(jax.random.uniform(start_rng, (batch, 1)) * (length - width + 1))
    places = jnp.arange(length)
    return (places >= start) & (places < start + width)
