"""Records come back as they were written, and damage is told in one line."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.errors import UserError
from audiolm_jax.tokens import records

ROOT = Path(__file__).parents[2]


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
    assert back.semantic_tokens.dtype == np.asarray(back.acoustic_tokens).dtype == np.int32
    assert records.encode_record(back) == records.encode_record(record)


def test_negative_tokens_are_refused():
    with pytest.raises(ValueError, match="negative"):
        records.encode_record(example_record([-1], np.zeros((2, 3), int)))


def test_damaged_records_are_user_errors():
    data = records.encode_record(example_record([1, 2], np.ones((2, 3), int)))
    values = msgpack.unpackb(data)
    wrong_dtype = {**values, "semantic_tokens": ["|O", 2, b"xxxxxxxxxxxxxxxx"]}
    wrong_length = {**values, "semantic_tokens": ["<u2", 3, b"xxxx"]}
    wrong_shape = {**values, "acoustic_tokens": [10, [2, 4], b"xxxxxx"]}
    wrong_bits = {**values, "acoustic_tokens": [40, [1, 1], b"xxxxx"]}
    for damaged in (
        data[:-3],
        b"",
        pickle.dumps({"schema": 1}),
        msgpack.packb([1, 2]),
        msgpack.packb(wrong_dtype),
        msgpack.packb(wrong_length),
        msgpack.packb(wrong_shape),
        msgpack.packb(wrong_bits),
        msgpack.packb({**values, "key": 5}),
    ):
        with pytest.raises(UserError, match="damaged token record"):
            records.decode_record(damaged)
    for schema in (1, 99):
        with pytest.raises(UserError, match=f"schema {schema}, this version reads 2; tokenize again"):
            records.decode_record(msgpack.packb({**values, "schema": schema}))


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    def failing():
        yield b"one"
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        records.write_shard(tmp_path / "x.array_record", failing())
    assert not list(tmp_path.iterdir())
    assert records.write_shard(tmp_path / "x.array_record", [b"one", b"two"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.array_record"]


def test_a_disk_that_is_full_is_an_os_error(tmp_path):
    """A limit on the size of files refuses writes as a full disk does."""
    code = (
        "import os, resource, signal\nfrom audiolm_jax.tokens.records import write_shard\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"try: write_shard({str(tmp_path / 'x')!r}, [os.urandom(1000)] * 500)\n"
        "except OSError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "File too large" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"num_samples": float("inf")},
        {"num_samples": -5},
        {"num_samples": "5"},
        {"rms_dbfs": [1.0]},
        {"acoustic_tokens": [1, [2**40, 0], b""]},  # frames that no byte stands for
        {"acoustic_tokens": [1, [0, 2**40], b""]},
        {"acoustic_tokens": [25, [1, 2**62], b"x"]},
        {"semantic_tokens": ["<i4", 1, b"\xff\xff\xff\xff"]},
        {"semantic_tokens": ["<i4", 2**62, b""]},
        {"semantic_tokens": [["<i4"], 0, b""]},
        {"semantic_tokens": "<i4"},
    ],
)
def test_numbers_that_no_record_has_are_damage(change):
    record = records.TokenRecord("k", "s", "k.flac", 640, np.int32([1]), np.int32([[1, 2]]), "aa", "bb")
    values = msgpack.unpackb(records.encode_record(record))
    with pytest.raises(UserError, match="damaged token record"):
        records.decode_record(msgpack.packb(values | change))


def test_lists_in_lists_and_long_schemas_are_one_line():
    for data in (b"\x91" * 100_000 + b"\xc0", b"\x81\xa6schema\xd9\xff" + b"x" * 255, b"\xc0", b"\x93\x01\x02\x03"):
        with pytest.raises(UserError) as caught:
            records.decode_record(data)
        assert len(str(caught.value)) < 300
