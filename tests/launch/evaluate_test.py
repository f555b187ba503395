"""`launch/evaluate.sh` measures what it is given, and makes speech only where it is given none.

An interpreter that writes down its arguments stands in for the commands.
"""

import os
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


def test_the_exit_code_is_that_of_the_measurement(evaluate):
    assert evaluate("--data=speech", CODE="1")[0] == 1
