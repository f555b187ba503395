"""Tokens to score, from recordings and from folders of records."""

import dataclasses

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language.token_records import read_records, tokenize_all
from audiolm_jax.evaluation.recordings import find_recordings
from tests.data.tiny_records import SIZES, write_folder
from tests.tiny_system import tiny_tokenizers


@pytest.fixture(scope="module")
def bundle():
    return tiny_tokenizers()


@pytest.fixture
def records_of(bundle, tmp_path):
    """Writes folders of records that the bundle could have made."""
    sizes = dataclasses.replace(
        SIZES, semantic_fingerprint=bundle.semantic_fingerprint, codec_fingerprint=bundle.codec_fingerprint
    )

    def write(name, speakers, seed=0):
        return write_folder(tmp_path / name, speakers, seed, sizes)

    return write


def test_recordings_of_any_rate_become_records_with_a_note(bundle, tmp_path):
    rng = np.random.default_rng(0)
    for name, rate_hz in (("a/x", 16_000), ("b/y", 24_000), ("b/z", 8_000)):
        write_audio(tmp_path / f"{name}.wav", Waveform(0.1 * rng.normal(size=rate_hz // 2), rate_hz))
    (tmp_path / "b" / "broken.wav").write_bytes(b"RIFF")
    recordings = find_recordings([tmp_path], heldout_speakers=0)
    records, left_out, notes = tokenize_all(bundle, recordings)
    assert [record.key for record in records] == ["a/x", "b/y", "b/z"]
    assert all(len(record.semantic_tokens) == 13 and record.acoustic_tokens.shape == (25, 4) for record in records)
    assert all(record.codec_fingerprint == bundle.codec_fingerprint for record in records)
    assert list(left_out) == ["b/broken"]
    assert len(notes) == 2 and "broken.wav" in notes[0] and notes[1] == "2 of 3 recordings were resampled to 16000 Hz"
    with pytest.raises(UserError, match="none of the recordings can be read"):
        tokenize_all(bundle, [recording for recording in recordings if recording.key == "b/broken"])
    with pytest.raises(UserError, match="no recordings"):
        tokenize_all(bundle, [])


def test_records_come_in_the_order_of_their_keys(bundle, records_of):
    folder = records_of("tokens", {"c": 3, "a": 2, "b": 4})
    heldout = read_records([folder], bundle, ("heldout",))
    assert [record.key for record in heldout] == ["b/0", "b/1", "b/2", "b/3"]
    both = read_records([folder], bundle)
    assert [record.key for record in both] == sorted(f"{s}/{n}" for s, count in (("a", 2), ("b", 4), ("c", 3))
                                                     for n in range(count))  # fmt: skip
    again = {record.key: record for record in both}
    for record in heldout:
        np.testing.assert_array_equal(record.acoustic_tokens, again[record.key].acoustic_tokens)


def test_a_part_has_every_speaker_before_a_second_recording_of_any(bundle, records_of):
    folder = records_of("tokens", {"c": 5, "a": 1, "d": 2, "b": 4})
    assert {record.speaker for record in read_records([folder], bundle, ("train",), 3)} == {"a", "c", "d"}
    assert len(read_records([folder], bundle, ("train",), 100)) == 8


def test_several_folders_are_told_apart(bundle, records_of):
    first, second = records_of("one", {"a": 2, "b": 1}), records_of("two", {"a": 2, "b": 1}, seed=1)
    keys = [record.key for record in read_records([second, first], bundle, ("heldout",))]
    assert keys == ["one/b/0", "two/b/0"]
    with pytest.raises(UserError, match="two folders of tokens hold a record 'one/b/0'"):
        read_records([first, first], bundle, ("heldout",))


def test_other_tokenizers_and_missing_shards_are_refused(bundle, records_of, tmp_path):
    with pytest.raises(UserError, match="not of the tokenizers of bundle tiny"):
        read_records([write_folder(tmp_path / "other", {"a": 1, "b": 1})], bundle)
    folder = records_of("tokens", {"a": 2, "b": 2})
    first, second = (folder / f"train-0000{n}-of-00002.array_record" for n in (0, 1))
    whole = first.read_bytes()
    for damaged in (b"", whole[:100]):
        first.write_bytes(damaged)
        with pytest.raises(UserError, match="train-00000-of-00002.array_record is cut short or damaged"):
            read_records([folder], bundle)
    first.write_bytes(whole)
    second.unlink()
    with pytest.raises(UserError, match="train-00001-of-00002.array_record is missing"):
        read_records([folder], bundle)
    with pytest.raises(UserError, match="holds no token records; give a folder that `audiolm tokenize` wrote"):
        read_records([tmp_path], bundle)
