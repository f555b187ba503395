"""An imported model, perhaps fine-tuned here, back in the reference's own format."""

import dataclasses
from pathlib import Path
from typing import Any

from audiolm_jax.errors import UserError
from audiolm_jax.files.model_folders import MANIFEST_NAME
from audiolm_jax.pretrained.files.huggingface_folder import (
    CONFIG_NAME,
    PREPROCESSOR_NAME,
    SAFETENSORS_NAME,
    write_huggingface_folder,
)
from audiolm_jax.pretrained.files.imported_model import ImportedModel
from audiolm_jax.pretrained.files.weight_map import write_weights


def export_huggingface(
    model: ImportedModel, folder: str | Path, params: Any | None = None, overwrite: bool = False
) -> None:
    """Writes config.json, preprocessor_config.json and model.safetensors, which transformers' from_pretrained reads.

    Importing the result gives the same parameters to the last bit.

    Args:
        model: that was imported.
        folder: where to.
        params: fine-tuned parameters in place of the model's own.
        overwrite: whether files that are there are replaced.

    Raises:
        UserError: the folder holds a model already, cannot be written, or parameters are of another model.
    """
    folder = Path(folder)
    check_output(folder, overwrite)
    if params is not None:
        model = dataclasses.replace(model, params=params)
    tensors = write_weights(model.params, model.kind.weight_map(model.config))
    try:
        write_huggingface_folder(folder, model.reference["config"], model.reference["preprocessor"], tensors)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error}); make room, or name another") from error


def check_output(folder: str | Path, overwrite: bool) -> None:
    """Raises UserError where a folder holds a model that must not be replaced, or one that is no Hugging Face's."""
    folder = Path(folder)
    if (folder / MANIFEST_NAME).exists():
        raise UserError(f"{folder} holds a {MANIFEST_NAME}, which belongs to a model of ours; give another folder")
    there = [name for name in (CONFIG_NAME, PREPROCESSOR_NAME, SAFETENSORS_NAME) if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{folder} holds {there[0]} already; give another folder, or --overwrite to replace the model")
