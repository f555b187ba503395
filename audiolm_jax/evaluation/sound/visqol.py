"""ViSQOL v3 in speech mode: how alike a recording and its reference sound, by the package visqol-python.

ViSQOL has two mappings for speech from the similarity of two spectrograms to a mean opinion score, and they differ by
more than most codecs do:

- `exponential`: a function of the mean similarity alone, fitted on noisy telephone speech; 5 for identical signals.
- `lattice`: a network that reads similarity, its spread and energy in every band. It is C++ ViSQOL's default since
  version 3.2. It is stricter and depends on the level: identical recordings of read speech get 4.0 to 4.6, and white
  noise at 20 dB, which the exponential mapping gives 4.0 to 4.3, gets 1.0 to 1.4, or 1.5 to 3.6 where both signals are
  20 dB quieter.

AudioLM does not say which one its table I shows. visqol-python picks the lattice silently where its library is
installed, so the mapping is always passed here, and belongs beside every figure. ViSQOL's audio mode, for music at
48 kHz, is not used.
"""

import functools
import importlib.metadata
import importlib.util
from typing import NamedTuple

import numpy as np

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.errors import UserError

VISQOL_SAMPLE_RATE_HZ = 16_000
EXPONENTIAL = "exponential"
LATTICE = "lattice"
VISQOL_MAPPINGS = (EXPONENTIAL, LATTICE)
# ViSQOL's first patch starts at frame 9 and is 20 frames of 20 ms long, and the search wants room around it.
VISQOL_MIN_SECONDS = 1.0
# Made for clips of 5 to 15 s. Memory and time grow with length: 1.7 GB and half a minute for five minutes of sound.
VISQOL_MAX_SECONDS = 300.0


class VisqolScore(NamedTuple):
    """`moslqo`: predicted mean opinion score, 1 to 5. `similarity`: mean NSIM that it is made of, at most 1."""

    moslqo: float
    similarity: float


def visqol_speech(
    reference: np.ndarray, degraded: np.ndarray, sample_rate_hz: int = 16_000, mapping: str = EXPONENTIAL
) -> VisqolScore:
    """ViSQOL v3 in speech mode, of two signals as they are: without padding, cutting or gain.

    ViSQOL aligns the signals and matches their levels itself. Half a second of silence at both ends, which its authors
    advise, raises low scores by up to 0.2 with the exponential mapping; none is added.

    Args:
        reference, degraded: float[T] within -1..1 of nearly the same length; 5 to 15 s are advised.
        sample_rate_hz: of both; resampled to 16 kHz if it is another.
        mapping: one of VISQOL_MAPPINGS.

    Raises:
        ValueError: a signal is shorter than one second or longer than five minutes, or the reference is silent.
        UserError: see `check_mapping`.
        ModuleNotFoundError: visqol-python is not installed (extra `eval`).
    """
    signals = [
        resample(Waveform(np.asarray(samples, np.float32), sample_rate_hz), VISQOL_SAMPLE_RATE_HZ).samples
        for samples in (reference, degraded)
    ]
    lengths = [len(samples) / VISQOL_SAMPLE_RATE_HZ for samples in signals]
    if min(lengths) < VISQOL_MIN_SECONDS:
        raise ValueError(f"ViSQOL needs at least {VISQOL_MIN_SECONDS:g} s of sound, got {min(lengths):.2f} s")
    if max(lengths) > VISQOL_MAX_SECONDS:
        raise ValueError(
            f"ViSQOL takes at most {VISQOL_MAX_SECONDS:g} s and is made for 5 to 15, got {max(lengths):.0f} s; cut it "
            "into clips"
        )
    if not np.any(signals[0]):
        raise ValueError("the reference is silent")
    if not np.any(signals[1]):
        return VisqolScore(1.0, 0.0)
    result = _visqol(mapping).measure_from_arrays(
        signals[0].astype(np.float64), signals[1].astype(np.float64), VISQOL_SAMPLE_RATE_HZ
    )
    return VisqolScore(float(result.moslqo), float(result.vnsim))


def check_mapping(mapping: str) -> None:
    """Refuses a mapping that is not known, or whose library is missing, before anything is measured.

    Raises:
        UserError: see above.
    """
    if mapping not in VISQOL_MAPPINGS:
        raise UserError(f"ViSQOL's mapping must be one of {', '.join(VISQOL_MAPPINGS)}, got {mapping!r}")
    if mapping == LATTICE and importlib.util.find_spec("ai_edge_litert") is None:
        raise UserError(
            "the lattice mapping of ViSQOL needs ai-edge-litert; install it with: pip install 'audiolm_jax[lattice]', "
            "or take the exponential one"
        )


@functools.cache
def _visqol(mapping: str):
    from visqol.api import VisqolApi

    check_mapping(mapping)
    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=mapping == LATTICE)
    return api


def visqol_is_installed() -> bool:
    """Whether visqol-python (extra `eval`) is there."""
    return importlib.util.find_spec("visqol") is not None


def visqol_settings(mapping: str = EXPONENTIAL) -> dict[str, str]:
    """What to write beside a figure: mode, mapping and version of the package."""
    return {
        "visqol_mode": "speech, 16 kHz",
        "visqol_mapping": mapping,
        "visqol_package": f"visqol-python {importlib.metadata.version('visqol-python')}",
    }
