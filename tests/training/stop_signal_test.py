"""A request to stop is told at once, also while the main thread is in one long call, as it is in a compilation."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audiolm_jax.training.stop_signal import StopSignal

ROOT = Path(__file__).parents[2]
# Minutes within one call into C, which no handler of Python's can interrupt.
LONG_CALL = """
import hashlib
from audiolm_jax.training.stop_signal import StopSignal
with StopSignal("tiny") as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.fixture
def busy():
    """A process whose main thread is in a long call; its stderr is a pipe."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LONG_CALL]
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        yield process
        process.kill()


def test_sigterm_is_answered_within_a_call_and_ctrl_c_ends_it(busy):
    busy.send_signal(signal.SIGTERM)
    assert busy.stderr.readline() == "tiny: SIGTERM: stopping after this step; Ctrl-C to end now\n"
    busy.send_signal(signal.SIGTERM)  # a cluster may repeat it
    time.sleep(3)
    assert busy.poll() is None
    busy.send_signal(signal.SIGINT)
    assert busy.stderr.readline() == "tiny: ended; the same command goes on from the last checkpoint\n"
    assert busy.wait(timeout=30) == 130


def test_ctrl_c_twice_ends_within_a_call(busy):
    busy.send_signal(signal.SIGINT)
    assert busy.stderr.readline() == "tiny: SIGINT: stopping after this step; Ctrl-C again to end now\n"
    busy.send_signal(signal.SIGINT)
    assert busy.wait(timeout=30) == 130


def test_between_instructions_a_second_ctrl_c_interrupts(capsys):
    with pytest.raises(KeyboardInterrupt), StopSignal("tiny") as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err.count("stopping after this step") == 1


def test_everything_is_as_before_afterwards():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        with StopSignal("tiny") as stop:
            assert stop.received is None
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (files, threads)
    assert signal.set_wakeup_fd(-1) == -1
