"""How the channels of a file become one, and its numbers samples within [-1, 1].

Both are decided once for a file, by short windows all over it, so that a part of a file sounds as it does in the whole.
"""

import logging
from dataclasses import dataclass

import numpy as np

from audiolm_jax.audio.sound import Sound
from audiolm_jax.audio.waveform import LOUDEST
from audiolm_jax.errors import UserError

_WINDOWS, _WINDOW_SECONDS = 16, 0.1
# A mean 20 dB below the loudest channel is what is left of channels in opposite phase.
_CANCELLED = 0.01
_FULL_SCALE_16_BIT = 2.0**15

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixdown:
    """What is done to every block of a file.

    Attributes:
        channel: the one that is taken alone; None for the mean of all.
        full_scale: what stands for 1 in the file.
    """

    channel: int | None = None
    full_scale: float = 1.0

    def applied(self, sound: Sound, block: np.ndarray) -> np.ndarray:
        """float32[n] of float32[n, C].

        Raises UserError for NaN, for infinity and for numbers that are far beyond full scale.
        """
        if not sound.is_bounded:
            _refuse_wild(sound, block, self.full_scale)
        mono = block.mean(axis=1, dtype=np.float32) if self.channel is None else block[:, self.channel]
        return mono if self.full_scale == 1.0 else mono / np.float32(self.full_scale)


def find_mixdown(sound: Sound) -> Mixdown:
    """How a file is mixed; says by a warning of the logging module where that is not the mean of its channels."""
    if sound.num_channels == 1 and not sound.is_float:
        return Mixdown()
    windows = _windows(sound)
    if not windows:
        return Mixdown()
    return Mixdown(_lone_channel(sound, windows), _full_scale(sound, windows))


def _windows(sound: Sound) -> list[np.ndarray]:
    """float32[n, C] each: short parts of a file from its beginning to its end; what cannot be decoded is left out."""
    length = min(sound.num_samples, round(_WINDOW_SECONDS * sound.sample_rate_hz))
    starts = np.unique(np.linspace(0, sound.num_samples - length, _WINDOWS).astype(np.int64)).tolist()
    found = []
    with sound.opened() as decoder:
        for start in starts:
            try:
                found.append(np.concatenate(list(sound.blocks(decoder, start, start + length))))
            except UserError:
                # Whoever reads that part says so.
                continue
    return [window for window in found if np.isfinite(window).all()]


def _lone_channel(sound: Sound, windows: list[np.ndarray]) -> int | None:
    """The first of the loud channels where the channels cancel each other; None where the mean is as it should be."""
    if sound.num_channels == 1:
        return None
    powers = sum(np.sum(np.square(window, dtype=np.float64), axis=0) for window in windows)
    of_mean = sum(float(np.sum(np.square(window.mean(axis=1, dtype=np.float64)))) for window in windows)
    if not of_mean < _CANCELLED * np.max(powers):
        return None
    channel = int(np.argmax(powers >= np.max(powers) / 2))
    _log.warning(
        "%s: its channels cancel each other (opposite phase); channel %d is taken alone", sound.source.path, channel + 1
    )
    return channel


def _full_scale(sound: Sound, windows: list[np.ndarray]) -> float:
    """32768 for a file of floats that are 16-bit integers, else 1."""
    if not sound.is_float:
        return 1.0
    peak = max(float(np.max(np.abs(window))) for window in windows)
    if not LOUDEST < peak <= _FULL_SCALE_16_BIT or any((window != np.rint(window)).any() for window in windows):
        return 1.0
    _log.warning("%s: its floats are 16-bit integers; they are divided by 32768", sound.source.path)
    return _FULL_SCALE_16_BIT


def _refuse_wild(sound: Sound, block: np.ndarray, full_scale: float) -> None:
    """Raises UserError for numbers that are no sound."""
    peak = max(-float(np.min(block, initial=0.0)), float(np.max(block, initial=0.0)))
    if not np.isfinite(peak):
        raise UserError(f"{sound.source.path} holds samples that are not numbers (NaN or infinity); export it again")
    if peak > LOUDEST * full_scale:
        advice = "export it with samples within 1" if sound.is_float else "it is damaged; copy it again"
        raise UserError(f"{sound.source.path} holds samples up to {peak:g}, full scale is {full_scale:g}: {advice}")
