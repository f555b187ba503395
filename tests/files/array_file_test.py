"""Arrays of NumPy's files: what is whole is read as `np.load` reads it, the rest is refused by the bytes there are."""

import io
import zipfile

import numpy as np
import pytest

from audiolm_jax.files.array_file import PickledArray, read_arrays


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(shape: str, dtype: str = "<f4") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(3, dtype=">i2"),
        np.float16(1.5),
        np.zeros((0, 5)),
    ],
    ids=["c", "fortran", "big_endian", "scalar", "empty"],
)
def test_whole_files_are_read_as_numpy_reads_them(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array, y=array)
    np.savez_compressed(tmp_path / "c.npz", x=array)
    with open(tmp_path / "d.npy", "wb") as file:
        np.lib.format.write_array(file, np.asarray(array), version=(2, 0))
    for name, keys in (("a.npy", [""]), ("b.npz", ["x", "y"]), ("c.npz", ["x"]), ("d.npy", [""])):
        arrays = read_arrays(tmp_path / name)
        assert list(arrays) == keys
        for found in arrays.values():
            np.testing.assert_array_equal(found, array)
            assert found.dtype == np.asarray(array).dtype


@pytest.mark.parametrize(
    "data",
    [
        npy(described("(1999999999980,)"), bytes(100)),
        npy(described("(99999999999999999999, 4)"), bytes(100)),
        npy(described("(0, 99999999999999999999)")),
        npy(described("(-1, -4)"), bytes(100)),
        npy(described("(2, 4)"), bytes(31)),
        npy(described("(2, 4"), bytes(32)),
        npy("{'descr': '<f4', 'shape': '''", bytes(32)),
        npy("(" * 3000, bytes(32)),
        npy(described("(2,)", "<x9"), bytes(32)),
        npy("[]", bytes(32)),
        b"\x93NUMPY\x09\x09" + bytes(40),
        b"\x93NUM",
        b"",
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_damaged_ones_are_refused(data, tmp_path):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ValueError):
        read_arrays(tmp_path / "a.npy")


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", np.array([{}], object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(PickledArray):
            read_arrays(tmp_path / name)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_small_archive_does_not_become_a_large_array(compression, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1 << 13, 1 << 11), np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("x.npy", buffer.getvalue())
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    with pytest.raises(ValueError, match="x.npy is missing or damaged"):
        read_arrays(tmp_path / "a.npz")


def test_other_members_of_an_archive_are_no_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README", "text")
    assert list(read_arrays(tmp_path / "a.npz")) == ["x"]
