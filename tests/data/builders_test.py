"""Each corpus's layout on disk, made small, becomes examples with speakers and side data; from the command line too."""

import json
import subprocess
import sys

import numpy as np
import pytest

from audiolm_jax.data.corpora.corpora import LibriLightCorpus, MaestroCorpus
from audiolm_jax.data.corpora.utterances import read_utterance
from audiolm_jax.errors import UserError
from tests.data.tiny_corpora import LIBRI_LIGHT, MAESTRO, RATE_HZ, describe, ramp, write_libri_light, write_maestro

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("apache_beam")

from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402

from audiolm_jax.data.seqio.builders import AudiolmLibriLight, AudiolmMaestro  # noqa: E402
from audiolm_jax.data.seqio.prepare_tfds import main  # noqa: E402


def prepare(builder, manual_dir):
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, beam_runner=FnApiRunner())
    builder.download_and_prepare(download_config=config)
    return {split: list(tfds.as_numpy(builder.as_dataset(split))) for split in builder.info.splits}


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory):
    """Libri-Light with a recording that cannot be used and one of more than a minute."""
    root = write_libri_light(tmp_path_factory.mktemp("libri_light"))
    bad = root / "small/25/emma_librivox_64kb_mp3/emma_09_austen_64kb.flac"
    bad.write_text("no audio")
    bad.with_suffix(".json").write_text(json.dumps(describe("small/25/emma/emma_09_austen_64kb", [[0.0, 1.0]])))
    long = root / "small/31/emma_librivox_64kb_mp3/emma_02_austen_64kb.json"
    spans = [[0.0, 0.25], [0.5, 65.0], [65.5, 66.0]]
    long.write_text(json.dumps(describe("small/31/emma/emma_02_austen_64kb", spans)))
    return root


@pytest.fixture(scope="module")
def unlab_6k(manual_dir, tmp_path_factory):
    builder = AudiolmLibriLight(config="unlab-6k", data_dir=tmp_path_factory.mktemp("prepared"))
    return prepare(builder, manual_dir)


def test_libri_light_gives_the_utterances_of_the_corpus(unlab_6k, manual_dir, tmp_path):
    corpus = LibriLightCorpus(manual_dir, "unlab-6k", cache_dir=tmp_path)
    assert [len(corpus.train), len(corpus.heldout)] == [len(unlab_6k["train"]), len(unlab_6k["validation"])]
    for split, utterances in (("train", corpus.train), ("validation", corpus.heldout)):
        examples = {example["key"].decode(): example for example in unlab_6k[split]}
        assert examples.keys() == {u.key for u in utterances}
        for utterance in utterances:
            example = examples[utterance.key]
            assert example["audio"].dtype == np.int16 and example["speaker"].decode() == utterance.speaker
            samples = np.round(read_utterance(utterance).samples * 32768).astype(np.int16)
            np.testing.assert_array_equal(example["audio"], samples)
            np.testing.assert_array_equal(example["ranges"], utterance.ranges)
    speakers = [{example["speaker"] for example in unlab_6k[split]} for split in ("train", "validation")]
    assert not speakers[0] & speakers[1]


def test_libri_light_keeps_what_its_json_says(unlab_6k):
    key = "small/100/sea_fairies_0812_librivox_64kb_mp3/01_baum_sea_fairies_64kb"
    (example,) = [e for split in unlab_6k.values() for e in split if e["key"].decode() == f"{key}_0000"]
    assert example["book_id"] == b"2315" and example["book_title"] == b"Sea Fairies" and example["snr"] == 6.5
    assert example["meta_genre"] == b"Literature"
    spans = LIBRI_LIGHT[key][1]
    parts = [ramp(3 * RATE_HZ)[int(start * RATE_HZ) : int(end * RATE_HZ)] for start, end in spans]
    np.testing.assert_array_equal(example["audio"], np.concatenate(parts))


def test_configs_are_the_subsets(manual_dir, tmp_path):
    assert list(AudiolmLibriLight.builder_configs) == ["unlab-600", "unlab-6k", "unlab-60k"]
    found = prepare(AudiolmLibriLight(config="unlab-600", data_dir=tmp_path), manual_dir)
    assert {example["key"].decode().split("/")[0] for split in found.values() for example in split} == {"small"}


def test_maestro_gives_the_utterances_of_the_corpus(tmp_path, capsys):
    root = write_maestro(tmp_path / "m")
    (root / MAESTRO[0][4]).write_bytes(b"")
    (root / MAESTRO[1][4]).unlink()
    found = prepare(AudiolmMaestro(data_dir=tmp_path / "prepared"), root)
    assert {split: len(examples) for split, examples in found.items()} == {"train": 1, "validation": 1, "test": 1}
    example = found["validation"][0]
    assert example["composer"] == b"Alexander Scriabin" and example["year"] == 2006 and len(example["audio"]) == 4000
    assert example["speaker"] == b"Alexander Scriabin: 3 Etudes, Op. 65"
    told = capsys.readouterr().err.split("left out: ")[1:]
    assert len(told) == 2 and "missing" in told[0] and "is empty" in told[1]
    (utterance,) = MaestroCorpus(root).heldout
    assert example["key"].decode() == utterance.key
    samples = np.round(read_utterance(utterance, RATE_HZ).samples * 32768).astype(np.int16)
    np.testing.assert_array_equal(example["audio"], samples)


@pytest.mark.parametrize("builder", [AudiolmLibriLight, AudiolmMaestro])
def test_a_missing_corpus_says_what_to_unpack(builder, tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "other.txt").write_text("not a corpus")
    with pytest.raises(UserError, match="unpack"):
        prepare(builder(data_dir=tmp_path / "prepared"), tmp_path / "manual")


def test_the_documented_command_prepares(manual_dir, tmp_path, capsys):
    args = ["audiolm_libri_light/unlab-600", f"--manual_dir={manual_dir}", f"--data_dir={tmp_path}"]
    assert main([*args, "--file_format=array_record"]) == 0
    told = capsys.readouterr()
    assert "left out: small/25/emma_librivox_64kb_mp3/emma_09_austen_64kb.flac: it is not audio" in told.err
    assert "audiolm_libri_light/unlab-600/2.0.0: train: " in told.out
    source = tfds.data_source("audiolm_libri_light/unlab-600", split="all", data_dir=tmp_path)
    assert len(source) == 5 and len(source[4]["audio"]) > 0


def test_mistakes_on_the_command_line_are_one_line(tmp_path, capsys):
    for args, message in (
        (["audiolm_libri_dark", "--data_dir", str(tmp_path)], "there is no dataset"),
        (["audiolm_libri_light/unlab-6", "--data_dir", str(tmp_path)], "cannot be prepared"),
        (["audiolm_maestro", "--data_dir", str(tmp_path), "--manual_dir", "/nowhere"], "cannot be prepared"),
        (["audiolm_maestro", "--data_dir", str(tmp_path), "--runer=X"], "unknown argument --runer"),
    ):
        assert main(args) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert told[-1].startswith("error: ") and message in told[-1]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("data.seqio.prepare_tfds", "error: audiolm_maestro cannot be prepared: "),
        ("data.prepare", "error: this is python -m audiolm_jax.data.seqio.prepare_tfds now"),
    ],
)
def test_the_command_knows_our_builders_by_itself(tmp_path, module, message):
    """In a process of its own, for this one has imported them."""
    args = ["audiolm_maestro", "--data_dir", str(tmp_path), "--manual_dir", "/nowhere"]
    done = subprocess.run([sys.executable, "-m", f"audiolm_jax.{module}", *args], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith(message)
