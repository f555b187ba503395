"""A folder of token records of known content."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from audiolm_jax.tokens.manifest import InputEntry, ShardEntry, TokenizerSizes, write_inputs, write_manifest
from audiolm_jax.tokens.records import TokenRecord, encode_record, write_shard
from audiolm_jax.tokens.stages import PAPER_RATES, coarse_stage, fine_stage, semantic_stage

SIZES = TokenizerSizes(PAPER_RATES, 16, 8, 4, "aa", "bb")
STAGES = (
    semantic_stage(semantic_vocab=16, crop_seconds=1),
    coarse_stage(semantic_vocab=16, codebook_size=8, num_coarse_quantizers=2, crop_seconds=0.4),
    fine_stage(codebook_size=8, num_coarse_quantizers=2, num_quantizers=4, crop_seconds=0.2),
)


def make_record(key: str, speaker: str, num_samples: int, seed: int) -> TokenRecord:
    """A record whose semantic tokens come in runs."""
    rng = np.random.default_rng(seed)
    runs = np.repeat(rng.integers(0, 16, num_samples // 640 + 1), rng.integers(1, 4, num_samples // 640 + 1))
    semantic = runs[: -(-num_samples // 640)]
    acoustic = rng.integers(0, 8, (-(-num_samples // 320), 4))
    return TokenRecord(key, speaker, f"{key}.flac", num_samples, semantic, acoustic, "aa", "bb")


def write_folder(folder: Path, speakers: dict[str, int], seed: int = 0, sizes: TokenizerSizes = SIZES) -> Path:
    """Records of `speakers` (name to number of recordings), the last speaker held out, two shards a split."""
    rng = np.random.default_rng(seed)
    names = []
    for split, spoken in (("train", list(speakers)[:-1]), ("heldout", list(speakers)[-1:])):
        keys = [(f"{name}/{n}", name) for name in spoken for n in range(speakers[name])]
        lengths = rng.integers(320, 40_000, len(keys))
        made_by = {"semantic_fingerprint": sizes.semantic_fingerprint, "codec_fingerprint": sizes.codec_fingerprint}
        records = [
            dataclasses.replace(make_record(*keys[i], int(lengths[i]), seed + i), **made_by) for i in range(len(keys))
        ]
        for number, part in enumerate((records[: len(records) // 2], records[len(records) // 2 :])):
            name = f"{split}-{number:05d}-of-00002.array_record"
            write_shard(folder / name, [encode_record(record) for record in part])
            entries = [InputEntry(r.source, r.key, r.speaker, split, "ok", "", r.num_samples / 16_000) for r in part]
            seconds = sum(entry.seconds for entry in entries)
            sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            write_inputs(folder, ShardEntry(name, split, len(part), len(part), seconds, "", sha256), entries)
            names.append(name)
    write_manifest(folder, sizes, {}, names)
    return folder
