"""The feeds of training: crops of recordings for codec and semantic encoder, token sequences for the stages."""

import dataclasses
import functools
import sys
import threading
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from audiolm_jax.audio import read_audio
from audiolm_jax.data.batches import (
    Batch,
    BatchShapes,
    Cursor,
    Example,
    endless_batches,
    finite_batches,
    initial_cursor,
)
from audiolm_jax.data.corpora import FolderCorpus, Utterance
from audiolm_jax.data.examples import stage_example
from audiolm_jax.data.order import ExampleOrder, hash_uniform
from audiolm_jax.data.token_source import TokenSource
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.alignment import Crop
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage

# Draws for one index before giving up, where files cannot be read.
_MAX_DRAWS = 64


class SampleCache:
    """Decoded recordings as int16 in memory, up to a number of bytes; what does not fit is decoded each time.

    Decoding FLAC costs more than everything else a small feed does, and 1.6 h of 16 kHz speech is 180 MB as int16.
    Safe to use from several threads.
    """

    def __init__(self, sample_rate_hz: int, max_bytes: int):
        self._sample_rate_hz = sample_rate_hz
        self._free_bytes = max_bytes
        self._samples: dict[str, np.ndarray | None] = {}
        self._lock = threading.Lock()

    def read(self, utterance: Utterance) -> np.ndarray | None:
        """int16[T] samples of a recording; None, told once on stderr, if it cannot be read."""
        name = str(utterance.path)
        if name in self._samples:
            return self._samples[name]
        try:
            waveform = read_audio(utterance.path, self._sample_rate_hz)
        except UserError as error:
            with self._lock:
                if name not in self._samples:
                    print(f"left out: {error}", file=sys.stderr)
                    self._samples[name] = None
            return None
        samples = np.clip(np.round(waveform.samples * 32768), -32768, 32767).astype(np.int16)
        with self._lock:
            if name not in self._samples and samples.nbytes <= self._free_bytes:
                self._free_bytes -= samples.nbytes
                self._samples[name] = samples
        return samples


@dataclasses.dataclass(frozen=True)
class AudioFeed:
    """Random crops of the training recordings of one or several corpora.

    A batch is {"samples": float32[B, T], "num_samples": int32[B]} with T = crop_samples; a recording shorter than the
    crop is padded with zeros after `num_samples`. Recording, crop and gain are functions of (seed, global index).

    Attributes:
        corpora: FolderCorpus or anything with `train` and `heldout` lists of Utterance.
        sample_rate_hz: of the samples; recordings of another rate are resampled.
        crop_samples: T.
        batch_size: B of the global batch.
        seed: of order, crops and gains.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each corpus; None for shares by number of speakers (or of recordings).
        gain_db: (low, high) of a uniform random gain, None for none. A gain that would clip is lowered.
        cache_bytes: memory for decoded recordings.
        num_threads: threads that read ahead.
    """

    corpora: tuple[FolderCorpus, ...]
    sample_rate_hz: int
    crop_samples: int
    batch_size: int
    seed: int = 0
    balance_speakers: bool = True
    weights: tuple[float, ...] | None = None
    gain_db: tuple[float, float] | None = None
    cache_bytes: int = 2 << 30
    num_threads: int = 2

    def __post_init__(self):
        if not self.corpora:
            raise UserError("an audio feed needs at least one corpus")
        if self.crop_samples < 1 or self.batch_size < 1:
            raise UserError(f"crop_samples and batch_size must be positive, got {self.crop_samples}, {self.batch_size}")

    @functools.cached_property
    def _order(self) -> ExampleOrder:
        speakers = tuple(tuple(utterance.speaker for utterance in corpus.train) for corpus in self.corpora)
        weights = None if self.weights is None else tuple(self.weights)
        return ExampleOrder(speakers, self.seed, self.balance_speakers, weights)

    @functools.cached_property
    def _cache(self) -> SampleCache:
        return SampleCache(self.sample_rate_hz, self.cache_bytes)

    def _crop(self, samples: np.ndarray, start_uniform: float) -> Example:
        """int16[T'] to one padded crop, float32[T]."""
        start = int(start_uniform * (max(len(samples) - self.crop_samples, 0) + 1))
        crop = samples[start : start + self.crop_samples].astype(np.float32) / 32768
        padded = np.zeros(self.crop_samples, np.float32)
        padded[: len(crop)] = crop
        return {"samples": padded, "num_samples": np.int32(len(crop))}

    def example(self, index: int) -> Example:
        """The training example at a global index: samples float32[T], num_samples int32.

        Raises:
            UserError: no recording that was drawn for this index can be read.
        """
        for draw in range(_MAX_DRAWS):
            # A draw that hits an unreadable file is replaced by one that is as much a function of the index.
            position = index if draw == 0 else int(hash_uniform(self.seed, "redraw", index, draw) * 2**40)
            corpus, ordinal = self._order.slot(position)
            samples = self._cache.read(self.corpora[corpus].train[self._order.item(corpus, ordinal)])
            if samples is not None:
                break
        else:
            raise UserError(f"{_MAX_DRAWS} recordings in a row could not be read; check the folder of the corpus")
        example = self._crop(samples, hash_uniform(self.seed, "crop", index))
        if self.gain_db is not None:
            low, high = self.gain_db
            gain = 10 ** ((low + (high - low) * hash_uniform(self.seed, "gain", index)) / 20)
            peak = float(np.abs(example["samples"]).max())
            example["samples"] *= np.float32(min(gain, max(1.0, 0.99 / peak)) if peak > 0 else gain)
        return example

    def heldout_example(self, index: int) -> Example | None:
        """The held-out recording at an index, cropped at a place drawn by index; None if it cannot be read."""
        samples = self._cache.read(self._heldout[index])
        return None if samples is None else self._crop(samples, hash_uniform(self.seed, "heldout crop", index))

    @functools.cached_property
    def _heldout(self) -> list[Utterance]:
        return [utterance for corpus in self.corpora for utterance in corpus.heldout]

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global training batch."""
        return {
            "samples": jax.ShapeDtypeStruct((self.batch_size, self.crop_samples), np.float32),
            "num_samples": jax.ShapeDtypeStruct((self.batch_size,), np.int32),
        }

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global held-out batch."""
        return self.batch_shapes() | {"example_weights": jax.ShapeDtypeStruct((self.batch_size,), np.float32)}

    def initial_cursor(self) -> Cursor:
        """The cursor before the first batch."""
        return initial_cursor()

    def batches(self, cursor: Cursor, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """`rows` (None: all) of the global batches from a cursor on, without end, each with the cursor after it."""
        return endless_batches(self.example, self.batch_size, cursor, rows, self.num_threads)

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out recording once; `example_weights` float32[B] is 0 in the padding of the last batch."""
        return finite_batches(self.heldout_example, len(self._heldout), self.batch_size, rows)


@dataclasses.dataclass(frozen=True)
class TokenFeed:
    """Sequences of one stage from folders of token records.

    A batch is {"ids": int32[B, S], "loss_weights": float32[B, S]}: prefix, target, PAD; weight 1 on target ids. Record
    and crop are functions of (seed, global index).

    Attributes:
        folders: of token records, as `audiolm tokenize` writes them.
        stage: whose examples are made; S = stage.sequence_length.
        batch_size: B of the global batch.
        seed: of order and crops.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each folder; None for shares by number of speakers (or of records).
        max_eval_examples: at most so many held-out crops, evenly spread; None for all.
        num_threads: threads that read ahead.
    """

    folders: tuple[str, ...]
    stage: Stage
    batch_size: int
    seed: int = 0
    balance_speakers: bool = True
    weights: tuple[float, ...] | None = None
    max_eval_examples: int | None = None
    num_threads: int = 2

    @functools.cached_property
    def source(self) -> TokenSource:
        """Records and crops by index; its manifests tell the tokenizers' fingerprints."""
        return TokenSource(tuple(self.folders), self.stage, self.seed, self.balance_speakers, self.weights)

    def example(self, index: int) -> Example:
        """The training example at a global index: ids int32[S], loss_weights float32[S]."""
        record, crop = self.source.training(*self.source.order.slot(index))
        return stage_example(record, self.stage, crop)

    def heldout_example(self, index: int) -> Example:
        """The held-out example at an index below `num_eval_examples`."""
        record, crop = self._heldout[index * len(self._heldout) // self.num_eval_examples]
        return stage_example(record, self.stage, crop)

    @functools.cached_property
    def _heldout(self) -> list[tuple[TokenRecord, Crop]]:
        return [example for folder in self.source.heldout for example in folder]

    @property
    def num_eval_examples(self) -> int:
        """Held-out examples in `eval_batches`."""
        available = len(self._heldout)
        return available if self.max_eval_examples is None else min(available, self.max_eval_examples)

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global training batch."""
        shape = (self.batch_size, self.stage.sequence_length)
        return {"ids": jax.ShapeDtypeStruct(shape, np.int32), "loss_weights": jax.ShapeDtypeStruct(shape, np.float32)}

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global held-out batch."""
        return self.batch_shapes() | {"example_weights": jax.ShapeDtypeStruct((self.batch_size,), np.float32)}

    def initial_cursor(self) -> Cursor:
        """The cursor before the first batch."""
        return initial_cursor()

    def batches(self, cursor: Cursor, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """`rows` (None: all) of the global batches from a cursor on, without end, each with the cursor after it."""
        return endless_batches(self.example, self.batch_size, cursor, rows, self.num_threads)

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out crop once; `example_weights` float32[B] is 0 in the padding of the last batch."""
        return finite_batches(self.heldout_example, self.num_eval_examples, self.batch_size, rows)
