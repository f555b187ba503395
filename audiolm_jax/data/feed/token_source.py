"""Folders of token records as one source of stage examples by global index, the same for Grain and seqio."""

import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from audiolm_jax.data.feed.examples import evaluation_crops, training_crop
from audiolm_jax.data.feed.order import HOURS, ExampleOrder, Weights, hash_uniform
from audiolm_jax.data.feed.record_shards import RecordShards
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.alignment import Crop
from audiolm_jax.tokens.manifest import TokenManifest, check_stage, read_manifest, read_speakers
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage


@dataclasses.dataclass(frozen=True)
class TokenSource:
    """Which record and which crop of it stand at each global index.

    Attributes:
        folders: of token records, written with the same tokenizers.
        stage: whose examples are made.
        seed: of order and crops.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each folder; "hours" for shares by hours of sound, None by number of speakers (or of records).
    """

    folders: tuple[str, ...]
    stage: Stage
    seed: int = 0
    balance_speakers: bool = True
    weights: Weights = None

    @functools.cached_property
    def manifests(self) -> tuple[TokenManifest, ...]:
        """Manifests of the folders.

        Raises:
            UserError: a folder is unfinished, was written with other tokenizers than the first, or does not fit the
                stage.
        """
        if not self.folders:
            raise UserError("name at least one folder of token records")
        manifests = tuple(read_manifest(folder) for folder in self.folders)
        for folder, manifest in zip(self.folders, manifests, strict=True):
            check_stage(self.stage, manifest.tokenizers, folder)
            if manifest.tokenizers != manifests[0].tokenizers:
                raise UserError(f"{folder} and {self.folders[0]} were written with different tokenizers; redo one")
        return manifests

    def _open(self, split: str) -> list[RecordShards]:
        pairs = zip(self.folders, self.manifests, strict=True)
        return [RecordShards(folder, manifest.shards_of(split)) for folder, manifest in pairs]

    @functools.cached_property
    def _train(self) -> list[RecordShards]:
        return self._open("train")

    @functools.cached_property
    def order(self) -> ExampleOrder:
        """The order of training records."""
        speakers = []
        for folder, manifest in zip(self.folders, self.manifests, strict=True):
            if not manifest.num_records("train"):
                raise UserError(f"{folder} holds no training records; tokenize more audio")
            ids = read_speakers(folder, "train").ids
            if len(ids) != manifest.num_records("train"):
                raise UserError(f"{folder} has {len(ids)} speaker ids for {manifest.num_records('train')} training "
                                "records; run `audiolm tokenize` again")
            speakers.append(ids)
        if self.weights == HOURS:
            parts = [manifest.shards_of("train") for manifest in self.manifests]
            weights = tuple(sum(shard.seconds for shard in shards) for shards in parts)
        else:
            weights = None if self.weights is None else tuple(self.weights)
        return ExampleOrder(tuple(speakers), self.seed, self.balance_speakers, weights)

    @property
    def num_training_records(self) -> int:
        """Training records of all folders together."""
        return sum(len(ids) for ids in self.order.speakers)

    def training(self, folder: int, ordinal: int) -> tuple[TokenRecord, Crop]:
        """The record and the crop that are used as the `ordinal`-th of a folder; `order.slot` gives both numbers."""
        record = self._train[folder][self.order.item(folder, ordinal)]
        return record, training_crop(record, self.stage, hash_uniform(self.seed, "crop", folder, ordinal))

    def first_records(self, folder: int, count: int) -> Iterator[TokenRecord]:
        """The records of a folder that training begins with, at most `count`."""
        for ordinal in range(min(len(self.order.speakers[folder]), count)):
            yield self.training(folder, ordinal)[0]

    def name(self, folder: int, ordinal: int) -> str:
        """For people: the record and the crop that are used as the `ordinal`-th of a folder."""
        record, crop = self.training(folder, ordinal)
        return f"{self.folders[folder]}/{record.key} from {float(crop.start * crop.period_seconds):.2f} s"

    @functools.cached_property
    def heldout(self) -> list["HeldoutCrops"]:
        """For each folder, every held-out record cut into neighbouring crops."""
        return [HeldoutCrops(records, self.stage) for records in self._open("heldout")]


class HeldoutCrops(Sequence[tuple[TokenRecord, Crop]]):
    """The neighbouring crops of all records of a split, one record after the other; records are read when asked for.

    How many crops each record has, is found by reading all of them once when that is first needed.
    """

    def __init__(self, records: RecordShards, stage: Stage):
        self._records = records
        self._stage = stage
        self._last: tuple[int, TokenRecord] | None = None
        self._lock = threading.Lock()

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """int64[N]: crops of each record and of those before it."""
        return np.cumsum([len(evaluation_crops(record, self._stage)) for record in self._records])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> tuple[TokenRecord, Crop]:
        if not 0 <= index < len(self):
            raise IndexError(f"crop {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        record = self._record(number)
        return record, evaluation_crops(record, self._stage)[index - (int(self._ends[number - 1]) if number else 0)]

    def _record(self, number: int) -> TokenRecord:
        """A record; the last one stays at hand, for the next crop is most often of the same."""
        with self._lock:
            if self._last is None or self._last[0] != number:
                self._last = number, self._records[number]
            return self._last[1]
