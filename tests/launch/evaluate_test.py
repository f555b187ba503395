"""`launch/evaluate.sh` measures what it is given, and makes speech only where it is given none.

An interpreter that writes down its arguments stands in for the commands.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
if [[ "$1" == *make_espeak_speech.py ]]; then mkdir -p "$2" && touch "$2/transcripts.tsv"; fi
exit "${CODE:-0}"
"""


@pytest.fixture
def evaluate(tmp_path):
    """Runs the script; returns its exit code and what was called, one line a command."""
    recorder, calls = tmp_path / "python", tmp_path / "calls"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)

    def run(*arguments, **variables):
        calls.write_text("")
        own = {"VENV_PYTHON": str(recorder), "CALLS": str(calls), "OUT": str(tmp_path / "out")}
        command = [ROOT / "launch" / "evaluate.sh", *arguments]
        environment = {**os.environ, **own, **variables}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return result.returncode, [line.replace(f"{tmp_path}/", "") for line in calls.read_text().splitlines()]

    return run


def test_speech_is_made_once_where_none_is_given(evaluate):
    code, calls = evaluate()
    assert code == 0 and len(calls) == 2
    assert "make_espeak_speech.py out/espeak" in calls[0]
    assert "eval all --bundle" in calls[1] and "--output out/report --quick --data out/espeak" in calls[1]
    assert len(evaluate()[1]) == 1


def test_own_speech_and_flags_are_passed_on(evaluate):
    code, calls = evaluate("--data", "speech", "--seed", "3", QUICK="")
    assert code == 0 and len(calls) == 1
    assert calls[0].endswith("--data speech --seed 3") and "--quick" not in calls[0] and "espeak" not in calls[0]


def test_a_whisper_model_brings_its_extra(tmp_path):
    """In a copy of the scripts, whose environment writes down what is installed into it."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    python, model = tmp_path / ".venv" / "bin" / "python", tmp_path / "whisper-base"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER.replace("exit", "echo what is installed is known by this line\nexit"))
    python.chmod(0o755)
    model.mkdir()
    for given, extras in ((("--asr", model), "[eval]"), (("--asr=pocketsphinx",), "[eval]")):
        assert extras in installed(tmp_path, *given)
    (model / "model.bin").write_bytes(b"")
    for given in (("--asr", model), (f"--asr={model}",)):
        assert "[eval,whisper]" in installed(tmp_path, *given)


def installed(folder, *arguments):
    """What a copy of the script in a folder asks pip for."""
    calls = folder / "calls"
    calls.write_text("")
    environment = {**os.environ, "CALLS": str(calls)}
    command = [folder / "launch" / "evaluate.sh", "--data", "speech", *map(str, arguments)]
    # The environment is taken for complete by what the last call wrote down; it is made to forget that.
    for marker in (folder / ".venv").glob("installed.*"):
        marker.unlink()
    assert subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).returncode == 0
    (line,) = [line for line in calls.read_text().splitlines() if "pip install" in line]
    return line


def test_the_exit_code_is_that_of_the_measurement(evaluate):
    assert evaluate("--data=speech", CODE="1")[0] == 1
