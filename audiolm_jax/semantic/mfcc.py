"""MFCC with deltas, from the log-mel frames of our encoders: what clusters of phones are first made of."""

import jax
import jax.numpy as jnp
import numpy as np

NUM_COEFFICIENTS = 13
DIM = 3 * NUM_COEFFICIENTS
_DELTA_REACH = 2  # frames on either side that a delta looks at


def mfcc(log_mel: jax.Array) -> jax.Array:
    """Thirteen cepstral coefficients with their deltas and double deltas: [B, F, M] -> float32[B, F, 39].

    The cosine transform is orthonormal; a delta is the slope of the line through five frames, whose ends repeat.
    """
    num_mels = log_mel.shape[-1]
    angles = np.pi / num_mels * np.outer(np.arange(num_mels) + 0.5, np.arange(NUM_COEFFICIENTS))
    basis = (np.cos(angles) * (2 / num_mels) ** 0.5).astype(np.float32)
    basis[:, 0] *= 0.5**0.5
    cepstra = jnp.asarray(log_mel, jnp.float32) @ basis
    slopes = deltas(cepstra)
    return jnp.concatenate([cepstra, slopes, deltas(slopes)], axis=-1)


def deltas(frames: jax.Array) -> jax.Array:
    """Slope of every dimension along the frames: [B, F, D] -> [B, F, D]."""
    num_frames = frames.shape[1]
    padded = jnp.pad(frames, ((0, 0), (_DELTA_REACH, _DELTA_REACH), (0, 0)), mode="edge")
    reaches = range(1, _DELTA_REACH + 1)
    slope = sum(
        reach * (padded[:, _DELTA_REACH + reach :][:, :num_frames] - padded[:, _DELTA_REACH - reach :][:, :num_frames])
        for reach in reaches
    )
    return slope / (2 * sum(reach**2 for reach in reaches))


def pooled(frames: jax.Array, factor: int) -> jax.Array:
    """Means of `factor` frames each: [B, F * factor, D] -> [B, F, D]."""
    return jnp.mean(frames.reshape(frames.shape[0], -1, factor, frames.shape[-1]), axis=2)


def row_standardised(frames: jax.Array, valid: jax.Array) -> jax.Array:
    """Frames [B, T, D] with mean 0 and deviation 1 over the valid ones, bool[B, T], of each row.

    What is the same throughout a recording, voice and room, is mostly gone then.
    """
    weights = valid[..., None].astype(jnp.float32)
    count = jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    centred = frames - jnp.sum(frames * weights, axis=1, keepdims=True) / count
    variance = jnp.sum(jnp.square(centred) * weights, axis=1, keepdims=True) / count
    return centred * jax.lax.rsqrt(variance + 1e-8) * weights
