"""Records and manifests come back as they were written, and damage is told in one line."""

import dataclasses
import json
import pickle

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.errors import UserError
from audiolm_jax.tokens import records
from audiolm_jax.tokens.stages import PAPER_RATES, TokenizerRates, coarse_stage, fine_stage, semantic_stage

SIZES = records.TokenizerSizes(PAPER_RATES, 1024, 1024, 12, "aa", "bb")


def example_record(semantic, acoustic):
    semantic, acoustic = np.asarray(semantic), np.asarray(acoustic)
    return records.TokenRecord("s/1", "s", "s/1.flac", 640, semantic, acoustic, "aa", "bb", -20.5)


@given(st.lists(st.integers(0, 70_000), max_size=20), st.integers(0, 5), st.sampled_from([1, 255, 256, 65_535, 70_000]))
def test_records_round_trip(semantic, num_frames, highest):
    acoustic = np.random.default_rng(0).integers(0, highest + 1, (num_frames, 3))
    record = example_record(np.array(semantic, np.int64), acoustic)
    back = records.decode_record(records.encode_record(record))
    for field in dataclasses.fields(record):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(record, field.name))
    assert back.semantic_tokens.dtype == back.acoustic_tokens.dtype == np.int32


def test_negative_tokens_are_refused():
    with pytest.raises(ValueError, match="negative"):
        records.encode_record(example_record([-1], np.zeros((2, 3), int)))


def test_damaged_records_are_user_errors():
    data = records.encode_record(example_record([1, 2], np.ones((2, 3), int)))
    values = msgpack.unpackb(data)
    wrong_dtype = {**values, "semantic_tokens": ["|O", [2], b"xxxxxxxxxxxxxxxx"]}
    wrong_shape = {**values, "acoustic_tokens": ["|u1", [2, 4], b"xxxxxx"]}
    for damaged in (
        data[:-3],
        b"",
        pickle.dumps({"schema": 1}),
        msgpack.packb([1, 2]),
        msgpack.packb(wrong_dtype),
        msgpack.packb(wrong_shape),
        msgpack.packb({**values, "key": 5}),
    ):
        with pytest.raises(UserError, match="damaged token record"):
            records.decode_record(damaged)
    with pytest.raises(UserError, match="schema 99"):
        records.decode_record(msgpack.packb({**values, "schema": 99}))


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    def failing():
        yield b"one"
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        records.write_shard(tmp_path / "x.array_record", failing())
    assert not list(tmp_path.iterdir())
    assert records.write_shard(tmp_path / "x.array_record", [b"one", b"two"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.array_record"]


def test_manifests_round_trip(tmp_path):
    entries = (
        records.InputEntry("s/1.flac", "s/1", "s", "train", "ok", "00", 1.5),
        records.InputEntry("s/2.flac", "s/2", "s", "train", "s/2.flac is empty", "", 0.0),
    )
    shards = (records.ShardEntry("a", "train", entries), records.ShardEntry("b", "heldout", ()))
    manifest = records.TokenManifest(SIZES, {"codec_si_sdr_db": 3.0}, shards)
    records.write_manifest(tmp_path, manifest)
    assert records.read_manifest(tmp_path) == manifest
    assert manifest.shards_of("train") == shards[:1] and manifest.shards_of("heldout") == ()
    summary = json.loads((tmp_path / "manifest.json").read_text())["summary"]
    assert summary["records"] == {"train": 1, "heldout": 0}
    assert summary["left_out"] == {"s/2.flac": "s/2.flac is empty"}
    with pytest.raises(UserError, match="unknown split"):
        manifest.shards_of("test")
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 7'))
    with pytest.raises(UserError, match="schema 7"):
        records.read_manifest(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        records.read_manifest(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="audiolm tokenize"):
        records.read_manifest(tmp_path)


def test_stages_are_checked_against_the_tokens():
    for stage in (semantic_stage(), coarse_stage(), fine_stage(), coarse_stage(num_coarse_quantizers=3)):
        records.check_stage(stage, SIZES, "d")
    for stage, message in (
        (semantic_stage(semantic_vocab=512), "semantic_vocab = 512"),
        (coarse_stage(codebook_size=2048), "codebook_size = 2048"),
        (fine_stage(num_quantizers=16), "num_quantizers = 16"),
        (coarse_stage(TokenizerRates(16_000, 640, 24_000, 320)), "acoustic tokens at 75 Hz"),
        (semantic_stage(TokenizerRates(16_000, 320, 16_000, 320)), "semantic tokens at 50 Hz"),
    ):
        with pytest.raises(UserError, match=message):
            records.check_stage(stage, SIZES, "d")
