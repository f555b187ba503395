"""What a caller in Python may give: a prompt in several forms, and the numbers of NumPy and JAX."""

import os

from audiolm_jax.audio import Waveform, read_audio
from audiolm_jax.errors import UserError


def as_waveform(prompt, sample_rate_hz: int | None) -> Waveform | None:
    """A prompt in any of the forms that `AudioLM.generate` takes; UserError for others."""
    is_array = prompt is not None and not isinstance(prompt, (Waveform, str, os.PathLike))
    if is_array:
        if sample_rate_hz is None:
            raise UserError("a prompt that is an array needs its rate: generate(samples, sample_rate_hz=16000)")
        return Waveform(prompt, sample_rate_hz)
    if sample_rate_hz is not None:
        raise UserError("sample_rate_hz is for a prompt that is an array; a Waveform and a file have their own")
    return read_audio(prompt) if isinstance(prompt, (str, os.PathLike)) else prompt


def plain_numbers(name: str, value):
    """As `plain_number` for one number or several (a tuple then); None stays."""
    if value is None:
        return None
    if isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) == 1:
        return tuple(plain_number(name, one) for one in value)
    return plain_number(name, value)


def plain_number(name: str, value) -> int | float:
    """Python's number for one of Python, NumPy or JAX; UserError for anything else."""
    plain = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise UserError(f"{name} takes numbers, got {' '.join(repr(value).split())[:80]}")
    return plain


def whole_number(name: str, value) -> int:
    """As `plain_number`, for numbers without a fraction."""
    plain = plain_number(name, value)
    if isinstance(plain, float) and not plain.is_integer():
        raise UserError(f"{name} must be a whole number, got {value!r}")
    return int(plain)
