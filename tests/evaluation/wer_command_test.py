"""`audiolm eval wer`: which recordings it takes, and how mistakes are told."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import Bundle
from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.evaluation.generated import samples
from audiolm_jax.evaluation.words import asr

pytest.importorskip("jiwer")


@dataclasses.dataclass(frozen=True)
class Yes:
    """Hears "yes" in everything."""

    name: str = "yes"
    version: str = "yes 1"
    sample_rate_hz: int = 16_000
    max_seconds: float | None = None
    one_core: bool = False

    def transcribe(self, samples):
        return "yes"


@pytest.fixture(autouse=True)
def yes(monkeypatch):
    monkeypatch.setattr(asr, "load_recogniser", lambda name: Yes())


@pytest.fixture
def speech(tmp_path):
    """Speakers a to h with a recording of 1 s and one of 5 s each; the words of the longer ones are known."""
    folder = tmp_path / "speech"
    for number, speaker in enumerate("abcdefgh"):
        for seconds in (1, 5):
            sound = Waveform(np.full(seconds * 16_000, 0.01 * (number + seconds), np.float32), 16_000)
            write_audio(folder / speaker / f"{speaker}{seconds}.wav", sound)
    (folder / "transcripts.tsv").write_text("".join(f"{speaker}5\tyes no\n" for speaker in "abcdefgh"))
    return folder


def run(capsys, *arguments):
    """Exit code, figures, and what was said on stderr."""
    code = cli.main(["eval", "wer", *map(str, arguments), "--json", "-"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


def test_recordings_as_they_are(speech, tmp_path, capsys):
    code, figures, _ = run(capsys, "--audio", speech, "--output", tmp_path / "out")
    assert code == 0 and figures["wer"] == 0.5 and figures["counts"]["recordings"] == 8
    assert figures["notes"] == ["8 recordings left out that have no transcript, a/a1 first"]
    assert len((tmp_path / "out" / "asr" / "hypotheses.jsonl").read_text().splitlines()) == 8
    code, figures, _ = run(capsys, "--audio", speech, "--max_recordings", 3)
    assert figures["counts"] == {"recordings": 3, "speakers": 3, "words": 6} and figures["notes"] == []


def test_transcripts_from_elsewhere(speech, tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "transcripts.tsv").write_text("a/a1\tyes\n")
    code, figures, _ = run(capsys, "--audio", speech, "--transcripts", tmp_path / "texts")
    assert code == 0 and figures["wer"] == 0 and figures["counts"]["recordings"] == 1


@pytest.fixture
def asked(monkeypatch, speech):
    """Stands in for the bundle and for what it makes; holds what was asked of it."""
    asked = SimpleNamespace()

    def make_samples(bundle, recordings, output, settings, kinds):
        asked.recordings, asked.settings, asked.kinds = recordings, settings, kinds
        drawn = [recording.sample(recording.path, 0) for recording in recordings]
        by_kind = {kind: list(recordings) if kind != "acoustic" else drawn for kind in kinds}
        return samples.Samples(by_kind, {kind: {} for kind in kinds})

    trained = {"codec": (FolderCorpus(speech, 2).split,)}
    monkeypatch.setattr(Bundle, "load", lambda name: SimpleNamespace(name=name, training_splits=trained))
    monkeypatch.setattr(samples, "make_samples", make_samples)
    return asked


def test_the_protocol_takes_held_out_recordings_of_4_to_10_seconds(speech, tmp_path, capsys, asked):
    code, figures, _ = run(capsys, "--data", speech, "--heldout_speakers", 2, "--output", tmp_path / "out")
    assert code == 0
    assert len(asked.recordings) == 2
    assert all(recording.heldout and recording.key.endswith("5") for recording in asked.recordings)
    assert tuple(asked.kinds) == ("original", "reconstruction", "acoustic") and asked.settings.num_samples == 3
    assert {name for name in figures if "er_" in name} == {
        f"{rate}_{kind}" for rate in ("wer", "cer") for kind in asked.kinds
    }
    assert figures["settings"]["recordings"] == "4 to 10 s, with transcripts, held-out speakers"
    assert figures["notes"] == []


def test_other_speakers_are_taken_where_no_held_out_words_are_known(speech, tmp_path, capsys, asked):
    run(capsys, "--data", speech, "--heldout_speakers", 2, "--output", tmp_path / "out")
    heldout = {recording.speaker for recording in asked.recordings}
    (speech / "transcripts.tsv").write_text("".join(f"{s}5\tyes no\n" for s in "abcdefgh" if s not in heldout))
    code, figures, _ = run(
        capsys, "--data", speech, "--heldout_speakers", 2, "--output", tmp_path / "out", "--max_recordings", 4
    )
    assert code == 0 and len(asked.recordings) == 4
    assert figures["notes"] == [
        "no held-out recording of 4 to 10 s has a transcript",
        "4 of 4 recordings are not held out",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give --data and --output for the protocol, or --audio"),
        (["--audio", "{speech}", "--data", "{speech}"], "give --data and --output for the protocol, or --audio"),
        (["--data", "{speech}"], "--output is missing"),
        (["--data", "{speech}", "--output", "o", "--transcripts", "{speech}"], "--transcripts goes with --audio"),
        (["--audio", "{speech}", "--transcripts", "nowhere"], "--transcripts nowhere is no folder"),
        (["--audio", "{speech}/a", "--transcripts", "{speech}/b"], "a1.wav has no transcript"),
        (["--data", "{speech}", "--output", "o", "--min_seconds", "6"], "no recording with a transcript lasts 6 to 10"),
    ],
)
def test_mistakes_are_one_clear_line(speech, capsys, arguments, line):
    code, _, err = run(capsys, *(argument.format(speech=speech) for argument in arguments))
    assert code == 2 and line in err and len(err.splitlines()) == 1


def test_the_extra_is_named_where_it_is_missing(speech, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    code, _, err = run(capsys, "--audio", speech)
    assert code == 2 and "pip install 'audiolm_jax[eval]'" in err
