"""Whisper in CTranslate2's format: what is heard, and folders that are no model."""

import shutil
import sys

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.asr import load_recogniser
from audiolm_jax.evaluation.words.hypotheses import hear

pytest.importorskip("faster_whisper")

from tests.evaluation import tiny_whisper  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_whisper.write(tmp_path_factory.mktemp("models") / "tiny")


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(size=round(16_000 * seconds)).astype(np.float32) * 0.1


def test_what_is_heard_is_a_function_of_the_samples(folder):
    recogniser = load_recogniser(str(folder))
    assert (recogniser.name, recogniser.sample_rate_hz, recogniser.max_seconds) == ("tiny", 16_000, 30)
    sounds = [noise(2), noise(0.1), 0.3 * np.sin(np.arange(32_000) / 8).astype(np.float32)]
    heard = [recogniser.transcribe(sound) for sound in sounds]
    assert all(words and set(words.split()) <= {f"w{word}" for word in range(24)} for words in heard)
    assert heard[0] != heard[2]
    assert [recogniser.transcribe(sound) for sound in sounds[::-1]] == heard[::-1]
    assert recogniser.transcribe(np.zeros(0, np.float32)) == ""


def test_its_version_names_the_weights(folder, tmp_path):
    other = tiny_whisper.write(tmp_path / "tiny", seed=1)
    versions = [load_recogniser(str(one)).version for one in (folder, other, folder)]
    assert versions[0] == versions[2] != versions[1]
    assert "faster-whisper" in versions[0] and "int8" in versions[0]


def test_more_than_it_hears_at_once_is_refused(folder, tmp_path):
    write_audio(tmp_path / "long.wav", Waveform(noise(31), 16_000))
    with pytest.raises(UserError, match=r"long.wav lasts 31.0 s, and tiny hears 30 s at once"):
        hear(load_recogniser(str(folder)), tmp_path / "long.wav")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocabulary.json"])
def test_a_file_that_is_missing_is_named(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(UserError, match=rf"model holds no .*{name}"):
        load_recogniser(str(tmp_path / "model"))


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_a_damaged_folder_is_one_line(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "model")
    data = (folder / name).read_bytes()
    (tmp_path / "model" / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="is no complete Whisper model .*copy it again") as caught:
        load_recogniser(str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


def test_the_extra_is_named_where_it_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UserError, match=r"pip install 'audiolm_jax\[whisper\]'"):
        load_recogniser(str(folder))
