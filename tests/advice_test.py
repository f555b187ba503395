"""What a message tells to do can be done, and helps; a folder that was taken for another is told what it is."""

import importlib.util
import shutil

import pytest

from audiolm_jax.bundle import export_bundle
from audiolm_jax.pretrained.files.imported_model import read_huggingface, write_imported
from tests.cli.cli_test import ROOT, assert_one_line_mistake, run
from tests.tiny_system import tiny_tokenizers

GOLDEN = ROOT / "tests" / "golden" / "pretrained"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, by its kind."""
    here = tmp_path_factory.mktemp("folders")
    export_bundle(tiny_tokenizers(), here / "bundle")
    write_imported(read_huggingface(GOLDEN / "dac"), here / "imported")
    shutil.copytree(GOLDEN / "hubert", here / "published")
    (here / "workdir" / "checkpoints").mkdir(parents=True)
    (here / "workdir" / "config.gin").write_text("")
    (here / "tokens").mkdir()
    (here / "tokens" / "manifest.json").write_text('{"schema": 2, "tokenizers": {}, "shards": []}')
    (here / "empty").mkdir()
    (here / "file").write_text("")
    return here


@pytest.mark.parametrize(
    "line,says,never",
    [
        ("info nothing", ["argument DIR", "no such folder", "small"], ["--bundle", "--overwrite"]),
        ("info file", ["argument DIR", "it is a file"], ["--bundle"]),
        ("info empty", ["empty is no bundle", "has no manifest.json"], ["--bundle"]),
        ("info tokens", ["holds token records"], ["version"]),
        ("info workdir", ["work directory of a training", "audiolm bundle --help"], []),
        ("info published", ["audiolm import published --output DIR"], []),
        ("codec a b.wav --bundle nothing", ["argument --bundle", "'nothing'"], []),
        ("generate --output a.wav --prompt p --bundle nothing", ["argument --bundle", "'nothing'"], []),
        ("eval perplexity --data d --bundle nothing", ["argument --bundle", "'nothing'"], []),
        ("bundle out --tokenizers nothing --fine w", ["--tokenizers: there is no bundle 'nothing'"], ["--bundle"]),
        ("bundle out --system nothing --speaker w", ["--system: there is no bundle 'nothing'"], ["--bundle"]),
        ("bundle out --tokenizers imported --fine w", ["imported is no bundle", "--codec DIR --kmeans DIR"], []),
        ("bundle bundle --tokenizers small --fine w", ["bundle exists", "--overwrite"], []),
        ("bundle workdir --tokenizers small --fine w", ["exists", "checkpoints"], ["--overwrite"]),
        ("bundle workdir --tokenizers small --fine w --overwrite", ["exists", "checkpoints"], ["--overwrite"]),
        ("bundle out --tokenizers small --fine w --prompt file", ["file is empty"], []),
        ("export bundle --output out", ["bundle holds no imported model", "it is a bundle"], ["--output bundle"]),
        ("export nothing --output out", ["there is no such folder"], ["--output nothing"]),
        ("export published --output out", ["audiolm import published --output DIR"], []),
        ("export imported --output bundle", ["manifest.json", "another folder"], ["--overwrite"]),
        ("import nothing --output out", ["nothing is downloaded", "hf download OWNER/nothing"], []),
        ("import facebook/x --output out", ["hf download facebook/x"], []),
        ("import bundle --output out", ["bundle is a bundle"], ["save_pretrained"]),
        ("import published --output imported", ["imported exists", "--overwrite"], []),
        ("import published --output bundle", ["bundle exists"], ["--overwrite"]),
        ("import published --output bundle --overwrite", ["bundle exists", "another folder"], ["--overwrite"]),
        ("tokenize --input empty --output out --bundle published --engine jax", ["import published", "a bundle"], []),
        ("eval perplexity --tokens nothing", ["nothing holds no token records"], ["resumes"]),
        ("eval perplexity --tokens empty", ["empty holds no token records"], ["resumes"]),
        ("eval visqol --reference nothing --degraded file", ["nothing does not exist; name"], []),
        ("eval fad --reference nothing --generated empty", ["nothing is not a folder; give"], []),
    ],
)
def test_advice_helps(capsys, monkeypatch, folders, line, says, never):
    monkeypatch.chdir(folders)
    code, out, err = run(capsys, *line.split())
    assert_one_line_mistake(code, out, err, *says)
    assert not [words for words in never if words in err], err
    assert not (folders / "out").exists()


def test_without_beam_the_engine_that_needs_none_is_named(capsys, monkeypatch, folders):
    monkeypatch.chdir(folders)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "apache_beam" else find_spec(name))
    argv = ["tokenize", "--input", "empty", "--output", "out"]
    assert_one_line_mistake(*run(capsys, *argv), "--engine jax", "pip install 'audiolm_jax[train]'")
