"""Speech recognisers behind one small interface, and the one that works offline: PocketSphinx with its own model."""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Protocol

import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words import whisper_asr

POCKETSPHINX = "pocketsphinx"
# Of all recognisers, as the registry names them; their versions stand beside figures.
RECOGNISER_PACKAGES = ("pocketsphinx", "faster-whisper", "ctranslate2", "transformers", "torch")


class Recogniser(Protocol):
    """What turns speech into text.

    Attributes:
        name: of the recogniser or its model, for people.
        version: everything that its answers depend on; what was heard is kept under it.
        sample_rate_hz: of the samples that it takes.
        max_seconds: the longest recording that it hears whole; None for any.
        one_core: whether it keeps one core busy and can be sent to other processes, so that several are faster.
    """

    name: str
    version: str
    sample_rate_hz: int
    max_seconds: float | None
    one_core: bool

    def transcribe(self, samples: np.ndarray) -> str:
        """What is said in float32[T], as the recogniser writes it; "" where it hears nothing.

        A function of the samples alone, not of what was heard before.
        """


@dataclasses.dataclass(frozen=True)
class PocketSphinx:
    """PocketSphinx 5 with the US English model that its package brings, and its default settings."""

    name = POCKETSPHINX
    sample_rate_hz = 16_000
    max_seconds = None
    one_core = True

    @property
    def version(self) -> str:
        return f"pocketsphinx {importlib.metadata.version('pocketsphinx')} en-us"

    def transcribe(self, samples: np.ndarray) -> str:
        """As `Recogniser`."""
        from pocketsphinx import Decoder

        if not len(samples):
            return ""
        # 16-bit files, read as integers by 32768, come back exactly.
        pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
        # A new one each time, though it takes 0.3 s: a decoder adapts to what it hears, and not even its own reset of
        # noise and cepstral means makes what is heard next the same as in a new one.
        decoder = Decoder(samprate=self.sample_rate_hz, loglevel="FATAL")
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""


def packages_of(name: str) -> tuple[str, ...]:
    """What `load_recogniser` imports for a name, by the names that Python knows it by; nothing where it knows none."""
    if name == POCKETSPHINX:
        return (POCKETSPHINX,)
    if (Path(name) / whisper_asr.WEIGHTS).is_file():
        return ("faster_whisper", "ctranslate2")
    return ("transformers", "torch") if Path(name).is_dir() else ()


def load_recogniser(name: str) -> Recogniser:
    """The recogniser of a name: "pocketsphinx", or a local folder of a Whisper model in CTranslate2's format or of a
    Hugging Face model.

    Raises:
        UserError: the name is neither, its packages are not installed, or the folder holds no such model.
    """
    if name == POCKETSPHINX:
        try:
            importlib.metadata.version("pocketsphinx")
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                "recogniser pocketsphinx is not installed; install it with: pip install 'audiolm_jax[eval]'"
            ) from error
        return PocketSphinx()
    if not Path(name).is_dir():
        raise UserError(
            f"there is no recogniser {name!r}; give {POCKETSPHINX}, or the folder of a Whisper model (config.json, "
            "model.bin ...) or of a Hugging Face model (config.json, model.safetensors ...): nothing is downloaded"
        )
    if (Path(name) / whisper_asr.WEIGHTS).is_file():
        return whisper_asr.load(Path(name))
    from audiolm_jax.evaluation.words.huggingface_asr import load

    return load(Path(name))
