"""Speech recognisers from a local folder in Hugging Face's format, run by the transformers package (extra `asr`).

Two families: CTC models (wav2vec 2.0, HuBERT and their relatives) by their best label at each frame, and Whisper by its
best token at each step. Nothing is downloaded, nothing is unpickled and no code of the folder is run: weights are read
from safetensors alone.
"""

import dataclasses
import importlib.metadata
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.extras import how_to_install
from audiolm_jax.files.plain_json import parse
from audiolm_jax.fingerprint import files_digest

WHISPER = "WhisperForConditionalGeneration"
# Files that decide what is heard: weights, configurations and vocabularies.
_READ_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
# The convolutions in front of wav2vec 2.0 need 400 samples for one frame.
_LEAST_SECONDS = 0.1
# Drawn anew for training's masks; of no use in recognition, and left out of some files.
_MAY_BE_MISSING = ("masked_spec_embed",)


@dataclasses.dataclass(frozen=True)
class HuggingFaceRecogniser:
    """A model and what prepares its input and reads its output; see `asr.Recogniser`.

    Attributes:
        name: of the folder.
        version: of the packages, and a hash of the folder's files.
        sample_rate_hz: that the model was trained for.
        max_seconds: 30 for Whisper, which hears no more at once; None for CTC models.
        model, feature_extractor, tokenizer: of transformers; the model's device is where it runs.
    """

    name: str
    version: str
    sample_rate_hz: int
    max_seconds: float | None
    model: Any
    feature_extractor: Any
    tokenizer: Any
    one_core = False  # PyTorch uses all cores by itself

    def transcribe(self, samples: np.ndarray) -> str:
        """As `asr.Recogniser`: greedy decoding, one recording at a time, so that nothing depends on its neighbours."""
        import torch

        shortest = round(_LEAST_SECONDS * self.sample_rate_hz)
        samples = np.pad(samples, (0, max(0, shortest - len(samples))))
        inputs = self.feature_extractor(samples, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        with torch.inference_mode():
            if self.max_seconds is None:
                return self._read_ctc(self.model(**inputs).logits[0].argmax(dim=-1).tolist())
            tokens = self.model.generate(**inputs, do_sample=False, num_beams=1, **_english(self.model))
        return self.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()

    def _read_ctc(self, labels: list[int]) -> str:
        """Text of the labels of all frames: repeats are one, then blanks and sentence marks go.

        Not left to the tokenizer: with `skip_special_tokens` it takes the blanks out first, and "hello" becomes "helo".
        """
        tokenizer, blank = self.tokenizer, self.model.config.pad_token_id
        silent = {blank, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
        kept = [label for label, _ in itertools.groupby(labels) if label not in silent]
        return tokenizer.decode(kept, group_tokens=False).strip()


def load(folder: Path) -> HuggingFaceRecogniser:
    """The recogniser of a folder: config.json, preprocessor_config.json, model.safetensors and a tokenizer.

    Raises:
        UserError: a file is missing or does not fit the others, the model is of no class that recognises speech, or
            transformers and torch are not installed.
    """
    kind = _model_class(folder)
    _require_files(folder)
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise UserError(how_to_install(error) or str(error)) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    family = transformers.AutoModelForSpeechSeq2Seq if kind == WHISPER else transformers.AutoModelForCTC
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = family.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
        feature_extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **local)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    except Exception as error:  # a damaged folder raises whatever the part that stumbles over it raises
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is no complete Hugging Face model of class {kind}: {reason}") from error
    if missing := sorted(name for name in report["missing_keys"] if not name.endswith(_MAY_BE_MISSING)):
        raise UserError(f"{folder} holds no weights for {len(missing)} parameters, {missing[0]} first; copy it again")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch"))
    rate_hz = feature_extractor.sampling_rate
    return HuggingFaceRecogniser(
        name=folder.resolve().name,
        version=f"{kind} {files_digest(_files_read(folder))}, {packages}, float32 on {device}",
        sample_rate_hz=rate_hz,
        max_seconds=feature_extractor.n_samples / rate_hz if kind == WHISPER else None,
        model=model.eval().to(device),
        feature_extractor=feature_extractor,
        tokenizer=tokenizer,
    )


def _require_files(folder: Path) -> None:
    """Looks for what a model needs beside config.json, because transformers goes on without some of it."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} holds no model.safetensors; weights in pickled files (pytorch_model.bin) are not read, because "
            "they can run code: save the model again with save_pretrained"
        )
    for names in (("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json")):
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"{folder} holds no {names[0]} (or {names[1]}); copy the whole folder of the model")


def _model_class(folder: Path) -> str:
    """The class of the model that config.json names, one that we can decode."""
    path = folder / "config.json"
    try:
        classes = parse(path.read_bytes()).get("architectures") or ["none"]
    except FileNotFoundError:
        raise UserError(f"{folder} holds no config.json; give the folder of a Hugging Face model") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is no JSON object; copy the folder of the model again") from error
    if classes[0] != WHISPER and not str(classes[0]).endswith("ForCTC"):
        raise UserError(
            f"{path} names the class {classes[0]}, which recognises no speech here; give a model of class "
            f"Wav2Vec2ForCTC, HubertForCTC (any ...ForCTC) or {WHISPER}"
        )
    return classes[0]


def _english(model: Any) -> dict[str, str]:
    """The language and task that a Whisper model of many languages must be told."""
    if getattr(model.generation_config, "is_multilingual", False):
        return {"language": "en", "task": "transcribe"}
    return {}


def _files_read(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in _READ_SUFFIXES]
