"""seqio sources whose examples have an index, and the registering of Tasks and Mixtures that stand on them.

Nothing is random here. What a Task gives is drawn by index before seqio sees it, so seqio's shuffling is refused, any
number of hosts can share one Task, and a training goes on at any example.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import seqio
import tensorflow as tf

from audiolm_jax.data.feed.order import ExampleOrder

# TensorFlow only reads data here; left alone it would take the accelerator's memory from JAX.
tf.config.set_visible_devices([], "GPU")

# seqio's names for the splits.
TRAIN, VALIDATION = "train", "validation"
ENDLESS = np.iinfo(np.int64).max
# More examples than any held-out folder has, fewer than any host's part of an endless one.
_LONGEST_VALIDATION = 1 << 40


class IndexedExamples(Protocol):
    """What an `IndexedSource` gives to seqio, one by one; it may be asked from several threads.

    Attributes:
        specs: shape and type of each feature of an example.
    """

    specs: Mapping[str, tf.TensorSpec]

    def num_examples(self, split: str) -> int | None:
        """How many a split has; None for a split without end, which TRAIN is."""

    def example(self, split: str, ordinal: int) -> Mapping[str, Any] | None:
        """A value for each of `specs`; None for one that cannot be read, which TRAIN must not have."""

    def name(self, ordinal: int) -> str:
        """For people: what the training example is made from."""


class IndexedSource(seqio.DataSource):
    """Examples by index as a source of seqio Tasks; shards are index modulo number of shards.

    A Task that stands on one, and whose preprocessors make one example of each, is exact in training: a run goes on
    with the example at which it was stopped, on any number of hosts.
    """

    def __init__(self, examples: IndexedExamples):
        self.examples = examples
        super().__init__(splits=(TRAIN, VALIDATION), caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Any number of hosts can share the examples."""
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        """One name, see `supports_arbitrary_sharding`."""
        return [split]

    def get_dataset(
        self,
        split: str = TRAIN,
        shuffle: bool = False,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
    ) -> tf.data.Dataset:
        """This host's examples; those that cannot be read are left out.

        Raises:
            ValueError: they are asked for in another order.
        """
        if shuffle:
            raise ValueError("examples come in an order that is drawn by index; pass shuffle=False")
        shard = shard_info or seqio.ShardInfo(index=0, num_shards=1)
        length = self.examples.num_examples(split)
        ordinals = tf.data.Dataset.range(shard.index, ENDLESS if length is None else length, shard.num_shards)
        return self.at(split, ordinals)

    def at(self, split: str, ordinals: tf.data.Dataset) -> tf.data.Dataset:
        """The examples at the indices that a dataset of int64 holds."""
        specs = self.examples.specs

        def read(ordinal: np.ndarray) -> tuple:
            found = self.examples.example(split, int(ordinal))
            values = map(_nothing, specs.values()) if found is None else (found[name] for name in specs)
            return np.bool_(found is not None), *values

        def with_shapes(ordinal: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            types = (tf.bool, *(spec.dtype for spec in specs.values()))
            is_there, *values = tf.numpy_function(read, [ordinal], types)
            is_there.set_shape(())
            for value, spec in zip(values, specs.values(), strict=True):
                value.set_shape(spec.shape)
            return is_there, dict(zip(specs, values, strict=True))

        found = ordinals.map(with_shapes, num_parallel_calls=tf.data.AUTOTUNE)
        if self.examples.num_examples(split) is not None:
            found = found.filter(lambda is_there, _: is_there)
        return found.map(lambda _, example: example)


def _nothing(spec: tf.TensorSpec) -> np.ndarray | bytes:
    """In the place of what cannot be read."""
    return b"" if spec.dtype == tf.string else np.zeros([0] * len(spec.shape), spec.dtype.as_numpy_dtype)


def replace_task(
    name: str, source: seqio.DataSource, preprocessors: Sequence[Callable], output_features: Mapping[str, seqio.Feature]
) -> None:
    """Registers a Task; one of this name is replaced."""
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name, source=source, preprocessors=preprocessors, output_features=output_features, shuffle_buffer_size=None
    )


def replace_mixture(name: str, order: ExampleOrder, tasks: Sequence[str]) -> None:
    """Registers the Mixture of Tasks, one for each corpus of an order, in the order of its slots and with its shares.

    A Mixture of this name is replaced.
    """
    if name in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.remove(name)
    # seqio hands over the datasets of a Mixture's Tasks by the names of these.
    places = [sorted(tasks).index(task) for task in tasks]
    sample = functools.partial(_interleave, order=order, places=places)
    seqio.MixtureRegistry.add(name, list(zip(tasks, order.shares, strict=True)), sample_fn=sample)


def _interleave(
    datasets: Sequence[tf.data.Dataset],
    rates: Sequence[float],
    seed: int | None,
    order: ExampleOrder,
    places: Sequence[int],
) -> tf.data.Dataset:
    """Endless datasets in the order of their slots; others, which are held-out ones, one after the other.

    Args:
        datasets: of the corpora, in another order.
        rates, seed: are in `order`.
        order: of the corpora.
        places: for each corpus, which of `datasets` is its own.
    """
    datasets = [datasets[place] for place in places]
    lengths = [int(dataset.cardinality()) for dataset in datasets]
    if not all(length == tf.data.INFINITE_CARDINALITY or length > _LONGEST_VALIDATION for length in lengths):
        return functools.reduce(lambda first, second: first.concatenate(second), datasets)

    def corpus_of(index):
        corpus = tf.numpy_function(lambda i: np.int64(order.slot(int(i))[0]), [index], tf.int64)
        corpus.set_shape(())
        return corpus

    return tf.data.Dataset.choose_from_datasets(datasets, tf.data.Dataset.range(ENDLESS).map(corpus_of))
