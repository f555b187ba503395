"""seqio Tasks and Mixtures of waveforms: of the corpora of an AudioFeed, and of datasets that TFDS has prepared.

The Tasks of a feed give its examples one by one. A prepared dataset is read from one end to the other, pass after pass,
because its files know no index; the crop of an example is drawn by its key and the number of the pass, so all hosts
together see the same examples whatever their number. Nothing here is random, seqio's shuffling is refused, and crops
are never trimmed. An example is {"samples": float32[T'], "speaker", "key"}; `AudioFeatureConverter` makes the batch
schema of `AudioFeed` of it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.data.feed.crops import crop_bounds, with_gain
from audiolm_jax.data.feed.feed import AudioFeed
from audiolm_jax.data.feed.order import ExampleOrder, hash_uniform
from audiolm_jax.data.seqio.example_source import ENDLESS, TRAIN, Examples, replace_mixture, replace_task
from audiolm_jax.data.seqio.tfds_corpus import TfdsCorpus
from audiolm_jax.errors import UserError

_SPECS = {
    "samples": tf.TensorSpec((None,), tf.float32),
    "speaker": tf.TensorSpec((), tf.string),
    "key": tf.TensorSpec((), tf.string),
}


def _mapped(dataset: tf.data.Dataset, function, *names: str) -> tf.data.Dataset:
    """A dataset through a NumPy function of some of its features, which gives (samples, speaker, key)."""

    def convert(features):
        inputs = [features[name] for name in names]
        values = tf.numpy_function(function, inputs, [spec.dtype for spec in _SPECS.values()])
        for value, spec in zip(values, _SPECS.values(), strict=True):
            value.set_shape(spec.shape)
        return dict(zip(_SPECS, values, strict=True))

    return dataset.map(convert)


@dataclasses.dataclass(frozen=True)
class FeedExamples:
    """One corpus of an AudioFeed: the examples that the feed draws from it, in the feed's order.

    "train" has no end; "validation" holds every held-out recording that can be read once.
    """

    feed: AudioFeed
    corpus: int

    @functools.cached_property
    def _places(self) -> list[int]:
        """The places of this corpus in a block of the mixture."""
        order = self.feed.order
        return [place for place in range(int(sum(order.shares))) if order.slot(place)[0] == self.corpus]

    def _global_index(self, ordinal: int) -> int:
        """Where the feed has the `ordinal`-th example of this corpus."""
        block, place = divmod(ordinal, len(self._places))
        return block * int(sum(self.feed.order.shares)) + self._places[place]

    def _training(self, ordinal: np.ndarray) -> tuple[np.ndarray, bytes, bytes]:
        utterance, example = self.feed.drawn_example(self._global_index(int(ordinal)))
        return example["samples"][: example["num_samples"]], utterance.speaker.encode(), utterance.key.encode()

    def _heldout(self, ordinal: np.ndarray) -> tuple[np.ndarray, bytes, bytes]:
        before = sum(len(corpus.heldout) for corpus in self.feed.corpora[: self.corpus])
        utterance = self.feed.corpora[self.corpus].heldout[int(ordinal)]
        example = self.feed.heldout_example(before + int(ordinal))
        samples = np.zeros(0, np.float32) if example is None else example["samples"][: example["num_samples"]]
        return samples, utterance.speaker.encode(), utterance.key.encode()

    def dataset(self, split: str, shard: seqio.ShardInfo) -> tf.data.Dataset:
        """Examples by index; shards are index modulo number of shards."""
        length = ENDLESS if split == TRAIN else len(self.feed.corpora[self.corpus].heldout)
        ordinals = tf.data.Dataset.range(shard.index, length, shard.num_shards).map(lambda n: {"ordinal": n})
        if split == TRAIN:
            return _mapped(ordinals, self._training, "ordinal")
        return _mapped(ordinals, self._heldout, "ordinal").filter(lambda example: tf.size(example["samples"]) > 0)


@dataclasses.dataclass(frozen=True)
class TfdsExamples:
    """A prepared dataset as crops: "train" pass after pass without end, "validation" once.

    Hosts read ranges of records, not files.

    Attributes:
        corpus: the dataset.
        sample_rate_hz: of the crops.
        crop_samples: T.
        seed: of crops and gains.
        gain_db: (low, high) of a uniform random gain of training crops, None for none.
    """

    corpus: TfdsCorpus
    sample_rate_hz: int
    crop_samples: int
    seed: int = 0
    gain_db: tuple[float, float] | None = None

    def _crop(self, purpose: str, audio, speaker, key: bytes, turn: np.ndarray) -> tuple[np.ndarray, bytes, bytes]:
        """The crop of one example in one pass."""
        name = key.decode()
        rate_hz = self.corpus.builder.info.features[self.corpus.audio].sample_rate
        if rate_hz != self.sample_rate_hz:
            waveform = resample(Waveform(audio.astype(np.float32) / 32768, rate_hz), self.sample_rate_hz)
            audio = np.clip(np.round(waveform.samples * 32768), -32768, 32767)
        uniform = hash_uniform(self.seed, f"{purpose}crop", name, int(turn))
        start, stop = crop_bounds(len(audio), self.crop_samples, uniform)
        samples = audio[start:stop].astype(np.float32) / 32768
        if self.gain_db is not None and not purpose:
            samples = with_gain(samples, self.gain_db, hash_uniform(self.seed, "gain", name, int(turn)))
        speaker = speaker if isinstance(speaker, bytes) else str(int(speaker)).encode()
        return samples, speaker, key

    def _pass(self, split: str, shard: seqio.ShardInfo) -> tf.data.Dataset:
        """This host's part of the records, in the order of the files."""
        name = self.corpus.train_split if split == TRAIN else self.corpus.heldout_split
        if shard.num_shards > 1:
            name = tfds.even_splits(name, shard.num_shards, drop_remainder=False)[shard.index]
        try:
            return self.corpus.builder.as_dataset(
                split=name, shuffle_files=False, read_config=tfds.ReadConfig(try_autocache=False)
            )
        except ValueError as error:
            known = ", ".join(self.corpus.builder.info.splits)
            raise UserError(f"{self.corpus.name} has the splits {known}; got {name}") from error

    def dataset(self, split: str, shard: seqio.ShardInfo) -> tf.data.Dataset:
        """Examples in the order of the files; each host has a share of every split's records."""
        records = self._pass(split, shard)
        turns = tf.data.Dataset.range(ENDLESS if split == TRAIN else 1)
        features = {"audio": self.corpus.audio, "speaker": self.corpus.speaker, "key": self.corpus.key}

        def of_turn(turn):
            return records.map(lambda record: {n: record[name] for n, name in features.items()} | {"turn": turn})

        purpose = "" if split == TRAIN else "heldout "
        crops = _mapped(turns.flat_map(of_turn), functools.partial(self._crop, purpose), *features, "turn")
        length = tf.data.INFINITE_CARDINALITY if split == TRAIN else len(records)
        return crops.apply(tf.data.experimental.assert_cardinality(length))


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


def _replace_audio_task(name: str, examples: Examples) -> None:
    # Speaker and key stay with the example, but are nothing that a converter pads.
    replace_task(name, examples, [], {"samples": seqio.ContinuousFeature(dtype=tf.float32, rank=1)})


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
    for corpus, task in enumerate(tasks):
        _replace_audio_task(task, FeedExamples(feed, corpus))
    replace_mixture(name, dict(zip(tasks, feed.order.shares, strict=True)), feed.order)
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
    _replace_audio_task(name, TfdsExamples(corpus, sample_rate_hz, crop_samples, seed, gain_db))


def register_audio_mixture(name: str, shares: Mapping[str, float], seed: int = 0) -> None:
    """Registers a Mixture of audio Tasks; a Mixture of this name is replaced.

    Training examples of the Tasks follow each other in an order drawn by the seed, in blocks that hold the shares
    exactly; held-out examples come Task by Task.
    """
    order = ExampleOrder((np.zeros(1, np.int32),) * len(shares), seed, False, tuple(shares.values()))
    replace_mixture(name, shares, order)


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
