"""A gin file trains on Libri-Light and MAESTRO as they were unpacked: one macro says what the folder holds."""

import pytest

from audiolm_jax.data.corpora.corpora import (
    CORPUS_KINDS,
    FolderCorpus,
    LibriLightCorpus,
    MaestroCorpus,
    MusicCorpus,
)
from audiolm_jax.errors import UserError
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.saved.work_directory import fixed_lines
from tests.data.tiny_corpora import ramp, write_libri_light, write_maestro, write_recording


def test_the_macro_names_the_corpus(tmp_path):
    roots = {FolderCorpus: write_libri_light(tmp_path / "unlab"), MaestroCorpus: write_maestro(tmp_path / "maestro")}
    roots[LibriLightCorpus], roots[MusicCorpus] = roots[FolderCorpus], roots[MaestroCorpus]
    for kind in CORPUS_KINDS:
        wanted = {"folder": FolderCorpus, "maestro": MaestroCorpus, "music": MusicCorpus}.get(kind, LibriLightCorpus)
        settings = [f"CORPUS={kind}", f"CORPUS_CACHE={tmp_path / 'cache'}", "SEGMENT_SECONDS=1.0", "HELDOUT_SPEAKERS=1"]
        built, _ = experiment.load("codec_small", settings, str(roots[wanted]))
        assert [type(corpus) for corpus in built.feed.corpora] == [wanted]
        example = built.feed.example(0)
        assert example["samples"].shape == (built.feed.crop_samples,) and example["num_samples"] > 0
        assert built.feed.heldout_example(0) is not None


@pytest.mark.parametrize(
    "kind, folders, message",
    [
        ("libri", "/nowhere", "no kind of corpus 'libri'"),
        ("unlab-600", ("/nowhere/small", "/nowhere/medium"), "name one folder, that which holds small/"),
    ],
)
def test_a_wrong_corpus_is_one_line(kind, folders, message):
    with pytest.raises(UserError, match=message):
        experiment.load("codec_small", [f"CORPUS={kind}"], folders)


@pytest.mark.parametrize("name", ["codec_small", "detector"])
def test_how_recordings_are_read_ahead_and_kept_are_macros(tmp_path, name):
    for speaker in ("a", "b"):
        write_recording(tmp_path / speaker / "x.wav", ramp(16_000))
    settings = {"FEED_THREADS": 3, "FEED_CACHE_BYTES": 5_000} | ({"FEED_WORKERS": 1} if name == "codec_small" else {})
    feed = experiment.load(name, [f"{macro}={value}" for macro, value in settings.items()], str(tmp_path))[0].feed
    assert (feed.num_threads, feed.cache_bytes) == (3, 5_000)
    assert name == "detector" or feed.num_workers == 1


@pytest.mark.parametrize("macro", ["CORPUS_CACHE", "FEED_CACHE_BYTES", "FEED_THREADS", "FEED_WORKERS"])
def test_where_the_index_is_and_how_recordings_are_read_is_no_other_run(macro):
    values = ("/first", "/second") if macro == "CORPUS_CACHE" else (1, 2)
    first, second = (configuration.parse("codec_small", [f"{macro}={value}"], "/nowhere") for value in values)
    assert first != second and fixed_lines(first) == fixed_lines(second)
