"""A folder of audio to a folder of token records: an Apache Beam pipeline with one element for each shard.

A shard is written whole or not at all, with a side file that tells what became of each of its inputs. Started again,
the job keeps the shards that are done, so it resumes; at the end it joins the side files into manifest.json. Weights
are never sent through the pipeline: the default runner works in this process, and workers elsewhere load a bundle once.
"""

import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import jax
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from audiolm_jax.audio import read_audio, resample
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file
from audiolm_jax.tokens.alignment import num_frames
from audiolm_jax.tokens.records import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    InputEntry,
    ShardEntry,
    SourceFile,
    TokenizerSizes,
    TokenManifest,
    TokenRecord,
    encode_record,
    shard_entry,
    write_manifest,
    write_shard,
)
from audiolm_jax.tokens.stages import TokenizerRates

# Audio is padded to a few lengths, each this much longer than the one before, so that few programs are compiled.
_LENGTH_RATIO = 1.25
_SHORTEST_SECONDS = 1.0
# Longer recordings are encoded in windows of this length, which bounds the memory and gives the same tokens.
_WHOLE_SECONDS = 40.0
_PROGRESS_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Tokenizers:
    """A codec and a semantic tokenizer with their weights.

    Tokens of a frame must not depend on zeros that follow the audio: the codec is causal, the semantic tokenizer is
    told `num_samples`.
    """

    codec: Any
    codec_params: Any
    semantic: Any
    semantic_params: Any

    def on_device(self) -> "Tokenizers":
        """The same with the weights on the accelerator, so that they are not sent there for every recording."""
        params = jax.device_put((self.codec_params, self.semantic_params))
        return Tokenizers(self.codec, params[0], self.semantic, params[1])

    def sizes(self) -> TokenizerSizes:
        """Rates, vocabularies and fingerprints."""
        codec, semantic = self.codec, self.semantic
        rates = TokenizerRates(
            semantic.sample_rate_hz, semantic.hop_samples, codec.sample_rate_hz, codec.hop_samples
        )
        return TokenizerSizes(
            rates=rates,
            semantic_vocab=semantic.vocab_size,
            codebook_size=codec.codebook_size,
            num_quantizers=codec.num_quantizers,
            semantic_fingerprint=semantic.fingerprint(self.semantic_params),
            codec_fingerprint=codec.fingerprint(self.codec_params),
        )


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One element of the pipeline: the files of one shard, and the digest of all that decides its content."""

    folder: str
    name: str
    split: str
    files: tuple[SourceFile, ...]
    digest: str

    @property
    def path(self) -> Path:
        """Of the shard."""
        return Path(self.folder) / self.name

    @property
    def side_path(self) -> Path:
        """Of the side file that is written after the shard."""
        return Path(self.folder) / f"{self.name}.json"

    def finished(self) -> ShardEntry | None:
        """What the side file says, if the shard is done and was made from the same files with the same tokenizers."""
        try:
            values = json.loads(self.side_path.read_text())
            if values["digest"] == self.digest and self.path.exists():
                return shard_entry(values["shard"])
        except (OSError, json.JSONDecodeError, KeyError, TypeError):
            pass
        return None


def plan_shards(folder: Path, files: Sequence[SourceFile], sizes: TokenizerSizes, files_per_shard: int):
    """Divides the files of each split, in the order of their keys, into shards: list of ShardPlan."""
    plans = []
    for split in sorted({file.split for file in files}, reverse=True):
        chosen = sorted((file for file in files if file.split == split), key=lambda file: file.key)
        count = math.ceil(len(chosen) / files_per_shard)
        for index in range(count):
            part = tuple(chosen[index * files_per_shard : (index + 1) * files_per_shard])
            content = [(file.source, file.speaker, Path(file.path).stat().st_size) for file in part]
            text = json.dumps([SCHEMA_VERSION, dataclasses.asdict(sizes), content])
            digest = hashlib.sha256(text.encode()).hexdigest()
            name = f"{split}-{index:05d}-of-{count:05d}.array_record"
            plans.append(ShardPlan(str(folder), name, split, part, digest))
    return plans


@dataclasses.dataclass
class _Audio:
    """A file that was read: samples at both rates, and its entry for the manifest."""

    file: SourceFile
    codec_samples: np.ndarray
    semantic_samples: np.ndarray
    entry: InputEntry


def _read(file: SourceFile, tokenizers: Tokenizers) -> _Audio | InputEntry:
    """The audio of a file, or the entry that says why it is left out."""
    sha256 = ""
    try:
        sha256 = hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
        waveform = read_audio(file.path)
        codec_samples = resample(waveform, tokenizers.codec.sample_rate_hz).samples
        semantic_samples = resample(waveform, tokenizers.semantic.sample_rate_hz).samples
    except (UserError, OSError) as error:
        print(f"left out: {error}", file=sys.stderr, flush=True)
        return InputEntry(file.source, file.key, file.speaker, file.split, str(error), sha256, 0.0)
    entry = InputEntry(file.source, file.key, file.speaker, file.split, "ok", sha256, waveform.seconds)
    return _Audio(file, codec_samples, semantic_samples, entry)


def padded_samples(num_samples: int, sample_rate_hz: int, hop_samples: int) -> int:
    """The next of a few lengths, in samples and whole hops, that holds `num_samples`."""
    seconds = max(num_samples / sample_rate_hz, _SHORTEST_SECONDS)
    steps = math.ceil(math.log(seconds / _SHORTEST_SECONDS) / math.log(_LENGTH_RATIO) - 1e-9)
    samples = max(num_samples, math.ceil(_SHORTEST_SECONDS * _LENGTH_RATIO**steps * sample_rate_hz))
    return math.ceil(samples / hop_samples) * hop_samples


def codec_tokens(tokenizers: Tokenizers, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Acoustic tokens int32[T_a, Q] of each row of samples float32[T], encoded as one padded batch."""
    codec, params = tokenizers.codec, tokenizers.codec_params
    # A power of two of rows, so that batches that are not full compile few programs too.
    samples = np.zeros((1 << (len(rows) - 1).bit_length(), max(map(len, rows))), np.float32)
    for row, values in enumerate(rows):
        samples[row, : len(values)] = values
    if samples.shape[1] > _WHOLE_SECONDS * codec.sample_rate_hz:
        tokens = encode_chunked(codec, params, samples, chunk_seconds=_WHOLE_SECONDS)
    else:
        length = padded_samples(samples.shape[1], codec.sample_rate_hz, codec.hop_samples)
        tokens = np.asarray(codec.encode(params, np.pad(samples, ((0, 0), (0, length - samples.shape[1])))))
    return [tokens[row, : num_frames(len(values), codec.hop_samples)] for row, values in enumerate(rows)]


def semantic_tokens(tokenizers: Tokenizers, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Semantic tokens int32[T_s] of each row of samples float32[T]."""
    semantic = tokenizers.semantic
    samples = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for row, values in enumerate(rows):
        samples[row, : len(values)] = values
    lengths = np.asarray([len(values) for values in rows], np.int32)
    tokens = np.asarray(semantic.tokenize(tokenizers.semantic_params, samples, num_samples=lengths))
    return [tokens[row, : num_frames(len(values), semantic.hop_samples)] for row, values in enumerate(rows)]


def tokenize_batch(tokenizers: Tokenizers, audio: list[_Audio], sizes: TokenizerSizes) -> Iterator[TokenRecord]:
    """Records of recordings of about one length."""
    acoustic = codec_tokens(tokenizers, [item.codec_samples for item in audio])
    semantic = semantic_tokens(tokenizers, [item.semantic_samples for item in audio])
    for item, acoustic_row, semantic_row in zip(audio, acoustic, semantic, strict=True):
        power = float(np.mean(np.square(item.codec_samples, dtype=np.float64)))
        yield TokenRecord(
            key=item.file.key,
            speaker=item.file.speaker,
            source=item.file.source,
            num_samples=len(item.codec_samples),
            semantic_tokens=semantic_row,
            acoustic_tokens=acoustic_row,
            semantic_fingerprint=sizes.semantic_fingerprint,
            codec_fingerprint=sizes.codec_fingerprint,
            rms_dbfs=10 * math.log10(power + 1e-10),
        )


class _Progress:
    """One line on stderr every few seconds: files, hours, times real time."""

    def __init__(self, total_files: int):
        self._total_files = total_files
        self._start = self._last = time.monotonic()
        self._files = self._left_out = 0
        self._seconds = 0.0

    def add(self, seconds: float, left_out: bool = False) -> None:
        self._files += 1
        self._left_out += left_out
        self._seconds += seconds
        if time.monotonic() - self._last > _PROGRESS_SECONDS:
            self._last = time.monotonic()
            speed = self._seconds / (self._last - self._start)
            print(
                f"tokenize: {self._files}/{self._total_files} files, {self._seconds / 3600:.2f} h of audio, "
                f"{speed:.1f} times real time, {self._left_out} left out",
                file=sys.stderr,
                flush=True,
            )


# Tokenizers of this process by fingerprints, so that the in-process runner neither pickles nor loads them again.
_RESIDENT: dict[tuple[str, str], Tokenizers] = {}


class TokenizeShard(beam.DoFn):
    """ShardPlan -> seconds of audio in it; writes the shard and its side file."""

    def __init__(
        self,
        sizes: TokenizerSizes,
        load_in_worker: Callable[[], Tokenizers] | None,
        batch_size: int,
        total_files: int,
    ):
        self._sizes = sizes
        self._load_in_worker = load_in_worker
        self._batch_size = batch_size
        self._total_files = total_files

    def setup(self) -> None:
        """Once for each worker: finds or loads the tokenizers."""
        self._progress = _Progress(self._total_files)
        name = (self._sizes.semantic_fingerprint, self._sizes.codec_fingerprint)
        if name not in _RESIDENT:
            if self._load_in_worker is None:
                raise UserError("this Beam runner works in other processes; name the tokenizers by a bundle folder")
            loaded = self._load_in_worker()
            if loaded.sizes() != self._sizes:
                raise UserError("the bundle changed while it was in use: its tokenizers have other fingerprints")
            _RESIDENT[name] = loaded.on_device()
        self._tokenizers = _RESIDENT[name]

    def process(self, plan: ShardPlan) -> Iterator[float]:
        """Tokenises the files of one shard in batches of similar length."""
        rates = self._sizes.rates
        entries: dict[str, InputEntry] = {}
        records: dict[str, bytes] = {}
        waiting: dict[int, list[_Audio]] = {}

        def flush(batch: list[_Audio]) -> None:
            for record in tokenize_batch(self._tokenizers, batch, self._sizes):
                records[record.key] = encode_record(record)
                self._progress.add(entries[record.key].seconds)

        for file in plan.files:
            found = _read(file, self._tokenizers)
            if isinstance(found, InputEntry):
                entries[file.key] = found
                self._progress.add(0.0, left_out=True)
                continue
            entries[file.key] = found.entry
            length = padded_samples(
                len(found.codec_samples), rates.acoustic_sample_rate_hz, rates.acoustic_hop_samples
            )
            batch = waiting.setdefault(length, [])
            batch.append(found)
            if len(batch) == self._batch_size:
                flush(waiting.pop(length))
        for batch in waiting.values():
            flush(batch)
        write_shard(plan.path, [records[file.key] for file in plan.files if file.key in records])
        shard = ShardEntry(plan.name, plan.split, tuple(entries[file.key] for file in plan.files))
        values = {"digest": plan.digest, "shard": dataclasses.asdict(shard)}
        replace_file(plan.side_path, json.dumps(values).encode())
        yield sum(entry.seconds for entry in shard.inputs)


def beam_options(beam_args: Sequence[str]) -> tuple[PipelineOptions, FnApiRunner | None]:
    """Options and, for the default runner, the runner.

    Beam's DirectRunner first tries to fetch and start a server in another language; what is returned is its part that
    runs here. Raises UserError for a flag that it does not know, which Beam would drop with a mere warning; other
    runners may have flags of their own.
    """
    options = PipelineOptions(list(beam_args))
    options.view_as(SetupOptions).save_main_session = False
    if options.view_as(StandardOptions).runner not in (None, "DirectRunner"):
        return options, None
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    positional = [arg for arg in beam_args[:1] if not arg.startswith("-")]
    if unknown or positional:
        name = positional[0] if positional else f"--{sorted(unknown)[0]}"
        raise UserError(f"unknown argument {name}; see `audiolm tokenize --help`, and Beam's manual for its own flags")
    return options, FnApiRunner()


def run_pipeline(plans: Sequence[ShardPlan], do_fn: TokenizeShard, options: PipelineOptions, runner: Any) -> None:
    """Runs the shards."""
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        shards = pipeline | "plans" >> beam.Create(list(plans)) | "spread" >> beam.Reshuffle()
        _ = shards | "tokenize" >> beam.ParDo(do_fn)


def extract(
    files: Sequence[SourceFile],
    output_dir: str | Path,
    tokenizers: Tokenizers,
    gate: dict[str, float],
    load_in_worker: Callable[[], Tokenizers] | None = None,
    files_per_shard: int = 64,
    batch_size: int = 1,
    beam_args: Sequence[str] = (),
) -> TokenManifest:
    """Tokenises files into a folder of records; started again after a stop, it keeps the shards that are done.

    Args:
        files: what to read, keys unique; files that cannot be read are listed in the manifest and on stderr.
        output_dir: where shards and manifest.json go; a disk that all workers see.
        tokenizers: codec and semantic tokenizer.
        gate: figures of the codec that are kept in the manifest.
        load_in_worker: for Beam runners with other processes, a small picklable function that loads the same
            tokenizers there.
        files_per_shard: files of one shard, the unit of work and of resuming.
        batch_size: recordings of similar length that are tokenised at once.
        beam_args: flags of Beam, for example ["--runner=FlinkRunner"].

    Raises:
        UserError: no file could be tokenised, or the settings are wrong.
    """
    if files_per_shard < 1 or batch_size < 1:
        raise UserError(f"files_per_shard and batch_size must be positive, got {files_per_shard} and {batch_size}")
    if not files:
        raise UserError("there are no audio files to tokenise")
    options, runner = beam_options(beam_args)
    started = time.monotonic()
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    sizes = tokenizers.sizes()
    plans = plan_shards(output_dir, files, sizes, files_per_shard)
    missing = [plan for plan in plans if plan.finished() is None]
    if missing:
        (output_dir / MANIFEST_NAME).unlink(missing_ok=True)
        for stale in output_dir.glob(".*.part"):
            # Left by a job that was killed in the middle of a shard.
            stale.unlink()
        print(f"tokenize: {len(plans) - len(missing)} of {len(plans)} shards are already done", file=sys.stderr)
        name = (sizes.semantic_fingerprint, sizes.codec_fingerprint)
        _RESIDENT[name] = tokenizers.on_device()
        try:
            num_files = sum(len(plan.files) for plan in missing)
            run_pipeline(missing, TokenizeShard(sizes, load_in_worker, batch_size, num_files), options, runner)
        finally:
            _RESIDENT.pop(name, None)
    finished = [plan.finished() for plan in plans]
    if not all(finished):
        raise UserError(f"some shards are missing in {output_dir}; do all Beam workers see that folder?")
    manifest = TokenManifest(sizes, dict(gate), tuple(finished))
    if not any(shard.records for shard in manifest.shards):
        raise UserError(f"none of the {len(files)} files could be tokenised; the lines above say why")
    write_manifest(output_dir, manifest)
    worked = {plan.name for plan in missing}
    seconds = sum(entry.seconds for shard in manifest.shards if shard.name in worked for entry in shard.inputs)
    _report(manifest, seconds, time.monotonic() - started)
    return manifest


def _report(manifest: TokenManifest, seconds: float, wall_seconds: float) -> None:
    summary = manifest.summary()
    records, hours = sum(summary["records"].values()), sum(summary["hours"].values())
    speed = f"{seconds / wall_seconds:.1f} times real time" if seconds else "nothing left to do"
    print(
        f"tokenize: {records} records, {hours:.2f} h, {len(summary['left_out'])} files left out, {speed}",
        file=sys.stderr,
    )
