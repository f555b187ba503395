"""Weights from a file whose names and shapes are not ours."""

import numpy as np
import pytest
from safetensors.numpy import save

from audiolm_jax.errors import UserError
from audiolm_jax.files import weight_file


def test_names_nest_and_types_become_float32():
    arrays = {"a": {"b": np.float16([1, 2]), "c": np.zeros((0, 3), np.float32)}, "n": np.int32([[3]])}
    again = weight_file.decode_numpy(weight_file.encode(weight_file.flatten(arrays)), "w")
    assert again["a"]["b"].dtype == np.float32 and again["a"]["c"].shape == (0, 3)
    np.testing.assert_array_equal(again["n"], [[3]])


@pytest.mark.parametrize(
    "names",
    [("",), ("a.",), (".a",), ("a..b",), ("a", "a.b"), ("a.b.c", "a.b"), ("x." * 5000 + "y",)],
    ids=["none", "behind", "before", "between", "above", "below", "deep"],
)
def test_names_that_do_not_nest_are_one_line(names):
    data = save({name: np.zeros(2, np.float32) for name in names})
    for read in (weight_file.decode, weight_file.decode_numpy):
        with pytest.raises(UserError, match="^w: .*parameter.*; export it again$") as caught:
            read(data, "w")
        assert len(str(caught.value)) < 300


def test_a_shape_of_more_axes_than_arrays_have_is_one_line():
    header = b'{"a":{"dtype":"F32","shape":[%s1],"data_offsets":[0,4]}}' % (b"1," * 100)
    with pytest.raises(UserError, match="w: 'a' has no shape of an array"):
        weight_file.decode_numpy(len(header).to_bytes(8, "little") + header + bytes(4), "w")


def test_what_the_library_says_of_a_header_is_cut():
    header = b'{"a":{"dtype":"F3' + b"[" * 5000 + b'","shape":[1],"data_offsets":[0,4]}}'
    with pytest.raises(UserError, match="no safetensors file or damaged") as caught:
        weight_file.decode_numpy(len(header).to_bytes(8, "little") + header + bytes(4), "w")
    assert len(str(caught.value)) < 500
