"""Codecs beside each other: words, ViSQOL and bit rates of the same recordings, with a codec of random weights."""

import dataclasses
import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.evaluation.sound import codec_words
from audiolm_jax.evaluation.sound.codec_words import measure
from audiolm_jax.evaluation.sound.visqol import VisqolScore
from audiolm_jax.evaluation.words import asr
from tests.evaluation import fake_opus
from tests.evaluation.speechlike import RATE_HZ, speechlike
from tests.tiny_system import tiny_tokenizers

pytest.importorskip("jiwer")

KINDS = ("original", "codec_0.8kbps", "opus_6kbps", "opus_9kbps")


@dataclasses.dataclass(frozen=True)
class Roughness:
    """Hears "yes" and as many "no" as the sound is rough by tens of percent, so that rounding costs words."""

    deaf: bool = False
    name: str = "roughness"
    version: str = "roughness 1"
    sample_rate_hz: int = RATE_HZ
    max_seconds: float | None = None
    one_core: bool = False

    def transcribe(self, samples):
        assert not self.deaf, "this was heard before"
        return " ".join(["yes", *["no"] * int(10 * np.std(np.diff(samples)) / np.std(samples))])


@pytest.fixture(scope="module")
def bundle():
    return tiny_tokenizers()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Three speakers who say "yes" twice; one recording is broken, one too short, one without words."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(3):
        for number in range(2):
            sound = speechlike(3.1, seed=2 * speaker + number) * (0.2 + 0.1 * speaker)
            write_audio(root / f"s{speaker}" / f"{number}.wav", Waveform(sound, RATE_HZ))
            (root / f"s{speaker}" / f"{number}.txt").write_text("Yes.")
    for name, text in (("short", "Yes."), ("wordless", "...")):
        write_audio(root / "s0" / f"{name}.wav", Waveform(speechlike(1.0 if name == "short" else 3.5), RATE_HZ))
        (root / "s0" / f"{name}.txt").write_text(text)
    (root / "s2" / "broken.wav").write_bytes(b"RIFF")
    (root / "s2" / "broken.txt").write_text("yes")
    return root


@pytest.fixture(scope="module")
def recordings(speech):
    return find_recordings([speech], 0, unseen=True)


@pytest.fixture(autouse=True)
def opus_path(tmp_path, monkeypatch):
    """The stand-in for opus-tools, and nothing else, on the PATH."""
    monkeypatch.setenv("PATH", str(fake_opus.write(tmp_path / "bin")))


@pytest.fixture(autouse=True)
def likeness(monkeypatch):
    """Stands in for ViSQOL, which has tests of its own: 5 for identity, less the less two sounds are correlated."""

    def visqol_speech(reference, degraded, sample_rate_hz, mapping):
        alike = abs(float(np.corrcoef(reference, degraded)[0, 1]))
        return VisqolScore(1 + 4 * alike, alike)

    monkeypatch.setattr(codec_words, "visqol_is_installed", lambda: True)
    monkeypatch.setattr(codec_words, "visqol_speech", visqol_speech)
    monkeypatch.setattr(codec_words, "visqol_settings", lambda mapping: {"visqol_mapping": mapping})


def test_every_codec_is_heard_on_the_same_recordings(bundle, recordings, tmp_path):
    measured = measure(bundle, recordings, Roughness(), tmp_path / "sounds", tmp_path / "asr")
    figures = measured.figures
    assert [row["heard"] for row in measured.details["rows"]] == list(KINDS)
    assert measured.counts == {"recordings": 6, "speakers": 3, "words": 6, "left_out": 1}
    assert any("broken.wav" in note for note in measured.notes)
    keys = [f"s{speaker}/{number}" for speaker in range(3) for number in range(2)]
    for kind in KINDS:
        files = {key: read_audio(tmp_path / "sounds" / kind / f"{key}.wav") for key in keys}
        originals = {key: read_audio(tmp_path / "sounds" / "original" / f"{key}.wav") for key in keys}
        assert all(len(files[key].samples) == len(originals[key].samples) for key in keys)
        wrong = [len(Roughness().transcribe(files[key].samples).split()) - 1 for key in keys]
        assert figures[f"wer_{kind}"] == pytest.approx(sum(wrong) / 6)
        low, high = measured.intervals[f"wer_{kind}"]
        assert low <= figures[f"wer_{kind}"] <= high
        if kind != "original":
            alike = [abs(np.corrcoef(originals[key].samples, files[key].samples)[0, 1]) for key in keys]
            assert figures[f"visqol_{kind}"] == pytest.approx(1 + 4 * np.mean(alike), abs=0.01)
            assert f"visqol_{kind}" in measured.intervals
    assert "visqol_original" not in figures
    assert figures["visqol_opus_6kbps"] < figures["visqol_opus_9kbps"]
    rates = {row["heard"]: row["bitrate_bps"] for row in measured.details["rows"]}
    assert rates == {
        "original": None, "codec_0.8kbps": 800, "opus_6kbps": 8 * RATE_HZ, "opus_9kbps": 8 * RATE_HZ
    }  # fmt: skip
    assert measured.settings["opus"].startswith(fake_opus.VERSION) and measured.settings["asr"] == "roughness"
    rows = measured.details["recordings"]
    assert len(rows) == 4 * 6 and {row["visqol"] is None for row in rows if row["kind"] == "original"} == {True}
    assert json.loads(json.dumps(measured.to_json()))["metric"] == "codec_words"


def test_the_codec_s_files_are_what_it_decodes(bundle, recordings, tmp_path):
    measure(bundle, recordings, Roughness(), tmp_path, max_clips=1)
    (path,) = (tmp_path / "codec_0.8kbps").glob("*/*.wav")
    original = read_audio(tmp_path / "original" / path.relative_to(tmp_path / "codec_0.8kbps"))
    tokens = encode_chunked(bundle.codec, bundle.codec_params, original.samples[None])
    expected = decode_chunked(bundle.codec, bundle.codec_params, tokens)[0, : len(original.samples)]
    np.testing.assert_allclose(read_audio(path).samples, expected, atol=2e-4)


def test_what_was_heard_is_not_heard_again_and_order_changes_nothing(bundle, recordings, tmp_path):
    recordings = [one for one in recordings if one.path.stem != "broken"]
    first = measure(bundle, recordings, Roughness(), tmp_path / "sounds", tmp_path / "asr", max_clips=3)
    assert {row["speaker"] for row in first.details["recordings"]} == {"s0", "s1", "s2"}
    deaf = Roughness(deaf=True)
    again = measure(bundle, recordings[::-1], deaf, tmp_path / "sounds", tmp_path / "asr", max_clips=3)
    assert again == first


def test_held_out_recordings_come_first(bundle, recordings, tmp_path):
    some = [dataclasses.replace(one, heldout=one.speaker == "s1") for one in recordings]
    measured = measure(bundle, some, Roughness(), tmp_path / "a")
    assert {row["speaker"] for row in measured.details["recordings"]} == {"s1"}
    assert measured.settings["interval_unit"] == "recording" and not any("held out" in note for note in measured.notes)
    none = [dataclasses.replace(one, heldout=False) for one in recordings]
    notes = measure(bundle, none, Roughness(), tmp_path / "b").notes
    assert notes[0] == "no held-out recording of 3 to 15 s has a transcript"
    assert "6 of 6 recordings are not held out" in notes


def test_what_is_not_installed_is_left_out_and_told(bundle, recordings, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(codec_words, "visqol_is_installed", lambda: False)
    measured = measure(bundle, recordings, Roughness(), tmp_path / "sounds", max_clips=1)
    assert list(measured.figures) == ["wer_original", "cer_original", "wer_codec_0.8kbps", "cer_codec_0.8kbps"]
    notes = " ".join(measured.notes)
    assert "apt-get install opus-tools" in notes and "audiolm_jax[eval]" in notes
    assert measured.settings["opus"] == "not installed" and "visqol_mapping" not in measured.settings


def test_recordings_that_cannot_be_compared_are_left_out(bundle, recordings, tmp_path, monkeypatch):
    def refuses(reference, *_):
        raise ValueError("the reference is silent")

    monkeypatch.setattr(codec_words, "visqol_speech", refuses)
    with pytest.raises(UserError, match="no recording can be heard through the codecs: .* the reference is silent"):
        measure(bundle, recordings, Roughness(), tmp_path)
    assert not list(tmp_path.rglob("original"))
    with pytest.raises(UserError, match="no recording with a transcript lasts 3 to 15 s"):
        measure(bundle, [one for one in recordings if one.path.stem == "short"], Roughness(), tmp_path)


@pytest.fixture
def run(bundle, speech, tmp_path, monkeypatch, capsys):
    """Runs `audiolm eval codec` on these recordings: exit code, figures, and what was said on stderr."""
    monkeypatch.setattr(asr, "load_recogniser", lambda name: Roughness())
    made = export_bundle(bundle, tmp_path / "bundle")

    def run(*arguments):
        line = ["eval", "codec", "--bundle", made.path, "--data", speech, "--unseen", "--json", "-", *arguments]
        code = cli.main([str(part) for part in line])
        out, err = capsys.readouterr()
        return code, json.loads(out) if code == 0 else None, err

    return run


def test_the_command_hears_words_where_a_recogniser_is_named(run, tmp_path):
    out = tmp_path / "out"
    code, figures, _ = run("--asr", "roughness", "--output", out, "--max_clips", 2, "--seed", 3)
    assert code == 0 and figures["metric"] == "codec_words" and figures["counts"]["recordings"] == 2
    assert figures["settings"]["heldout"] == "unseen" and figures["settings"]["interval_seed"] == 3
    assert len(list((out / "codec_words" / "opus_9kbps").rglob("*.wav"))) == 2
    # Each content once: the tiny codec says the same of two recordings that differ by noise.
    contents = {path.read_bytes() for path in out.rglob("*.wav")}
    assert len((out / "asr" / "hypotheses.jsonl").read_text().splitlines()) == len(contents) >= 7


def test_flags_that_do_not_go_together_are_one_line(run, tmp_path):
    for arguments, words in (
        (("--asr", "roughness"), "--output is missing"),
        (("--output", tmp_path / "out"), "--output goes with --asr"),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and words in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
