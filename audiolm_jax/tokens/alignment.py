"""Token rates as fractions, crops that stay aligned in both streams, and the collapse of repeats.

Semantic and acoustic tokens run at different rates (25 and 50 Hz in AudioLM, but 50 and 75 Hz for other tokenizers).
Crops are therefore cut in token space, at multiples of the shortest span that is a whole number of frames in both.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np


def token_rate_hz(sample_rate_hz: int, hop_samples: int) -> Fraction:
    """Frames per second of a tokenizer, exactly."""
    if sample_rate_hz <= 0 or hop_samples <= 0:
        raise ValueError(f"sample rate and hop must be positive, got {sample_rate_hz} Hz and {hop_samples} samples")
    return Fraction(sample_rate_hz, hop_samples)


def num_frames(num_samples: int, hop_samples: int) -> int:
    """Frames of an utterance: the tokenizers pad the last hop, so ceil(samples / hop)."""
    return -(-num_samples // hop_samples)


def joint_period_seconds(*rates_hz: Fraction) -> Fraction:
    """The shortest time that is a whole number of frames at every rate: the least common multiple of the periods."""
    if not rates_hz or min(rates_hz) <= 0:
        raise ValueError(f"token rates must be positive, got {rates_hz}")
    # lcm(a/b, c/d) of reduced fractions is lcm(a, c) / gcd(b, d).
    periods = [1 / Fraction(rate) for rate in rates_hz]
    return Fraction(math.lcm(*(p.numerator for p in periods)), math.gcd(*(p.denominator for p in periods)))


@dataclasses.dataclass(frozen=True)
class Crop:
    """A span of whole joint periods of one utterance.

    Attributes:
        start: first joint period.
        length: joint periods asked for; an utterance that is shorter, or a last partial period, gives fewer frames.
        period_seconds: the joint period.
        is_end: whether the crop holds the real end of the utterance.
    """

    start: int
    length: int
    period_seconds: Fraction
    is_end: bool

    def frames(self, rate_hz: Fraction) -> slice:
        """The frames of this crop in a stream of the given rate (a whole number of them to the period)."""
        per_period = self.period_seconds * rate_hz
        if per_period.denominator != 1:
            raise ValueError(f"a joint period of {self.period_seconds} s is not whole frames at {rate_hz} Hz")
        return slice(self.start * per_period.numerator, (self.start + self.length) * per_period.numerator)


def num_periods(stream_frames: dict[Fraction, int], period_seconds: Fraction) -> int:
    """Joint periods, the last one perhaps partial, that cover streams of the given lengths.

    Args:
        stream_frames: number of frames of each stream, by its rate.
        period_seconds: the joint period.
    """
    return max(math.ceil(Fraction(frames) / (rate * period_seconds)) for rate, frames in stream_frames.items())


def draw_crop(total_periods: int, length: int, period_seconds: Fraction, uniform: float) -> Crop:
    """A crop that starts at a uniformly drawn period.

    Args:
        total_periods: joint periods of the utterance (`num_periods`).
        length: joint periods of a crop.
        period_seconds: the joint period.
        uniform: a number in [0, 1) that decides the start; 0 gives the beginning.
    """
    if not 0 <= uniform < 1:
        raise ValueError(f"uniform must lie in [0, 1), got {uniform}")
    num_starts = max(total_periods - length, 0) + 1
    start = min(int(uniform * num_starts), num_starts - 1)
    return Crop(start, length, period_seconds, is_end=start + length >= total_periods)


def collapse(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Removes repeats of neighbouring tokens (AudioLM, section III-B).

    Args:
        tokens: int[T].

    Returns:
        Values int[N] of which no two neighbours are equal, and run lengths int32[N] with sum T.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1:
        raise ValueError(f"collapse takes int[T], got shape {tokens.shape}")
    if tokens.size == 0:
        return tokens, np.zeros(0, np.int32)
    is_start = np.ones(tokens.size + 1, bool)  # the end too, where the next run would start
    np.not_equal(tokens[1:], tokens[:-1], out=is_start[1:-1])
    starts = np.flatnonzero(is_start)
    return tokens[starts[:-1]], (starts[1:] - starts[:-1]).astype(np.int32)


def expand(values: np.ndarray, run_lengths: np.ndarray) -> np.ndarray:
    """The inverse of `collapse`: int[N] values and run lengths to int[sum of run lengths]."""
    return np.repeat(np.asarray(values), np.asarray(run_lengths))
