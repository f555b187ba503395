"""Tokens to score: made from recordings here and now, or read from the folders that `audiolm tokenize` wrote."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.tokens.manifest import read_inputs, read_manifest
from audiolm_jax.tokens.records import SPLITS, TokenRecord, decode_record


def tokenize(bundle: Bundle, recording: Recording, waveform: Waveform) -> TokenRecord:
    """Both kinds of tokens of a recording, whose sound may have any rate."""
    codec, semantic = bundle.codec, bundle.semantic
    codec_samples = resample(waveform, codec.sample_rate_hz).samples
    semantic_samples = resample(waveform, semantic.sample_rate_hz).samples
    return TokenRecord(
        key=recording.key,
        speaker=recording.speaker,
        source=recording.path.name,
        num_samples=len(codec_samples),
        semantic_tokens=np.asarray(semantic.tokenize(bundle.semantic_params, semantic_samples[None]))[0],
        acoustic_tokens=encode_chunked(codec, bundle.codec_params, codec_samples[None])[0],
        semantic_fingerprint=bundle.semantic_fingerprint,
        codec_fingerprint=bundle.codec_fingerprint,
    )


class Tokenized(NamedTuple):
    """Records in the order of their recordings, the reason by key for those that are missing, and notes to show."""

    records: list[TokenRecord]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def tokenize_all(bundle: Bundle, recordings: Sequence[Recording]) -> Tokenized:
    """Tokens of all recordings, with a progress bar.

    Raises:
        UserError: there are no recordings, or none of them can be read.
    """
    if not recordings:
        raise UserError("there are no recordings to tokenize; give a folder with audio")
    records, left_out, resampled = [], {}, 0
    for recording in tqdm(recordings, desc="tokenizing", disable=not sys.stderr.isatty()):
        try:
            waveform = recording.read()
        except UserError as error:
            left_out[recording.key] = str(error)
            continue
        resampled += waveform.sample_rate_hz != bundle.semantic.sample_rate_hz
        records.append(tokenize(bundle, recording, waveform))
    if not records:
        raise UserError("none of the recordings can be read; " + next(iter(left_out.values())))
    notes = [f"left out: {why}" for why in left_out.values()]
    if resampled:
        rate_hz = bundle.semantic.sample_rate_hz
        notes.append(f"{resampled} of {len(records)} recordings were resampled to {rate_hz} Hz")
    return Tokenized(records, left_out, tuple(notes))


def read_records(
    folders: Sequence[str | Path],
    bundle: Bundle,
    splits: Sequence[str] = SPLITS,
    max_records: int | None = None,
) -> list[TokenRecord]:
    """Records of folders that `audiolm tokenize` wrote, in the order of their keys.

    Args:
        folders: of token records; with several, keys begin with the folder's name.
        bundle: with whose tokenizers they were made.
        splits: "train", "heldout" or both.
        max_records: at most so many, one of every speaker before a second of any; None for all.

    Raises:
        UserError: a folder is unfinished or damaged, or was made with other tokenizers than the bundle's.
    """
    entries: dict[str, _Entry] = {}
    for folder in map(Path, folders):
        for entry in _entries(folder, bundle, splits):
            key = f"{folder.name}/{entry.key}" if len(folders) > 1 else entry.key
            if key in entries:
                raise UserError(f"two folders of tokens hold a record {key!r}; name each folder once, or rename one")
            entries[key] = dataclasses.replace(entry, key=key)
    chosen = shared_out(list(entries.values()), max_records)
    wanted: dict[Path, list[_Entry]] = {}
    for entry in chosen:
        wanted.setdefault(entry.shard, []).append(entry)
    records = {}
    for shard in sorted(wanted):
        records |= _read_shard(shard, wanted[shard])
    return [records[key] for key in sorted(records)]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a record lies: the shard, its place in it, and of how many."""

    key: str
    speaker: str
    shard: Path
    index: int
    shard_records: int


def _entries(folder: Path, bundle: Bundle, splits: Sequence[str]) -> list[_Entry]:
    """Every record of the splits of one folder, by its manifest."""
    manifest = read_manifest(folder)
    made_by = manifest.tokenizers
    if (made_by.codec_fingerprint, made_by.semantic_fingerprint) != (
        bundle.codec_fingerprint, bundle.semantic_fingerprint
    ):  # fmt: skip
        raise UserError(
            f"the tokens in {folder} are not of the tokenizers of bundle {bundle.name}; run `audiolm tokenize` with "
            "this bundle, or name the bundle that made them"
        )

    found = []
    for shard in (shard for split in splits for shard in manifest.shards_of(split)):
        records = (entry for entry in read_inputs(folder, shard) if entry.status == "ok")
        path = folder / shard.name
        found += [_Entry(e.key, e.speaker, path, index, shard.num_records) for index, e in enumerate(records)]
    return found


def _read_shard(shard: Path, entries: Sequence[_Entry]) -> dict[str, TokenRecord]:
    """The wanted records of one shard, by key."""
    import grain

    if not shard.exists():
        raise UserError(f"{shard} is missing; copy the folder of tokens again, or run `audiolm tokenize` again")
    try:
        source = grain.sources.ArrayRecordDataSource([str(shard)])
        data = [source[entry.index] for entry in entries] if len(source) == entries[0].shard_records else None
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{shard} is cut short or damaged; copy it again, or run `audiolm tokenize` again") from error
    if data is None:
        raise UserError(
            f"{shard} holds {len(source)} records, its manifest lists {entries[0].shard_records}; tokenize again"
        )
    return {
        entry.key: dataclasses.replace(decode_record(item), key=entry.key)
        for entry, item in zip(entries, data, strict=True)
    }
