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
if [[ "$*" == *"make_espeak_speech.py "* ]]; then mkdir -p "$2"; fi
if [[ "$*" == *"recipe.py "* ]]; then echo "the table"; fi
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

    def run(stop_at="nothing", folders=("speech",), **variables):
        calls.write_text("")
        environment = {**os.environ, "VENV_PYTHON": str(recorder), "CALLS": str(calls), "STOP_AT": stop_at, **variables}
        folders = [tmp_path / folder for folder in folders]
        command = [ROOT / "launch" / "train_small.sh", *folders, tmp_path / "work"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return result, [line.replace(f"{tmp_path}/", "") for line in calls.read_text().splitlines()]

    return run


def kinds(calls):
    """"train codec", "bundle work/tokenizers", "tokenize", "eval all" of each call."""
    names = []
    for call in calls:
        words = call.split()
        if words[0].endswith(".py"):
            names.append(words[0].rpartition("/")[2].removesuffix(".py"))
        elif words[2] == "train":
            names.append(f"train {words[3].removesuffix('_small')}")
        else:
            names.append(" ".join(words[2:4]) if words[2] in ("bundle", "eval") else words[2])
    return names


ALL = [
    "train codec",
    "train cluster",
    "train cluster_again",
    "train kmeans",
    "bundle work/tokenizers",
    "tokenize",
    "train semantic",
    "train coarse",
    "train fine",
    "bundle work/bundle",
    "eval temperatures",
    "eval all",
    "recipe",
]


def test_everything_in_order(train_small, tmp_path):
    result, calls = train_small(CODEC_STEPS="7", CODEC_SET="BATCH_SIZE=2 SEED=3", HELDOUT_SPEAKERS="2")
    assert result.returncode == 0, result.stderr
    assert kinds(calls) == ALL
    for macro in ("STEPS=7", "BATCH_SIZE=2", "SEED=3", "HELDOUT_SPEAKERS=2"):
        assert f"--set {macro}" in calls[0]
    assert "--workdir work/encoder_1" in calls[1] and "TEACHER" not in calls[1]
    assert "--workdir work/encoder_2" in calls[2] and "--set TEACHER=work/encoder_1" in calls[2]
    assert "--set W2V_BERT=work/encoder_2" in calls[3] and "--w2v_bert work/encoder_2 " in calls[4]
    assert "--bundle work/tokenizers" in calls[5] and "--heldout_speakers 2" in calls[5]
    assert "--data work/tokens/speech " in calls[6] and "STEPS" not in calls[6] and "MIXTURE" not in calls[6]
    assert "--licence" in calls[4] and "--prompt" not in calls[9] and "EXAM_ASR" not in calls[0]
    assert "temperatures --merge --bundle work/bundle --data speech" in calls[10] and "--asr" not in calls[10]
    assert "all --only codec,perplexity --merge" in calls[11] and "--train_tokens work/tokens/speech" in calls[11]
    assert "recipe.py work --encoder work/encoder_2 --output work/report" in calls[12]
    assert (tmp_path / "work" / "report" / "recipe.md").read_text() == "the table\n"


def test_several_folders_are_mixed_and_their_tokens_lie_apart(train_small, tmp_path):
    (tmp_path / "phrases").mkdir()
    result, calls = train_small(folders=("speech", "phrases"), MIXTURE="(0.6, 0.4)", ASR="whisper", PROMPT="p.wav")
    assert result.returncode == 0, result.stderr
    assert kinds(calls) == [*ALL[:5], "tokenize", *ALL[5:]]
    for call in calls[:4]:
        assert "--data speech --data phrases " in call and "--set MIXTURE=(0.6, 0.4)" in call
    assert "--set EXAM_ASR=whisper" in calls[0] and "EXAM_ASR" not in calls[1]
    assert "--output work/tokens/speech " in calls[5] and "--output work/tokens/phrases " in calls[6]
    for call in calls[7:10]:
        assert "--data work/tokens/speech --data work/tokens/phrases " in call and "MIXTURE=(0.6, 0.4)" in call
    assert "--prompt p.wav" in calls[10] and "--asr whisper" in calls[11]
    assert "--train_tokens work/tokens/speech --train_tokens work/tokens/phrases " in calls[12]


def test_espeak_speaks_for_all_but_the_codec(train_small):
    result, calls = train_small(PHRASE_MINUTES="30", MIXTURE="(0.7, 0.3)", ENCODER="best_rq")
    assert result.returncode == 0, result.stderr
    assert kinds(calls)[:4] == ["train codec", "make_espeak_speech", "train best_rq", "train kmeans"]
    assert calls[1].endswith("work/espeak --text phrases --minutes 30")
    assert "--data speech --workdir" in calls[0] and calls[0].endswith("--set MIXTURE=(0.7,)")
    for call in calls[2:4]:
        assert "--data speech --data work/espeak --workdir" in call and "--set MIXTURE=(0.7, 0.3)" in call
    assert kinds(calls)[5:7] == ["tokenize", "tokenize"]
    assert "--input work/espeak --output work/tokens/espeak" in calls[6]
    assert "--data work/tokens/speech --data work/tokens/espeak " in calls[7]
    assert "--data speech --output work/temperatures" in next(call for call in calls if "temperatures" in call)


def test_a_bundle_that_weighs_too_much_is_told(train_small, tmp_path):
    (tmp_path / "work" / "bundle").mkdir(parents=True)
    (tmp_path / "work" / "bundle" / "weights").write_bytes(b"0" * 2_500_000)
    result, calls = train_small(MAX_MEGABYTES="2")
    assert result.returncode == 2 and "MAX_MEGABYTES is 2" in result.stderr and kinds(calls)[-1] == "bundle work/bundle"
    assert train_small(MAX_MEGABYTES="3")[0].returncode == 0


def test_a_stopped_training_ends_the_script_and_the_next_start_goes_on(train_small):
    result, calls = train_small(stop_at="coarse")
    assert result.returncode == 2 and "coarse was stopped" in result.stderr
    assert kinds(calls) == ALL[:8]
    result, calls = train_small()
    assert result.returncode == 0
    assert kinds(calls) == [name for name in ALL if name != "bundle work/tokenizers"]


def test_a_report_that_failed_is_made_again(train_small):
    assert train_small(stop_at="eval")[0].returncode != 0
    result, calls = train_small()
    assert result.returncode == 0 and kinds(calls)[-3:] == ["eval temperatures", "eval all", "recipe"]


def test_a_finished_system_is_not_made_again(train_small):
    train_small()
    result, calls = train_small()
    assert result.returncode == 0
    assert not [name for name in kinds(calls) if name.startswith(("bundle", "eval", "recipe"))]


def test_wrong_arguments_are_one_line(tmp_path):
    script = ROOT / "launch" / "train_small.sh"
    for folder in ("a/speech", "b/speech"):
        (tmp_path / folder).mkdir(parents=True)
    twice = [tmp_path / "a" / "speech", tmp_path / "b" / "speech", tmp_path / "work"]
    cases = (([], "usage"), ([tmp_path], "usage"), ([tmp_path / "nowhere", tmp_path], "no folder"),
             (twice, "two folders are named speech"))  # fmt: skip
    variables = {"ENCODER": "hubert"}, {"ENCODER": "cluster_again"}, {"PHRASE_MINUTES": "two"}
    for each in variables:
        environment = {**os.environ, **each}
        result = subprocess.run([script, *twice[1:]], capture_output=True, text=True, env=environment, timeout=60)
        assert result.returncode == 2 and next(iter(each)) in result.stderr and result.stderr.count("\n") == 1
    for arguments, message in cases:
        result = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
