"""A disk that is really full, and files that are really cut off, with one process and with two."""

import os
import subprocess
from pathlib import Path

import pytest

from audiolm_jax.training.saved.checkpoints import newest_whole
from tests.multi_host.job import run_job
from tests.training.tiny_run import losses

TINY = "tests.training.tiny_run"


@pytest.fixture
def disk(tmp_path):
    """A file system of 60 KB: the metrics fit, a checkpoint does not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_all_processes_in_one_line_and_the_run_goes_on_when_there_is_room(disk, processes):
    ended = run_job(processes, 1, TINY, disk / "run")
    assert [process.code for process in ended] == [2] * processes
    for process in ended:
        said = [line for line in process.errors.splitlines() if "cannot save step 7 to" in line]
        assert len(said) == 1 and "No space left on device" in said[0], process.errors
    subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
    assert {process.code for process in run_job(processes, 1, TINY, disk / "run")} == {0}
    assert (disk / "run" / "done").exists()


def test_two_processes_go_back_to_the_same_checkpoint(tmp_path):
    assert {process.code for process in run_job(2, 1, TINY, tmp_path / "run")} == {0}
    before = losses(tmp_path / "run")
    assert newest_whole(tmp_path / "run") == 40
    largest = max((tmp_path / "run" / "checkpoints" / "40").rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, 100)
    Path(tmp_path / "run" / "done").unlink()
    first, second = run_job(2, 1, TINY, tmp_path / "run")
    assert [first.code, second.code] == [0, 0]
    assert "40 is damaged" in first.errors and "damaged" not in second.errors
    assert "resuming at step 35" in first.output
    assert losses(tmp_path / "run") == before
