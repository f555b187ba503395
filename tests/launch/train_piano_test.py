"""`launch/train_piano.sh` goes from MIDI to continuations by the right commands, and repeats only what is to be done.

The commands themselves are run in the journeys; here an interpreter that writes down its arguments stands in.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.launch.train_small_test import RECORDER

ROOT = Path(__file__).parents[2]
# What is continued last is found among the samples.
SAMPLES = """
if [[ "$*" == *"eval samples"* ]]; then mkdir -p "$output/original/piece" && touch "$output/original/piece/a.wav"; fi
"""


@pytest.fixture
def train_piano(tmp_path):
    """Runs the script; returns its result and what was called, one line a command."""
    recorder = tmp_path / "python"
    recorder.write_text(RECORDER + SAMPLES)
    recorder.chmod(0o755)
    (tmp_path / "midi").mkdir()
    (tmp_path / "real").mkdir()
    calls = tmp_path / "calls"

    def run(stop_at="nothing", arguments=("midi", "work"), **variables):
        calls.write_text("")
        environment = {**os.environ, "VENV_PYTHON": str(recorder), "CALLS": str(calls), "STOP_AT": stop_at, **variables}
        command = [ROOT / "launch" / "train_piano.sh", *(tmp_path / name for name in arguments)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return result, [line.replace(f"{tmp_path}/", "") for line in calls.read_text().splitlines()]

    return run


def kinds(calls):
    """ "render", "train codec_piano_small", "bundle work/tokenizers", "eval samples" ... of each call."""
    words = [call.split() for call in calls]
    return ["render" if each[0].endswith("render_midi.py") else " ".join(each[2:4]) for each in words]


ALL = [
    "render",
    "train codec_piano_small",
    "train best_rq_piano_small",
    "train kmeans_piano_small",
    "bundle work/tokenizers",
    "tokenize --input",
    "train semantic_piano_small",
    "train coarse_piano_small",
    "train acoustic_piano_small",
    "bundle work/bundle",
    "bundle work/acoustic_only",
    "eval all",
    "eval samples",
    "eval samples",
    "generate --bundle",
]


def test_from_midi_to_what_is_heard(train_piano):
    result, calls = train_piano(VARIANTS="2", MINUTES="30", CODEC_STEPS="7", ENCODER_SET="SEED=3", HELDOUT_PIECES="5")
    assert result.returncode == 0, result.stderr
    assert kinds(calls) == ALL
    assert calls[0].endswith("render_midi.py midi work/sound --variants 2 --minutes 30")
    for call in calls[1:4]:
        assert "--data work/sound " in call and "--set CORPUS=music --set HELDOUT_SPEAKERS=5" in call
    assert "STEPS=7" in calls[1] and "--set SEED=3" in calls[2] and "--set W2V_BERT=work/encoder" in calls[3]
    assert "--codec work/codec --kmeans work/kmeans --w2v_bert work/encoder" in calls[4]
    assert "--corpus music --heldout_speakers 5" in calls[5] and "--output work/tokens/sound" in calls[5]
    assert "--semantic work/semantic --coarse work/coarse " in calls[9] and "--fine" not in calls[9]
    assert "--acoustic work/acoustic " in calls[10] and "--coarse" not in calls[10]
    for call, bundle, output in (
        (calls[12], "work/bundle", "work/heard"), (calls[13], "work/acoustic_only", "work/heard_acoustic_only")
    ):  # fmt: skip
        assert f"--bundle {bundle} " in call and call.endswith(f"--output {output}") and "--prompt_seconds 4" in call
    assert "--prompt work/heard/original/piece/a.wav --prompt_seconds 4" in calls[14] and "--page" in calls[14]


def test_real_recordings_join_what_is_played(train_piano, tmp_path):
    fonts, mixture = "a.sf2 b.sf2", "(0.8, 0.2)"
    result, calls = train_piano(RECORDINGS=str(tmp_path / "real"), SOUND_FONTS=fonts, MIXTURE=mixture, PIECE="(.+)_.*")
    assert result.returncode == 0, result.stderr
    assert "--piece (.+)_.* --sound_font a.sf2 --sound_font b.sf2" in calls[0]
    assert kinds(calls) == [*ALL[:6], "tokenize --input", *ALL[6:]]
    assert "--data work/sound --data real " in calls[1] and f"--set MIXTURE={mixture}" in calls[1]
    assert "--data work/tokens/sound --data work/tokens/real " in calls[7]


def test_a_stopped_training_ends_it_and_the_next_start_goes_on(train_piano):
    result, calls = train_piano(stop_at="acoustic")
    assert result.returncode == 2 and "acoustic was stopped" in result.stderr and kinds(calls) == ALL[:9]
    result, calls = train_piano()
    assert result.returncode == 0 and kinds(calls) == [name for name in ALL if name != "bundle work/tokenizers"]
    result, calls = train_piano()
    assert not [name for name in kinds(calls) if name.startswith("bundle") or name == "eval all"]


def test_wrong_arguments_are_one_line(train_piano, tmp_path):
    (tmp_path / "other" / "sound").mkdir(parents=True)
    cases = (
        ({"arguments": ("midi",)}, "usage"),
        ({"arguments": ("nowhere", "work")}, "nowhere is no folder; give a folder of MIDI files"),
        ({"RECORDINGS": "/nowhere"}, "/nowhere is no folder; RECORDINGS names folders"),
        ({"RECORDINGS": str(tmp_path / "other" / "sound")}, "two folders are named sound"),
    )
    for settings, message in cases:
        result, calls = train_piano(**settings)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1 and not calls
