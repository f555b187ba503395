"""seqio Tasks, Mixtures and the feature converter of the three stages.

A Task names one folder of token records for one stage; the Mixture of a stage joins several folders by their shares.
All of it stands on `TokenSource` and `examples.py`, so a Mixture that is not shuffled gives the examples of `TokenFeed`
one by one. Nothing here is random: order and crops are drawn by index, seqio's shuffling is not allowed, and sequences
are never trimmed, because a trimmed target loses its end without notice.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from audiolm_jax.data.feed.examples import join, prefix_and_target
from audiolm_jax.data.feed.order import Weights
from audiolm_jax.data.feed.token_source import TokenSource
from audiolm_jax.data.seqio.example_source import TRAIN, IndexedSource, replace_mixture, replace_task
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.layout import EOS
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.split import Split
from audiolm_jax.tokens.stages import Stage


@dataclasses.dataclass(frozen=True)
class TokenExamples:
    """One folder of a TokenSource: "prefix" and "targets" of its stage, ids int32[N] and int32[M], by index.

    "train" has no end; "validation" holds every held-out crop once.
    """

    source: TokenSource
    folder: int
    specs = {"prefix": tf.TensorSpec((None,), tf.int32), "targets": tf.TensorSpec((None,), tf.int32)}

    def num_examples(self, split: str) -> int | None:
        """Held-out crops; None in training."""
        return None if split == TRAIN else len(self.source.heldout[self.folder])

    def example(self, split: str, ordinal: int) -> dict[str, np.ndarray]:
        """The two halves of a sequence."""
        if split == TRAIN:
            record, crop = self.source.training(self.folder, ordinal)
        else:
            record, crop = self.source.heldout[self.folder][ordinal]
        return dict(zip(self.specs, prefix_and_target(record, self.source.stage, crop), strict=True))

    def name(self, ordinal: int) -> str:
        """The record and the crop."""
        return self.source.name(self.folder, ordinal)

    def first_records(self, count: int) -> Iterator[TokenRecord]:
        """The records that training begins with, at most `count`."""
        return self.source.first_records(self.folder, count)

    @property
    def tokenizers(self) -> TokenizerSizes:
        """Who made the tokens."""
        return self.source.manifests[self.folder].tokenizers

    @property
    def split(self) -> Split | None:
        """What the folder holds out."""
        return self.source.manifests[self.folder].split


class StageFeatureConverter(seqio.FeatureConverter):
    """"prefix" and "targets" to the batch schema of a stage: "ids" int32[S] and "loss_weights" float32[S]."""

    TASK_FEATURES = {
        "prefix": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES = {
        "ids": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "loss_weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32),
    }

    def __init__(self, stage: Stage):
        self._stage = stage
        super().__init__(pack=False)

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """S for both; ValueError for other task lengths than the stage's, which would make seqio trim."""
        if dict(task_feature_lengths) != task_feature_lengths_of(self._stage):
            raise ValueError(
                f"stage {self._stage.name} needs lengths {task_feature_lengths_of(self._stage)}, got "
                f"{dict(task_feature_lengths)}"
            )
        return {"ids": self._stage.sequence_length, "loss_weights": self._stage.sequence_length}

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        def to_example(prefix, targets):
            example = join(prefix, targets, self._stage)
            return example["ids"], example["loss_weights"]

        def convert(features):
            values = tf.numpy_function(to_example, [features["prefix"], features["targets"]], (tf.int32, tf.float32))
            for value in values:
                value.set_shape((self._stage.sequence_length,))
            return {"ids": values[0], "loss_weights": values[1]}

        return ds.map(convert)


def task_feature_lengths_of(stage: Stage) -> dict[str, int]:
    """The exact budgets of a stage, for `seqio.get_dataset`."""
    return {"prefix": stage.max_prefix_length, "targets": stage.max_target_length}


@dataclasses.dataclass(frozen=True)
class StageTasks:
    """What `register_tasks` registered for one stage: the Mixture's name, and the Task of each folder."""

    mixture: str
    tasks: tuple[str, ...]


def register_tasks(
    folders: Mapping[str, str],
    stages: Sequence[Stage],
    seed: int = 0,
    balance_speakers: bool = True,
    weights: Weights = None,
    name: str = "audiolm",
) -> dict[str, StageTasks]:
    """Registers the Tasks "NAME_CORPUS_STAGE" and the Mixtures "NAME_STAGE"; nothing is registered at import.

    Args:
        folders: of token records, by a corpus name of letters, digits and underscores.
        stages: whose Tasks are wanted.
        seed: of order and crops, as in `TokenFeed`.
        balance_speakers: draw the speaker first, then the recording.
        weights: share of each folder, or "hours", as in `TokenFeed`.
        name: first part of all names.

    Returns:
        The names by stage. Called again with the same arguments it changes nothing; with others it replaces what has
        the same name.

    Raises:
        UserError: a folder is unfinished or does not fit a stage.
    """
    if not folders:
        raise UserError("name at least one folder of token records")
    registered = {}
    for stage in stages:
        source = TokenSource(tuple(folders.values()), stage, seed, balance_speakers, weights)
        task_names = tuple(f"{name}_{corpus}_{stage.name}" for corpus in folders)
        mixture_name = f"{name}_{stage.name}"
        registered[stage.name] = StageTasks(mixture_name, task_names)
        sources = [_registered_source(task) for task in task_names]
        if mixture_name in seqio.MixtureRegistry.names() and sources == [source] * len(sources):
            continue
        vocabulary = seqio.PassThroughVocabulary(stage.layout.vocab_size, EOS)
        feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
        for folder, task_name in enumerate(task_names):
            replace_task(
                task_name,
                IndexedSource(TokenExamples(source, folder)),
                [],
                {"prefix": feature, "targets": feature},
            )
        replace_mixture(mixture_name, source.order, task_names)
    return registered


def _registered_source(task_name: str) -> TokenSource | None:
    """The TokenSource under a registered Task of ours, None where there is none."""
    if task_name not in seqio.TaskRegistry.names():
        return None
    examples = getattr(seqio.TaskRegistry.get(task_name).source, "examples", None)
    return examples.source if isinstance(examples, TokenExamples) else None


def stage_dataset(
    mixture_or_task: str, stage: Stage, split: str = TRAIN, shard_info: seqio.ShardInfo | None = None
) -> tf.data.Dataset:
    """Unbatched examples of a registered Task or Mixture in the batch schema of its stage, through its converter.

    Args:
        mixture_or_task: a name from `register_tasks`.
        stage: the stage it was registered for.
        split: TRAIN (without end) or VALIDATION.
        shard_info: this host's part of the examples.
    """
    return seqio.get_dataset(
        mixture_or_task,
        task_feature_lengths_of(stage),
        StageFeatureConverter(stage),
        dataset_split=split,
        shuffle=False,
        num_epochs=1,
        shard_info=shard_info,
        trim_output_features=False,
        verbose=False,
    )
