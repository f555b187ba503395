"""`launch/train_small.sh` calls the right commands in the right order, and only those that are still to be done.

The commands themselves are run in the journey test; here an interpreter that writes down its arguments stands in.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Makes the files by which the script sees that a command has done its work; STOP_AT names a training that does not end.
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
workdir="" output=""
args=("$@")
for ((i = 0; i < $#; i++)); do
  case "${args[i]}" in
    --workdir) workdir="${args[i + 1]}" ;;
    --output) output="${args[i + 1]}" ;;
    bundle) output="${args[i + 1]}" ;;
  esac
done
sleep 0.02
if [[ "$*" == *" train "* ]]; then
  mkdir -p "$workdir"
  [[ "$workdir" == *"/$STOP_AT" || -f "$workdir/done" ]] || touch "$workdir/done"
fi
if [[ "$*" == *"cli bundle "* ]]; then mkdir -p "$output" && touch "$output/manifest.json"; fi
if [[ "$*" == *"cli eval "* ]]; then mkdir -p "$output" && [[ "$STOP_AT" != eval ]]; fi
"""


@pytest.fixture
def train_small(tmp_path):
    """Runs the script; returns its exit code and what was called, one line a command."""
    recorder = tmp_path / "python"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    (tmp_path / "speech").mkdir()
    calls = tmp_path / "calls"

    def run(stop_at="nothing", **variables):
        calls.write_text("")
        environment = {**os.environ, "VENV_PYTHON": str(recorder), "CALLS": str(calls), "STOP_AT": stop_at, **variables}
        command = [ROOT / "launch" / "train_small.sh", tmp_path / "speech", tmp_path / "work"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return result, [line.replace(f"{tmp_path}/", "") for line in calls.read_text().splitlines()]

    return run


def kinds(calls):
    """"train codec", "bundle work/tokenizers", "tokenize", "eval" of each call."""
    names = []
    for call in calls:
        words = call.split()
        if words[2] == "train":
            names.append(f"train {words[3].removesuffix('_small')}")
        else:
            names.append(" ".join(words[2:4]) if words[2] == "bundle" else words[2])
    return names


ALL = [
    "train codec",
    "train w2v_bert",
    "train kmeans",
    "bundle work/tokenizers",
    "tokenize",
    "train semantic",
    "train coarse",
    "train fine",
    "bundle work/bundle",
    "eval",
]


def test_everything_in_order(train_small):
    result, calls = train_small(CODEC_STEPS="7", CODEC_SET="BATCH_SIZE=2 SEED=3", HELDOUT_SPEAKERS="2")
    assert result.returncode == 0, result.stderr
    assert kinds(calls) == ALL
    for macro in ("STEPS=7", "BATCH_SIZE=2", "SEED=3", "HELDOUT_SPEAKERS=2"):
        assert f"--set {macro}" in calls[0]
    assert "--set W2V_BERT=work/w2v_bert" in calls[2]
    assert "--bundle work/tokenizers" in calls[4] and "--heldout_speakers 2" in calls[4]
    assert "--data work/tokens" in calls[5] and "STEPS" not in calls[5]
    assert "--licence" in calls[3] and "--bundle work/bundle" in calls[9]
    assert "all --only codec,perplexity --merge" in calls[9] and "--train_tokens work/tokens" in calls[9]


def test_a_stopped_training_ends_the_script_and_the_next_start_goes_on(train_small):
    result, calls = train_small(stop_at="coarse")
    assert result.returncode == 2 and "coarse was stopped" in result.stderr
    assert kinds(calls) == ALL[:7]
    result, calls = train_small()
    assert result.returncode == 0
    assert kinds(calls) == [name for name in ALL if name != "bundle work/tokenizers"]


def test_a_report_that_failed_is_made_again(train_small):
    assert train_small(stop_at="eval")[0].returncode != 0
    result, calls = train_small()
    assert result.returncode == 0 and kinds(calls)[-1] == "eval"


def test_a_finished_system_is_not_made_again(train_small):
    train_small()
    result, calls = train_small()
    assert result.returncode == 0
    assert not [name for name in kinds(calls) if name.startswith("bundle") or name == "eval"]


def test_wrong_arguments_are_one_line(tmp_path):
    script = ROOT / "launch" / "train_small.sh"
    for arguments, message in (([], "usage"), ([tmp_path / "nowhere", tmp_path], "no folder")):
        result = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
