"""A model as Hugging Face's transformers saves it: its settings, those of its feature extractor, its weights."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from audiolm_jax.errors import UserError, brief, first_line, shown
from audiolm_jax.files import is_plain_name, replace_files
from audiolm_jax.files.model_folders import holds_model
from audiolm_jax.files.plain_json import parse
from audiolm_jax.pretrained.files.torch_file import read_torch_file

CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"
SAFETENSORS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TORCH_NAME = "pytorch_model.bin"
TORCH_INDEX_NAME = "pytorch_model.bin.index.json"
CARD_NAME = "README.md"

_LICENCE = re.compile(r"^license:\s*['\"]?([^'\"\n]+?)['\"]?\s*$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class HuggingFaceFolder:
    """What such a folder says of its model; weights are read when they are asked for.

    Attributes:
        path: of the folder.
        config: config.json.
        preprocessor: preprocessor_config.json, empty if there is none.
        licence: that its model card names, None if it names none.
    """

    path: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    licence: str | None

    @property
    def origin(self) -> str:
        """The name that the model was loaded by when it was saved, or the folder's."""
        return str(self.config.get("_name_or_path") or self.path.resolve().name)

    def tensors(self) -> dict[str, np.ndarray]:
        """All tensors by name, in the types that they are stored in.

        Raises:
            UserError: there are no weights, or a file of them is missing, cut short, damaged or would run code.
        """
        for name, index, read in (
            (SAFETENSORS_NAME, INDEX_NAME, _read_safetensors),
            (TORCH_NAME, TORCH_INDEX_NAME, read_torch_file),
        ):
            if (self.path / name).exists():
                return read(self.path / name)
            if (self.path / index).exists():
                return self._sharded(index, read)
        raise UserError(f"{self.path} has no {SAFETENSORS_NAME} and no {TORCH_NAME}; copy the model with its weights")

    def _sharded(self, index: str, read) -> dict[str, np.ndarray]:
        """Tensors of several files, according to the index that lists the file of each."""
        places = _read_json(self.path / index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise UserError(f"{self.path / index} has no weight_map; copy the model again")
        tensors: dict[str, np.ndarray] = {}
        for name in sorted(set(places.values())):
            if not is_plain_name(name):
                named = f"{self.path / index} names {shown(name)}"
                raise UserError(f"{named}, which is no plain file name; do not trust it")
            if not (self.path / name).exists():
                raise UserError(f"{self.path} lacks {brief(name)}, which {index} lists; copy the model again")
            tensors |= read(self.path / name)
        missing = sorted(places.keys() - tensors.keys())
        if missing:
            lacking = f"{self.path / places[missing[0]]} has no {brief(missing[0])}"
            raise UserError(f"{lacking}, which {index} lists; copy it again")
        return tensors


def open_huggingface_folder(path: str | Path) -> HuggingFaceFolder:
    """Reads what a folder says of its model.

    Raises:
        UserError: it is no folder, has no config.json, or one of its JSON files is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        name = path if len(path.parts) == 2 and not path.is_absolute() else f"OWNER/{path.name}"
        raise UserError(
            f"{path} is no folder, and nothing is downloaded here; get the model first, for example by `hf download "
            f"{name} --local-dir DIR`, and give DIR"
        )
    if holds_model(path):
        raise UserError(f"{path} is a bundle or an imported model already; give a folder of Hugging Face's format")
    if not (path / CONFIG_NAME).exists():
        raise UserError(f"{path} has no {CONFIG_NAME}; give a folder as model.save_pretrained writes it")
    preprocessor = _read_json(path / PREPROCESSOR_NAME) if (path / PREPROCESSOR_NAME).exists() else {}
    return HuggingFaceFolder(path, _read_json(path / CONFIG_NAME), preprocessor, _licence(path / CARD_NAME))


def write_huggingface_folder(
    path: str | Path, config: Mapping[str, Any], preprocessor: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    """Writes config.json, preprocessor_config.json (if it is not empty) and model.safetensors into a folder.

    Raises:
        OSError: the folder cannot be made or written.
    """
    # The format that transformers looks for: row-major arrays of a PyTorch model.
    files = {SAFETENSORS_NAME: save(dict(tensors), metadata={"format": "pt"}), CONFIG_NAME: _json(config)}
    if preprocessor:
        files[PREPROCESSOR_NAME] = _json(preprocessor)
    replace_files(path, files, last=CONFIG_NAME)


def _json(plain: Mapping[str, Any]) -> bytes:
    return (json.dumps(dict(plain), indent=2, sort_keys=True) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = parse(path.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); copy the model again") from error
    if not isinstance(plain, dict):
        raise UserError(f"{path} holds no settings; copy the model again")
    return plain


def _licence(card: Path) -> str | None:
    """The licence in the head of a model card."""
    if not card.exists():
        return None
    text = card.read_text(encoding="utf-8-sig", errors="replace")
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = _LICENCE.search(head)
    return found.group(1) if found else None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, "numpy") as file:
            return dict(_entries(file))
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError, LookupError) as error:
        raise UserError(f"{path} is cut short or no safetensors file ({first_line(error)}); copy it again") from error


def _entries(file) -> Iterator[tuple[str, np.ndarray]]:
    for name in file.keys():  # noqa: SIM118, it is no dictionary
        yield name, file.get_tensor(name)
