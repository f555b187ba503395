"""Folders on object storage, for which a local folder stands here: what is listed, read, written and fetched."""

import pytest
from etils import epath

from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.files import object_storage
from audiolm_jax.files.object_storage import any_path, check_access, fetch_folder, is_remote
from audiolm_jax.tokens.manifest import read_manifest, read_speakers
from tests.tokens.tiny_job import BAD, run, shard_bytes, write_corpus


def test_paths_keep_their_scheme(tmp_path):
    assert str(any_path("gs://bucket/speech") / "a.flac") == "gs://bucket/speech/a.flac"
    assert str(any_path(any_path("gs://bucket/speech") / "a.flac")) == "gs://bucket/speech/a.flac"
    assert any_path("x").is_absolute() and not is_remote(tmp_path)
    assert fetch_folder(tmp_path) == tmp_path


def test_what_cannot_be_reached_is_told_in_one_line(monkeypatch):
    def refuse(self):
        raise RuntimeError("no\ncredentials")

    monkeypatch.setattr(epath.Path("/").__class__, "exists", refuse)
    with pytest.raises(UserError, match="gs://bucket/x cannot be reached: no credentials"):
        check_access("gs://bucket/x")


def test_a_job_reads_and_writes_there_what_it_reads_and_writes_here(tmp_path, monkeypatch):
    source = write_corpus(tmp_path / "remote" / "speech")
    run(source, tmp_path / "here")
    monkeypatch.setattr(object_storage, "SCHEMES", (str(tmp_path / "remote"),))
    assert [file.key for file in FolderCorpus(source).source_files()][-3:] == list(BAD)
    for engine in ("jax", "beam"):
        output = tmp_path / "remote" / engine
        run(source, output, engine)
        assert shard_bytes(output) == shard_bytes(tmp_path / "here")
        # Sizes of files are not asked for there, so the digests of the shards are others.
        assert read_manifest(output).digest == read_manifest(tmp_path / "here").digest
        assert len(read_speakers(output, "train").ids) == read_manifest(output).num_records("train")
        assert not list(output.glob(".*"))
    copy = fetch_folder(tmp_path / "remote" / "jax")
    assert shard_bytes(copy) == shard_bytes(tmp_path / "here") and copy != tmp_path / "remote" / "jax"
    with pytest.raises(UserError, match="is not there, or holds no files"):
        fetch_folder(tmp_path / "remote" / "nothing")
