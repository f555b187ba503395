"""Sound out to files: 16-bit WAV or FLAC."""

import io
from pathlib import Path

import numpy as np

from audiolm_jax.audio.waveform import Waveform
from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file

PEAK_LIMIT = 0.99

_CONTAINER_OF_SUFFIX = {".wav": "WAV", ".flac": "FLAC"}


def write_audio(path, waveform: Waveform, copyright_notice: str = "") -> None:
    """Writes 16-bit WAV or FLAC, chosen by the suffix, under a temporary name that is then renamed.

    Samples beyond PEAK_LIMIT would wrap or clip, so a louder waveform is scaled down as a whole to that peak.
    The notice, for example the licence of the weights that made the sound, is stored in the file.

    Raises UserError for another suffix and for samples that are not finite, OSError where the disk refuses.
    """
    replace_file(path, encode_for(path, waveform, copyright_notice))


def encode_for(path, waveform: Waveform, copyright_notice: str = "") -> bytes:
    """The bytes that `write_audio` writes; raises UserError as it does."""
    container = _CONTAINER_OF_SUFFIX[check_output_suffix(path).suffix.lower()]
    return encode_audio(waveform, container, copyright_notice)


def check_output_suffix(path) -> Path:
    """The path, if sound can be written under its suffix; raises UserError otherwise."""
    path = Path(path)
    if path.suffix.lower() not in _CONTAINER_OF_SUFFIX:
        raise UserError(f"cannot write {path}: name the output .wav or .flac")
    return path


def encode_audio(waveform: Waveform, container: str = "WAV", copyright_notice: str = "") -> bytes:
    """The bytes of a 16-bit file ("WAV" or "FLAC") with the peak limited to PEAK_LIMIT."""
    import soundfile

    buffer = io.BytesIO()
    samples = limit_peak(waveform.samples)
    shape = {"samplerate": waveform.sample_rate_hz, "channels": 1}
    with soundfile.SoundFile(buffer, "w", format=container, subtype="PCM_16", **shape) as file:
        if copyright_notice:
            file.copyright = copyright_notice
        file.write(samples)
    return buffer.getvalue()


def limit_peak(samples: np.ndarray) -> np.ndarray:
    """float32[T] scaled down as a whole so that no sample exceeds PEAK_LIMIT; quieter samples are left alone."""
    if not np.isfinite(samples).all():
        raise UserError("the samples to write are not all numbers (NaN or infinity)")
    peak = float(np.max(np.abs(samples), initial=0.0))
    return samples * np.float32(PEAK_LIMIT / peak) if peak > PEAK_LIMIT else samples
