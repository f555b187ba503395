"""`benchmarks/codec_race.py`: equal times, a schedule that fits, and tables in the right places."""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.training.macros import configuration

FOLDER = Path(__file__).parents[2] / "benchmarks"

# A training that writes down each of its steps, and ends in order at SIGTERM.
TRAINING = """
import pathlib, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
steps = pathlib.Path(sys.argv[1])
while not stop:
    time.sleep(0.02)
    with open(steps, "a") as file: file.write("x")
with open(steps, "a") as file: file.write("saved")
"""


@pytest.fixture(scope="module")
def codec_race():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("codec_race")
    finally:
        sys.path.remove(str(FOLDER))


def test_a_side_runs_its_time_saves_and_is_not_run_again(codec_race, tmp_path):
    (tmp_path / "training.py").write_text(TRAINING)
    steps = tmp_path / "steps"
    command = [sys.executable, str(tmp_path / "training.py"), str(steps)]
    began = time.monotonic()
    codec_race.Side(tmp_path, "ours").run(command, 1.5, steps.exists)
    assert time.monotonic() - began >= 1.5
    assert steps.read_text().endswith("saved")
    state = json.loads((tmp_path / "ours.json").read_text())
    assert state["done"] and 1.5 <= state["seconds"] < 60
    written = steps.read_text()
    codec_race.Side(tmp_path, "ours").run(command, 1.5, steps.exists)
    assert steps.read_text() == written


def test_the_time_of_a_session_before_counts(codec_race, tmp_path):
    (tmp_path / "training.py").write_text(TRAINING)
    side = codec_race.Side(tmp_path, "ours")
    side.save(seconds=1000.0)
    began = time.monotonic()
    side.run([sys.executable, str(tmp_path / "training.py"), str(tmp_path / "steps")], 1001.0,
             (tmp_path / "steps").exists)
    assert time.monotonic() - began < 60 and side.state["seconds"] >= 1001


def test_a_side_that_fails_is_named_with_its_log(codec_race, tmp_path):
    with pytest.raises(SystemExit, match="ours: the training failed; see .*ours.log"):
        codec_race.Side(tmp_path, "ours").run([sys.executable, "-c", "raise SystemExit('no')"], 60, lambda: False)
    assert (tmp_path / "ours.log").read_text() == "no\n"
    assert not json.loads((tmp_path / "ours.json").read_text())["done"]


def test_the_schedule_fills_the_time_with_the_phases_of_the_experiment(codec_race, monkeypatch):
    without = {"seconds": 0.5, "compile_seconds": 20.0}
    with_discriminators = {"seconds": 1.0, "compile_seconds": 30.0}
    monkeypatch.setattr(codec_race.codec_training, "beside", lambda *_: [without, with_discriminators])
    macros = dict(macro.split("=") for macro in codec_race.schedule("codec_small", [], 3600.0))
    steps, late, quantizer = (int(macros[name]) for name in
                              ("STEPS", "DISCRIMINATOR_START_STEP", "QUANTIZER_START_STEP"))
    assert 0 < quantizer < late < steps and macros["EVAL_EVERY"] == "0"
    configuration.parse("codec_small", (), None)
    whole = configuration.macros()
    assert late / steps == pytest.approx(whole["DISCRIMINATOR_START_STEP"] / whole["STEPS"], rel=0.01)
    assert 0.85 * 3600 < late * 0.5 + (steps - late) * 1.0 + 70 < 3600


def test_another_race_in_the_same_folder_is_refused(codec_race, tmp_path):
    settings = dict(data=["speech"], minutes=60.0, heldout_speakers=20, split_seed=0, max_clips=20, set=[],
                    experiment="codec_small", peer_batch_size=None, peer_crop_seconds=None, peer_accumulate=1)
    codec_race.check_settings(tmp_path, argparse.Namespace(**settings))
    codec_race.check_settings(tmp_path, argparse.Namespace(**settings))
    with pytest.raises(UserError, match="--minutes 60.0, not 5.0; give another --workdir"):
        codec_race.check_settings(tmp_path, argparse.Namespace(**settings | {"minutes": 5.0}))


def test_clips_are_of_every_speaker_and_neither_short_nor_long(codec_race, tmp_path):
    recordings = []
    for key, seconds in (("a/1", 4.0), ("a/2", 5.0), ("b/1", 1.0), ("b/2", 6.0), ("c/1", 20.0)):
        path = tmp_path / f"{key.replace('/', '')}.wav"
        write_audio(path, Waveform(0.1 * np.sin(np.arange(round(16_000 * seconds)) / 9).astype(np.float32), 16_000))
        recordings.append(Recording(key, key[0], path))
    chosen = codec_race.write_originals(recordings, tmp_path / "clips", 2)
    assert {each.speaker for each in chosen} == {"a", "b"}
    assert all(each.path.parent == tmp_path / "clips" and each.path.is_file() for each in chosen)
    with pytest.raises(UserError, match="no held-out recording is 3 to 15 s long"):
        codec_race.write_originals(recordings[-1:], tmp_path / "clips", 2)


def test_the_table_has_a_row_a_side_and_leaves_out_what_was_not_measured(codec_race):
    words = {"wrong": 0.068, "asr": "whisper base", "against": "the transcripts"}
    sides = {
        "original": {"words": words},
        "ours": {"bitrate_bps": 6000, "seconds": 3600.0, "steps": 4800, "audio_seconds": 38400, "words": words,
                 "figures": {"moslqo": 3.456, "log_mel_distance": 0.5, "si_sdr_db": 7.0}},
    }
    text = codec_race.table({"sides": sides, "clips": 20, "speakers": 18, "cores": 2})
    assert "| original |  |  | 6.8% |  |  |  |  |  |\n" in text
    assert "| ours | 6.0 | 3.46 | 6.8% | 0.50 | 7.0 dB | 60.0 | 4,800 | 10.7 |\n" in text
    assert text.endswith("20 recordings of 18 held-out speakers; 2 CPU cores. Words: whisper base, against the "
                         "transcripts.\n")


def test_each_table_of_a_page_is_replaced_alone(codec_race, tmp_path):
    table = importlib.import_module("markdown_table")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: benchmarks/x.py one -->\nold\n<!-- end of table -->\nb\n"
                    "<!-- table: benchmarks/x.py two -->\nold\n<!-- end of table -->\nc\n")
    table.write_table(page, "x.py one", "new 1\n")
    table.write_table(page, "x.py two", "new 2\n")
    assert page.read_text() == (
        "a\n<!-- table: benchmarks/x.py one -->\nnew 1\n<!-- end of table -->\nb\n"
        "<!-- table: benchmarks/x.py two -->\nnew 2\n<!-- end of table -->\nc\n"
    )
    with pytest.raises(SystemExit, match="has not the markers"):
        table.check_markers(page, "x.py three")
    with pytest.raises(SystemExit, match="is no file"):
        table.check_markers(tmp_path / "nothing.md", "x.py one")


def test_words_are_compared_with_the_originals_where_nothing_is_written_down(codec_race, tmp_path, monkeypatch):
    class Loudness:
        """Hears a word for each tenth of a second that is loud enough."""

        name, sample_rate_hz = "loudness", 16_000

        def transcribe(self, samples):
            return " ".join("loud" if np.abs(part).max() > 0.05 else "soft" for part in np.split(samples[:64_000], 40))

    monkeypatch.setattr(codec_race, "load_recogniser", lambda _: Loudness())
    sound = 0.3 * np.sin(np.arange(64_000) / 9).astype(np.float32)
    halved = np.concatenate([sound[:32_000], 0.01 * sound[32_000:]])
    for side, samples in (("original", sound), ("ours", sound), ("audiolm-pytorch", halved)):
        (tmp_path / "clips" / side).mkdir(parents=True)
        write_audio(tmp_path / "clips" / side / "a.wav", Waveform(samples, 16_000))
    originals = [Recording("a", "anna", tmp_path / "clips" / "original" / "a.wav")]
    found = codec_race.measure(originals, tmp_path / "clips", "loudness", tmp_path)
    assert found["ours"]["words"]["wrong"] == 0 and found["audiolm-pytorch"]["words"]["wrong"] == 0.5
    assert found["ours"]["figures"]["log_mel_distance"] == pytest.approx(0, abs=1e-3)
    assert found["audiolm-pytorch"]["figures"]["log_mel_distance"] > 0.1
    assert "no transcripts" in codec_race.table({"sides": found, "clips": 1, "speakers": 1, "cores": 2})
