"""Files appear whole or not at all, and errors of the disk name the file that was asked for."""

import errno
import os
import subprocess

import pytest

from audiolm_jax import files
from audiolm_jax.files import error_names, replace_file, replace_files


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 8 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / ("long " * 40 + ".txt")
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~files.file_mode_mask()


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    path = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    replace_file(path, b"one")
    assert path.read_bytes() == b"one"


def test_a_full_disk_keeps_the_old_file_and_is_told_with_the_name(full_disk):
    path = full_disk / "file.txt"
    replace_file(path, b"old")
    with pytest.raises(OSError) as refused:
        replace_file(path, bytes(100_000))
    assert refused.value.errno == errno.ENOSPC and refused.value.filename == str(path)
    assert path.read_bytes() == b"old" and list(full_disk.iterdir()) == [path]


def test_of_several_files_a_full_disk_replaces_none(full_disk):
    replace_files(full_disk, {"a": b"old a", "manifest": b"old"}, last="manifest")
    with pytest.raises(OSError):
        replace_files(full_disk, {"a": b"new a", "manifest": bytes(100_000)}, last="manifest")
    assert {path.name: path.read_bytes() for path in full_disk.iterdir()} == {"a": b"old a", "manifest": b"old"}
    with pytest.raises(OSError):
        replace_files(full_disk / "new", {"a": b"new a", "manifest": bytes(100_000)})
    assert not (full_disk / "new").exists()


def test_stopped_between_two_files_the_last_one_is_missing(tmp_path, monkeypatch):
    replace_files(tmp_path, {"a": b"1", "b": b"1", "manifest": b"1"}, last="manifest")
    renamed = []

    def stop_at_second(source, target):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        replace_files(tmp_path, {"manifest": b"2", "a": b"2", "b": b"2"}, last="manifest")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"2", "b": b"1"}


def test_an_error_without_a_name_gets_one(tmp_path):
    with pytest.raises(OSError) as told, error_names(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told.value.filename == str(tmp_path / "file") and told.value.strerror == "No space left on device"
