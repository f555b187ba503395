"""What is written is looked at before the work, and what was made is not lost after it."""

import os
import subprocess
from pathlib import Path

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.files import outputs
from audiolm_jax.files.outputs import check_files, check_folder, write_results


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system of so many KB, writable or not, and returns its folder."""
    folders = []

    def mount(name, options):
        folder = tmp_path / name
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("mounting a file system is not permitted here")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def input_file(tmp_path):
    path = tmp_path / "speech" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(b"sound")
    return path


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_new_outputs_pass_and_nothing_is_made(tmp_path, input_file):
    before = tree(tmp_path)
    check_files([tmp_path / "new" / "deep" / "a.wav", tmp_path / "b.json"], [input_file, input_file.parent, "small"])
    check_folder(tmp_path / "new" / "folder", [input_file.parent], [input_file.parent])
    check_folder("gs://bucket/nowhere", [input_file])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["same", "spelt otherwise", "symbolic link", "hard link"])
def test_an_input_is_no_output(tmp_path, input_file, kind):
    output = tmp_path / "speech" / ".." / "speech" / "a.wav" if kind == "spelt otherwise" else tmp_path / "out.wav"
    if kind == "same":
        output = input_file
    elif kind == "symbolic link":
        output.symlink_to(input_file)
    elif kind == "hard link":
        os.link(input_file, output)
    with pytest.raises(UserError, match="is the input .*a.wav; name another output"):
        check_files([output], ["small", None, input_file])
    assert input_file.read_bytes() == b"sound"


def test_a_file_of_an_input_folder_is_no_output_but_a_new_one_there_may_be(tmp_path, input_file):
    with pytest.raises(UserError, match="lies in the input"):
        check_files([input_file], [tmp_path])
    check_files([input_file.with_name("figures.json")], [tmp_path])


def test_one_file_is_not_written_twice(tmp_path):
    with pytest.raises(UserError, match="twice"):
        check_files([tmp_path / "a.wav", tmp_path / "." / "a.wav"])


def test_folders_and_devices_are_no_files_and_files_no_folders(tmp_path, input_file):
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "pipe", "no plain file"), ("/dev/null", "no plain")):
        with pytest.raises(UserError, match=words):
            check_files([path])
    for path in (input_file / "b.wav", input_file / "new" / "b.wav"):
        with pytest.raises(UserError, match="Not a directory"):
            check_files([path])
    with pytest.raises(UserError, match="is a file"):
        check_folder(input_file)


@pytest.mark.parametrize("name", ["n" * 5000, "new/" + "n" * 300, "new/" + "n" * 300 + "/a"])
def test_names_that_are_too_long_are_told(tmp_path, name):
    with pytest.raises(UserError, match="File name too long"):
        check_files([tmp_path / name])
    with pytest.raises(UserError, match="File name too long"):
        check_folder(tmp_path / name)


def test_folders_that_are_read_or_that_sound_would_be_read_from_are_refused(tmp_path, input_file):
    with pytest.raises(UserError, match="is the input"):
        check_folder(input_file.parent, [input_file.parent])
    with pytest.raises(UserError, match="read as recordings"):
        check_folder(input_file.parent / "samples", [], [input_file.parent])
    check_folder(input_file.parent / "tokens", [input_file.parent])


def test_a_read_only_disk_and_a_full_one_are_told_before_the_work(mounted):
    read_only, full = mounted("read_only", "ro,size=8k"), mounted("full", "size=8k")
    (full / "ballast").write_bytes(bytes(8192))
    for folder, words in ((read_only, "Read-only"), (full, "No space left")):
        with pytest.raises(UserError, match=words):
            check_files([folder / "new" / "a.wav"])
        with pytest.raises(UserError, match=words):
            check_folder(folder / "new")


def test_too_little_room_is_told_before_the_work(mounted):
    folder = mounted("small", "size=64k")
    check_files([folder / "a.wav"], needed_bytes=10_000)
    with pytest.raises(UserError, match="needs about 1 MB"):
        check_files([folder / "a.wav"], needed_bytes=1_000_000)


def test_results_that_find_no_room_are_kept_elsewhere(mounted, tmp_path, monkeypatch):
    full = mounted("full", "size=8k")
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(kept))
    written = []
    with pytest.raises(UserError) as told:
        write_results({tmp_path / "a.txt": b"here", full / "b.wav": b"s" * 100_000}, written.append)
    assert written == [tmp_path / "a.txt"] and (tmp_path / "a.txt").read_bytes() == b"here"
    (found,) = kept.rglob("b.wav")
    assert found.read_bytes() == b"s" * 100_000
    for words in (str(full / "b.wav"), "No space left on device", str(found)):
        assert words in str(told.value)


def test_several_files_are_kept_as_they_would_lie(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(kept))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"and 2 other files .*move what is in it to {tmp_path / 'file'}"):
        write_results({tmp_path / "file" / name / "a.wav": name.encode() for name in ("x", "y", "z")})
    (folder,) = kept.iterdir()
    assert {str(path.relative_to(folder)): path.read_bytes() for path in kept.rglob("*.wav")} == {
        "x/a.wav": b"x", "y/a.wav": b"y", "z/a.wav": b"z"
    }  # fmt: skip


def test_where_nothing_has_room_it_is_said(mounted, monkeypatch):
    full = mounted("full", "size=8k")
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(full))
    monkeypatch.setattr(outputs.Path, "home", lambda: Path(full))
    monkeypatch.chdir(full)
    with pytest.raises(UserError, match=f"no room in {full}; make room"):
        write_results({full / "b.wav": b"s" * 100_000})
    assert list(full.iterdir()) == []
