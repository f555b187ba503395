"""Crops of recordings: where they are cut, how they are padded and how loud they are."""

import numpy as np


def crop_bounds(num_samples: int, crop_samples: int, uniform: float) -> tuple[int, int]:
    """[start, stop) of a crop, its start drawn by a number in [0, 1); a shorter recording is taken whole."""
    start = int(uniform * (max(num_samples - crop_samples, 0) + 1))
    return start, min(start + crop_samples, num_samples)


def padded(samples: np.ndarray, crop_samples: int) -> dict[str, np.ndarray]:
    """A crop int16[T'] as an example: "samples" float32[T] with zeros after "num_samples" int32."""
    whole = np.zeros(crop_samples, np.float32)
    whole[: len(samples)] = samples.astype(np.float32) / 32768
    return {"samples": whole, "num_samples": np.int32(len(samples))}


def with_gain(samples: np.ndarray, gain_db: tuple[float, float], uniform: float) -> np.ndarray:
    """float32[T] louder or softer by a gain between two, drawn by a number in [0, 1); lowered where it would clip."""
    low, high = gain_db
    gain = 10 ** ((low + (high - low) * uniform) / 20)
    peak = float(np.abs(samples).max())
    return samples * np.float32(min(gain, max(1.0, 0.99 / peak)) if peak > 0 else gain)
