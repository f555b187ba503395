"""Crops of a dataset that TFDS has prepared, as a seqio source.

Its files know no index, so it is read from one end to the other, pass after pass. The crop of an example is drawn by
its key and the number of the pass: all hosts together see the same crops in a pass, whatever their number.
"""

import functools
from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.data.feed.crops import crop_bounds, with_gain
from audiolm_jax.data.feed.order import hash_uniform
from audiolm_jax.data.seqio.example_source import ENDLESS, TRAIN, VALIDATION
from audiolm_jax.data.seqio.tfds_corpus import TfdsCorpus
from audiolm_jax.errors import UserError

# The features of a crop of any Task of ours.
AUDIO_SPECS = {
    "samples": tf.TensorSpec((None,), tf.float32),
    "speaker": tf.TensorSpec((), tf.string),
    "key": tf.TensorSpec((), tf.string),
}


class TfdsCrops(seqio.DataSource):
    """A prepared dataset as crops: "train" pass after pass without end, "validation" once.

    It has no index; hosts read ranges of records, not files. With a seed the crops of "train" are others.
    """

    def __init__(
        self,
        corpus: TfdsCorpus,
        sample_rate_hz: int,
        crop_samples: int,
        seed: int = 0,
        gain_db: tuple[float, float] | None = None,
    ):
        """Reads nothing yet; see `register_tfds_task`."""
        self._corpus = corpus
        self._sample_rate_hz = sample_rate_hz
        self._crop_samples = crop_samples
        self._seed = seed
        self._gain_db = gain_db
        super().__init__(splits=(TRAIN, VALIDATION), caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Any number of hosts can share the records."""
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        """One name, see `supports_arbitrary_sharding`."""
        return [split]

    def _crop(
        self, purpose: str, also: tuple[int, ...], audio, speaker, key: bytes, turn: np.ndarray
    ) -> tuple[np.ndarray, bytes, bytes]:
        """The crop of one example in one pass."""
        drawn_by = (key.decode(), int(turn), *also)
        rate_hz = self._corpus.builder.info.features[self._corpus.audio].sample_rate
        if rate_hz != self._sample_rate_hz:
            waveform = resample(Waveform(audio.astype(np.float32) / 32768, rate_hz), self._sample_rate_hz)
            audio = np.clip(np.round(waveform.samples * 32768), -32768, 32767)
        uniform = hash_uniform(self._seed, f"{purpose}crop", *drawn_by)
        start, stop = crop_bounds(len(audio), self._crop_samples, uniform)
        samples = audio[start:stop].astype(np.float32) / 32768
        if self._gain_db is not None and not purpose:
            samples = with_gain(samples, self._gain_db, hash_uniform(self._seed, "gain", *drawn_by))
        speaker = speaker if isinstance(speaker, bytes) else str(int(speaker)).encode()
        return samples, speaker, key

    def _pass(self, split: str, shard: seqio.ShardInfo) -> tf.data.Dataset:
        """This host's part of the records, in the order of the files."""
        name = self._corpus.train_split if split == TRAIN else self._corpus.heldout_split
        if shard.num_shards > 1:
            name = tfds.even_splits(name, shard.num_shards, drop_remainder=False)[shard.index]
        try:
            return self._corpus.builder.as_dataset(
                split=name, shuffle_files=False, read_config=tfds.ReadConfig(try_autocache=False)
            )
        except ValueError as error:
            known = ", ".join(self._corpus.builder.info.splits)
            raise UserError(f"{self._corpus.name} has the splits {known}; got {name}") from error

    def get_dataset(
        self,
        split: str = TRAIN,
        shuffle: bool = False,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
    ) -> tf.data.Dataset:
        """Examples in the order of the files; each host has a share of every split's records.

        Raises:
            ValueError: they are asked for in another order.
        """
        if shuffle:
            raise ValueError("a prepared dataset is read in the order of its files; pass shuffle=False")
        records = self._pass(split, shard_info or seqio.ShardInfo(index=0, num_shards=1))
        turns = tf.data.Dataset.range(ENDLESS if split == TRAIN else 1)
        names = {"audio": self._corpus.audio, "speaker": self._corpus.speaker, "key": self._corpus.key}
        also = (seed,) if seed is not None and split == TRAIN else ()
        crop = functools.partial(self._crop, "" if split == TRAIN else "heldout ", also)

        def of_turn(turn):
            return records.map(lambda record: {new: record[name] for new, name in names.items()} | {"turn": turn})

        def convert(features):
            inputs = [features[name] for name in (*names, "turn")]
            values = tf.numpy_function(crop, inputs, [spec.dtype for spec in AUDIO_SPECS.values()])
            for value, spec in zip(values, AUDIO_SPECS.values(), strict=True):
                value.set_shape(spec.shape)
            return dict(zip(AUDIO_SPECS, values, strict=True))

        length = tf.data.INFINITE_CARDINALITY if split == TRAIN else len(records)
        return turns.flat_map(of_turn).map(convert).apply(tf.data.experimental.assert_cardinality(length))
