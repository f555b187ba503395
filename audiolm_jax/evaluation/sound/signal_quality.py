"""Distances between a waveform and its reference: SI-SDR and log-mel, and PESQ and STOI where they are installed."""

import functools
import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax import spectral
from audiolm_jax.audio import Waveform, resample

# Rate at which each band of PESQ is computed: wide-band P.862.2, narrow-band P.862.1.
PESQ_RATES_HZ = {"wb": 16_000, "nb": 8_000}
# The package writes past the end of its tables at the 51st utterance, and its process dies. Utterances and the pauses
# that part them last 0.2 s at least, so there are at most 50 in 20 s.
PESQ_MAX_SECONDS = 20.0
# What pystoi returns where fewer than 30 frames are left without silence, and the measure is not defined.
_STOI_UNDEFINED = 1e-5
_MELS, _MEL_WINDOW_SECONDS, _MEL_FLOOR = 80, 0.064, 1e-5
_MEL_BLOCK_FRAMES = 256


def si_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), of float[T] each.

    Means are removed first; nothing is aligned. Capped at 100 dB, so that identity is a number; -100 dB for a silent
    estimate.

    Raises:
        ValueError: the lengths differ, or the reference is silent, for which the ratio is not defined.
    """
    reference, estimate = _pair(reference, estimate)
    reference, estimate = reference - reference.mean(), estimate - estimate.mean()
    energy = float(reference @ reference)
    if energy <= 0:
        raise ValueError("SI-SDR of a silent reference is not defined")
    target = (float(estimate @ reference) / energy) * reference
    signal, distortion = float(target @ target), float(np.sum((estimate - target) ** 2))
    if signal <= 1e-10 * max(distortion, 1e-20):
        return -100.0
    return float(min(10 * np.log10(signal / max(distortion, 1e-10 * signal)), 100.0))


def log_mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float:
    """Mean |difference| of natural-log mel magnitudes, in nats: 80 mels, window 64 ms, hop 16 ms, floor 1e-5.

    Args:
        reference, estimate: float[T] of the same length, at least one window.
        sample_rate_hz: of both.

    Raises:
        ValueError: the lengths differ, or are less than one window.
    """
    reference, estimate = _pair(reference, estimate)
    window = round(_MEL_WINDOW_SECONDS * sample_rate_hz / 4) * 4
    hop = window // 4
    if len(reference) < window:
        raise ValueError(f"the mel distance needs {window} samples, got {len(reference)}")
    num_frames = 1 + (len(reference) - window) // hop
    # Blocks of one shape: one program for recordings of every length, and the memory of one block.
    block_samples = (_MEL_BLOCK_FRAMES - 1) * hop + window
    distances = []
    for first in range(0, num_frames, _MEL_BLOCK_FRAMES):
        block = np.zeros((2, block_samples), np.float32)
        for row, samples in enumerate((reference, estimate)):
            part = samples[first * hop : first * hop + block_samples]
            block[row, : len(part)] = part
        frames = np.asarray(_mel_distances(block, sample_rate_hz, window))
        distances.append(frames[: num_frames - first])
    return float(np.mean(np.concatenate(distances), dtype=np.float64))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _mel_distances(block, sample_rate_hz: int, window_samples: int):
    """Mean |difference| float32[F] over mels of every frame of a block float32[2, T]."""
    log_mel = spectral.log_mel(block, sample_rate_hz, window_samples, window_samples // 4, _MELS, floor=_MEL_FLOOR)
    return jnp.mean(jnp.abs(log_mel[0] - log_mel[1]), axis=-1)


def pesq_mos(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int, band: str = "wb") -> float | None:
    """PESQ as a mean opinion score, 1 to 4.64 ("wb", P.862.2) or 4.55 ("nb", P.862.1), by the package pesq.

    Args:
        reference, estimate: float[T] of the same length.
        sample_rate_hz: of both; resampled to 16 kHz for "wb" and to 8 kHz for "nb".
        band: "wb" or "nb".

    Returns:
        The score, or None where it is not defined: the package finds no speech in the reference, the estimate is
        silent, or they are shorter than a quarter of a second or longer than PESQ_MAX_SECONDS.

    Raises:
        ValueError: the lengths differ.
        ModuleNotFoundError: pesq is not installed (extra `quality`).
    """
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    reference, estimate = _pair(reference, estimate)
    if len(reference) > PESQ_MAX_SECONDS * sample_rate_hz or not np.any(estimate):
        return None
    rate_hz = PESQ_RATES_HZ[band]
    a, b = (resample(Waveform(samples, sample_rate_hz), rate_hz).samples for samples in (reference, estimate))
    try:
        score = float(pesq(rate_hz, a, b, band))
    except (BufferTooShortError, NoUtterancesError):
        return None
    return score if np.isfinite(score) else None


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int, extended: bool = False) -> float | None:
    """Short-time objective intelligibility, at most 1 (Taal et al. 2011; extended: Jensen and Taal 2016), by pystoi.

    Args:
        reference, estimate: float[T] of the same length.
        sample_rate_hz: of both; pystoi resamples to 10 kHz.
        extended: whether to correlate whole spectra, which also hears modulated maskers.

    Returns:
        The measure, or None where less than 0.4 s is left without silence.

    Raises:
        ValueError: the lengths differ.
        ModuleNotFoundError: pystoi is not installed (extra `quality`).
    """
    from pystoi import stoi as by_package

    reference, estimate = _pair(reference, estimate)
    if len(reference) < 0.1 * sample_rate_hz:  # less than one frame, at which pystoi fails
        return None
    # The extended measure adds noise of 1e-16 from NumPy's global generator; fixed, so that figures repeat.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = float(by_package(reference, estimate, sample_rate_hz, extended=extended))
    finally:
        np.random.set_state(state)
    return value if np.isfinite(value) and value != _STOI_UNDEFINED else None


def pesq_is_installed() -> bool:
    """Whether the package pesq (extra `quality`) is there."""
    return importlib.util.find_spec("pesq") is not None


def stoi_is_installed() -> bool:
    """Whether the package pystoi (extra `quality`) is there."""
    return importlib.util.find_spec("pystoi") is not None


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64[T] of one length."""
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if reference.shape != estimate.shape or reference.ndim != 1 or not reference.size:
        raise ValueError(f"two waveforms of the same length are needed, got {reference.shape} and {estimate.shape}")
    return reference, estimate
