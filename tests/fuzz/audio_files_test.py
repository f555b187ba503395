"""A short fuzz of the reading of sound, and the checks that would tell if a reader were wrong."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from audiolm_jax.audio import Waveform
from audiolm_jax.errors import UserError
from tests.fuzz import audio_files
from tests.fuzz.audio_files import Outcome, Readers, damaged_file, fuzz, judged, table, together
from tests.fuzz.sound_seeds import sound_seeds


def test_damaged_files_are_read_or_refused_in_one_line():
    outcome = fuzz(seed=0, count=800)
    assert outcome.faults == []
    assert outcome.count == 800 and sum((outcome.read + outcome.refused).values()) == 800
    assert len(outcome.read) > 6, "files of most containers survive some damage"
    assert sum(outcome.refused.values()) > 200


@pytest.mark.parametrize("kind", list(sound_seeds()))
def test_whole_files_are_read(tmp_path, kind):
    path = tmp_path / "whole.mp3"
    path.write_bytes(sound_seeds()[kind])
    assert judged(path, random.Random(0), Readers()) == (True, True, [])


def test_a_file_is_the_same_for_its_seed_and_number():
    assert damaged_file(3, 7) == damaged_file(3, 7) != damaged_file(3, 8)
    assert any(damaged_file(3, 7)[1] != damaged_file(seed, 7)[1] for seed in range(3))


def raises(error):
    def read(*arguments):
        raise error

    return read


def ones(path, ranges):
    return Waveform(np.ones(ranges[0][1] - ranges[0][0]), 16_000)


@pytest.mark.parametrize(
    "reader, wrong, says",
    [
        ("read_audio", raises(KeyError("x")), "read_audio raises KeyError"),
        ("read_audio", raises(UserError("two\nlines")), "read_audio says"),
        ("read_audio", raises(UserError("without its name")), "read_audio says"),
        ("read_audio", lambda path: Waveform(np.zeros(0), 16_000), "no sound"),
        ("read_header", lambda path: (1, 16_000), "read_header says (1, 16000)"),
        ("read_header", lambda path: None, "read_header says None"),
        ("read_ranges", raises(RuntimeError("x")), "read_ranges raises RuntimeError"),
        ("read_ranges", lambda path, ranges: Waveform(np.zeros(0), 16_000), "read_ranges gives 0 samples"),
        ("read_ranges", ones, "read_ranges differs"),
        ("decode_audio", lambda path, data: Waveform(np.zeros(9), 16_000), "decode_audio gives other samples"),
    ],
)
def test_a_wrong_reader_is_a_fault(tmp_path, reader, wrong, says):
    path = tmp_path / "whole.wav"
    path.write_bytes(sound_seeds()["WAV/PCM_16/FILE/16000/1"])
    told = [fault for seed in range(20) for fault in judged(path, random.Random(seed), Readers(**{reader: wrong}))[2]]
    assert any(says in fault for fault in told), told


def test_what_takes_long_or_much_memory_or_prints_is_a_fault(tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "from tests.fuzz import audio_files\n"
        "audio_files.MOST_SECONDS = audio_files.MOST_MEGABYTES = -1\n"
        "class Report:\n"
        "    def send(self, results): print(results[0].faults)\n"
        "    def close(self): pass\n"
        "real = audio_files.judged\n"
        "audio_files.judged = lambda *arguments: os.write(2, b'printed') and real(*arguments)\n"
        "audio_files._read_many(0, 0, 1, 1, pathlib.Path(sys.argv[1]), Report())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=audio_files.ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    for words in ("takes", " s'", " MB'", "prints b'printed'"):
        assert words in result.stdout


def test_the_table_counts_and_names_faults():
    outcome = Outcome(count=5, headers=1, faults=["file 3 (WAV/PCM_16): read_audio raises KeyError"])
    outcome.read["WAV"], outcome.refused["OGG"] = 3, 2
    text = table(together([outcome, Outcome()]), seeds=[1])
    assert "5 damaged files (seed 1): 3 were read, 2 refused, 1 of these by their headers alone; 1 faults" in text
    assert "| OGG | 0 | 2 |" in text and "- file 3 (WAV/PCM_16)" in text
    json.dumps(vars(outcome))
