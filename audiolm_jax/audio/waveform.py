"""Samples that carry their rate."""

import math
from dataclasses import dataclass

import numpy as np

from audiolm_jax.errors import UserError

# Beyond 24 dB over full scale samples are taken for numbers of another scale, not for sound.
LOUDEST = 16.0
_FULL_SCALE = {"int8": 2**7, "uint8": 2**7, "int16": 2**15, "int32": 2**31}


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono sound: `samples` float32[T], nominally within [-1, 1], at `sample_rate_hz`.

    Samples of int8, uint8, int16 and int32 are scaled from their full range to [-1, 1]. Two waveforms are equal if
    their rates and all their samples are.

    Raises UserError for samples of another rank or type, for NaN and infinity, and for a rate that is not a positive
    whole number, so that a mistake fails where it is made and not where it is heard.
    """

    samples: np.ndarray
    sample_rate_hz: int

    def __post_init__(self):
        object.__setattr__(self, "samples", _float_samples(self.samples))
        object.__setattr__(self, "sample_rate_hz", checked_rate(self.sample_rate_hz))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Waveform):
            return NotImplemented
        return self.sample_rate_hz == other.sample_rate_hz and np.array_equal(self.samples, other.samples)

    # Arrays can be written to, so a waveform has no hash.
    __hash__ = None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate_hz


def cut(waveform: Waveform, seconds: float | None) -> Waveform:
    """The first `seconds` of a waveform, all of it for None or where it is shorter."""
    if seconds is None:
        return waveform
    return Waveform(waveform.samples[: round(seconds * waveform.sample_rate_hz)], waveform.sample_rate_hz)


def checked_rate(sample_rate_hz) -> int:
    """The rate as an int; raises UserError if it is not a positive whole number."""
    is_number = isinstance(sample_rate_hz, (int, float, np.integer, np.floating)) and not isinstance(
        sample_rate_hz, bool
    )
    if not is_number or not 0 < sample_rate_hz < math.inf or int(sample_rate_hz) != sample_rate_hz:
        raise UserError(f"sample_rate_hz must be a positive whole number; got {sample_rate_hz!r}")
    return int(sample_rate_hz)


def refuse_other_scale(waveform: Waveform) -> None:
    """Raises UserError for samples that a caller seems to have left in the range of integers."""
    peak = float(np.max(np.abs(waveform.samples), initial=0.0))
    if peak > LOUDEST:
        raise UserError(f"samples reach {peak:g} where full scale is 1; divide them by it, 32768 for 16-bit integers")


def _float_samples(samples) -> np.ndarray:
    """float32[T] of what a caller gave."""
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise UserError("a Waveform holds mono samples [T]; got rows of different lengths") from error
    if samples.ndim != 1:
        raise UserError(f"a Waveform holds mono samples [T]; got an array of shape {samples.shape}")
    if samples.dtype.name in _FULL_SCALE:
        full_scale = _FULL_SCALE[samples.dtype.name]
        offset = full_scale if samples.dtype.kind == "u" else 0
        return ((samples.astype(np.float64) - offset) / full_scale).astype(np.float32)
    if samples.dtype.kind != "f":
        raise UserError(
            f"a Waveform takes samples of float, int8, uint8, int16 or int32; got {samples.dtype}: "
            "say its full scale by converting it to one of these"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        samples = samples.astype(np.float32, copy=False)
        # The sum is finite exactly if every sample is, and takes no second array.
        total = float(np.sum(samples, dtype=np.float64))
    if not math.isfinite(total):
        raise UserError("samples are not all numbers (NaN or infinity)")
    return samples
