"""Clips of labelled recordings: one folder for each class, a tenth of the recordings held out."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from audiolm_jax.data.corpora.corpora import FolderCorpus, Utterance
from audiolm_jax.data.corpora.sample_cache import SampleCache
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
from audiolm_jax.data.feed.order import ExampleOrder, hash_bits, hash_uniform, speaker_ids
from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Positive, Share, Whole

# Draws of recordings for one example before giving up, where files cannot be read.
_MAX_DRAWS = 64
# A clip whose mean power is below this share (-20 dB) of its recording's is drawn anew, at most so many times: pauses
# say nothing about a class.
_QUIET_SHARE = 0.01
_MAX_QUIET_DRAWS = 8


@dataclasses.dataclass(frozen=True)
class LabelledFolders:
    """Recordings by class; the class of a recording is its speaker in `FolderCorpus`, the first folder below the root.

    Held out are the recordings whose keys hash lowest: `heldout_share` of each class, rounded, at least one. The only
    recording of a class is trained on. With `heldout_level` 1, whole folders below those of the classes are held out,
    the same ones in every class, by their names: what was made from one speaker's recordings stays together.

    Attributes:
        folders: of recordings.
        heldout_share: between 0 and 1.
        heldout_level: 0 or 1: whether recordings are held out one by one, or a folder below the class's at once.
        seed: of the split.
    """

    folders: str | Sequence[str] | None
    heldout_share: Share = 0.1
    heldout_level: Whole = 0
    seed: int = 0

    def __post_init__(self):
        if not self.folders:
            raise UserError("no folder of audio is named; give --data DIR (or --set DATA_DIR=DIR)")
        folders = (self.folders,) if isinstance(self.folders, str) else tuple(self.folders)
        object.__setattr__(self, "folders", folders)
        if not 0 <= self.heldout_share < 1:
            raise UserError(f"the held-out share must lie between 0 and 1, got {self.heldout_share}")

    @functools.cached_property
    def utterances(self) -> list[Utterance]:
        """All recordings of all folders; with several folders, keys begin with the folder's name."""
        found = []
        for folder in self.folders:
            prefix = f"{Path(folder).name}/" if len(self.folders) > 1 else ""
            utterances = FolderCorpus(folder, heldout_speakers=0).utterances
            found += [dataclasses.replace(utterance, key=prefix + utterance.key) for utterance in utterances]
        return found

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels."""
        return tuple(sorted({u.speaker for u in self.utterances}))

    @functools.cached_property
    def _heldout_keys(self) -> frozenset[str]:
        groups: dict[str, dict[str, list[str]]] = {}
        for utterance in self.utterances:
            parts = utterance.key.split("/")[int(len(self.folders) > 1) :]
            by_folder = self.heldout_level == 1 and len(parts) > 2
            group, unit = ("", parts[1]) if by_folder else (utterance.speaker, utterance.key)
            groups.setdefault(group, {}).setdefault(unit, []).append(utterance.key)
        chosen: list[str] = []
        for units in groups.values():
            if len(units) > 1 and self.heldout_share > 0:
                by_hash = sorted(units, key=lambda unit: (hash_bits(self.seed, "heldout", unit), unit))
                count = max(1, round(self.heldout_share * len(units)))
                chosen += [key for unit in by_hash[:count] for key in units[unit]]
        return frozenset(chosen)

    @functools.cached_property
    def train(self) -> list[Utterance]:
        """Recordings to train on."""
        return [u for u in self.utterances if u.key not in self._heldout_keys]

    @functools.cached_property
    def heldout(self) -> list[Utterance]:
        """Recordings to measure on."""
        return [u for u in self.utterances if u.key in self._heldout_keys]


def class_names(recordings: LabelledFolders) -> tuple[str, ...]:
    """The classes of labelled recordings, for a network's configuration in a gin file."""
    return recordings.class_names


@dataclasses.dataclass(frozen=True)
class ClipFeed:
    """Random clips of the training recordings, and windows of the held-out ones.

    A training batch is {"samples": float32[B, T], "labels": int32[B]} with T = crop_samples; a held-out batch, of W
    windows a recording, is {"samples": float32[B, W, T], "window_weights": float32[B, W], "labels", "example_weights"}.
    Recording and place of a clip are functions of (seed, global index).

    Attributes:
        recordings: what to draw from.
        sample_rate_hz: of the samples; recordings of another rate are resampled.
        clip_seconds: of a clip, T = crop_samples. A shorter recording is repeated until it fills one.
        batch_size: B of the global batch.
        seed: of order and places.
        balance_classes: draw the class first, then the recording.
        eval_hop_seconds: between the windows of a held-out recording.
        max_eval_windows: W: of a longer recording only the first so many count in the evaluations of a training.
        cache_bytes: memory for decoded recordings.
        num_threads: threads that read ahead.
    """

    recordings: LabelledFolders
    sample_rate_hz: Count
    clip_seconds: Positive
    batch_size: Count
    seed: int = 0
    balance_classes: bool = True
    eval_hop_seconds: Positive = 0.5
    max_eval_windows: Count = 32
    cache_bytes: Whole = 2 << 30
    num_threads: Count = 2

    def __post_init__(self):
        if min(self.crop_samples, self.batch_size, self.max_eval_windows) < 1:
            raise UserError("clip_seconds, batch_size and max_eval_windows must be positive")

    @property
    def crop_samples(self) -> int:
        """Samples of a clip."""
        return round(self.clip_seconds * self.sample_rate_hz)

    @functools.cached_property
    def _order(self) -> ExampleOrder:
        if not self.recordings.train:
            raise UserError("no recordings are left to train on; lower the held-out share")
        return ExampleOrder((speaker_ids([u.speaker for u in self.recordings.train]),), self.seed, self.balance_classes)

    @functools.cached_property
    def _cache(self) -> SampleCache:
        return SampleCache(self.sample_rate_hz, self.cache_bytes)

    @functools.cached_property
    def _labels(self) -> dict[str, np.int32]:
        return {name: np.int32(label) for label, name in enumerate(self.recordings.class_names)}

    def example(self, index: int) -> Example:
        """The training clip at a global index: samples float32[T], labels int32.

        Raises:
            UserError: no recording that was drawn for this index can be read.
        """
        for draw in range(_MAX_DRAWS):
            position = index if draw == 0 else int(hash_uniform(self.seed, "redraw", index, draw) * 2**40)
            utterance = self.recordings.train[self._order.item(0, position)]
            samples = self._cache.read(utterance)
            if samples is not None:
                return {"samples": self._clip(samples, index), "labels": self._labels[utterance.speaker]}
        raise UserError(f"{_MAX_DRAWS} recordings in a row could not be read; check the folder of recordings")

    def _clip(self, samples: np.ndarray, index: int) -> np.ndarray:
        """int16[T'] to float32[T] at a place that is no pause."""
        starts = len(samples) - self.crop_samples + 1
        if starts <= 1:
            return np.resize(samples, self.crop_samples).astype(np.float32) / 32768
        least = _QUIET_SHARE * np.mean(np.square(samples, dtype=np.float32))
        for draw in range(_MAX_QUIET_DRAWS):
            start = int(hash_uniform(self.seed, "clip", index, draw) * starts)
            clip = samples[start : start + self.crop_samples].astype(np.float32)
            if np.mean(np.square(clip)) >= least:
                break
        return clip / 32768

    def heldout_example(self, index: int) -> Example | None:
        """The windows of the held-out recording at an index; None if it cannot be read."""
        utterance = self.recordings.heldout[index]
        samples = self._cache.read(utterance)
        if samples is None:
            return None
        hop = round(self.eval_hop_seconds * self.sample_rate_hz)
        found = windows(samples.astype(np.float32) / 32768, self.crop_samples, hop)[: self.max_eval_windows]
        padding = self.max_eval_windows - len(found)
        return {
            "samples": np.pad(found, ((0, padding), (0, 0))),
            "window_weights": np.pad(np.ones(len(found), np.float32), (0, padding)),
            "labels": self._labels[utterance.speaker],
        }

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global training batch."""
        return {
            "samples": jax.ShapeDtypeStruct((self.batch_size, self.crop_samples), np.float32),
            "labels": jax.ShapeDtypeStruct((self.batch_size,), np.int32),
        }

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global held-out batch."""
        rows, count = self.batch_size, self.max_eval_windows
        return {
            "samples": jax.ShapeDtypeStruct((rows, count, self.crop_samples), np.float32),
            "window_weights": jax.ShapeDtypeStruct((rows, count), np.float32),
            "labels": jax.ShapeDtypeStruct((rows,), np.int32),
            "example_weights": jax.ShapeDtypeStruct((rows,), np.float32),
        }

    def initial_cursor(self) -> Cursor:
        """The cursor before the first batch."""
        return initial_cursor()

    def batches(self, cursor: Cursor, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """`rows` (None: all) of the global batches from a cursor on, without end, each with the cursor after it."""
        return endless_batches(self.example, self.batch_size, cursor, rows, self.num_threads)

    def example_names(self, cursor: Cursor) -> list[str]:
        """For people: the recordings that the global batch after a cursor holds (the first drawn, read or not)."""
        indices = batch_indices(cursor, self.batch_size)
        return [str(self.recordings.train[self._order.item(0, index)].path) for index in indices]

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out recording once; `example_weights` float32[B] is 0 in the padding of the last batch."""
        return finite_batches(
            self.heldout_example, len(self.recordings.heldout), self.eval_batch_shapes(), rows, self.num_threads
        )


def windows(samples: np.ndarray, window_samples: int, hop_samples: int) -> np.ndarray:
    """Sliding windows float32[W, window_samples] of samples [T]; the end that no whole window reaches is left out.

    A recording shorter than one window is repeated until it fills one.
    """
    if len(samples) < window_samples:
        return np.resize(samples, (1, window_samples)).astype(np.float32)
    starts = np.arange(0, len(samples) - window_samples + 1, hop_samples)
    return np.stack([samples[start : start + window_samples] for start in starts]).astype(np.float32, copy=False)
