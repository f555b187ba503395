"""Whisper from a local folder in CTranslate2's format, run by the package faster-whisper (extra `whisper`).

Int8 products on CPU: Whisper base hears ten seconds of speech in about one. The folder holds config.json, model.bin,
tokenizer.json and vocabulary.txt or .json; nothing is downloaded, and nothing is unpickled.
"""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError, first_line
from audiolm_jax.extras import how_to_install
from audiolm_jax.fingerprint import files_digest

WEIGHTS = "model.bin"
_FILES = ("config.json", WEIGHTS, "tokenizer.json")
_VOCABULARIES = ("vocabulary.txt", "vocabulary.json")
_SAMPLE_RATE_HZ = 16_000
# Whisper's encoder takes 30 s; faster-whisper cuts what is longer by the time stamps that the model writes.
_MAX_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class WhisperRecogniser:
    """A Whisper model; see `asr.Recogniser`.

    Attributes:
        name: of the folder.
        version: of the packages and of the arithmetic, and a hash of the folder's files.
        model: faster_whisper.WhisperModel.
    """

    name: str
    version: str
    model: Any
    sample_rate_hz = _SAMPLE_RATE_HZ
    max_seconds = _MAX_SECONDS
    one_core = False  # CTranslate2 uses all cores by itself

    def transcribe(self, samples: np.ndarray) -> str:
        """As `asr.Recogniser`: the likeliest token at each step, without the retries at higher temperatures.

        Those would make what is heard depend on chance, and hide how unsure the model was.
        """
        if not len(samples):
            return ""
        segments, _ = self.model.transcribe(
            np.asarray(samples, np.float32),
            language="en",
            task="transcribe",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


def load(folder: Path) -> WhisperRecogniser:
    """The recogniser of a folder.

    Raises:
        UserError: a file is missing or damaged, or faster-whisper is not installed.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}; give the folder of a Whisper model in CTranslate2's format")
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise UserError(f"{folder} holds no {' or '.join(_VOCABULARIES)}; copy the folder of the model again")
    try:
        import faster_whisper
    except ModuleNotFoundError as error:
        raise UserError(how_to_install(error) or str(error)) from error
    try:
        model = faster_whisper.WhisperModel(str(folder.resolve()), device="auto", compute_type="int8")
    except Exception as error:  # CTranslate2 and tokenizers raise bare ones for damaged files
        raise UserError(f"{folder} is no complete Whisper model ({first_line(error)[:160]}); copy it again") from error
    read = [folder / name for name in (*_FILES, *_VOCABULARIES) if (folder / name).is_file()]
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("faster-whisper", "ctranslate2"))
    return WhisperRecogniser(folder.resolve().name, f"whisper {files_digest(read)}, {packages}, int8", model)
