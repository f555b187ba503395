"""seqio Tasks of waveforms: of the corpora of an AudioFeed, and of datasets that TFDS has prepared.

The Tasks of a feed, and their Mixture, give its examples one by one; those of a prepared dataset have no index.
Nothing here is shuffled by seqio, and crops are never trimmed. An example is {"samples": float32[T'], "speaker",
"key"}; `AudioFeatureConverter` makes the batch schema of `AudioFeed` of it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from audiolm_jax.data.corpora.corpora import Corpus
from audiolm_jax.data.feed.feed import AudioFeed
from audiolm_jax.data.seqio.example_source import TRAIN, IndexedSource, replace_mixture, replace_task
from audiolm_jax.data.seqio.tfds_corpus import TfdsCorpus
from audiolm_jax.data.seqio.tfds_crops import AUDIO_SPECS, TfdsCrops
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.split import Split


@dataclasses.dataclass(frozen=True)
class FeedExamples:
    """One corpus of an AudioFeed: the examples that the feed draws from it, in the feed's order.

    "train" has no end; "validation" holds every held-out recording that can be read once.
    """

    feed: AudioFeed
    number: int
    specs = AUDIO_SPECS

    @property
    def corpus(self) -> Corpus:
        """Where the recordings are."""
        return self.feed.corpora[self.number]

    @property
    def split(self) -> Split:
        """What the corpus holds out."""
        return self.corpus.split

    @functools.cached_property
    def _places(self) -> list[int]:
        """The places of this corpus in a block of the mixture."""
        order = self.feed.order
        return [place for place in range(int(sum(order.shares))) if order.slot(place)[0] == self.number]

    def _global_index(self, ordinal: int) -> int:
        """Where the feed has the `ordinal`-th example of this corpus."""
        block, place = divmod(ordinal, len(self._places))
        return block * int(sum(self.feed.order.shares)) + self._places[place]

    def num_examples(self, split: str) -> int | None:
        """Held-out recordings; None in training."""
        return None if split == TRAIN else len(self.corpus.heldout)

    def example(self, split: str, ordinal: int) -> dict[str, Any] | None:
        """A crop with its speaker and key."""
        if split == TRAIN:
            utterance, example = self.feed.drawn_example(self._global_index(ordinal))
        else:
            before = sum(len(corpus.heldout) for corpus in self.feed.corpora[: self.number])
            utterance, example = self.corpus.heldout[ordinal], self.feed.heldout_example(before + ordinal)
        if example is None:
            return None
        samples = example["samples"][: example["num_samples"]]
        return {"samples": samples, "speaker": utterance.speaker.encode(), "key": utterance.key.encode()}

    def name(self, ordinal: int) -> str:
        """The recording that is drawn first."""
        return self.feed.name(self._global_index(ordinal))


class AudioFeatureConverter(seqio.FeatureConverter):
    """Crops to the batch schema of `AudioFeed`: "samples" float32[T] padded with zeros, "num_samples" int32."""

    TASK_FEATURES = {"samples": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32)}
    MODEL_FEATURES = {
        "samples": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32),
        "num_samples": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32, rank=0),
    }

    def __init__(self):
        super().__init__(pack=False)

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        """T samples."""
        return {"samples": task_feature_lengths["samples"], "num_samples": 0}

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        length = task_feature_lengths["samples"]

        def convert(features):
            samples = features["samples"]
            whole = tf.pad(samples, [[0, length - tf.size(samples)]])
            whole.set_shape((length,))
            return {"samples": whole, "num_samples": tf.size(samples)}

        return ds.map(convert)


def _replace_audio_task(name: str, source: seqio.DataSource) -> None:
    # Speaker and key stay with the example, but are nothing that a converter pads.
    replace_task(name, source, [], {"samples": seqio.ContinuousFeature(dtype=tf.float32, rank=1)})


def register_feed_tasks(feed: AudioFeed, names: Sequence[str], name: str = "audiolm_audio") -> tuple[str, ...]:
    """Registers the Task "NAME_CORPUS" for each corpus of a feed, and the Mixture NAME, which is the feed.

    Args:
        feed: whose examples are wanted.
        names: of its corpora, of letters, digits and underscores.
        name: of the Mixture, and first part of the Tasks' names.

    Returns:
        The names of the Tasks. What was registered under these names before is replaced.

    Raises:
        UserError: there are not as many names as corpora.
    """
    if len(names) != len(feed.corpora):
        raise UserError(f"the feed has {len(feed.corpora)} corpora, but the names are {', '.join(names)}")
    tasks = tuple(f"{name}_{corpus}" for corpus in names)
    for number, task in enumerate(tasks):
        _replace_audio_task(task, IndexedSource(FeedExamples(feed, number)))
    replace_mixture(name, feed.order, tasks)
    return tasks


def register_tfds_task(
    name: str,
    corpus: TfdsCorpus,
    sample_rate_hz: int,
    crop_samples: int,
    seed: int = 0,
    gain_db: tuple[float, float] | None = None,
) -> None:
    """Registers a Task of crops of a prepared dataset; a Task of this name is replaced.

    Args:
        name: of the Task.
        corpus: see `tfds_libri_speech`, `tfds_libri_light` and `tfds_maestro`.
        sample_rate_hz: of the crops.
        crop_samples: T.
        seed: of crops and gains.
        gain_db: (low, high) of a uniform random gain of training crops, None for none.
    """
    _replace_audio_task(name, TfdsCrops(corpus, sample_rate_hz, crop_samples, seed, gain_db))


def audio_dataset(
    mixture_or_task: str, crop_samples: int, split: str = TRAIN, shard_info: seqio.ShardInfo | None = None
) -> tf.data.Dataset:
    """Unbatched examples of a registered Task or Mixture in the batch schema of `AudioFeed`.

    Args:
        mixture_or_task: its name.
        crop_samples: T, what the Tasks were registered with.
        split: TRAIN (without end) or VALIDATION.
        shard_info: this host's part of the examples.
    """
    return seqio.get_dataset(
        mixture_or_task,
        {"samples": crop_samples},
        AudioFeatureConverter(),
        dataset_split=split,
        shuffle=False,
        num_epochs=1,
        shard_info=shard_info,
        trim_output_features=False,
        verbose=False,
    )
