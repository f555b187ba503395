"""A gin file trains on Libri-Light and MAESTRO as they were unpacked: one macro says what the folder holds."""

import pytest

from audiolm_jax.data.corpora import CORPUS_KINDS, FolderCorpus, LibriLightCorpus, MaestroCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.training import configuration, experiment
from audiolm_jax.training.work_directory import fixed_lines
from tests.data.tiny_corpora import write_libri_light, write_maestro


def test_the_macro_names_the_corpus(tmp_path):
    roots = {FolderCorpus: write_libri_light(tmp_path / "unlab"), MaestroCorpus: write_maestro(tmp_path / "maestro")}
    roots[LibriLightCorpus] = roots[FolderCorpus]
    for kind in CORPUS_KINDS:
        wanted = {"folder": FolderCorpus, "maestro": MaestroCorpus}.get(kind, LibriLightCorpus)
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


def test_another_place_of_the_index_is_no_other_run():
    first, second = (
        configuration.parse("codec_small", [f"CORPUS_CACHE={name}"], "/nowhere") for name in ("/first", "/second")
    )
    assert first != second and fixed_lines(first) == fixed_lines(second)
