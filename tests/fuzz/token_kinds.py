"""Token records, and the folders that hold them."""

import types
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgpack
import numpy as np

from audiolm_jax.data.feed.examples import evaluation_crops, stage_example, training_crop
from audiolm_jax.data.feed.token_source import TokenSource
from audiolm_jax.evaluation.language.token_records import read_records
from audiolm_jax.tokens.manifest import read_header, read_inputs, read_manifest
from audiolm_jax.tokens.records import TokenRecord, decode_record, encode_record, write_records
from tests.data.tiny_records import SIZES, STAGES, make_record, write_folder
from tests.fuzz.damage import damage_bytes, damage_plain
from tests.fuzz.file_kind import FileKind, Files, damage_json, damage_json_lines, damage_npy, each_by, one_of

_CASES = 4


def kinds() -> list[FileKind]:
    """Records alone, and folders of them."""
    texts = {".jsonl": damage_json_lines, ".json": damage_json, ".npy": damage_npy}
    in_folder = one_of(
        each_by({".array_record": damage_bytes}),
        each_by({**texts, ".array_record": damage_bytes}),
        each_by({"manifest.json": damage_json}),
        _damaged_records_in_a_whole_shard,
    )
    return [
        FileKind("token record", 80, _record, _damage_one_record, _read_record),
        FileKind("folder of token records", 6, _folder, in_folder, _read_folder),
    ]


def _record() -> dict[str, bytes]:
    return {"record": encode_record(make_record("amy/0", "amy", 20_000, 3))}


def _folder() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        write_folder(Path(folder), {"amy": 2, "bob": 2, "cleo": 2})
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _damage_record(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return damage_bytes(rng, data)
    plain = damage_plain(rng, msgpack.unpackb(data))
    try:
        return msgpack.packb(plain, use_bin_type=True, unicode_errors="surrogatepass")
    except (OverflowError, ValueError, TypeError):  # what msgpack cannot hold
        return damage_bytes(rng, data)


def _damage_one_record(rng: Random, files: Files) -> None:
    files["record"] = _damage_record(rng, files["record"])


def _damaged_records_in_a_whole_shard(rng: Random, files: Files) -> None:
    """A shard whose own sums are right."""
    name = rng.choice(sorted(name for name in files if name.endswith(".array_record")))
    records = [_damage_record(rng, encode_record(make_record(f"x/{n}", "x", 9_000 + n, n))) for n in range(1)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "shard")
        write_records(path, records)
        files[name] = path.read_bytes()


def _read_record(folder: Path) -> None:
    _use(decode_record((folder / "record").read_bytes()))


def _use(record: TokenRecord) -> None:
    """What a training and an evaluation take from a record."""
    np.asarray(record.acoustic_tokens)
    for stage in STAGES:
        for crop in (training_crop(record, stage, 0.3), *evaluation_crops(record, stage)[:_CASES]):
            stage_example(record, stage, crop)


def _read_folder(folder: Path) -> None:
    for path in folder.glob("*.array_record"):
        read_header(folder, path.name)
    manifest = read_manifest(folder)
    manifest.summary()
    for stage in STAGES[1:2]:
        source = TokenSource((str(folder),), stage)
        # What one part of the folder is refused for is no reason to leave out the others.
        for ordinal in range(_CASES):
            stage_example(*_swapped(source.training(0, ordinal), stage))
        for crops in source.heldout:
            for index in range(min(len(crops), _CASES)):
                stage_example(*_swapped(crops[index], stage))
    for shard in manifest.shards:
        read_inputs(folder, shard)
    bundle = types.SimpleNamespace(
        name="tiny", codec_fingerprint=SIZES.codec_fingerprint, semantic_fingerprint=SIZES.semantic_fingerprint
    )
    for record in read_records([folder], bundle):
        np.asarray(record.acoustic_tokens)


def _swapped(pair, stage):
    record, crop = pair
    return record, stage, crop
