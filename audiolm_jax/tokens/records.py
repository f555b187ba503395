"""Token records on disk: what one utterance became, in ArrayRecord shards beside one manifest.json.

A record is a msgpack map of plain values; arrays are little-endian bytes with a type and a shape. Reading one runs no
code of its own. Records keep every frame: repeats are collapsed when an example is made, so durations are never lost.
"""

import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file
from audiolm_jax.tokens.stages import Stage, TokenizerRates

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SPLITS = ("train", "heldout")

# The types that arrays of a record may have on disk.
_DTYPES = ("|u1", "<u2", "<i4")


@dataclasses.dataclass(frozen=True, eq=False)
class TokenRecord:
    """The tokens of one utterance.

    Attributes:
        key: unique in its corpus and the same on every machine.
        speaker: who speaks.
        source: path of the audio below the folder it was read from.
        num_samples: length at the codec's sample rate; decoding trims to it.
        semantic_tokens: int32[T_s], every frame (repeats and run lengths by `alignment.collapse`).
        acoustic_tokens: int32[T_a, Q].
        semantic_fingerprint: of the semantic tokenizer.
        codec_fingerprint: of the codec.
        rms_dbfs: level of the audio, by which silent recordings can be left out.
    """

    key: str
    speaker: str
    source: str
    num_samples: int
    semantic_tokens: np.ndarray
    acoustic_tokens: np.ndarray
    semantic_fingerprint: str
    codec_fingerprint: str
    rms_dbfs: float = 0.0


_TEXTS = ("key", "speaker", "source", "semantic_fingerprint", "codec_fingerprint")


def _pack_array(array: np.ndarray) -> list:
    """Type, shape and bytes of non-negative integers, in the smallest type that holds them."""
    array = np.asarray(array)
    if array.size and array.min() < 0:
        raise ValueError(f"tokens must not be negative, got {array.min()}")
    highest = int(array.max()) if array.size else 0
    dtype = "|u1" if highest < 1 << 8 else "<u2" if highest < 1 << 16 else "<i4"
    return [dtype, list(array.shape), array.astype(dtype).tobytes()]


def _unpack_array(packed: Any, ndim: int) -> np.ndarray:
    """int32 array of a packed one; ValueError if it is not what `_pack_array` writes."""
    dtype, shape, data = packed
    if dtype not in _DTYPES or len(shape) != ndim or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"array of type {dtype!r} and shape {shape!r}")
    return np.frombuffer(data, dtype).reshape(shape).astype(np.int32)


def encode_record(record: TokenRecord) -> bytes:
    """A record as bytes."""
    values: dict[str, Any] = {name: getattr(record, name) for name in _TEXTS}
    values["schema"] = SCHEMA_VERSION
    values["num_samples"] = int(record.num_samples)
    values["rms_dbfs"] = float(record.rms_dbfs)
    values["semantic_tokens"] = _pack_array(record.semantic_tokens)
    values["acoustic_tokens"] = _pack_array(record.acoustic_tokens)
    return msgpack.packb(values, use_bin_type=True)


def decode_record(data: bytes) -> TokenRecord:
    """The record of bytes that `encode_record` made.

    Raises:
        UserError: the bytes are damaged, or of another schema version.
    """
    try:
        values = msgpack.unpackb(data, raw=False)
        schema = values["schema"]
        if schema == SCHEMA_VERSION:
            if not all(isinstance(values[name], str) for name in _TEXTS):
                raise ValueError("a text field is not text")
            return TokenRecord(
                **{name: values[name] for name in _TEXTS},
                num_samples=int(values["num_samples"]),
                rms_dbfs=float(values["rms_dbfs"]),
                semantic_tokens=_unpack_array(values["semantic_tokens"], ndim=1),
                acoustic_tokens=_unpack_array(values["acoustic_tokens"], ndim=2),
            )
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise UserError(f"damaged token record ({error}); run `audiolm tokenize` again") from error
    raise UserError(f"token record of schema {schema}, this version reads {SCHEMA_VERSION}; tokenize again")


def write_shard(path: Path, records: Iterable[bytes]) -> int:
    """Writes encoded records as one ArrayRecord shard, under a temporary name that is renamed at the end.

    Returns:
        The number of records.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # One record a chunk: an example needs one record from a random place.
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        count = 0
        for record in records:
            writer.write(record)
            count += 1
        writer.close()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file to tokenise: where it is, its path below the input folder, its key, its speaker and its split."""

    path: str
    source: str
    key: str
    speaker: str
    split: str


@dataclasses.dataclass(frozen=True)
class InputEntry:
    """What became of one input file.

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
    """One shard: its file name, its split and, in order, the inputs that went into it (also those left out)."""

    name: str
    split: str
    inputs: tuple[InputEntry, ...]

    @property
    def records(self) -> tuple[InputEntry, ...]:
        """The inputs that became records, in the order of the records."""
        return tuple(entry for entry in self.inputs if entry.status == "ok")


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
        shards: every shard with its inputs.
    """

    tokenizers: TokenizerSizes
    gate: dict[str, float]
    shards: tuple[ShardEntry, ...]

    def shards_of(self, split: str) -> tuple[ShardEntry, ...]:
        """Shards of a split that hold at least one record, in order."""
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}; splits are {', '.join(SPLITS)}")
        return tuple(shard for shard in self.shards if shard.split == split and shard.records)

    def summary(self) -> dict[str, Any]:
        """Counts and hours by split, and the inputs that were left out."""
        entries = [entry for shard in self.shards for entry in shard.inputs]
        done = [entry for entry in entries if entry.status == "ok"]
        return {
            "records": {split: sum(entry.split == split for entry in done) for split in SPLITS},
            "speakers": {split: len({entry.speaker for entry in done if entry.split == split}) for split in SPLITS},
            "hours": {split: sum(e.seconds for e in done if e.split == split) / 3600 for split in SPLITS},
            "left_out": {entry.source: entry.status for entry in entries if entry.status != "ok"},
        }


def write_manifest(folder: Path, manifest: TokenManifest) -> None:
    """Writes manifest.json; a folder without it is not finished."""
    # Resamplers and decoders differ in the last bit by version, and so, rarely, do tokens.
    software = {name: importlib.metadata.version(name) for name in ("jax", "soundfile", "soxr")}
    summary = manifest.summary()
    values = {"schema": SCHEMA_VERSION, "software": software, "summary": summary, **dataclasses.asdict(manifest)}
    replace_file(Path(folder) / MANIFEST_NAME, json.dumps(values, indent=1).encode())


def shard_entry(values: dict[str, Any]) -> ShardEntry:
    """The ShardEntry of its own `dataclasses.asdict`."""
    return ShardEntry(values["name"], values["split"], tuple(InputEntry(**entry) for entry in values["inputs"]))


def read_manifest(folder: str | Path) -> TokenManifest:
    """The manifest of a folder of token records.

    Raises:
        UserError: the folder has no manifest (tokenization has not finished), or it is damaged or of another schema.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        values = json.loads(path.read_text())
        if values["schema"] != SCHEMA_VERSION:
            found = values["schema"]
            raise UserError(f"{path} has schema {found}, this version reads {SCHEMA_VERSION}; tokenize again")
        sizes = dict(values["tokenizers"])
        sizes["rates"] = TokenizerRates(**sizes["rates"])
        shards = tuple(shard_entry(entry) for entry in values["shards"])
        return TokenManifest(TokenizerSizes(**sizes), dict(values["gate"]), shards)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `audiolm tokenize` until it ends (it resumes)") from error
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); run `audiolm tokenize` again") from error


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
