"""What a caller may ask for: a prompt in several forms, and the numbers of Python, NumPy and JAX."""

import dataclasses
import math
import os

from audiolm_jax.audio import Waveform, read_audio, refuse_other_scale
from audiolm_jax.errors import UserError
from audiolm_jax.generation.sampling import SamplingSettings

CONTINUATION, ACOUSTIC, UNCONDITIONAL, FINE = "continuation", "acoustic", "unconditional", "fine"
MODES = (CONTINUATION, ACOUSTIC, UNCONDITIONAL, FINE)
STAGE_NUMBERS = {"semantic": 1, "coarse": 2, "fine": 3}
PAPER_TEMPERATURES = (0.6, 0.8, 0.6)
DEFAULT_PROMPT_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate; the fields are the arguments of `AudioLM.generate`."""

    prompt: Waveform | None = None
    mode: str = CONTINUATION
    prompt_seconds: float = DEFAULT_PROMPT_SECONDS
    seconds: float | None = None
    num_samples: int = 1
    seed: int = 0
    temperature: float | tuple[float, float, float] | None = None
    top_k: int | tuple[int, int, int] = 0
    top_p: float | tuple[float, float, float] = 1.0

    def __post_init__(self):
        """Takes NumPy's and JAX's numbers for Python's, and refuses what no mode can do."""
        object.__setattr__(self, "prompt_seconds", plain_number("prompt_seconds", self.prompt_seconds))
        if self.seconds is not None:
            object.__setattr__(self, "seconds", plain_number("seconds", self.seconds))
        for name in ("temperature", "top_k", "top_p"):
            object.__setattr__(self, name, plain_numbers(name, getattr(self, name)))
        for name in ("num_samples", "seed"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.mode not in MODES:
            raise UserError(f"mode is {self.mode!r}, but must be one of {', '.join(MODES)}")
        if self.mode == UNCONDITIONAL and self.prompt is not None:
            raise UserError("mode unconditional takes no prompt; leave it out, or use mode continuation")
        if self.mode != UNCONDITIONAL and self.prompt is None:
            raise UserError(f"mode {self.mode} needs a prompt; give one, or use mode unconditional")
        if self.prompt is not None:
            if not isinstance(self.prompt, Waveform):
                raise UserError(f"the prompt of a request is a Waveform, got {type(self.prompt).__name__}")
            refuse_other_scale(self.prompt)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"seconds must be more than 0, got {self.seconds}")
        if not 0 < self.prompt_seconds < math.inf:
            raise UserError(f"prompt_seconds must be more than 0, got {self.prompt_seconds}")
        if self.num_samples < 1:
            raise UserError(f"num_samples must be at least 1, got {self.num_samples}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must lie in 0 .. 2^32 - 1, got {self.seed}")
        self.sampling  # noqa: B018  refuses bad settings here rather than minutes later

    @property
    def sampling(self) -> dict[str, SamplingSettings]:
        """How each stage draws, by its name; a single number holds for all three."""
        temperature = PAPER_TEMPERATURES if self.temperature is None else self.temperature
        columns = []
        for name, value in (("temperature", temperature), ("top_k", self.top_k), ("top_p", self.top_p)):
            values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
            if len(values) != 3:
                raise UserError(f"{name} takes one number, or three for the semantic, coarse and fine stage: {value}")
            columns.append(values)
        rows = zip(*columns, strict=True)
        return {name: SamplingSettings(*row) for name, row in zip(STAGE_NUMBERS, rows, strict=True)}


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
