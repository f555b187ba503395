"""What a folder of token records holds: a small manifest of the whole, and a file beside each shard with its inputs.

The manifest is read at every start of a training, so it says of a shard what a training needs and no more; millions of
inputs with their hashes stand beside the shards. The speakers of the records, by which examples are ordered, are one
array of whole numbers for each split.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from audiolm_jax.errors import UserError, first_line, shown
from audiolm_jax.files import is_plain_name
from audiolm_jax.files.array_file import array_of
from audiolm_jax.files.object_storage import is_remote
from audiolm_jax.files.plain_json import from_plain, parse
from audiolm_jax.tokens.extraction.part_files import part_file, write_file
from audiolm_jax.tokens.records import SPLITS
from audiolm_jax.tokens.split import Split
from audiolm_jax.tokens.stages import Stage, TokenizerRates

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
LEFT_OUT_NAME = "left_out.jsonl"
# More inputs that were left out are only counted in the manifest; LEFT_OUT_NAME has all of them.
MAX_LISTED = 1000


@dataclasses.dataclass(frozen=True)
class InputEntry:
    """What became of one input: a file, or a part of one.

    Attributes:
        source: path below the input folder.
        key, speaker, split: of its utterance.
        status: "ok", or in one line why it was left out.
        sha256: of the file's bytes, empty if it could not be read at all.
        seconds: of audio, 0 if left out.
    """

    source: str
    key: str
    speaker: str
    split: str
    status: str
    sha256: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard.

    Attributes:
        name: of the file in the folder.
        split: "train" or "heldout".
        num_inputs: inputs, also those that were left out.
        num_records: records of the shard.
        seconds: of audio in its records.
        digest: of the inputs and the tokenizers that it was made from.
        sha256: of the shard's bytes.
    """

    name: str
    split: str
    num_inputs: int
    num_records: int
    seconds: float
    digest: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class ShardHeader:
    """First line of the file beside a shard.

    Attributes:
        shard: for the manifest.
        speakers: of the records, in order, as (name, number of records one after the other).
        num_unread: inputs that could not be read at all; they are tried again when the job is started again.
    """

    shard: ShardEntry
    speakers: tuple[tuple[str, int], ...]
    num_unread: int


@dataclasses.dataclass(frozen=True)
class TokenizerSizes:
    """What the two tokenizers that wrote a folder of records look like from outside, and who they are."""

    rates: TokenizerRates
    semantic_vocab: int
    codebook_size: int
    num_quantizers: int
    semantic_fingerprint: str
    codec_fingerprint: str


@dataclasses.dataclass(frozen=True)
class TokenManifest:
    """What a folder of token records holds.

    Attributes:
        tokenizers: sizes and fingerprints of the tokenizers.
        gate: figures of the codec when the tokens were made (for example codec_si_sdr_db).
        shards: every shard, in order.
        num_speakers: by split.
        num_left_out: inputs that did not become records.
        left_out: key of each of the first MAX_LISTED of these, and why.
        split: which recordings of the corpus are held out; None in folders that were written before this was kept.
    """

    tokenizers: TokenizerSizes
    gate: dict[str, float]
    shards: tuple[ShardEntry, ...]
    num_speakers: dict[str, int]
    num_left_out: int
    left_out: dict[str, str]
    split: Split | None = None

    @functools.cached_property
    def digest(self) -> str:
        """Changes whenever a record does: 16 hexadecimal digits of the hashes of all shards."""
        text = "\n".join(f"{shard.name} {shard.sha256}" for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def shards_of(self, split: str) -> tuple[ShardEntry, ...]:
        """Shards of a split that hold at least one record, in order."""
        _check_split(split)
        return tuple(shard for shard in self.shards if shard.split == split and shard.num_records)

    def num_records(self, split: str) -> int:
        """Records of a split."""
        return sum(shard.num_records for shard in self.shards_of(split))

    def summary(self) -> dict[str, Any]:
        """Counts and hours by split."""
        return {
            "records": {split: self.num_records(split) for split in SPLITS},
            "speakers": dict(self.num_speakers),
            "hours": {split: sum(shard.seconds for shard in self.shards_of(split)) / 3600 for split in SPLITS},
            "left_out": self.num_left_out,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Speakers:
    """Who speaks in each record of a split, in the order of the shards and of the records in them.

    Attributes:
        names: of the speakers, sorted.
        ids: int32[N], an index of `names` for each record; read-only, mapped from the disk where that is possible.
    """

    names: tuple[str, ...]
    ids: np.ndarray


def inputs_path(folder: str | os.PathLike, shard_name: str) -> epath.Path:
    """The file beside a shard: a header, and a line for each of its inputs, in order."""
    return epath.Path(folder) / f"{shard_name}.jsonl"


def write_inputs(folder: epath.Path, shard: ShardEntry, entries: Sequence[InputEntry], num_unread: int = 0) -> None:
    """Writes the file beside a shard."""
    spoken = itertools.groupby(entry.speaker for entry in entries if entry.status == "ok")
    speakers = tuple((name, len(list(run))) for name, run in spoken)
    header = {"schema": SCHEMA_VERSION, **dataclasses.asdict(ShardHeader(shard, speakers, num_unread))}
    lines = [json.dumps(header), *(json.dumps(dataclasses.asdict(entry)) for entry in entries)]
    write_file(inputs_path(folder, shard.name), "".join(f"{line}\n" for line in lines).encode())


def read_header(folder: str | os.PathLike, shard_name: str) -> ShardHeader | None:
    """The header of the file beside a shard; None if there is none that can be read."""
    try:
        with inputs_path(folder, shard_name).open("rb") as file:
            values = parse(file.readline())
        if values.pop("schema") != SCHEMA_VERSION:
            return None
        header = from_plain(ShardHeader, values, "the header")
        _check_shard(header.shard)
        return header if sum(count for _, count in header.speakers) == header.shard.num_records else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_inputs(folder: str | os.PathLike, shard: ShardEntry) -> tuple[InputEntry, ...]:
    """What became of every input of one shard; those with status "ok" are its records, in order.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = inputs_path(folder, shard.name)
    try:
        lines = path.read_text().split("\n")
        entries = tuple(from_plain(InputEntry, parse(line), "a line") for line in lines[1:] if line)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; copy the folder of tokens again") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); copy the folder of tokens again") from error
    if len(entries) != shard.num_inputs:
        raise UserError(f"{path} lists {len(entries)} inputs, the manifest {shard.num_inputs}; run `audiolm tokenize`")
    return entries


def write_manifest(
    folder: str | os.PathLike,
    tokenizers: TokenizerSizes,
    gate: dict[str, float],
    shard_names: Sequence[str],
    left_out: Sequence[InputEntry] = (),
    split: Split | None = None,
) -> TokenManifest:
    """Joins the files beside the shards: the speakers of each split, what was left out, and last the manifest.

    Args:
        folder: with the shards; one without a manifest is not finished.
        tokenizers, gate: for the manifest.
        shard_names: in order, all of them written.
        left_out: inputs that are in no shard, because it was known before that they cannot be used.
        split: of the corpus, see `TokenManifest`.

    Raises:
        UserError: a shard's file is missing.
        OSError: the folder cannot be written.
    """
    folder = epath.Path(folder)
    headers = []
    for name in shard_names:
        header = read_header(folder, name)
        if header is None:
            raise UserError(f"{inputs_path(folder, name)} is missing or damaged; run `audiolm tokenize` again")
        headers.append(header)
    num_speakers = {split: _write_speakers(folder, split, headers) for split in SPLITS}
    listed, num_left_out = _write_left_out(folder, [header.shard for header in headers], left_out)
    shards = tuple(header.shard for header in headers)
    manifest = TokenManifest(tokenizers, dict(gate), shards, num_speakers, num_left_out, listed, split)
    # Resamplers and decoders differ in the last bit by version, and so, rarely, do tokens.
    software = {name: importlib.metadata.version(name) for name in ("jax", "soundfile", "soxr")}
    values = {"schema": SCHEMA_VERSION, "software": software, "summary": manifest.summary()}
    values |= {"digest": manifest.digest, **dataclasses.asdict(manifest)}
    write_file(folder / MANIFEST_NAME, json.dumps(values, indent=1).encode())
    return manifest


def read_manifest(folder: str | os.PathLike) -> TokenManifest:
    """The manifest of a folder of token records.

    Raises:
        UserError: the folder has no manifest (tokenization has not finished), or it is damaged or of another schema.
    """
    path = epath.Path(folder) / MANIFEST_NAME
    try:
        values = parse(path.read_bytes())
        found = values["schema"]
    except (FileNotFoundError, NotADirectoryError) as error:
        if any(epath.Path(folder).glob("*.jsonl")):
            raise UserError(f"{path} is missing; run `audiolm tokenize` until it ends (it resumes)") from error
        told = f"{os.fspath(folder)} holds no token records; give a folder that `audiolm tokenize` wrote"
        raise UserError(told) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); run `audiolm tokenize` again") from error
    if found != SCHEMA_VERSION:
        raise UserError(f"{path} has schema {shown(found)}, this version reads {SCHEMA_VERSION}; tokenize again")
    # What is written beside the manifest's own fields is for people.
    own = {field.name: values[field.name] for field in dataclasses.fields(TokenManifest) if field.name in values}
    manifest = from_plain(TokenManifest, own, str(path))
    try:
        for shard in manifest.shards:
            _check_shard(shard)
        if min(manifest.tokenizers.rates.semantic_hz, manifest.tokenizers.rates.acoustic_hz) <= 0:
            raise ValueError("rates must be positive")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); run `audiolm tokenize` again") from error
    return manifest


def read_speakers(folder: str | os.PathLike, split: str) -> Speakers:
    """Who speaks in each record of a split; four bytes a record, whatever the length of the names.

    Raises:
        UserError: the folder is not finished, or its files are damaged.
    """
    _check_split(split)
    names_path, ids_path = _speaker_paths(epath.Path(folder), split)
    try:
        names = from_plain(tuple[str, ...], parse(names_path.read_bytes()), "the names")
        ids = array_of(ids_path.read_bytes()) if is_remote(folder) else np.load(Path(ids_path), mmap_mode="r")
        if ids.dtype != np.int32 or ids.ndim != 1 or (ids.size and not 0 <= ids.min() <= ids.max() < len(names)):
            raise ValueError("the ids are not those of the names")
        return Speakers(names, ids)
    except Exception as error:  # besides OSError and ValueError, whatever NumPy makes of a damaged header
        reason = first_line(error)
        raise UserError(f"{ids_path} is missing or damaged ({reason}); run `audiolm tokenize` again") from error


def check_stage(stage: Stage, tokenizers: TokenizerSizes, folder: str | Path) -> None:
    """Raises UserError where a stage does not fit the tokens of a folder."""
    rates = {"semantic": tokenizers.rates.semantic_hz, "acoustic": tokenizers.rates.acoustic_hz}
    layout = stage.layout
    for part in stage.streams:
        if part.frames_hz != rates[part.stream]:
            raise UserError(
                f"stage {stage.name} expects {part.stream} tokens at {float(part.frames_hz):g} Hz but {folder} has "
                f"{float(rates[part.stream]):g} Hz; set the stage's rates to the tokenizers'"
            )
    wanted = (layout.semantic_vocab, layout.codebook_size, layout.num_quantizers)
    names = ("semantic_vocab", "codebook_size", "num_quantizers")
    for name, value in zip(names, wanted, strict=True):
        found = getattr(tokenizers, name)
        fits = value == 0 or (value <= found if name == "num_quantizers" else value == found)
        if not fits:
            raise UserError(f"stage {stage.name} has {name} = {value} but the tokens of {folder} have {found}")


def _check_shard(shard: ShardEntry) -> None:
    """Raises ValueError for a name or numbers that no shard has."""
    if not is_plain_name(shard.name):
        raise ValueError(f"{shown(shard.name)} is no name of a file")
    if not 0 <= shard.num_records <= shard.num_inputs < 1 << 40 or not 0 <= shard.seconds < float("inf"):
        raise ValueError(f"the numbers of {shown(shard.name)} are those of no shard")


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; splits are {', '.join(SPLITS)}")


def _speaker_paths(folder: epath.Path, split: str) -> tuple[epath.Path, epath.Path]:
    """Of the names and of the ids."""
    return folder / f"{split}.speakers.json", folder / f"{split}.speaker_ids.npy"


def _write_speakers(folder: epath.Path, split: str, headers: Sequence[ShardHeader]) -> int:
    """Writes names and ids of a split; returns the number of speakers."""
    runs = [run for header in headers if header.shard.split == split for run in header.speakers]
    names = sorted({name for name, _ in runs})
    number = {name: index for index, name in enumerate(names)}
    ids = np.repeat(
        np.fromiter((number[name] for name, _ in runs), np.int32, len(runs)),
        np.fromiter((count for _, count in runs), np.int64, len(runs)),
    )
    names_path, ids_path = _speaker_paths(folder, split)
    write_file(names_path, json.dumps(names).encode())
    with part_file(ids_path) as temporary, temporary.open("wb") as file:
        np.save(file, ids)
    return len(names)


def _write_left_out(
    folder: epath.Path, shards: Sequence[ShardEntry], before: Sequence[InputEntry]
) -> tuple[dict[str, str], int]:
    """Writes all inputs that did not become records; returns the first of them for the manifest, and their number."""
    listed: dict[str, str] = {}
    num_left_out = 0
    with part_file(folder / LEFT_OUT_NAME) as temporary, temporary.open("w") as file:
        incomplete = (shard for shard in shards if shard.num_records < shard.num_inputs)
        found = (entry for shard in incomplete for entry in read_inputs(folder, shard) if entry.status != "ok")
        for entry in itertools.chain(before, found):
            file.write(json.dumps(dataclasses.asdict(entry)) + "\n")
            num_left_out += 1
            if num_left_out <= MAX_LISTED:
                listed[entry.key] = entry.status
    return listed, num_left_out
