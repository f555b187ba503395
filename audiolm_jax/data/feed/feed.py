"""The feeds of training: crops of recordings for codec and semantic encoder, token sequences for the stages."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from audiolm_jax.data.corpora.corpora import Corpus
from audiolm_jax.data.corpora.sample_cache import SampleCache
from audiolm_jax.data.corpora.utterances import Utterance
from audiolm_jax.data.feed.batches import (
    Batch,
    BatchShapes,
    Cursor,
    Example,
    batch_indices,
    endless_batches,
    finite_batches,
    initial_cursor,
)
from audiolm_jax.data.feed.crops import crop_bounds, padded, with_gain
from audiolm_jax.data.feed.examples import stage_batch_shapes, stage_eval_batch_shapes, stage_example
from audiolm_jax.data.feed.order import HOURS, ExampleOrder, Weights, check_weights, hash_uniform, speaker_ids
from audiolm_jax.data.feed.token_source import TokenSource
from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Whole
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.split import Split
from audiolm_jax.tokens.stages import Stage

# Draws for one index before giving up, where files cannot be read.
_MAX_DRAWS = 64


@dataclasses.dataclass(frozen=True)
class AudioFeed:
    """Random crops of the training recordings of one or several corpora.

    A batch is {"samples": float32[B, T], "num_samples": int32[B]} with T = crop_samples; a recording shorter than the
    crop is padded with zeros after `num_samples`. Recording, crop and gain are functions of (seed, global index).

    Attributes:
        corpora: where the recordings are, see `data.corpora.corpora.open_corpus`.
        sample_rate_hz: of the samples; recordings of another rate are resampled.
        crop_samples: T.
        batch_size: B of the global batch.
        seed: of order, crops and gains.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each corpus, whatever they sum to; "hours" for shares by hours of sound, for which the header
            of every recording is read; None for shares by number of speakers (or of recordings).
        gain_db: (low, high) of a uniform random gain, None for none. A gain that would clip is lowered.
        cache_bytes: memory for decoded recordings, of each process that reads. Corpora that fit into it are decoded
            once; of larger ones nothing is kept, and each crop is read by itself.
        num_threads: threads that read ahead, of each process.
        num_workers: processes that read ahead; 0 for threads of this one alone.
    """

    corpora: tuple[Corpus, ...]
    sample_rate_hz: Count
    crop_samples: Count
    batch_size: Count
    seed: int = 0
    balance_speakers: bool = True
    weights: Weights = None
    gain_db: tuple[float, float] | None = None
    cache_bytes: Whole = 2 << 30
    num_threads: Count = 2
    num_workers: Whole = 0

    def __post_init__(self):
        if self.crop_samples < 1 or self.batch_size < 1:
            raise UserError(f"crop_samples and batch_size must be positive, got {self.crop_samples}, {self.batch_size}")
        check_weights(self.weights, len(self.corpora))

    def __getstate__(self):
        # A worker process gets the list of the recordings, and decides as this process did, but has memory of its own.
        self._reads_crops, self._shares  # noqa: B018 (now, and not by each of them)
        return {name: value for name, value in self.__dict__.items() if name != "_cache"}

    @property
    def splits(self) -> list[Split | None]:
        """What each corpus holds out."""
        return [corpus.split for corpus in self.corpora]

    @functools.cached_property
    def order(self) -> ExampleOrder:
        """The order of training recordings."""
        if not self.corpora:
            raise UserError("an audio feed needs at least one corpus")
        speakers = tuple(speaker_ids(corpus.train.speakers) for corpus in self.corpora)
        return ExampleOrder(speakers, self.seed, self.balance_speakers, self._shares)

    @functools.cached_property
    def _shares(self) -> tuple[float, ...] | None:
        """The weights as numbers; None for shares by number of speakers (or of recordings)."""
        if self.weights != HOURS:
            return None if self.weights is None else tuple(self.weights)
        return tuple(self._cache.seconds(corpus.train) for corpus in self.corpora)

    @functools.cached_property
    def _cache(self) -> SampleCache:
        return SampleCache(self.sample_rate_hz, self.cache_bytes)

    @functools.cached_property
    def _reads_crops(self) -> bool:
        """Whether the recordings are too many for the cache, so that crops are read without the rest of them.

        It is all or nothing, so that what a damaged file gives does not depend on what was read before.
        """
        return not self._cache.holds(utterance for corpus in self.corpora for utterance in corpus.utterances)

    def _crop(self, utterance: Utterance, start_uniform: float) -> Example | None:
        """One padded crop of a recording, float32[T]; None if it cannot be read."""
        if self._reads_crops:
            crop = self._cache.read_crop(utterance, self.crop_samples, start_uniform)
        else:
            crop = self._cache.read(utterance)
            if crop is not None:
                crop = crop[slice(*crop_bounds(len(crop), self.crop_samples, start_uniform))]
        return None if crop is None else padded(crop, self.crop_samples)

    def _drawn(self, position: int) -> Utterance:
        """The recording at a place of the order."""
        corpus, ordinal = self.order.slot(position)
        return self.corpora[corpus].train[self.order.item(corpus, ordinal)]

    def example(self, index: int) -> Example:
        """The training example at a global index: samples float32[T], num_samples int32.

        Raises:
            UserError: no recording that was drawn for this index can be read.
        """
        return self.drawn_example(index)[1]

    def drawn_example(self, index: int) -> tuple[Utterance, Example]:
        """The training example at a global index, and the recording that was drawn for it."""
        for draw in range(_MAX_DRAWS):
            # A draw that hits an unreadable file is replaced by one that is as much a function of the index.
            position = index if draw == 0 else int(hash_uniform(self.seed, "redraw", index, draw) * 2**40)
            utterance = self._drawn(position)
            example = self._crop(utterance, hash_uniform(self.seed, "crop", index))
            if example is not None:
                break
        else:
            raise UserError(f"{_MAX_DRAWS} recordings in a row could not be read; check the folder of the corpus")
        if self.gain_db is not None:
            uniform = hash_uniform(self.seed, "gain", index)
            example["samples"] = with_gain(example["samples"], self.gain_db, uniform)
        return utterance, example

    def heldout_example(self, index: int) -> Example | None:
        """The held-out recording at an index, cropped at a place drawn by index; None if it cannot be read."""
        return self._crop(self._heldout[index], hash_uniform(self.seed, "heldout crop", index))

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
        self._reads_crops  # noqa: B018 (before several threads ask for it)
        return endless_batches(
            self.example, self.batch_size, cursor, rows, self.num_threads, self.num_workers
        )

    def example_names(self, cursor: Cursor) -> list[str]:
        """For people: the recordings that the global batch after a cursor holds (the first drawn, read or not)."""
        return [self.name(index) for index in batch_indices(cursor, self.batch_size)]

    def name(self, index: int) -> str:
        """For people: the recording that is drawn first for a global index."""
        utterance = self._drawn(index)
        return f"{utterance.path}" + (f" ({utterance.key})" if utterance.ranges else "")

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out recording once; `example_weights` float32[B] is 0 in the padding of the last batch."""
        self._reads_crops  # noqa: B018 (before several threads ask for it)
        return finite_batches(
            self.heldout_example, len(self._heldout), self.eval_batch_shapes(), rows, self.num_threads
        )


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
        weights: share of each folder, whatever they sum to; "hours" for shares by hours of sound, None by number of
            speakers (or of records).
        max_eval_examples: at most so many held-out crops, evenly spread; None for all.
        num_threads: threads that read ahead, of each process.
        num_workers: processes that read ahead; 0 for threads of this one alone, which share one core's worth of Python.
    """

    folders: tuple[str, ...]
    stage: Stage
    batch_size: Count
    seed: int = 0
    balance_speakers: bool = True
    weights: Weights = None
    max_eval_examples: Whole | None = None
    num_threads: Count = 2
    num_workers: Whole = 0

    def __post_init__(self):
        check_weights(self.weights, len(self.folders))

    def __getstate__(self):
        # A worker process opens the folders for itself: millions of numbers need not be sent to it.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def source(self) -> TokenSource:
        """Records and crops by index; its manifests tell the tokenizers' fingerprints."""
        return TokenSource(tuple(self.folders), self.stage, self.seed, self.balance_speakers, self.weights)

    @property
    def splits(self) -> list[Split | None]:
        """What each folder holds out; None for one that does not tell."""
        return [manifest.split for manifest in self.source.manifests]

    @property
    def tokenizers(self) -> TokenizerSizes:
        """Who made the tokens."""
        return self.source.manifests[0].tokenizers

    def first_records(self, count: int) -> Iterator[TokenRecord]:
        """The records that training begins with, at most `count` of each folder."""
        for folder in range(len(self.folders)):
            yield from self.source.first_records(folder, count)

    def example(self, index: int) -> Example:
        """The training example at a global index: ids int32[S], loss_weights float32[S]."""
        record, crop = self.source.training(*self.source.order.slot(index))
        return stage_example(record, self.stage, crop)

    def heldout_example(self, index: int) -> Example:
        """The held-out example at an index below `num_eval_examples`."""
        index = index * self._num_heldout // self.num_eval_examples
        for crops in self.source.heldout:
            if index < len(crops):
                record, crop = crops[index]
                return stage_example(record, self.stage, crop)
            index -= len(crops)
        raise IndexError(f"held-out example {index}")

    @property
    def _num_heldout(self) -> int:
        return sum(len(crops) for crops in self.source.heldout)

    @property
    def num_eval_examples(self) -> int:
        """Held-out examples in `eval_batches`."""
        available = self._num_heldout
        return available if self.max_eval_examples is None else min(available, self.max_eval_examples)

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global training batch."""
        return stage_batch_shapes(self.stage, self.batch_size)

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global held-out batch."""
        return stage_eval_batch_shapes(self.stage, self.batch_size)

    def initial_cursor(self) -> Cursor:
        """The cursor before the first batch."""
        return initial_cursor()

    def batches(self, cursor: Cursor, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """`rows` (None: all) of the global batches from a cursor on, without end, each with the cursor after it."""
        return endless_batches(
            self.example, self.batch_size, cursor, rows, self.num_threads, self.num_workers
        )

    def example_names(self, cursor: Cursor) -> list[str]:
        """For people: the records and the crops that the global batch after a cursor holds."""
        return [self.source.name(*self.source.order.slot(index)) for index in batch_indices(cursor, self.batch_size)]

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out crop once; `example_weights` float32[B] is 0 in the padding of the last batch."""
        return finite_batches(
            self.heldout_example, self.num_eval_examples, self.eval_batch_shapes(), rows, self.num_threads
        )
