"""Folders of token records as one source of stage examples by global index, the same for Grain and seqio."""

import dataclasses
import functools
from pathlib import Path

import grain

from audiolm_jax.data.examples import evaluation_crops, training_crop
from audiolm_jax.data.order import ExampleOrder, hash_uniform
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.alignment import Crop
from audiolm_jax.tokens.records import TokenManifest, TokenRecord, check_stage, decode_record, read_manifest
from audiolm_jax.tokens.stages import Stage


@dataclasses.dataclass(frozen=True)
class TokenSource:
    """Which record and which crop of it stand at each global index.

    Attributes:
        folders: of token records, written with the same tokenizers.
        stage: whose examples are made.
        seed: of order and crops.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each folder; None for shares by number of speakers (or of records).
    """

    folders: tuple[str, ...]
    stage: Stage
    seed: int = 0
    balance_speakers: bool = True
    weights: tuple[float, ...] | None = None

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

    def _open(self, split: str) -> list[grain.sources.ArrayRecordDataSource | None]:
        sources = []
        for folder, manifest in zip(self.folders, self.manifests, strict=True):
            shards = manifest.shards_of(split)
            paths = [str(Path(folder) / shard.name) for shard in shards]
            source = grain.sources.ArrayRecordDataSource(paths) if paths else None
            expected = sum(len(shard.records) for shard in shards)
            if source is not None and len(source) != expected:
                raise UserError(f"{folder} holds {len(source)} records, its manifest lists {expected}; tokenize again")
            sources.append(source)
        return sources

    @functools.cached_property
    def _train(self) -> list[grain.sources.ArrayRecordDataSource | None]:
        return self._open("train")

    @functools.cached_property
    def order(self) -> ExampleOrder:
        """The order of training records."""
        speakers = []
        for folder, manifest in zip(self.folders, self.manifests, strict=True):
            names = tuple(entry.speaker for shard in manifest.shards_of("train") for entry in shard.records)
            if not names:
                raise UserError(f"{folder} holds no training records; tokenize more audio")
            speakers.append(names)
        weights = None if self.weights is None else tuple(self.weights)
        return ExampleOrder(tuple(speakers), self.seed, self.balance_speakers, weights)

    @property
    def num_training_records(self) -> int:
        """Training records of all folders together."""
        return sum(len(speakers) for speakers in self.order.speakers)

    def training(self, folder: int, ordinal: int) -> tuple[TokenRecord, Crop]:
        """The record and the crop that are used as the `ordinal`-th of a folder; `order.slot` gives both numbers."""
        record = decode_record(self._train[folder][self.order.item(folder, ordinal)])
        return record, training_crop(record, self.stage, hash_uniform(self.seed, "crop", folder, ordinal))

    @functools.cached_property
    def heldout(self) -> list[list[tuple[TokenRecord, Crop]]]:
        """For each folder, every held-out record cut into neighbouring crops."""
        folders = []
        for source in self._open("heldout"):
            records = [] if source is None else [decode_record(source[item]) for item in range(len(source))]
            folders.append([(record, crop) for record in records for crop in evaluation_crops(record, self.stage)])
        return folders
