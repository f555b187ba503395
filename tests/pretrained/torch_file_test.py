"""Files of torch.save, made here without PyTorch: what they hold is read, and what they would run is not."""

import collections
import os

import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.torch_file import read_torch_file
from tests.pretrained.made_torch_file import archive_of, made_torch_file, parameter, tensor, torch_by_name


@pytest.fixture
def torch():
    with torch_by_name() as module:
        yield module


def test_tensors_of_every_layout_are_read(torch, tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    entries = collections.OrderedDict(
        whole=tensor(torch, "FloatStorage", "0", (3, 4)),
        transposed=tensor(torch, "FloatStorage", "0", (4, 3), (1, 4)),
        part=tensor(torch, "FloatStorage", "0", (2, 2), (4, 1), offset=5),
        scalar=tensor(torch, "LongStorage", "1", ()),
        half=tensor(torch, "HalfStorage", "2", (2,)),
        wide=tensor(torch, "BFloat16Storage", "3", (1,)),
        none=tensor(torch, "FloatStorage", "0", (0, 4)),
    )
    storages = {
        "0": numbers.tobytes(),
        "1": np.int64([7]).tobytes(),
        "2": np.float16([1.5, -2]).tobytes(),
        "3": b"\xc0\x3f",
    }
    found = read_torch_file(made_torch_file(tmp_path / "model.bin", entries, storages))
    whole = numbers.reshape(3, 4)
    np.testing.assert_array_equal(found["whole"], whole)
    np.testing.assert_array_equal(found["transposed"], whole.T)
    np.testing.assert_array_equal(found["part"], [[5, 6], [9, 10]])
    assert found["scalar"] == 7 and found["scalar"].shape == ()
    np.testing.assert_array_equal(found["half"], np.float16([1.5, -2]))
    np.testing.assert_array_equal(found["wide"].astype(np.float32), [1.5])
    assert found["none"].shape == (0, 4)
    # A plain dictionary too.
    assert read_torch_file(made_torch_file(tmp_path / "plain.bin", dict(entries), storages)).keys() == entries.keys()


def test_code_in_a_file_is_named_and_not_run(torch, tmp_path):
    mark = tmp_path / "was_run"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    entries = {"a": tensor(torch, "FloatStorage", "0", (1,)), "b": Evil()}
    path = made_torch_file(tmp_path / "evil.bin", entries, {"0": bytes(4)})
    with pytest.raises(UserError, match=r"would run (posix|nt)\.system .*nothing was run; save the model as"):
        read_torch_file(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((4, 4), (4, 1), 0), ((2,), (1,), 11), ((2,), (-1,), 3), ((1,), (1,), -4)]
)
def test_a_tensor_that_lies_outside_of_its_storage_is_refused(torch, tmp_path, shape, strides, offset):
    entry = tensor(torch, "FloatStorage", "0", shape, strides, offset)
    with pytest.raises(UserError, match="is no tensor, or a damaged one"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", {"a": entry}, {"0": bytes(48)}))


def test_damaged_and_foreign_files_are_refused_in_one_line(torch, tmp_path):
    entries = {"a": tensor(torch, "FloatStorage", "0", (1,))}
    whole = made_torch_file(tmp_path / "whole.bin", entries, {"0": bytes(4)}).read_bytes()
    cases = {
        "cut short": whole[: len(whole) // 2],
        "no zip": b"\x80\x02}q\x00.",
        "empty": b"",
    }
    for name, data in cases.items():
        (tmp_path / "model.bin").write_bytes(data)
        with pytest.raises(UserError, match="safetensors") as caught:
            read_torch_file(tmp_path / "model.bin")
        assert "\n" not in str(caught.value), name
    with pytest.raises(UserError, match="big-endian"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", entries, {"0": bytes(4)}, byteorder=b"big"))
    with pytest.raises(UserError, match="cut short or damaged at archive/data/0"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", entries, {}))
    with pytest.raises(UserError, match="no dictionary of tensors"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", [1, 2], {}))
    with pytest.raises(UserError, match="model.bin: epoch is no tensor"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", {"epoch": 3}, {}))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}X\x01\x00\x00\x00aKzQs.",  # a persistent id that is a number
        b"\x80\x02}Kzctorch\nFloatStorage\nQs.",  # a name that is none
        b"\x80\x02(lp0\n" + b"(g0\ng0\ng0\ntp0\n" * 60 + b"}g0\nKzs.",  # a key of 3^60 parts
        b"\x80\x02\x8f(" + b"(NNtp0\n" + b"(g0\ng0\ng0\ntp0\n" * 60 + b"\x90.",  # a set of such
        b"\x80\x04(lp0\n" + b"(g0\ng0\ng0\nlp0\n" * 60 + b"g0\ng0\n\x93.",  # a name of such
        b"\x80\x02\x8b\xff\xff\xff\x7fx.",  # a number of 2 GB
    ],
    ids=["number", "name", "key", "set", "module", "long"],
)
def test_a_pickle_that_grows_or_ends_nowhere_is_refused_soon(pickled, tmp_path):
    with pytest.raises(UserError, match="model.bin.*safetensors"):
        read_torch_file(archive_of(tmp_path / "model.bin", pickled, {}))


def test_parameters_are_the_tensors_they_are_made_of(torch, tmp_path):
    whole = tensor(torch, "FloatStorage", "0", (2,))
    entries = {"a": parameter(torch, whole, True, collections.OrderedDict())}
    found = read_torch_file(made_torch_file(tmp_path / "model.bin", entries, {"0": np.float32([1, 2]).tobytes()}))
    np.testing.assert_array_equal(found["a"], [1, 2])
    with pytest.raises(UserError, match="model.bin: a is no tensor"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", {"a": parameter(torch)}, {}))


@pytest.mark.parametrize(
    ("shape", "strides"), [((100_000, 100_000), (0, 0)), ((13,), (0,)), ((2**70, 0), (1, 1)), ((2,), (2**70,))]
)
def test_a_tensor_of_more_values_than_its_storage_is_refused(torch, shape, strides, tmp_path):
    entries = {"a": tensor(torch, "FloatStorage", "0", shape, strides)}
    with pytest.raises(UserError, match="model.bin: a is no tensor"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", entries, {"0": bytes(48)}))


def test_a_small_file_does_not_become_large_weights(torch, tmp_path):
    entries = {"a": tensor(torch, "FloatStorage", "0", (1 << 24,))}
    path = made_torch_file(tmp_path / "model.bin", entries, {"0": bytes(1 << 26)}, stored=False)
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match="cut short or damaged at archive/data/0"):
        read_torch_file(path)


def test_a_long_name_of_what_would_be_run_is_told_in_short(tmp_path):
    pickled = b"\x80\x02cos\n" + b"x" * 5000 + b"\n."
    with pytest.raises(UserError, match=r"would run os\.xxx.* \.\.\. when it is loaded; nothing was run") as caught:
        read_torch_file(archive_of(tmp_path / "model.bin", pickled, {}))
    assert len(str(caught.value)) < 500


def test_names_of_tensors_are_text(torch, tmp_path):
    entries = {3: tensor(torch, "FloatStorage", "0", (1,))}
    with pytest.raises(UserError, match="no dictionary of tensors"):
        read_torch_file(made_torch_file(tmp_path / "model.bin", entries, {"0": bytes(4)}))


def test_an_archive_of_another_version_is_refused(torch, tmp_path):
    entries = {"a": tensor(torch, "FloatStorage", "0", (1,))}
    path = made_torch_file(tmp_path / "model.bin", entries, {"0": bytes(4)})
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02") + 6  # the version that is needed to read the first member
    path.write_bytes(data[:at] + b"\xff\x00" + data[at + 2 :])
    with pytest.raises(UserError, match="damaged or of the format before PyTorch 1.6"):
        read_torch_file(path)
