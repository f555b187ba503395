"""Files appear whole, and the part of a living writer is told from that of a dead one."""

import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

from audiolm_jax.files import object_storage
from audiolm_jax.files.object_storage import is_remote
from audiolm_jax.tokens.extraction.part_files import is_being_written, part_file, remove_dead_parts, write_file


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = epath.Path(tmp_path) / "x"
    with pytest.raises(RuntimeError), part_file(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError("stopped")
    assert not list(tmp_path.iterdir())
    write_file(path, b"whole")
    assert path.read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_parts_of_the_living_stay_and_those_of_the_dead_go(tmp_path):
    path = epath.Path(tmp_path) / "x"
    killed = (
        "import os, signal\nfrom etils import epath\nfrom audiolm_jax.tokens.extraction.part_files import part_file\n"
        f"with part_file(epath.Path({str(path)!r})) as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", killed], cwd=Path(__file__).parents[2], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert not is_being_written(path)
    with part_file(path) as living:
        assert is_being_written(path)
        assert remove_dead_parts(epath.Path(tmp_path)) == ["x"]
        assert [part.name for part in tmp_path.iterdir()] == [living.name]
        living.write_bytes(b"whole")
    assert not is_being_written(path) and path.read_bytes() == b"whole"


def test_two_writers_of_one_name_do_not_disturb_each_other(tmp_path):
    path = epath.Path(tmp_path) / "x"
    with part_file(path) as first, part_file(path) as second:
        first.write_bytes(b"same")
        second.write_bytes(b"same")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x", b"same")]


def test_object_storage_is_known_by_its_name():
    assert is_remote("gs://bucket/x") and is_remote(epath.Path("s3://bucket")) and not is_remote("/tmp/x")
    assert remove_dead_parts(epath.Path("gs://bucket/x")) == []
    assert not is_being_written(epath.Path("gs://bucket/x/y"))


def test_files_for_object_storage_are_written_here_and_copied(tmp_path, monkeypatch):
    """A local folder stands for the bucket."""
    monkeypatch.setattr(object_storage, "SCHEMES", (str(tmp_path),))
    path = epath.Path(tmp_path) / "x"
    for content in (b"first", b"second"):
        with part_file(path) as part:
            part.write_bytes(content)
            assert not is_remote(part)
        assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x", content)]
    with pytest.raises(RuntimeError), part_file(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError("stopped")
    assert path.read_bytes() == b"second" and not part.exists()
