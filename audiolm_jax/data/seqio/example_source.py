"""What our seqio Tasks share: training examples without end in an order of their own, and held-out ones once.

Nothing is random here. What a Task gives is drawn by index or by key before seqio sees it, so seqio's shuffling is
refused, and any number of hosts can share one Task.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

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


class Examples(Protocol):
    """What an `ExampleSource` gives to seqio."""

    def dataset(self, split: str, shard: seqio.ShardInfo) -> tf.data.Dataset:
        """One host's share of TRAIN, without end, or of VALIDATION."""


class ExampleSource(seqio.DataSource):
    """Examples as a source of seqio Tasks; sharding is by example, not by file."""

    def __init__(self, examples: Examples):
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
        """This host's examples.

        Raises:
            ValueError: they are asked for in another order.
        """
        if shuffle or seed is not None:
            raise ValueError("examples come in an order that is drawn by index; pass shuffle=False and no seed")
        return self.examples.dataset(split, shard_info or seqio.ShardInfo(index=0, num_shards=1))


def replace_task(
    name: str, examples: Examples, preprocessors: Sequence[Callable], output_features: Mapping[str, seqio.Feature]
) -> None:
    """Registers a Task; one of this name is replaced."""
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=ExampleSource(examples),
        preprocessors=preprocessors,
        output_features=output_features,
        shuffle_buffer_size=None,
    )


def replace_mixture(name: str, shares: Mapping[str, float], order: ExampleOrder) -> None:
    """Registers a Mixture of Tasks in the order of its slots; one of this name is replaced."""
    if name in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.remove(name)
    sample = functools.partial(_interleave, order=order)
    seqio.MixtureRegistry.add(name, [(task, float(share)) for task, share in shares.items()], sample_fn=sample)


def _interleave(
    datasets: Sequence[tf.data.Dataset], rates: Sequence[float], seed: int | None, order: ExampleOrder
) -> tf.data.Dataset:
    """Endless datasets in the order of their slots; others, which are held-out ones, one after the other."""
    lengths = [int(dataset.cardinality()) for dataset in datasets]
    if not all(length == tf.data.INFINITE_CARDINALITY or length > _LONGEST_VALIDATION for length in lengths):
        return functools.reduce(lambda first, second: first.concatenate(second), datasets)

    def folder_of(index):
        folder = tf.numpy_function(lambda i: np.int64(order.slot(int(i))[0]), [index], tf.int64)
        folder.set_shape(())
        return folder

    return tf.data.Dataset.choose_from_datasets(datasets, tf.data.Dataset.range(ENDLESS).map(folder_of))
