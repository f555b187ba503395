"""Sound as samples that carry their rate: reading, resampling and writing."""

from audiolm_jax.audio.folder import AUDIO_SUFFIXES, audio_files
from audiolm_jax.audio.reading import decode_audio, read_audio, read_header, read_ranges
from audiolm_jax.audio.resampling import resample
from audiolm_jax.audio.waveform import Waveform, cut, refuse_other_scale
from audiolm_jax.audio.writing import PEAK_LIMIT, check_output_suffix, encode_audio, encode_for, limit_peak, write_audio

__all__ = [
    "AUDIO_SUFFIXES",
    "PEAK_LIMIT",
    "Waveform",
    "audio_files",
    "check_output_suffix",
    "cut",
    "decode_audio",
    "encode_audio",
    "encode_for",
    "limit_peak",
    "read_audio",
    "read_header",
    "read_ranges",
    "refuse_other_scale",
    "resample",
    "write_audio",
]
