"""A folder of MIDI files becomes a folder of piano recordings: the same for the same seed, at levels of real ones.

What plays needs the packages of the extra `midi`; rooms and folders need none of them.
"""

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import pytest
import soundfile

from audiolm_jax.evaluation.recordings import find_recordings
from tests.launch.scripts import LAUNCH, load

midi_folder, piano_room, script = load("midi_folder"), load("piano_room"), load("render_midi")
RATE = 16_000
PLAYS = all(importlib.util.find_spec(name) for name in ("mido", "midirenderer", "pretty_midi"))
plays = pytest.mark.skipif(not PLAYS, reason="needs the extra midi")
# C major up and an octave back, in quarter notes of 480 ticks with a pedal below the first two.
KEYS = (60, 62, 64, 65, 67, 69, 71, 72, 60)


def midi_bytes(keys=KEYS, velocity=80, ticks=480, quarter_microseconds=250_000):
    """A MIDI file of one track, byte by byte: an organ at a low volume, which must become a piano at its own."""

    def length(number):
        return bytes([0x80 | number >> 7, number & 0x7F]) if number > 127 else bytes([number])

    events = b"\x00\xff\x51\x03" + quarter_microseconds.to_bytes(3, "big")
    events += b"\x00\xc0\x13\x00\xb0\x40\x7f\x00\xb0\x07\x10"
    for place, key in enumerate(keys):
        events += b"\x00" + bytes([0x90, key, velocity]) + length(ticks) + bytes([0x80, key, 64])
        events += b"\x00\xb0\x40\x00" if place == 1 else b""
    events += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + b"".join(value.to_bytes(2, "big") for value in (0, 1, 480))
    return header + b"MTrk" + len(events).to_bytes(4, "big") + events


def write_midi(path, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi_bytes(**settings))
    return path


def run(monkeypatch, *arguments):
    """The script in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["render_midi.py", *map(str, arguments)])
    try:
        return script.main()
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture
def midi_dir(tmp_path):
    for name in ("bach_p01.mid", "bach_p02.MID", "trios/haydn.midi"):
        write_midi(tmp_path / "midi" / name)
    return tmp_path / "midi"


def test_performances_of_one_piece_have_one_name(midi_dir):
    write_midi(midi_dir / ".hidden.mid")
    found = {score.key: score.piece for score in midi_folder.find_scores(midi_dir)}
    assert found == {"bach_p01": "bach", "bach_p02": "bach", "trios/haydn": "trios--haydn"}
    found = {score.key: score.piece for score in midi_folder.find_scores(midi_dir, "(?:trios--)?(.*?)(?:_p..)?")}
    assert found["trios/haydn"] == "haydn"


@pytest.mark.parametrize(
    "piece, message", [("(", "no regular expression"), ("x", "gives bach_p01 no name"), ("(.)/?.*", None)]
)
def test_a_wrong_name_of_a_piece_is_told(midi_dir, piece, message):
    if message is None:
        assert {score.piece for score in midi_folder.find_scores(midi_dir, piece)} == {"b", "t"}
        return
    with pytest.raises(midi_folder.Mistake, match=message):
        midi_folder.find_scores(midi_dir, piece)


def test_all_files_have_a_turn_before_any_has_another(midi_dir):
    scores = midi_folder.find_scores(midi_dir)
    turns = list(midi_folder.in_turns(scores, 2, seed=3))
    assert [variant for _, variant in turns] == [0, 0, 0, 1, 1, 1]
    assert {score.key for score, _ in turns[:3]} == {score.key for score in scores}


def test_a_room_lets_the_sound_die_away_in_its_time():
    room = piano_room.Room(decay_seconds=0.8, distance_db=-6.0, tilt_db=0.0, noise_db=-60.0, level_dbfs=-25.0)
    response = piano_room.impulse_response(RATE, room, np.random.default_rng(0))
    late = response[1:]
    assert 10 * np.log10(np.sum(late**2) / response[0] ** 2) == pytest.approx(-6.0, abs=0.5)
    level_db = [10 * np.log10(np.mean(late[start : start + 800] ** 2)) for start in (2000, 10_000)]
    assert level_db[0] - level_db[1] == pytest.approx(60 * 8000 / RATE / 0.8, abs=4.0)


@pytest.mark.parametrize("tilt_db", [-1.5, 0.0, 1.0])
def test_a_microphone_hears_octaves_louder_or_softer(tilt_db):
    taps = piano_room.tilt_filter(RATE, tilt_db)
    heard, hz = np.abs(np.fft.rfft(taps, RATE)), np.arange(RATE // 2 + 1)
    for low in (200, 500, 2000):
        assert 20 * np.log10(heard[hz == 2 * low] / heard[hz == low]) == pytest.approx(tilt_db, abs=0.1)
    assert heard[500] == pytest.approx(1.0, abs=0.01) and len(taps) % 2 == np.argmax(np.abs(taps)) % 2 == 1


@pytest.mark.parametrize("loud", [1.0, 1e-3])
def test_a_recording_has_its_level_whatever_was_played(loud):
    rng = np.random.default_rng(0)
    room = dataclasses.replace(piano_room.draw_room(rng), level_dbfs=-28.0)
    tone = loud * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    heard = piano_room.in_room(tone, RATE, room, rng)
    assert heard.dtype == np.float32 and len(heard) == len(tone)
    assert 20 * np.log10(np.sqrt(np.mean(heard**2))) == pytest.approx(-28.0, abs=0.1)
    clicks = np.zeros(RATE, np.float32)
    clicks[::4000] = 1.0
    assert np.abs(piano_room.in_room(clicks, RATE, dataclasses.replace(room, level_dbfs=0.0), rng)).max() < 0.9


def test_a_missing_synthesiser_is_one_line(midi_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    assert run(monkeypatch, midi_dir, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pip install 'audiolm_jax[midi]'" in told and not (tmp_path / "out").exists()


@plays
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--variants", "0"], "--variants is 0"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--sample_rate", "4000"], "give 8000 to 48000"),
        (["--sound_font", "/nowhere.sf2"], "/nowhere.sf2 cannot be read"),
        (["--sound_font", __file__], "is no sound font"),
        (["--piece", "("], "no regular expression"),
    ],
)
def test_a_mistake_is_one_line(midi_dir, tmp_path, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, midi_dir, tmp_path / "out", *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and message in told and not (tmp_path / "out").exists()


@plays
def test_a_folder_is_played_the_same_again_and_goes_on(midi_dir, tmp_path, monkeypatch, capsys):
    (midi_dir / "torn.mid").write_bytes(b"MThd and nothing else")
    write_midi(midi_dir / "silent.mid", keys=())
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(monkeypatch, midi_dir, first, "--variants", 2) == 0
    said = capsys.readouterr()
    assert "6 sounds of 2 pieces" in said.out
    assert "torn.mid: it is no MIDI file" in said.err and "silent.mid: it holds no notes" in said.err
    assert said.err.count("\n") == 2
    names = sorted(path.relative_to(first).as_posix() for path in first.rglob("*.flac"))
    assert names[0] == "bach/bach_p01_v000.flac" and names[-1] == "trios--haydn/trios--haydn_v001.flac"
    sounds = {name: (first / name).read_bytes() for name in names}
    assert len(set(sounds.values())) == 6  # two performances of one score, and two variants of each, all differ
    for name in names:
        samples, rate_hz = soundfile.read(first / name)
        assert rate_hz == RATE and samples.ndim == 1 and 2.5 < len(samples) / rate_hz < 6
        assert np.abs(samples[: RATE // 2]).max() > 0.02  # the music begins at once
        assert -36 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -20 and np.abs(samples).max() < 0.9

    # Some were there, one was lost, and one was never begun: the rest is what it was in one go.
    assert run(monkeypatch, midi_dir, second, "--variants", 1) == 0
    (second / "bach/bach_p02_v000.flac").unlink()
    before = (second / "bach/bach_p01_v000.flac").stat().st_mtime_ns
    assert run(monkeypatch, midi_dir, second, "--variants", 2) == 0
    assert {name: (second / name).read_bytes() for name in names} == sounds
    assert (second / "bach/bach_p01_v000.flac").stat().st_mtime_ns == before
    assert (second / "renders.tsv").read_text() == (first / "renders.tsv").read_text()
    rows = [line.split("\t") for line in (first / "renders.tsv").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == names and tuple(rows[0]) == script.COLUMNS

    capsys.readouterr()
    assert run(monkeypatch, midi_dir, first, "--seed", 1) == 2
    assert "holds sounds made with another --seed" in capsys.readouterr().err
    assert json.loads((first / "made_from.json").read_text())["seed"] == 0

    # Pieces are what is held out, all their performances and variants together.
    recordings = find_recordings([first], heldout_speakers=1)
    assert {recording.speaker for recording in recordings} == {"bach", "trios--haydn"}
    assert len({recording.speaker for recording in recordings if recording.heldout}) == 1


@plays
def test_minutes_end_it_and_other_folders_are_spared(midi_dir, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, midi_dir, tmp_path / "out", "--variants", 9, "--minutes", 0.1) == 0
    assert len(list((tmp_path / "out").rglob("*.flac"))) == 2
    assert run(monkeypatch, midi_dir, midi_dir) == 2
    assert "holds something else" in capsys.readouterr().err


@plays
def test_touch_changes_speed_key_and_strength_and_keeps_the_pedal():
    touching = load("piano_touch")
    score = touching.read_midi(midi_bytes())
    as_written = touching.read_midi(touching.played(score, touching.Touch()))
    changed = touching.read_midi(
        touching.played(score, touching.Touch(speed=2.0, semitones=-2, cents=10.0, strength=0.5, contrast=1.0))
    )
    notes = [[m for m in midi.tracks[0] if m.type == "note_on" and m.velocity] for midi in (as_written, changed)]
    assert [m.note for m in notes[0]] == list(KEYS) and [m.note for m in notes[1]] == [key - 2 for key in KEYS]
    assert {m.velocity for m in notes[0]} == {80} and {m.velocity for m in notes[1]} == {40}
    assert as_written.length == pytest.approx(len(KEYS) * 0.25 + touching.TAIL_SECONDS, abs=0.01)
    assert changed.length == pytest.approx(len(KEYS) * 0.125 + touching.TAIL_SECONDS, abs=0.01)
    controls = [(m.control, m.value) for m in as_written.tracks[0] if m.type == "control_change"]
    assert (64, 127) in controls and not any(control == 7 for control, _ in controls)
    assert {m.program for m in as_written.tracks[0] if m.type == "program_change"} == {0}
    (wheel,) = [m.pitch for m in changed.tracks[0] if m.type == "pitchwheel"]
    assert wheel == round(8192 * 10 / 200)


@plays
def test_the_notes_that_are_heard_are_those_of_the_file(tmp_path):
    fonts = [script.SoundFont.read(script.default_sound_font())]
    score = midi_folder.find_scores(write_midi(tmp_path / "a.mid", keys=(69,) * 4).parent)[0]
    samples, row = script.render(score, fonts, 0, 0, RATE)
    spectrum = np.abs(np.fft.rfft(samples[: 2 * RATE] * np.hanning(2 * RATE)))
    wanted_hz = 440 * 2 ** ((int(row["semitones"]) + float(row["cents"]) / 100) / 12)
    near = slice(round(2 * wanted_hz * 0.9), round(2 * wanted_hz * 1.1))
    assert (near.start + np.argmax(spectrum[near])) / 2 == pytest.approx(wanted_hz, rel=0.01)
    assert len(samples) / RATE > 4 * 0.25 / 1.12 + 0.5  # and the last one dies away


def test_its_help_says_how_to_install_what_it_needs():
    text = (LAUNCH / "render_midi.py").read_text()
    assert "audiolm_jax[midi]" in text and "fluid-soundfont-gm" in text
