"""Sound that is enough like speech for ViSQOL, PESQ and STOI to be defined."""

import numpy as np

RATE_HZ = 16_000


def speechlike(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Harmonics with a moving pitch, in syllables with pauses: float32[T] at 16 kHz."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, 1)
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.01
    sound = voice * syllables + noise
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def noisy(samples: np.ndarray, db: float, seed: int = 1) -> np.ndarray:
    """The samples with white noise at a signal-to-noise ratio in dB."""
    noise = np.random.default_rng(seed).normal(size=len(samples))
    noise *= np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-db / 20)
    return (samples + noise).astype(np.float32)
