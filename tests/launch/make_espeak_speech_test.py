"""Made speech comes with transcripts that the evaluations read. Needs espeakng-loader (extra `demo`)."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.evaluation.text_normalisation import normalise

pytest.importorskip("espeakng_loader")
SCRIPT = Path(__file__).parents[2] / "launch" / "make_espeak_speech.py"
# Two clips of an American and two of a British voice, in a process of its own, because espeak-ng keeps state in one.
MAKE = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("make_espeak_speech", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["make_espeak_speech"] = module
spec.loader.exec_module(module)
module.VOICES = tuple(voice for voice in module.VOICES if voice.name in ("us_m1", "gb_m1"))
module.make_corpus(Path(sys.argv[2]), hours=2 * 13 / 3600, seed=0)
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_espeak_speech", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_espeak_speech"] = module
    spec.loader.exec_module(module)
    return module


def make(folder) -> None:
    subprocess.run([sys.executable, "-c", MAKE, str(SCRIPT), str(folder)], check=True, timeout=120)


def test_every_clip_has_its_own_transcript(tmp_path):
    make(tmp_path)
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


def test_numbers_are_written_as_each_accent_says_them(script):
    assert script.spoken_words("7 or 40, 342 and 300 pounds.", "en-us-nyc") == (
        "seven or forty, three hundred forty-two and three hundred pounds."
    )
    assert script.spoken_words("101 people", "en-gb-scotland") == "one hundred and one people"


def test_american_numbers_are_those_of_the_normalisation(script):
    for number in (0, 9, 10, 19, 20, 21, 99, 100, 110, 399):
        assert normalise(script.spoken_words(str(number), "en-us")) == normalise(str(number))
