"""`audiolm eval words`: what it takes for prompts, what it makes, and how mistakes are told."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import Bundle
from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.evaluation.generated import samples
from audiolm_jax.evaluation.words import asr


@dataclasses.dataclass(frozen=True)
class ByLoudness:
    """Hears words of the language in quiet recordings, and others in loud ones."""

    name: str = "by loudness"
    version: str = "by loudness 1"
    sample_rate_hz: int = 16_000
    max_seconds: float | None = None
    one_core: bool = False

    def transcribe(self, heard):
        return "good night" if np.abs(heard).max() < 0.2 else "call me ishmael good night"


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """Speakers a to h with a recording of 1 s and one of 5 s each, and two louder speakers elsewhere."""
    monkeypatch.setattr(asr, "load_recogniser", lambda name: ByLoudness())
    for number, speaker in enumerate("abcdefgh"):
        for seconds in (1, 5):
            sound = Waveform(np.linspace(0.01, 0.01 * (number + 2), seconds * 16_000, dtype=np.float32), 16_000)
            write_audio(tmp_path / "speech" / speaker / f"{seconds}.wav", sound)
    for speaker in "xy":
        write_audio(tmp_path / "books" / speaker / "5.wav", Waveform(np.full(5 * 16_000, 0.5, np.float32), 16_000))
    (tmp_path / "words.txt").write_text("Good morning, good night.\n")
    return tmp_path / "speech"


@pytest.fixture
def asked(monkeypatch, speech):
    """Stands in for the bundle and for what it makes: one loud continuation of two; holds what was asked of it."""
    asked = SimpleNamespace()

    def make_samples(bundle, recordings, output, settings, kinds):
        asked.recordings, asked.settings, asked.kinds = recordings, settings, kinds
        made = {"reconstruction": list(recordings), "continuation": []}
        for recording in recordings:
            for index, level in enumerate((0.1, 0.5)):
                path = output / "continuation" / f"{recording.key}-{index}.wav"
                write_audio(path, Waveform(np.full(32_000, level, np.float32), 16_000))
                made["continuation"].append(recording.sample(path, index))
        return samples.Samples({kind: made[kind] for kind in kinds}, {kind: {} for kind in kinds})

    trained = {"codec": (FolderCorpus(speech, 2).split,)}
    bundle = SimpleNamespace(name="stand-in", training_splits=trained, classifiers={})
    monkeypatch.setattr(Bundle, "load", lambda name: bundle)
    monkeypatch.setattr(samples, "make_samples", make_samples)
    return asked


def run(capsys, speech, *arguments):
    """Exit code, figures, and what was said on stderr."""
    folder = speech.parent
    common = ["--data", speech, "--vocabulary", folder / "words.txt", "--output", folder / "out"]
    common += ["--heldout_speakers", 2]
    code = cli.main(["eval", "words", *map(str, [*common, *arguments]), "--json", "-"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


LENGTHS = ["--prompt_seconds", 3, "--seconds", 2]


def test_held_out_prompts_are_continued_and_heard_without_their_prompts(speech, capsys, asked):
    code, figures, _ = run(capsys, speech, *LENGTHS, "--unrelated", speech.parent / "books")
    assert code == 0
    assert len(asked.recordings) == 2 and all(r.heldout and r.key.endswith("/5") for r in asked.recordings)
    assert (asked.settings.prompt_seconds, asked.settings.seconds, asked.settings.num_samples) == (3, 2, 3)
    assert tuple(asked.kinds) == ("reconstruction", "continuation")
    shares = {kind: figures[f"word_share_{kind}"] for kind in ("true", "reconstruction", "continuation", "unrelated")}
    assert shares == {"true": 1.0, "reconstruction": 1.0, "continuation": 4 / 7, "unrelated": 2 / 5}
    assert figures["words_per_second_true"] == 1.0 and figures["counts"]["recordings_continuation"] == 4
    assert figures["counts"]["recordings_unrelated"] == 2
    assert figures["settings"]["heldout"] == "reproduced" and figures["settings"]["asr"] == "by loudness"
    assert any("carries no speaker network" in note for note in figures["notes"])
    for name in ("true", "reconstruction_after_prompt", "unrelated"):
        files = sorted((speech.parent / "out" / name).rglob("*.wav"))
        assert len(files) == 2 and all(len(read_audio(path).samples) == 32_000 for path in files)
    # Heard once: another run finds everything.
    lines = (speech.parent / "out" / "asr" / "hypotheses.jsonl").read_text().splitlines()
    assert run(capsys, speech, *LENGTHS)[1]["word_share_continuation"] == 4 / 7
    assert (speech.parent / "out" / "asr" / "hypotheses.jsonl").read_text().splitlines() == lines


def test_what_was_really_said_needs_nothing_made(speech, capsys, asked):
    code, figures, _ = run(capsys, speech, *LENGTHS, "--kinds", "true", "--max_recordings", 1)
    assert code == 0 and figures["word_share_true"] == 1.0 and not hasattr(asked, "kinds")
    assert figures["counts"]["recordings_true"] == 1 and figures["settings"]["heldout_speakers"] == 2
    assert "word_share_continuation" not in figures


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([*LENGTHS, "--kinds", "true,acoustic"], "--kinds names 'acoustic'; the kinds are true, reconstruction, cont"),
        ([*LENGTHS, "--vocabulary", "nowhere.txt"], "--vocabulary nowhere.txt is no file; give a transcripts.tsv"),
        ([*LENGTHS, "--min_seconds", 6], "none of 4 heldout recordings is 6 to 30 s long; change --min_seconds"),
        ([], "none of 4 heldout recordings is 9 to 30 s long"),
        ([*LENGTHS, "--min_seconds", 1, "--kinds", "true"], "ends within its prompt of 3 s; change --prompt_seconds"),
        ([*LENGTHS, "--unrelated", "{speech}/a", "--min_seconds", 5.5, "--max_seconds", 9], "recordings is 5.5 to 9 s"),
        ([*LENGTHS, "--heldout_speakers", 1], "is not that which the codec was trained with"),
        (["--output", "{speech}/out"], "it lies in"),
    ],
)
def test_mistakes_are_one_clear_line(speech, capsys, asked, arguments, line):
    code, _, err = run(capsys, speech, *(str(argument).format(speech=speech) for argument in arguments))
    assert code == 2 and line in err and len(err.splitlines()) == 1


def test_unrelated_speech_that_is_too_short_is_told(speech, capsys, asked):
    write_audio(speech.parent / "short/z/1.wav", Waveform(np.full(8000, 0.1, np.float32), 16_000))
    code, _, err = run(capsys, speech, *LENGTHS, "--unrelated", speech.parent / "short")
    assert code == 2 and "no recording of --unrelated" in err and "lasts 5 to 30 s" in err
