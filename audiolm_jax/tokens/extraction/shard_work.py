"""The work on one shard, the same for every engine: read, put together by length, tokenize, write.

A shard is written whole or not at all; the file beside it, written after it, says what became of each of its inputs.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
from etils import epath

from audiolm_jax.audio import Waveform, decode_audio, resample
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.tokens.extraction.part_files import part_file
from audiolm_jax.tokens.extraction.shard_plan import ShardPlan
from audiolm_jax.tokens.manifest import InputEntry, ShardEntry, TokenizerSizes, write_inputs
from audiolm_jax.tokens.records import SourceFile, TokenRecord, encode_record, write_records
from audiolm_jax.tokens.tokenizers import Tokenizers, batch_tokens, padded_samples

# Rows of the codec's program. A CPU is busy with one; an accelerator is not.
_CPU_BATCH_SIZE = 1
_ACCELERATOR_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class WorkSettings:
    """How a worker goes about a shard; nothing of it changes a record.

    Attributes:
        batch_size: recordings of similar length that the codec takes at once; 0 for what suits the device.
        read_threads: files that are read and decoded ahead, while the device computes.
    """

    batch_size: int = 0
    read_threads: int = 2

    def rows(self) -> int:
        """The batch size of this process's devices."""
        on_cpu = jax.default_backend() == "cpu"
        return self.batch_size or (_CPU_BATCH_SIZE if on_cpu else _ACCELERATOR_BATCH_SIZE)


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """An input that was read.

    Attributes:
        place: of the input in its shard.
        codec_samples, semantic_samples: float32[T] at either tokenizer's rate.
    """

    place: int
    file: SourceFile
    codec_samples: np.ndarray
    semantic_samples: np.ndarray


@dataclasses.dataclass(frozen=True)
class ReadInput:
    """What reading gave of one input: its entry, and the sound unless the entry says why there is none."""

    entry: InputEntry
    recording: Recording | None
    is_unread: bool = False


class WorkStopped(Exception):
    """A shard was given up because the job is to end; nothing of it is left, and the next start makes it."""


def work_shard(
    plan: ShardPlan,
    tokenizers: Tokenizers,
    sizes: TokenizerSizes,
    settings: WorkSettings,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ShardEntry:
    """Makes one shard and the file beside it.

    While it runs, a locked part of the shard says so to others (`part_files.is_being_written`).

    Args:
        plan: of the shard.
        tokenizers: weights on the device that shall do it.
        sizes: of the tokenizers.
        settings: batches and threads.
        is_stopping: asked after every file whether the job is to end.

    Raises:
        UserError: the output folder refuses to be written, or the disk is full.
        WorkStopped: it was.
    """
    files = plan.inputs()
    try:
        with part_file(plan.path) as temporary:
            made = _make(files, tokenizers, sizes, settings, is_stopping)
            write_records(temporary, made.records)
            sha256 = hashlib.sha256(temporary.read_bytes()).hexdigest()
        seconds = sum(entry.seconds for entry in made.entries)
        counts = (len(made.entries), len(made.records))
        shard = ShardEntry(plan.name, plan.split, *counts, seconds, plan.digest, sha256)
        write_inputs(epath.Path(plan.folder), shard, made.entries, made.num_unread)
    except UserError:
        raise
    except OSError as error:
        raise cannot_write(plan.folder, error) from error
    return shard


@dataclasses.dataclass(frozen=True)
class _Made:
    """What became of the inputs of a shard: an entry for each, and the records in their order."""

    entries: list[InputEntry]
    records: list[bytes]
    num_unread: int


def _make(
    files: Sequence[SourceFile],
    tokenizers: Tokenizers,
    sizes: TokenizerSizes,
    settings: WorkSettings,
    is_stopping: Callable[[], bool],
) -> _Made:
    """Reads the inputs and tokenizes them in batches of similar length."""
    rows = settings.rows()
    batches = _Batches(functools.partial(_encoded, tokenizers, sizes, rows), rows)
    entries: list[InputEntry] = []
    records: dict[int, bytes] = {}
    num_unread = 0
    for found in read_inputs(files, sizes, settings.read_threads):
        if is_stopping():
            raise WorkStopped
        entries.append(found.entry)
        num_unread += found.is_unread
        if found.recording is None:
            print(f"left out: {found.entry.status}", file=sys.stderr, flush=True)
            continue
        num_samples = len(found.recording.codec_samples)
        length = padded_samples(
            num_samples, sizes.rates.acoustic_sample_rate_hz, sizes.rates.acoustic_hop_samples
        )
        records |= batches.add(length, found.recording)
    records |= batches.rest()
    return _Made(entries, [records[place] for place in sorted(records)], num_unread)


def cannot_write(folder: str, error: OSError) -> UserError:
    """The error for an output folder that refuses."""
    reason = error.strerror or str(error)
    return UserError(
        f"cannot write {folder}: {reason}; make room or mend the folder and run the command again, what is done is kept"
    )


class _Batches:
    """Recordings that wait for others of their length."""

    def __init__(self, run: Callable[[list[Recording]], dict[int, bytes]], batch_size: int):
        self._run = run
        self._batch_size = batch_size
        self._waiting: dict[int, list[Recording]] = {}

    def add(self, length: int, recording: Recording) -> dict[int, bytes]:
        """Takes one recording; records by place if that fills a batch."""
        batch = self._waiting.setdefault(length, [])
        batch.append(recording)
        return self._run(self._waiting.pop(length)) if len(batch) == self._batch_size else {}

    def rest(self) -> dict[int, bytes]:
        """Records of the batches that did not fill."""
        records: dict[int, bytes] = {}
        for length in sorted(self._waiting):
            records |= self._run(self._waiting.pop(length))
        return records


def _encoded(
    tokenizers: Tokenizers, sizes: TokenizerSizes, batch_size: int, batch: Sequence[Recording]
) -> dict[int, bytes]:
    """Records, as bytes and by place, of recordings of about one length."""
    codec_rows = [recording.codec_samples for recording in batch]
    semantic_rows = [recording.semantic_samples for recording in batch]
    try:
        tokens = batch_tokens(tokenizers, codec_rows, semantic_rows, batch_size)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"the device has no memory for {batch_size} recordings at once; lower --batch_size") from error
    records = {}
    for recording, (acoustic_tokens, semantic_tokens) in zip(batch, tokens, strict=True):
        power = float(np.mean(np.square(recording.codec_samples, dtype=np.float64)))
        record = TokenRecord(
            key=recording.file.key,
            speaker=recording.file.speaker,
            source=recording.file.source,
            num_samples=len(recording.codec_samples),
            semantic_tokens=semantic_tokens,
            acoustic_tokens=acoustic_tokens,
            semantic_fingerprint=sizes.semantic_fingerprint,
            codec_fingerprint=sizes.codec_fingerprint,
            rms_dbfs=10 * math.log10(power + 1e-10),
        )
        records[recording.place] = encode_record(record)
    return records


def read_inputs(files: Sequence[SourceFile], sizes: TokenizerSizes, num_threads: int) -> Iterator[ReadInput]:
    """Every input in its order, read and decoded by threads that stay a few files ahead.

    Neighbours that are parts of one file are read together, so the file is read, hashed and decoded once.
    """
    numbered = enumerate(files)
    groups = (list(group) for _, group in itertools.groupby(numbered, key=lambda item: item[1].path))
    with ThreadPoolExecutor(num_threads, thread_name_prefix="read") as pool:
        ahead: collections.deque[Future] = collections.deque()
        try:
            for group in groups:
                ahead.append(pool.submit(_read_file, group, sizes))
                if len(ahead) > num_threads:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _read_file(inputs: Sequence[tuple[int, SourceFile]], sizes: TokenizerSizes) -> list[ReadInput]:
    """The inputs, by their places, that are parts of one file."""
    path = inputs[0][1].path
    sha256 = ""
    try:
        data = epath.Path(path).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        waveform = decode_audio(path, data)
    except Exception as error:  # noqa: BLE001 (decoders have errors of their own, and memory may not do)
        reason, is_unread = _why_not(path, error)
        return [_left_out(file, reason, sha256, is_unread) for _, file in inputs]
    return [_read_part(place, file, waveform, sha256, sizes) for place, file in inputs]


def _why_not(path: str, error: Exception) -> tuple[str, bool]:
    """Why a file is left out, and whether that may be the machine's fault, so that the next start tries it again."""
    if isinstance(error, UserError):
        return str(error), False
    if isinstance(error, (OSError, MemoryError)):
        reason = first_line(error)
        if isinstance(error, FileNotFoundError):
            reason = "it has vanished"
        elif isinstance(error, MemoryError):
            reason = "there is not enough memory for it"
        elif error.strerror:
            reason = error.strerror
        return f"{path} cannot be read: {reason}; run the command again to try it again", True
    return f"{path} cannot be decoded ({type(error).__name__}: {first_line(error)}); give another copy of it", False


def _read_part(place: int, file: SourceFile, waveform: Waveform, sha256: str, sizes: TokenizerSizes) -> ReadInput:
    """One input of a file that was decoded."""
    last = max((stop for _, stop in file.ranges), default=0)
    if last > len(waveform.samples):
        reason = f"{file.path} has {len(waveform.samples)} samples, but its list of parts goes to {last}; list it again"
        return _left_out(file, reason, sha256)
    try:
        if file.ranges:
            samples = np.concatenate([waveform.samples[start:stop] for start, stop in file.ranges])
            waveform = Waveform(samples, waveform.sample_rate_hz)
        codec_samples = resample(waveform, sizes.rates.acoustic_sample_rate_hz).samples
        semantic_samples = resample(waveform, sizes.rates.semantic_sample_rate_hz).samples
    except Exception as error:  # noqa: BLE001 (as above)
        reason, is_unread = _why_not(file.path, error)
        return _left_out(file, reason, sha256, is_unread)
    entry = InputEntry(file.source, file.key, file.speaker, file.split, "ok", sha256, waveform.seconds)
    return ReadInput(entry, Recording(place, file, codec_samples, semantic_samples))


def _left_out(file: SourceFile, reason: str, sha256: str, is_unread: bool = False) -> ReadInput:
    entry = InputEntry(file.source, file.key, file.speaker, file.split, " ".join(reason.split()), sha256, 0.0)
    return ReadInput(entry, None, is_unread)
