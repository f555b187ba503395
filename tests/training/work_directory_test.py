"""One training writes into a work directory at a time, and a dead one keeps nobody out."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.parallel import hosts
from audiolm_jax.training.loop import train
from audiolm_jax.training.saved.checkpoints import load_params
from audiolm_jax.training.saved.work_directory import WorkDirectory
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner, losses

ROOT = Path(__file__).parents[2]


@pytest.fixture
def running(tmp_path):
    """A training in a process of its own that has made a step, and goes on for minutes."""
    command = [sys.executable, "-m", "tests.training.tiny_run", str(tmp_path), "--seconds_per_batch", "4"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        metrics = tmp_path / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text()) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None
        yield process
        process.kill()


def test_a_second_training_is_refused_and_the_first_goes_on(tmp_path, running):
    with pytest.raises(UserError, match=rf"in use: process {running.pid} on .* trains there.*--workdir") as caught:
        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert "\n" not in str(caught.value)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 0
    assert len(losses(tmp_path)) == load_params(tmp_path)[1]["step"]  # each step once, and nothing of another run


def test_a_killed_training_keeps_nobody_out(tmp_path, running):
    running.kill()
    running.wait()
    assert (tmp_path / "lock").read_text().startswith(f"process {running.pid} on ")
    with WorkDirectory(tmp_path).held():
        pass


def test_a_training_that_ended_lets_go(tmp_path):
    for _ in range(2):
        with WorkDirectory(tmp_path).held(), pytest.raises(UserError, match="in use"):
            WorkDirectory(tmp_path).held().__enter__()


def test_the_lock_comes_before_the_configuration(tmp_path):
    with WorkDirectory(tmp_path, "A = 1\n").held(), pytest.raises(UserError, match="in use"):
        WorkDirectory(tmp_path, "A = 2\n").held().__enter__()
    assert (tmp_path / "config.gin").read_text() == "A = 1\n"


def test_of_several_processes_only_the_first_locks(tmp_path, monkeypatch):
    with WorkDirectory(tmp_path, "A = 1\n").held():
        monkeypatch.setattr(hosts, "is_main", lambda: False)
        with WorkDirectory(tmp_path, "A = 1\n").held():
            pass


def test_a_file_system_without_locks_is_told_and_taken(tmp_path, monkeypatch, caplog):
    def no_locks(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level("WARNING"), WorkDirectory(tmp_path, "A = 1\n").held():
        assert (tmp_path / "config.gin").exists()
    assert f"{tmp_path} cannot be locked (No locks available): see to it" in caplog.text


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}: .*change --workdir"):
        WorkDirectory(tmp_path).held().__enter__()
