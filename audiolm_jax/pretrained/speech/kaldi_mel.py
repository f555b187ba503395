"""Log-mel frames as Kaldi computes them, 100 a second: the front end of w2v-BERT 2.0.

A frame is 25 ms of 16-bit values. Its mean is taken off, high frequencies are raised, a Povey window fades its ends,
and the energies of 80 triangles on the mel scale are taken from its spectrum. Frames lie within the waveform: there
is no padding at its ends.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.parallel.rows import by_rows

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
_FFT_SAMPLES = 512
_LOW_HZ = 20.0
_FULL_SCALE = 2.0**15
_PRE_EMPHASIS = 0.97
# Least energy of a triangle, so that silence has a logarithm; the digits are those of the reference.
_ENERGY_FLOOR = 1.192092955078125e-07
# Keeps a mel that never changes from being divided by zero.
_VARIANCE_FLOOR = 1e-7


def num_mel_frames(num_samples):
    """Whole windows in a waveform; an int, or an array of them. Less than 400 samples give none."""
    frames = (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1
    return frames * (frames > 0)


@functools.lru_cache(maxsize=8)
def filters(num_mels: int) -> np.ndarray:
    """Triangles between 20 Hz and 8 kHz that are straight and equally wide in mels, float32[257, num_mels]."""

    def mels(hz):
        return 1127.0 * np.log(1.0 + hz / 700.0)

    bins = mels(np.arange(_FFT_SAMPLES // 2 + 1) * SAMPLE_RATE_HZ / _FFT_SAMPLES)
    centres, width = np.linspace(mels(_LOW_HZ), mels(SAMPLE_RATE_HZ / 2), num_mels + 2, retstep=True)
    return np.maximum(0.0, 1.0 - np.abs(bins[:, None] - centres[1:-1]) / width).astype(np.float32)


@functools.cache
def _window() -> np.ndarray:
    """The Povey window, float32[400]: a symmetric Hann window to the power 0.85."""
    return (np.hanning(WINDOW_SAMPLES) ** 0.85).astype(np.float32)


def log_mel(samples: jax.Array, num_mels: int = 80) -> jax.Array:
    """Natural logarithms of mel energies.

    Args:
        samples: float32[B, T] at 16 kHz, full scale 1.
        num_mels: triangles.

    Returns:
        float32[B, M, num_mels], M = num_mel_frames(T).
    """
    count = num_mel_frames(samples.shape[1])
    hops = samples[:, : (count + 2) * HOP_SAMPLES].astype(jnp.float32)
    hops = jnp.pad(hops, ((0, 0), (0, (count + 2) * HOP_SAMPLES - hops.shape[1]))).reshape(len(hops), -1, HOP_SAMPLES)
    # A window is two hops and a half.
    parts = [hops[:, :count], hops[:, 1 : count + 1], hops[:, 2:, : WINDOW_SAMPLES - 2 * HOP_SAMPLES]]
    frames = _FULL_SCALE * jnp.concatenate(parts, axis=-1)
    frames = frames - jnp.mean(frames, axis=-1, keepdims=True)
    before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
    spectrum = by_rows(functools.partial(jnp.fft.rfft, n=_FFT_SAMPLES), (frames - _PRE_EMPHASIS * before) * _window())
    energy = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    # Loud and soft mels stand beside each other, so the product must keep all digits on every device.
    mel = jnp.matmul(energy, filters(num_mels), precision=jax.lax.Precision.HIGHEST)
    return jnp.log(jnp.maximum(mel, _ENERGY_FLOOR))


def standardised(mel: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
    """Every mel of every row at mean 0 and variance 1 over the frames of the row.

    Args:
        mel: float32[B, M, C].
        num_frames: int32[B] that belong to each row, or None for all.

    Returns:
        float32[B, M, C], zero behind the end of a row. The variance is that of a sample (divided by M - 1); a single
        frame becomes zero.
    """
    if num_frames is None:
        count = mel.shape[1]
        inside = None
    else:
        count = num_frames[:, None, None]
        inside = jnp.arange(mel.shape[1])[:, None] < count
    mean = jnp.sum(mel, axis=1, keepdims=True, where=inside) / jnp.maximum(count, 1)
    deviation = mel - mean
    if inside is not None:
        deviation = jnp.where(inside, deviation, 0.0)
    variance = jnp.sum(jnp.square(deviation), axis=1, keepdims=True) / jnp.maximum(count - 1, 1)
    return deviation / jnp.sqrt(variance + _VARIANCE_FLOOR)


def paired(mel: jax.Array) -> jax.Array:
    """Two frames one behind the other as one: [B, M, C] to [B, ceil(M / 2), 2 C], with a zero frame behind an odd M."""
    batch, count, width = mel.shape
    return jnp.pad(mel, ((0, 0), (0, count % 2), (0, 0))).reshape(batch, (count + 1) // 2, 2 * width)
