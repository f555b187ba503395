"""Manifests come back as they were written, are small, and damage is told in one line."""

import dataclasses
import json

import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.tokens import manifest as manifests
from audiolm_jax.tokens.manifest import InputEntry, ShardEntry, TokenizerSizes
from audiolm_jax.tokens.split import Split
from audiolm_jax.tokens.stages import PAPER_RATES, TokenizerRates, coarse_stage, fine_stage, semantic_stage

SIZES = TokenizerSizes(PAPER_RATES, 1024, 1024, 12, "aa", "bb")


def write_folder(folder, counts=(2, 1), left_out=()):
    """Train shards with `counts` records, each shard with one input more that was left out."""
    names = []
    for index, count in enumerate(counts):
        name = f"train-{index}"
        entries = [
            InputEntry(f"{n}.flac", f"{index}/{n}", f"speaker{n % 2}", "train", "ok", "00", 1.5) for n in range(count)
        ]
        entries.append(InputEntry("x.flac", f"{index}/x", "x", "train", "x.flac is empty", "", 0.0))
        shard = ShardEntry(name, "train", count + 1, count, 1.5 * count, "digest", f"hash{index}")
        manifests.write_inputs(folder, shard, entries)
        assert manifests.read_inputs(folder, shard) == tuple(entries)
        names.append(name)
    manifests.write_inputs(folder, ShardEntry("held", "heldout", 0, 0, 0.0, "d", "h"), [])
    return manifests.write_manifest(folder, SIZES, {"codec_si_sdr_db": 3.0}, [*names, "held"], left_out)


def test_manifests_round_trip(tmp_path):
    written = write_folder(tmp_path)
    read = manifests.read_manifest(tmp_path)
    assert read == written and read.digest == written.digest
    assert [shard.name for shard in read.shards_of("train")] == ["train-0", "train-1"]
    assert read.shards_of("heldout") == () and read.num_records("train") == 3
    assert read.left_out == {"0/x": "x.flac is empty", "1/x": "x.flac is empty"} and read.num_left_out == 2
    assert read.summary()["speakers"] == {"train": 2, "heldout": 0}
    assert read.summary()["hours"]["train"] == pytest.approx(4.5 / 3600)
    with pytest.raises(UserError, match="unknown split"):
        read.shards_of("test")
    speakers = manifests.read_speakers(tmp_path, "train")
    assert speakers.names == ("speaker0", "speaker1") and speakers.ids.dtype == np.int32
    assert speakers.ids.tolist() == [0, 1, 0] and isinstance(speakers.ids, np.memmap)
    assert len(manifests.read_speakers(tmp_path, "heldout").ids) == 0


def test_the_split_is_kept_and_not_known_of_older_folders(tmp_path):
    write_folder(tmp_path)
    names = [shard.name for shard in manifests.read_manifest(tmp_path).shards]
    split = Split.of("folder", {"heldout_speakers": 1}, ["a/1", "b/1"], ["a", "b"], [False, True])
    manifests.write_manifest(tmp_path, SIZES, {}, names, split=split)
    assert manifests.read_manifest(tmp_path).split == split
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    del values["split"]
    path.write_text(json.dumps(values))
    assert manifests.read_manifest(tmp_path).split is None
    path.write_text(json.dumps(values | {"split": {"kind": "folder"}}))
    with pytest.raises(UserError, match="split lacks 'settings'"):
        manifests.read_manifest(tmp_path)


def test_other_content_has_another_digest(tmp_path):
    assert write_folder(tmp_path / "a", (2, 1)).digest != write_folder(tmp_path / "b", (2,)).digest


def test_a_manifest_stays_small_however_many_inputs_are_left_out(tmp_path):
    many = [InputEntry(f"{n}.flac", f"m/{n}", "s", "train", "no voice in it", "", 0.0) for n in range(3000)]
    written = write_folder(tmp_path, left_out=many)
    assert len(written.left_out) == manifests.MAX_LISTED and written.num_left_out == 3002
    assert (tmp_path / "manifest.json").stat().st_size < 100_000
    assert len((tmp_path / manifests.LEFT_OUT_NAME).read_text().splitlines()) == 3002


def test_damage_is_a_user_error(tmp_path):
    shards = write_folder(tmp_path).shards
    path = tmp_path / "manifest.json"
    whole = path.read_text()
    path.write_text(whole.replace('"schema": 2', '"schema": 1'))
    with pytest.raises(UserError, match="schema 1, this version reads 2; tokenize again"):
        manifests.read_manifest(tmp_path)
    for damaged in ("{", "[]", json.dumps({"schema": 2})):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            manifests.read_manifest(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="audiolm tokenize"):
        manifests.read_manifest(tmp_path)

    ids = tmp_path / "train.speaker_ids.npy"
    for damaged in (np.int32([0, 7]), np.float32([0, 1]), np.array([{}], object)):
        np.save(ids, damaged)
        with pytest.raises(UserError, match="missing or damaged"):
            manifests.read_speakers(tmp_path, "train")
    ids.unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        manifests.read_speakers(tmp_path, "train")

    side = manifests.inputs_path(tmp_path, "train-0")
    side.write_text("\n".join(side.read_text().splitlines()[:-1]))
    with pytest.raises(UserError, match="lists 2 inputs, the manifest 3"):
        manifests.read_inputs(tmp_path, shards[0])
    side.write_text("{")
    assert manifests.read_header(tmp_path, "train-0") is None
    with pytest.raises(UserError, match="missing or damaged"):
        manifests.write_manifest(tmp_path, SIZES, {}, ["train-0"])
    side.unlink()
    with pytest.raises(UserError, match="is missing"):
        manifests.read_inputs(tmp_path, shards[0])


def test_headers_tell_runs_of_speakers(tmp_path):
    entries = [InputEntry("", str(n), speaker, "train", "ok", "", 1.0) for n, speaker in enumerate("aabba")]
    shard = ShardEntry("s", "train", 5, 5, 5.0, "d", "h")
    manifests.write_inputs(tmp_path, shard, entries, num_unread=3)
    header = manifests.read_header(tmp_path, "s")
    assert header == manifests.ShardHeader(shard, (("a", 2), ("b", 2), ("a", 1)), 3)
    assert dataclasses.asdict(header.shard)["num_records"] == 5


def test_stages_are_checked_against_the_tokens():
    for stage in (semantic_stage(), coarse_stage(), fine_stage(), coarse_stage(num_coarse_quantizers=3)):
        manifests.check_stage(stage, SIZES, "d")
    for stage, message in (
        (semantic_stage(semantic_vocab=512), "semantic_vocab = 512"),
        (coarse_stage(codebook_size=2048), "codebook_size = 2048"),
        (fine_stage(num_quantizers=16), "num_quantizers = 16"),
        (coarse_stage(TokenizerRates(16_000, 640, 24_000, 320)), "acoustic tokens at 75 Hz"),
        (semantic_stage(TokenizerRates(16_000, 320, 16_000, 320)), "semantic tokens at 50 Hz"),
    ):
        with pytest.raises(UserError, match=message):
            manifests.check_stage(stage, SIZES, "d")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["shards"][0].update(name="../x"),
        lambda m: m["shards"][0].update(name="a\0b"),
        lambda m: m["shards"][0].update(name=""),
        lambda m: m["shards"][0].update(num_records="2"),
        lambda m: m["shards"][0].update(num_records=-2),
        lambda m: m["shards"][0].update(num_records=2**70, num_inputs=2**70),
        lambda m: m["shards"][0].update(num_records=2.0),
        lambda m: m["shards"][0].update(seconds=float("inf")),
        lambda m: m["shards"].append(3),
        lambda m: m["tokenizers"]["rates"].update(semantic_hop_samples=0),
        lambda m: m["tokenizers"].update(rates=[1, 2, 3, 4]),
        lambda m: m.update(gate=[1]),
        lambda m: m.update(num_speakers={"train": "two"}),
        lambda m: m.update(left_out=["x"]),
        lambda m: m.update(num_left_out=float("nan")),
    ],
)
def test_values_that_no_manifest_has_are_damage(change, tmp_path):
    write_folder(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    change(values)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="manifest.json.* damaged"):
        manifests.read_manifest(tmp_path)


def test_json_nested_without_end_is_damage(tmp_path):
    shards = write_folder(tmp_path).shards
    deep = "[" * 100_000
    for name in ("manifest.json", "train.speakers.json", "train-0.jsonl"):
        (tmp_path / name).write_text(f"{{}}\n{deep}\n" if name.endswith("l") else deep)
    for read in (
        lambda: manifests.read_manifest(tmp_path),
        lambda: manifests.read_speakers(tmp_path, "train"),
        lambda: manifests.read_inputs(tmp_path, shards[0]),
    ):
        with pytest.raises(UserError, match="damaged.*nested too deep"):
            read()
    (tmp_path / "train-0.jsonl").write_text(deep)
    assert manifests.read_header(tmp_path, "train-0") is None


def test_names_and_ids_of_speakers_are_what_they_should_be(tmp_path):
    write_folder(tmp_path)
    names, ids = tmp_path / "train.speakers.json", tmp_path / "train.speaker_ids.npy"
    whole, header = names.read_text(), ids.read_bytes()
    for damaged in ("3", '{"a": 1}', "[1, 2]", "null"):
        names.write_text(damaged)
        with pytest.raises(UserError, match="missing or damaged"):
            manifests.read_speakers(tmp_path, "train")
    names.write_text(whole)
    for old, new in ((b"(3,)", b"(3,("), (b"(3,)", b"3000"), (b"<i4", b"<x4"), (b"(3,)", b"(-3)")):
        ids.write_bytes(header.replace(old, new))
        with pytest.raises(UserError, match="missing or damaged"):
            manifests.read_speakers(tmp_path, "train")


def test_lines_and_headers_of_other_types_are_damage(tmp_path):
    shards = write_folder(tmp_path).shards
    side = manifests.inputs_path(tmp_path, "train-0")
    header, first, *rest = side.read_text().splitlines()
    for line in ('{"source": 1}', "3", first.replace('"train"', "7"), first.replace("1.5", '"long"')):
        side.write_text("\n".join([header, line, *rest]))
        with pytest.raises(UserError, match="damaged"):
            manifests.read_inputs(tmp_path, shards[0])
    changes = (
        ('"num_records": 2', '"num_records": "2"'),
        ('"num_unread": 0', '"num_unread": 1e999'),
        ('["speaker0", 1]', '["speaker0", 9]'),
    )
    for old, new in changes:
        assert old in header
        side.write_text("\n".join([header.replace(old, new), first, *rest]))
        assert manifests.read_header(tmp_path, "train-0") is None
