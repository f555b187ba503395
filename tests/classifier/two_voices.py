"""Recordings of two synthetic classes, and a network small enough to learn them in seconds."""

import numpy as np

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.classifier.network import ClipClassifierConfig

RATE_HZ = 16000
CONFIG = ClipClassifierConfig(("continuation", "reconstruction"), channels=(4, 8, 8), clip_seconds=0.25)


def voice(name: str, seed: int, seconds: float) -> np.ndarray:
    """A buzz of a low ("reconstruction") or a high pitch with noise, float32[T]."""
    rng = np.random.default_rng(seed)
    pitch_hz = (100 if name == "reconstruction" else 300) * (1 + 0.05 * rng.random())
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * time + rng.uniform(0, 6)) / k for k in range(1, 8))
    return (0.1 * buzz + 0.02 * rng.normal(size=time.size)).astype(np.float32)


def write_folder(root, recordings: int = 4, seconds: float = 1.0):
    """root/CLASS/SPEAKER/NUMBER.wav for both classes, one speaker for each recording."""
    for label, name in enumerate(CONFIG.class_names):
        for number in range(recordings):
            path = root / name / f"s{number}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, Waveform(voice(name, 100 * label + number, seconds), RATE_HZ))
    return root
