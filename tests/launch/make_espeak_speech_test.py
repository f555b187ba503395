"""Made speech comes with transcripts that the evaluations read, in both languages; levels and pauses are a reader's.

Needs espeakng-loader (extra `espeak`).
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.evaluation.words.text_normalisation import normalise
from tests.launch.scripts import LAUNCH, load

pytest.importorskip("espeakng_loader")
made_sentences, script = load("made_sentences"), load("make_espeak_speech")
WORDS = set((Path(__file__).parent / "phrase_words.txt").read_text().split())
# In a process of its own, because espeak-ng keeps state in one.
MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import make_espeak_speech as script
voices = tuple(voice for voice in script.VOICES if voice.name in ("us_m1", "gb_m1"))
script.make_corpus(Path(sys.argv[2]), minutes=26 / 60, seed=int(sys.argv[4]), kind=sys.argv[3], voices=voices)
"""


def make(folder, kind="sentences", seed=0):
    """Two clips of an American and two of a British voice."""
    command = [sys.executable, "-c", MAKE, str(LAUNCH), str(folder), kind, str(seed)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "phrases"
    assert make(folder, "phrases").returncode == 0
    return folder


def test_every_clip_has_its_own_transcript(tmp_path):
    assert make(tmp_path).returncode == 0
    transcripts = (tmp_path / "transcripts.tsv").read_text()
    recordings = find_recordings([tmp_path])
    assert {recording.speaker for recording in recordings} == {"espeak_us_m1", "espeak_gb_m1"}
    assert len(recordings) >= 4 and len({recording.text for recording in recordings}) == len(recordings)
    for recording in recordings:
        assert f"{recording.key}\t{recording.speaker}\t{recording.text}\n" in transcripts
        assert not any(character.isdigit() for character in recording.text)

    # Started again it keeps the clips, and so it does where a text of an earlier version has digits.
    text = recordings[0].path.with_suffix(".txt")
    assert text.read_text() == f"{recordings[0].text}\n"
    text.write_text("It takes 117 minutes.\n")
    before = recordings[0].path.stat().st_mtime_ns
    make(tmp_path)
    assert recordings[0].path.stat().st_mtime_ns == before
    assert "\tIt takes one hundred and seventeen minutes.\n" in (tmp_path / "transcripts.tsv").read_text()


def test_phrases_are_said_whole_and_their_voices_are_held_out_as_any(phrases):
    recordings = find_recordings([phrases], heldout_speakers=1)
    assert len(recordings) >= 2 and {recording.heldout for recording in recordings} == {True, False}
    assert len({recording.speaker for recording in recordings if recording.heldout}) == 1
    for recording in recordings:
        assert recording.text.count(".") == 4 and set(re.findall(r"[a-z]+", recording.text.lower())) <= WORDS


def test_levels_and_pauses_are_those_of_a_reader(phrases):
    levels, pauses = [], []
    for path in sorted(phrases.glob("*/*.flac")):
        samples, rate_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == 16_000 and np.abs(samples).max() < 0.9
        levels.append(20 * np.log10(np.sqrt(np.mean(samples**2))))
        silent = np.abs(samples) < 1e-4
        edges = np.flatnonzero(np.diff(np.pad(silent.astype(int), 1)))
        starts, stops = edges[::2], edges[1::2]
        inner = (starts > 0) & (stops < len(samples)) & (stops - starts > 0.19 * rate_hz)
        pauses += list((stops - starts)[inner] / rate_hz)
        # Three pauses between four sentences, which espeak-ng never makes within one.
        assert inner.sum() >= 3
    assert -30.2 < min(levels) and max(levels) < -19.8 and np.std(levels) > 0.1
    assert 0.19 < min(pauses) < max(pauses) < 0.95 and np.std(pauses) > 0.05


def test_a_clip_depends_on_nothing_but_seed_text_voice_and_number(phrases, tmp_path):
    (tmp_path / "other").mkdir()
    assert make(tmp_path / "again", "phrases").returncode == 0
    first = {path.name + path.parent.name: path.read_bytes() for path in phrases.glob("*/*")}
    assert first == {path.name + path.parent.name: path.read_bytes() for path in (tmp_path / "again").glob("*/*")}
    # One that is missing is made as it was.
    path = next((tmp_path / "again").glob("*/0001.flac"), None) or next((tmp_path / "again").glob("*/0000.flac"))
    before = path.read_bytes()
    path.unlink()
    make(tmp_path / "again", "phrases")
    assert path.read_bytes() == before


def test_a_folder_holds_one_kind_of_text_by_one_seed(phrases, tmp_path):
    assert json.loads((phrases / "made_from.json").read_text()) == {"text": "phrases", "seed": 0}
    for kind, seed in (("sentences", 0), ("phrases", 1)):
        with pytest.raises(script.OtherClips, match="clips of --text phrases --seed 0; give the same, or name another"):
            script.describe(phrases, kind, seed)
    (tmp_path / "made_from.json").write_text("[1]")
    with pytest.raises(script.OtherClips, match="made_from.json cannot be read"):
        script.describe(tmp_path, "phrases", 0)
    # As the command says it.
    command = [sys.executable, LAUNCH / "make_espeak_speech.py", phrases, "--minutes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "name another folder" in done.stderr and done.stderr.count("\n") == 1


def test_fewer_voices_are_among_more():
    names = [{voice.name for voice in script.some_voices(count)} for count in (5, 20, len(script.VOICES))]
    assert [len(each) for each in names] == [5, 20, len(script.VOICES)] and names[0] < names[1] < names[2]
    assert len({(voice.accent, voice.variant) for voice in script.VOICES}) == len(script.VOICES)
    assert len({voice.accent for voice in script.some_voices(20)}) >= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes is 0; give a number above 0"),
        (["--voices", "1000"], "--voices is 1000; there are 1 to"),
        (["--text", "poems"], "--text: invalid choice: 'poems'"),
        (["--hours", "1"], "--hours"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    command = [sys.executable, LAUNCH / "make_espeak_speech.py", tmp_path / "out", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_numbers_are_written_as_each_accent_says_them():
    assert made_sentences.spoken_words("7 or 40, 342 and 300 pounds.", "en-us-nyc") == (
        "seven or forty, three hundred forty-two and three hundred pounds."
    )
    assert made_sentences.spoken_words("101 people", "en-gb-scotland") == "one hundred and one people"


def test_american_numbers_are_those_of_the_normalisation():
    for number in (0, 9, 10, 19, 20, 21, 99, 100, 110, 399):
        assert normalise(made_sentences.spoken_words(str(number), "en-us")) == normalise(str(number))
