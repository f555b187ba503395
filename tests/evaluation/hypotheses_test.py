"""What was heard is kept by content, survives a torn file, and does not depend on order or processes."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words import hypotheses
from audiolm_jax.evaluation.words.hypotheses import CACHE_NAME, transcribe_files


@dataclasses.dataclass(frozen=True)
class Counter:
    """A recogniser that tells how many samples it was given, and refuses to listen where it should not have to."""

    version: str = "counter 1"
    allowed: bool = True
    max_seconds: float | None = None
    name: str = "counter"
    sample_rate_hz: int = 8000
    one_core: bool = True

    def transcribe(self, samples):
        assert self.allowed and samples.dtype == np.float32
        return f"{len(samples)} samples"


@pytest.fixture
def paths(tmp_path):
    """Files of 0.1 to 0.4 s at 16 kHz, the last a copy of the first."""
    found = [tmp_path / f"{n}.wav" for n in range(5)]
    for n, path in enumerate(found):
        write_audio(path, Waveform(np.full(1600 * (n % 4 + 1), 0.1), 16_000))
    return found


def test_files_of_any_rate_are_resampled(paths):
    heard = transcribe_files(Counter(), paths)
    assert [heard[path].text for path in paths] == [f"{800 * (n % 4 + 1)} samples" for n in range(5)]
    assert {hypothesis.sample_rate_hz for hypothesis in heard.values()} == {16_000}


def test_every_content_is_heard_once_and_kept(paths, tmp_path):
    cache = tmp_path / "deep" / "cache"
    heard = transcribe_files(Counter(), paths[:3], cache)
    assert transcribe_files(Counter(allowed=False), paths[2::-1], cache) == heard
    transcribe_files(Counter(), paths, cache)
    lines = (cache / CACHE_NAME).read_text().splitlines()
    assert len(lines) == 4 and len({json.loads(line)["sha256"] for line in lines}) == 4


def test_another_version_and_another_content_are_heard_again(paths, tmp_path):
    transcribe_files(Counter(), paths, tmp_path / "cache")
    with pytest.raises(AssertionError):
        transcribe_files(Counter(version="counter 2", allowed=False), paths, tmp_path / "cache")
    write_audio(paths[0], Waveform(np.full(3200, 0.2), 16_000))
    assert transcribe_files(Counter(), paths, tmp_path / "cache")[paths[0]].text == "1600 samples"


def test_a_line_that_was_cut_off_is_heard_again(paths, tmp_path):
    cache = tmp_path / "cache"
    heard = transcribe_files(Counter(), paths, cache)
    file = cache / CACHE_NAME
    file.write_bytes(file.read_bytes()[:-30])
    assert transcribe_files(Counter(), paths, cache) == heard
    assert transcribe_files(Counter(allowed=False), paths, cache) == heard
    file.write_text("no JSON\n[]\n{}\n" + file.read_text())
    assert transcribe_files(Counter(allowed=False), paths, cache) == heard


def test_several_processes_hear_the_same(paths, capfd):
    assert transcribe_files(Counter(), paths, processes=2) == transcribe_files(Counter(), paths[::-1], processes=1)
    assert "has died" not in capfd.readouterr().err


def test_what_cannot_be_heard_is_one_clear_line(paths):
    with pytest.raises(UserError, match="3.wav lasts 0.4 s, and counter hears 0.3 s at once"):
        transcribe_files(Counter(max_seconds=0.3), paths)
    paths[1].write_bytes(b"no audio")
    for processes in (1, 2):
        with pytest.raises(UserError, match="1.wav is not audio"):
            transcribe_files(Counter(), paths, processes=processes)


@dataclasses.dataclass(frozen=True)
class Frail(Counter):
    """Dies in any process but the first."""

    def transcribe(self, samples):
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return super().transcribe(samples)


def test_processes_that_die_leave_their_work_to_the_first(paths, capfd):
    assert transcribe_files(Frail(), paths, processes=2) == transcribe_files(Counter(), paths)
    assert "has died; 4 files are left to this one" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_processes_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, time\n"
        "from audiolm_jax.evaluation.words.hypotheses import _begin_listening\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    pool = context.Pool(1, _begin_listening, (os.getpid(),))\n"
        "    print(pool.apply(os.getpid), flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(hypotheses.__file__).parents[3]))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    listener = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while _is_alive(listener):
        assert time.monotonic() < deadline, "the process still listens"
        time.sleep(0.2)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_lines_of_a_cache_that_say_nothing_are_heard_again(paths, tmp_path):
    heard = transcribe_files(Counter(), paths, tmp_path / "cache", processes=1)
    cache = tmp_path / "cache" / CACHE_NAME
    lines = cache.read_text().splitlines()
    entry = json.loads(lines[0])
    rates = [{"sample_rate_hz": float("inf")}, {"sample_rate_hz": "16000"}]
    odd = [*rates, {"text": 3}, {"text": "\ud800"}, {"sha256": []}]
    cache.write_text("\ufeff" + "\n".join([*lines[1:], "[" * 100_000, *(json.dumps(entry | change) for change in odd)]))
    known = hypotheses.read_cache(tmp_path / "cache", Counter.version)
    assert known.keys() == {json.loads(line)["sha256"] for line in lines[1:]}
    assert transcribe_files(Counter(), paths, tmp_path / "cache", processes=1) == heard
