"""The stereo EnCodec: what the reference says of the small model, weights, configurations refused."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.encodec import encodec
from audiolm_jax.pretrained.encodec.encodec import EncodecConfig
from audiolm_jax.pretrained.encodec.encodec_48khz import EncodecChunks
from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained" / "encodec_48khz"


@functools.cache
def golden():
    """(chunks, parameters, weight map, expected arrays)."""
    folder = open_huggingface_folder(GOLDEN)
    config = encodec.KIND.read_config(folder.config, folder.preprocessor)
    weight_map = encodec.KIND.weight_map(config)
    params = read_weights(folder.tensors(), weight_map, "golden").params
    return EncodecChunks(config), params, weight_map, load_file(GOLDEN / "expected.safetensors")


@pytest.mark.parametrize("number", [0, 1], ids=["batch", "less_than_a_chunk"])
def test_the_reference(number):
    chunks, params, _, expected = golden()
    waves = expected[f"waves.{number}"]
    codes, scales = chunks.encode(params, waves)
    np.testing.assert_array_equal(codes, expected[f"codes.{number}"])
    np.testing.assert_allclose(scales, expected[f"scales.{number}"], rtol=1e-5)
    decoded = chunks.decode(params, codes, scales, waves.shape[2])
    np.testing.assert_allclose(decoded, expected[f"decoded.{number}"], rtol=0, atol=1e-5)


def test_weights_survive_an_export_to_the_last_bit():
    _, params, weight_map, _ = golden()
    tensors = write_weights(params, weight_map)
    assert set(tensors) == set(open_huggingface_folder(GOLDEN).tensors())
    jax.tree.map(np.testing.assert_array_equal, read_weights(tensors, weight_map, "again").params, params)


def test_the_config_is_no_codec():
    with pytest.raises(UserError, match="normalize = True and chunk_length_s = 0.12.*encodec_24khz"):
        encodec.KIND.make(golden()[0].config)


def test_configs_without_chunks_are_refused():
    with pytest.raises(UserError, match="no chunks.*Encodec for facebook/encodec_24khz"):
        EncodecChunks(EncodecConfig())
    with pytest.raises(UserError, match="multiple of 12 samples"):
        EncodecChunks(dataclasses.replace(golden()[0].config, chunk_length_s=0.121))


def test_more_samples_than_the_chunks_hold_are_refused():
    chunks, params, _, expected = golden()
    with pytest.raises(UserError, match="num_samples is 961"):
        chunks.decode(params, expected["codes.1"], expected["scales.1"], 961)
