"""A golden model as our code reads it, and the reference's arrays of it."""

import functools
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights
from audiolm_jax.pretrained.kind import Kind

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
ROWS = (0, 1, 2)
# Tensors that are listed instead of read: what w2v-BERT 2.0 was given in training where something was hidden.
LEFT_OUT = {"wav2vec2-bert": ("masked_spec_embed",)}


@functools.cache
def golden(kind: Kind, name: str | None = None):
    """(codec or encoder, parameters, weight map, expected arrays) of a folder, that of the kind's name by default."""
    name = name or kind.name
    folder = open_huggingface_folder(GOLDEN / name)
    config = kind.read_config(folder.config, folder.preprocessor)
    weight_map = kind.weight_map(config)
    read = read_weights(folder.tensors(), weight_map, name)
    assert read.left_out == LEFT_OUT.get(kind.name, ())
    return kind.make(config), read.params, weight_map, load_file(GOLDEN / name / "expected.safetensors")


def rows(kind: Kind, name: str, fill):
    """The arrays of all rows, one [rows, longest, ...], and their lengths."""
    arrays = [golden(kind)[3][f"{name}.{row}"] for row in ROWS]
    together = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in zip(together, arrays, strict=True):
        row[: len(array)] = array
    return together, np.int32([len(array) for array in arrays])


def assert_rows(kind: Kind, ours, name: str, atol: float = 0.0) -> None:
    """Every row of ours begins with what the reference gives of it alone."""
    for row in ROWS:
        wanted = golden(kind)[3][f"{name}.{row}"]
        np.testing.assert_allclose(ours[row][: len(wanted)], wanted, rtol=0, atol=atol)
