"""Token records on disk: what one utterance became, in ArrayRecord shards.

A record is a msgpack map of plain values; semantic tokens are little-endian bytes with a type and a length, acoustic
tokens are packed. Reading one runs no code of its own. Records keep every frame: repeats are collapsed when an example
is made, so durations are never lost.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from etils import epath

from audiolm_jax.errors import UserError, first_line, shown
from audiolm_jax.tokens.extraction.part_files import part_file
from audiolm_jax.tokens.packed_tokens import PackedTokens

SCHEMA_VERSION = 2
SPLITS = ("train", "heldout")

# The types that semantic tokens may have on disk.
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
        acoustic_tokens: int32[T_a, Q]; still packed in a record that was read.
        semantic_fingerprint: of the semantic tokenizer.
        codec_fingerprint: of the codec.
        rms_dbfs: level of the audio, by which silent recordings can be left out.
    """

    key: str
    speaker: str
    source: str
    num_samples: int
    semantic_tokens: np.ndarray
    acoustic_tokens: np.ndarray | PackedTokens
    semantic_fingerprint: str
    codec_fingerprint: str
    rms_dbfs: float = 0.0


_TEXTS = ("key", "speaker", "source", "semantic_fingerprint", "codec_fingerprint")


def _pack_semantic(tokens: np.ndarray) -> list:
    """Type, length and bytes of tokens [T], in the smallest type that holds them."""
    tokens = np.asarray(tokens)
    if tokens.size and tokens.min() < 0:
        raise ValueError(f"tokens must not be negative, got {tokens.min()}")
    highest = int(tokens.max()) if tokens.size else 0
    dtype = "|u1" if highest < 1 << 8 else "<u2" if highest < 1 << 16 else "<i4"
    return [dtype, len(tokens), tokens.astype(dtype).tobytes()]


def _unpack_semantic(packed: Any) -> np.ndarray:
    """int32[T] of what `_pack_semantic` gives; ValueError for anything else."""
    dtype, length, data = packed
    if dtype not in _DTYPES or not isinstance(length, int) or length < 0:
        raise ValueError(f"semantic tokens of type {shown(dtype)} and length {shown(length)}")
    tokens = np.frombuffer(data, dtype).reshape(length).astype(np.int32)
    if length and tokens.min() < 0:
        raise ValueError(f"semantic token {tokens.min()}")
    return tokens


def _pack_acoustic(tokens: np.ndarray | PackedTokens) -> list:
    """Bits, shape and bytes of tokens [T, Q]."""
    packed = tokens if isinstance(tokens, PackedTokens) else PackedTokens.of(tokens)
    return [packed.bits, list(packed.shape), packed.rows.tobytes()]


def _unpack_acoustic(packed: Any) -> PackedTokens:
    """The tokens of what `_pack_acoustic` gives; ValueError for anything else."""
    bits, shape, data = packed
    # Without levels there are no bytes that a wrong number of frames would not go with.
    if len(shape) != 2 or not all(isinstance(number, int) and number >= 0 for number in (bits, *shape)) or not shape[1]:
        raise ValueError(f"acoustic tokens of {shown(bits)} bits and shape {shown(shape)}")
    return PackedTokens.from_bytes(data, tuple(shape), bits)


def encode_record(record: TokenRecord) -> bytes:
    """A record as bytes."""
    values: dict[str, Any] = {name: getattr(record, name) for name in _TEXTS}
    values["schema"] = SCHEMA_VERSION
    values["num_samples"] = int(record.num_samples)
    values["rms_dbfs"] = float(record.rms_dbfs)
    values["semantic_tokens"] = _pack_semantic(record.semantic_tokens)
    values["acoustic_tokens"] = _pack_acoustic(record.acoustic_tokens)
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
            if not isinstance(values["num_samples"], int) or values["num_samples"] < 0:
                raise ValueError("a length that is no number of samples")
            return TokenRecord(
                **{name: values[name] for name in _TEXTS},
                num_samples=values["num_samples"],
                rms_dbfs=float(values["rms_dbfs"]),
                semantic_tokens=_unpack_semantic(values["semantic_tokens"]),
                acoustic_tokens=_unpack_acoustic(values["acoustic_tokens"]),
            )
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, msgpack.UnpackException) as error:
        raise UserError(f"damaged token record ({first_line(error)}); run `audiolm tokenize` again") from error
    raise UserError(f"token record of schema {shown(schema)}, this version reads {SCHEMA_VERSION}; tokenize again")


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes encoded records as an ArrayRecord file, always the same bytes for the same records.

    Args:
        path: local; `part_files.part_file` gives one.
        records: what `encode_record` returned.

    Returns:
        The number of records.

    Raises:
        OSError: the disk is full or refuses otherwise.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    # One record a chunk: an example needs one record from a random place. Packed tokens are near to noise: there is
    # little to compress, and decompression was half of what an example cost.
    with _errors_of_the_disk():
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count = 0
    for record in records:
        with _errors_of_the_disk():
            writer.write(record)
        count += 1
    with _errors_of_the_disk():
        writer.close()
    return count


@contextlib.contextmanager
def _errors_of_the_disk() -> Iterator[None]:
    """Turns the writer's RuntimeError, it has no other kind, into OSError with what the system said."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).split("; writing")[0]) from error


def write_shard(path: str | os.PathLike, records: Iterable[bytes]) -> int:
    """Writes a shard whole or not at all; returns the number of records. Raises OSError where the folder refuses."""
    with part_file(epath.Path(path)) as temporary:
        return write_records(temporary, records)


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file to tokenise, or a part of one.

    Attributes:
        path: where it is.
        source: its path below the input folder.
        key, speaker, split: of its utterance.
        ranges: [start, stop) in samples at the file's own rate that are read one after the other; empty: all of it.
    """

    path: str
    source: str
    key: str
    speaker: str
    split: str
    ranges: tuple[tuple[int, int], ...] = ()
