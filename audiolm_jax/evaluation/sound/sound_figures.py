"""Plain figures of one recording that tell speech from silence, hum, noise and clipping, without any reference.

They are no measures of quality. They catch what averages of finer measures hide: a generator that has fallen silent, or
hisses, says so here at once, beside the same figures of the originals.
"""

import numpy as np

from audiolm_jax.audio import Waveform

# Units as they are shown beside the figures.
UNITS = {
    "level_dbfs": "dB of full scale, root mean square",
    "silent_share": "of frames of 20 ms, 40 dB or more below the loud ones (95th percentile), or below -80 dBFS",
    "flatness": "of the power spectrum, mean over the other frames; 0.57 for white noise, 0.03 to 0.1 for read speech",
    "clipped_share": "of samples at 0.98 of full scale or more",
    "voiced_share": "of frames of 40 ms that are not silent, with a period of 60 to 400 Hz (autocorrelation over 0.5)",
    "median_f0_hz": "Hz, over the voiced frames",
}
_FRAME_SECONDS, _PITCH_FRAME_SECONDS = 0.02, 0.04
_BELOW_LOUD_DB, _FLOOR_DBFS, _CLIPPED = 40.0, -80.0, 0.98
_LOWEST_F0_HZ, _HIGHEST_F0_HZ, _VOICED = 60.0, 400.0, 0.5
_TINY = 1e-12


def sound_figures(waveform: Waveform) -> dict[str, float | None]:
    """Level, spectrum and voice of a recording, see `UNITS`; None for what is not defined, as the pitch of noise.

    Raises:
        ValueError: it is shorter than one frame of 40 ms.
    """
    samples, rate_hz = np.asarray(waveform.samples, np.float64), waveform.sample_rate_hz
    if len(samples) < round(_PITCH_FRAME_SECONDS * rate_hz):
        raise ValueError(f"{waveform.seconds:.3f} s of sound are less than one frame of {_PITCH_FRAME_SECONDS} s")
    frames = _frames(samples, round(_FRAME_SECONDS * rate_hz))
    audible = _audible(frames)
    periods_hz = _periods_hz(_frames(samples, round(_PITCH_FRAME_SECONDS * rate_hz)), rate_hz)
    voiced = periods_hz[periods_hz > 0]
    return {
        "level_dbfs": float(_dbfs(samples[None])[0]),
        "silent_share": float(np.mean(~audible)),
        "flatness": float(np.mean(_flatness(frames[audible]))) if audible.any() else None,
        "clipped_share": float(np.mean(np.abs(samples) >= _CLIPPED)),
        "voiced_share": float(np.mean(periods_hz[~np.isnan(periods_hz)] > 0)) if audible.any() else None,
        "median_f0_hz": float(np.median(voiced)) if len(voiced) else None,
    }


def _frames(samples: np.ndarray, length: int) -> np.ndarray:
    """[F, length], next to each other; a last partial one is left out."""
    return samples[: len(samples) // length * length].reshape(-1, length)


def _dbfs(frames: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.mean(np.square(frames), axis=-1) + _TINY)


def _audible(frames: np.ndarray) -> np.ndarray:
    """bool[F], which frames are not silent."""
    levels = _dbfs(frames)
    return levels > max(np.percentile(levels, 95) - _BELOW_LOUD_DB, _FLOOR_DBFS)


def _flatness(frames: np.ndarray) -> np.ndarray:
    """Geometric by arithmetic mean of the power spectrum of each frame, from 0 (a tone) to 1 (an impulse)."""
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=-1)))[:, 1:-1] + _TINY
    return np.exp(np.mean(np.log(power), axis=-1)) / np.mean(power, axis=-1)


def _periods_hz(frames: np.ndarray, rate_hz: int) -> np.ndarray:
    """float[F]: the frequency of a frame's period, 0 where it has none, NaN where it is silent."""
    audible = _audible(frames)
    periods = np.where(audible, 0.0, np.nan)
    length = frames.shape[1]
    centred = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * length, axis=-1)
    correlation = np.fft.irfft(np.square(np.abs(spectrum)), axis=-1)[:, :length]
    # A lag has fewer products than lag 0; each is divided by the energies of the two parts that it multiplies.
    energy = np.cumsum(np.square(centred), axis=1)
    lags = np.arange(int(rate_hz / _HIGHEST_F0_HZ) - 1, int(rate_hz / _LOWEST_F0_HZ) + 2)
    head, tail = energy[:, length - 1 - lags], energy[:, -1:] - energy[:, lags - 1]
    similarity = correlation[:, lags] / np.sqrt(head * tail + _TINY)
    inner = similarity[:, 1:-1]
    peaks = np.where((inner >= similarity[:, :-2]) & (inner >= similarity[:, 2:]) & (inner > _VOICED), inner, 0.0)
    found = audible & peaks.any(axis=1)
    # Multiples of a period are alike too: the shortest lag that comes close to the best one is the period.
    shortest = np.argmax(peaks >= 0.9 * peaks.max(axis=1, keepdims=True), axis=1)
    periods[found] = rate_hz / lags[1:-1][shortest[found]]
    return periods
