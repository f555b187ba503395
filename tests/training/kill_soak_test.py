"""A short soak: signals at random moments, and the checks that would tell if anything were lost."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from tests.training import kill_soak
from tests.training.kill_soak import Moment

RIGHT = Moment("SIGKILL", 5.0, reached=27, saved=21, began=0, resumed=21, exit_code=-9, exit_seconds=0.1)


@pytest.fixture(scope="module")
def soaked(tmp_path_factory):
    """(folder, exit code, table) of a training of seconds that met three signals."""
    folder = tmp_path_factory.mktemp("soak") / "runs"
    command = [sys.executable, "-m", "tests.training.kill_soak", "--training", "tiny", "--steps", "150"]
    command += ["--moments", "3", "--seed", "4", "--workdir", str(folder)]
    result = subprocess.run(command, cwd=kill_soak.ROOT, capture_output=True, text=True, timeout=400)
    return folder, result.returncode, result.stdout


def test_a_training_under_fire_ends_as_a_straight_one(soaked):
    _, code, table = soaked
    assert code == 0, table
    rows = [line for line in table.splitlines() if line.endswith("| yes |")]
    assert len(rows) == 3 and "SIGKILL" in table and "SIGTERM" in table


def test_what_differs_is_found(soaked, tmp_path):
    straight = soaked[0] / "straight"
    shutil.copytree(straight, tmp_path / "run")
    assert kill_soak.differences(tmp_path / "run", straight) == []
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    doubled = dict(json.loads(lines[3]), loss=0.5)
    path.write_text("\n".join([*lines[:3], json.dumps(doubled), *lines[3:]]) + "\n")
    found = kill_soak.differences(tmp_path / "run", straight)
    assert any("line" in text and "0.5" in text for text in found)
    assert any("lines instead of" in text for text in found)


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, True),
        ({"resumed": 14}, False),
        ({"signal_name": "SIGTERM", "exit_code": -15}, True),  # while it was starting
        ({"signal_name": "SIGTERM", "exit_code": 0}, False),  # answered, and yet six steps are lost
        ({"signal_name": "SIGTERM", "exit_code": 0, "saved": 27, "resumed": 27}, True),
    ],
)
def test_a_moment_is_right_if_nothing_that_was_saved_is_lost(changes, right):
    assert dataclasses.replace(RIGHT, **changes).is_right == right
