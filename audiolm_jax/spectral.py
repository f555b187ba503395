"""Short-time spectra in JAX: magnitude STFT and mel spectrograms, differentiable and batched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.parallel.rows import by_rows

# Magnitudes to this power are how the networks see a spectrum: between a linear scale, which shows the loudest
# frequency only, and a logarithm.
COMPRESSION = 0.3
# Of silence, so that the gradient of what is compressed stays finite there.
POWER_FLOOR = 1e-6


@functools.lru_cache(maxsize=64)
def mel_filters(
    sample_rate_hz: int, fft_samples: int, num_mels: int, low_hz: float = 0.0, high_hz: float | None = None
) -> np.ndarray:
    """Triangular mel filters with unit peak, float32[fft_samples // 2 + 1, num_mels] (HTK mel scale).

    A filter that falls between two bins of a short FFT would be empty; it takes the bin nearest to its centre instead,
    so every mel channel carries signal at every window length (SoundStream uses 64 mels with a window of 64 samples).
    """
    import librosa  # here, because it takes as long to import as JAX, and not every command computes a spectrum

    high_hz = high_hz or sample_rate_hz / 2
    filters = librosa.filters.mel(
        sr=sample_rate_hz, n_fft=fft_samples, n_mels=num_mels, fmin=low_hz, fmax=high_hz, htk=True, norm=None
    )
    centres_hz = librosa.mel_frequencies(n_mels=num_mels + 2, fmin=low_hz, fmax=high_hz, htk=True)[1:-1]
    empty = np.flatnonzero(filters.sum(axis=1) == 0)
    filters[empty, np.rint(centres_hz[empty] * fft_samples / sample_rate_hz).astype(int)] = 1.0
    return np.ascontiguousarray(filters.T, dtype=np.float32)


def hann_window(num_samples: int) -> np.ndarray:
    """Periodic Hann window, float64[num_samples]: shifted by a half, a quarter, ... of it, it adds up to a constant."""
    return np.hanning(num_samples + 1)[:-1]


def frame(samples: jax.Array, window_samples: int, hop_samples: int) -> jax.Array:
    """Overlapping frames [B, F, window] of samples [B, T], F = 1 + (T - window) // hop.

    When the window is a multiple of the hop, the frames are shifted copies of a reshaped signal, which has a cheap
    gradient; otherwise they are gathered.
    """
    num_frames = 1 + (samples.shape[-1] - window_samples) // hop_samples
    if num_frames < 1:
        raise ValueError(f"{samples.shape[-1]} samples are fewer than one window of {window_samples} samples")
    if window_samples % hop_samples == 0:
        overlap = window_samples // hop_samples
        hops = samples[..., : (num_frames + overlap - 1) * hop_samples]
        hops = hops.reshape(*samples.shape[:-1], num_frames + overlap - 1, hop_samples)
        return jnp.concatenate([hops[..., k : k + num_frames, :] for k in range(overlap)], axis=-1)
    index = np.arange(num_frames)[:, None] * hop_samples + np.arange(window_samples)
    return samples[..., index]


def stft(samples: jax.Array, window_samples: int, hop_samples: int, fft_samples: int | None = None) -> jax.Array:
    """Complex STFT [B, F, fft_samples // 2 + 1] of samples [B, T], periodic Hann window, no centring or padding."""
    frames = frame(samples, window_samples, hop_samples) * hann_window(window_samples).astype(np.float32)
    return by_rows(functools.partial(jnp.fft.rfft, n=fft_samples or window_samples), frames)


def power(spectrum: jax.Array) -> jax.Array:
    """Squared magnitudes of a complex spectrum, float32 of the same shape."""
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def compression_gain(floored_power: jax.Array) -> jax.Array:
    """What to multiply a spectrum by, so that its magnitudes are to the power of `COMPRESSION` and its phases stay.

    Args:
        floored_power: its power with `POWER_FLOOR` added.
    """
    return floored_power ** ((COMPRESSION - 1) / 2)


def stft_magnitude(
    samples: jax.Array, window_samples: int, hop_samples: int, fft_samples: int | None = None
) -> jax.Array:
    """Magnitude STFT [B, F, fft_samples // 2 + 1], with a gradient that stays finite at silence."""
    spectrum = stft(samples, window_samples, hop_samples, fft_samples)
    return jnp.sqrt(power(spectrum) + 1e-12)


def mel_magnitude(
    samples: jax.Array,
    sample_rate_hz: int,
    window_samples: int,
    hop_samples: int,
    num_mels: int,
    fft_samples: int | None = None,
) -> jax.Array:
    """Mel spectrogram of magnitudes [B, F, num_mels], divided by the window's sum; a full-scale sine gives 0.5."""
    magnitude = stft_magnitude(samples, window_samples, hop_samples, fft_samples)
    filters = mel_filters(sample_rate_hz, fft_samples or window_samples, num_mels)
    return (magnitude * (2.0 / window_samples)) @ filters


def log_mel(
    samples: jax.Array,
    sample_rate_hz: int,
    window_samples: int,
    hop_samples: int,
    num_mels: int,
    fft_samples: int | None = None,
    floor: float = 1e-5,
) -> jax.Array:
    """Natural logarithm of `mel_magnitude` + floor, [B, F, num_mels]."""
    mel = mel_magnitude(samples, sample_rate_hz, window_samples, hop_samples, num_mels, fft_samples)
    return jnp.log(mel + floor)
