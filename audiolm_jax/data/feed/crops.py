"""Crops of recordings: where they are cut, what is read for them, how they are padded and how loud they are."""

import math
from typing import NamedTuple

import numpy as np

# Samples at the lower of the two rates that are read on either side of a crop for the filter of the resampler. With HQ,
# what lies more than 128 of them away changes nothing, at any of eleven pairs of rates from 8 to 192 kHz.
RESAMPLER_MARGIN_SAMPLES = 256


def crop_bounds(num_samples: int, crop_samples: int, uniform: float) -> tuple[int, int]:
    """[start, stop) of a crop, its start drawn by a number in [0, 1); a shorter recording is taken whole."""
    start = int(uniform * (max(num_samples - crop_samples, 0) + 1))
    return start, min(start + crop_samples, num_samples)


class SourcePart(NamedTuple):
    """What is read of a recording for a crop of it at another rate.

    Attributes:
        start, stop: [start, stop) in samples at the recording's own rate.
        skipped: samples of the part, when it is resampled, that come before the crop.
    """

    start: int
    stop: int
    skipped: int


def resampled_length(num_samples: int, source_rate_hz: int, sample_rate_hz: int) -> int:
    """Samples that `audio.resample` makes of `num_samples`: the same sum, rounded up."""
    return -(-num_samples * sample_rate_hz // source_rate_hz)


def source_part(
    start: int, stop: int, num_samples: int, source_rate_hz: int, sample_rate_hz: int
) -> SourcePart:
    """What to read so that a crop is that of the whole resampled recording.

    The part begins where a sample of both rates falls on one moment, so that the resampler meets the crop at the phase
    that it would have in the whole, and holds all that its filter looks at. At one rate it is the crop itself.

    Args:
        start, stop: of the crop, in samples at `sample_rate_hz`.
        num_samples: of the whole recording, at its own rate.
        source_rate_hz: the recording's own rate.
        sample_rate_hz: of the crop.
    """
    common = math.gcd(source_rate_hz, sample_rate_hz)
    step, step_resampled = source_rate_hz // common, sample_rate_hz // common
    if step == step_resampled:
        return SourcePart(start, stop, 0)
    margin = RESAMPLER_MARGIN_SAMPLES * max(1, math.ceil(step / step_resampled))
    steps = max(0, start * step // step_resampled - margin) // step
    last = math.ceil(stop * step / step_resampled) + margin
    return SourcePart(steps * step, min(last, num_samples), start - steps * step_resampled)


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
