"""Tokenising a folder: every file accounted for, the same tokens as one by one, and resuming."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.data.corpora import FolderCorpus
from audiolm_jax.data.folder_tokens import tokenize_folder
from audiolm_jax.errors import UserError
from audiolm_jax.tokens import extract
from audiolm_jax.tokens.records import decode_record, read_manifest
from tests.tokens.tiny_tokenizers import load, tiny_codec, tiny_semantic

GOOD = {"amy/a": 5000, "amy/b": 16000, "bob/c": 9001, "cleo/d": 700, "dan/e": 320, "dan/f": 641}


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for key, num_samples in GOOD.items():
        loudness = np.repeat(rng.uniform(0, 0.5, num_samples // 500 + 1), 500)[:num_samples]
        samples = (loudness * rng.uniform(-1, 1, num_samples)).astype(np.float32)
        (root / key).parent.mkdir(exist_ok=True)
        write_audio(root / f"{key}.wav", Waveform(samples, 16_000))
    (root / "eve").mkdir()
    (root / "eve" / "empty.wav").write_bytes(b"")
    (root / "eve" / "text.wav").write_text("this is not audio at all, it is a line of text")
    soundfile.write(root / "eve" / "long.flac", rng.uniform(-0.1, 0.1, 16000), 16_000)
    data = (root / "eve" / "long.flac").read_bytes()
    (root / "eve" / "cut.flac").write_bytes(data[: len(data) // 2])
    (root / "eve" / "long.flac").unlink()
    return root


def run(corpus_dir: Path, output_dir: Path, **settings):
    codec, codec_params = tiny_codec()
    semantic, semantic_params = tiny_semantic()
    return tokenize_folder(
        corpus_dir, output_dir, codec, codec_params, semantic, semantic_params, {"codec_si_sdr_db": 1.0},
        heldout_speakers=1, **settings,
    )  # fmt: skip


def records_of(folder: Path):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    found = {}
    for shard in read_manifest(folder).shards:
        source = ArrayRecordDataSource([str(folder / shard.name)]) if shard.records else []
        records = [decode_record(source[i]) for i in range(len(source))]
        assert [record.key for record in records] == [entry.key for entry in shard.records]
        found |= {record.key: record for record in records}
    return found


@pytest.fixture(scope="module")
def tokens_dir(corpus_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    run(corpus_dir, folder, files_per_shard=3)
    return folder


def test_every_input_is_listed_with_what_became_of_it(corpus_dir, tokens_dir):
    manifest = read_manifest(tokens_dir)
    entries = {entry.key: entry for shard in manifest.shards for entry in shard.inputs}
    assert set(entries) == set(GOOD) | {"eve/empty", "eve/text", "eve/cut"}
    assert {key for key, entry in entries.items() if entry.status == "ok"} == set(GOOD)
    assert "empty" in entries["eve/empty"].status and "cut short" in entries["eve/cut"].status
    assert len({entry.sha256 for entry in entries.values()}) == len(entries)
    assert manifest.gate == {"codec_si_sdr_db": 1.0}
    split = FolderCorpus(corpus_dir, heldout_speakers=1)
    assert {u.key for u in split.heldout} == {key for key, entry in entries.items() if entry.split == "heldout"}
    speakers = manifest.summary()["speakers"]
    assert speakers["heldout"] <= 1 and sum(speakers.values()) == 4


def test_tokens_equal_those_of_the_files_alone(corpus_dir, tokens_dir):
    codec, codec_params = tiny_codec()
    semantic, semantic_params = tiny_semantic()
    records = records_of(tokens_dir)
    assert set(records) == set(GOOD)
    for key, num_samples in GOOD.items():
        samples = read_audio(corpus_dir / f"{key}.wav", 16_000).samples[None]
        record = records[key]
        assert record.num_samples == num_samples and record.speaker == key.split("/")[0]
        np.testing.assert_array_equal(record.semantic_tokens, semantic.tokenize(semantic_params, samples)[0])
        np.testing.assert_array_equal(record.acoustic_tokens, codec.encode(codec_params, samples)[0])
        assert record.codec_fingerprint == codec.fingerprint(codec_params)


def test_batches_and_other_shards_give_the_same_records(corpus_dir, tokens_dir, tmp_path):
    run(corpus_dir, tmp_path, files_per_shard=100, batch_size=3)
    expected, found = records_of(tokens_dir), records_of(tmp_path)
    assert set(expected) == set(found)
    for key, record in expected.items():
        np.testing.assert_array_equal(record.semantic_tokens, found[key].semantic_tokens)
        np.testing.assert_array_equal(record.acoustic_tokens, found[key].acoustic_tokens)


def test_a_stopped_job_resumes_and_ends_as_if_it_had_not_stopped(corpus_dir, tokens_dir, tmp_path, monkeypatch, capfd):
    written = []
    real_write = extract.write_shard

    def stop_at_the_third(path, records):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return real_write(path, records)

    monkeypatch.setattr(extract, "write_shard", stop_at_the_third)
    with pytest.raises(BaseException):  # noqa: B017 (the runner decides how it passes an interrupt on)
        run(corpus_dir, tmp_path, files_per_shard=3)
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(UserError, match="manifest.json is missing"):
        read_manifest(tmp_path)
    (tmp_path / ".train-00001-of-00002.array_record.1.part").write_bytes(b"half a shard")
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in written}

    monkeypatch.setattr(extract, "write_shard", real_write)
    resumed = run(corpus_dir, tmp_path, files_per_shard=3)
    assert resumed == read_manifest(tokens_dir)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in written} == kept
    assert not list(tmp_path.glob(".*"))
    output = capfd.readouterr().err
    assert "2 of" in output and "times real time" in output and "left out:" in output

    run(corpus_dir, tmp_path, files_per_shard=3)
    assert "nothing left to do" in capfd.readouterr().err


def test_other_weights_redo_the_shards(corpus_dir, tokens_dir, tmp_path):
    run(corpus_dir, tmp_path, files_per_shard=100)
    codec, codec_params = tiny_codec()
    semantic, _ = tiny_semantic()
    changed = tokenize_folder(
        corpus_dir, tmp_path, codec, codec_params, semantic, {"scale": 1.0}, {}, heldout_speakers=1, files_per_shard=100
    )
    assert changed.tokenizers.semantic_fingerprint == semantic.fingerprint({"scale": 1.0})
    assert changed.tokenizers.semantic_fingerprint != read_manifest(tokens_dir).tokenizers.semantic_fingerprint
    assert json.loads((tmp_path / "manifest.json").read_text())["summary"]["records"]["train"] > 0


def test_workers_elsewhere_load_the_tokenizers_and_no_weights_travel(monkeypatch):
    monkeypatch.setattr(extract, "_RESIDENT", {})
    sizes = load().sizes()
    do_fn = extract.TokenizeShard(sizes, load, batch_size=1, total_files=1)
    assert len(pickle.dumps(do_fn)) < 2000
    do_fn.setup()
    assert [found.sizes() for found in extract._RESIDENT.values()] == [sizes]

    monkeypatch.setattr(extract, "_RESIDENT", {})
    with pytest.raises(UserError, match="works in other processes"):
        extract.TokenizeShard(sizes, None, 1, 1).setup()
    changed = dataclasses.replace(sizes, codec_fingerprint="other")
    with pytest.raises(UserError, match="the bundle changed"):
        extract.TokenizeShard(changed, load, 1, 1).setup()


def test_flags_that_beam_does_not_know_are_told(corpus_dir, tmp_path):
    for beam_args, named in ((["--heldout_speaker", "5"], "--heldout_speaker"), (["other"], "other")):
        with pytest.raises(UserError, match=f"unknown argument {named};"):
            run(corpus_dir, tmp_path, beam_args=beam_args)
    assert extract.beam_options(["--runner=DirectRunner", "--direct_num_workers=2"])[1] is not None
    assert extract.beam_options(["--runner=FlinkRunner", "--some_flag=2"])[1] is None


def test_a_folder_without_readable_audio_is_a_user_error(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no audio files"):
        run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "x.wav").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 files"):
        run(tmp_path / "in", tmp_path / "out")


def test_long_recordings_are_encoded_in_windows_with_the_same_tokens(monkeypatch):
    codec, codec_params = tiny_codec()
    rows = [np.random.default_rng(0).uniform(-0.5, 0.5, length).astype(np.float32) for length in (40_001, 25_000)]
    tokenizers = extract.Tokenizers(codec, codec_params, *tiny_semantic())
    whole = extract.codec_tokens(tokenizers, rows)
    monkeypatch.setattr(extract, "_WHOLE_SECONDS", 1.0)
    windows = extract.codec_tokens(tokenizers, rows)
    for samples, ours, theirs in zip(rows, windows, whole, strict=True):
        assert len(ours) == -(-len(samples) // 320)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("num_samples", [1, 319, 16_000, 16_001, 160_000, 1_000_000])
def test_padded_lengths_are_few_and_hold_the_audio(num_samples):
    length = extract.padded_samples(num_samples, 16_000, 320)
    assert length % 320 == 0 and num_samples <= length <= max(16_000, num_samples * 1.25) + 320
