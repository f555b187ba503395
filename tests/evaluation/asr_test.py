"""PocketSphinx and how recognisers are named."""

import importlib.metadata

import numpy as np
import pytest

from audiolm_jax.audio import read_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.asr import PocketSphinx, load_recogniser, packages_of
from audiolm_jax.files.model_folders import SHIPPED


def test_what_is_heard_does_not_depend_on_what_was_heard_before():
    pytest.importorskip("pocketsphinx")
    speech = read_audio(SHIPPED / "small" / "prompt.wav", 16_000).samples
    # What a decoder that is merely reset hears in silence depends on the level of the speech before.
    loud, quiet, silence = speech[-20_000:], 0.05 * speech[:14_000], np.zeros(4_000, np.float32)
    recogniser = PocketSphinx()
    one_way = [recogniser.transcribe(samples) for samples in (loud, silence, quiet)]
    assert [recogniser.transcribe(samples) for samples in (quiet, silence, loud)] == one_way[::-1]
    assert one_way[0] and one_way[2] and one_way[0] != one_way[2]


def test_hardly_any_samples_are_nothing():
    pytest.importorskip("pocketsphinx")
    assert PocketSphinx().transcribe(np.zeros(0, np.float32)) == ""
    assert PocketSphinx().transcribe(np.ones(100, np.float32)) == ""


def test_names():
    pytest.importorskip("pocketsphinx")
    recogniser = load_recogniser("pocketsphinx")
    assert recogniser.name == "pocketsphinx"
    assert importlib.metadata.version("pocketsphinx") in recogniser.version
    with pytest.raises(UserError, match="no recogniser 'whisper-large'; give pocketsphinx, or the folder"):
        load_recogniser("whisper-large")


def test_packages_are_those_that_a_folder_needs(tmp_path):
    assert packages_of("pocketsphinx") == ("pocketsphinx",)
    assert packages_of(str(tmp_path)) == ("transformers", "torch") and packages_of(str(tmp_path / "none")) == ()
    (tmp_path / "model.bin").write_bytes(b"")
    assert packages_of(str(tmp_path)) == ("faster_whisper", "ctranslate2")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'audiolm_jax\[eval\]'"):
        load_recogniser("pocketsphinx")
