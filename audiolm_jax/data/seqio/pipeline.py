"""The tf.data pipelines of a training from seqio: Tasks that are mixed by their rates, row by row, from any example on.

What stands at each index of the training is decided by `ExampleOrder`, as in a feed that Grain reads: the Task by the
rates, and which of its examples by how many of it came before. A Task whose source has an index gives just these
examples, so the batches are the same after a stop and on any number of hosts. A Task without one is read on from the
start of a pass, and each host reads its shard of it.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from audiolm_jax.data.feed.batches import Batch, Example
from audiolm_jax.data.feed.order import ExampleOrder, hash_bits
from audiolm_jax.data.seqio.example_source import ENDLESS, TRAIN, VALIDATION, IndexedSource
from audiolm_jax.errors import UserError, first_line


class _Picked(seqio.DataSource):
    """The examples of an `IndexedSource` at chosen indices, in their order."""

    def __init__(self, source: IndexedSource, ordinals: tf.data.Dataset):
        self._source = source
        self._ordinals = ordinals
        super().__init__(splits=source.splits, caching_permitted=source.caching_permitted)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def get_dataset(self, split=TRAIN, shuffle=False, seed=None, shard_info=None) -> tf.data.Dataset:
        return self._source.at(split, self._ordinals)


class _Unseeded(seqio.DataSource):
    """A source that is never given a seed, which a `FunctionDataSource` need not know what to do with."""

    def __init__(self, source: seqio.DataSource):
        self._source = source
        super().__init__(splits=source.splits, caching_permitted=source.caching_permitted)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return self._source.supports_arbitrary_sharding

    def list_shards(self, split: str) -> Sequence[str]:
        return self._source.list_shards(split)

    def get_dataset(self, split=TRAIN, shuffle=False, seed=None, shard_info=None) -> tf.data.Dataset:
        return self._source.get_dataset(split=split, shuffle=shuffle, shard_info=shard_info)


@dataclasses.dataclass(frozen=True)
class MixedTasks:
    """Tasks with their rates, and how their examples become rows of a batch.

    Attributes:
        name: of the Task or Mixture, for errors.
        tasks: of it.
        rates: of the tasks, above 0.
        lengths: of the tasks' features, for `Task.get_dataset`.
        converter: makes model features of the tasks' features.
        seed: of the mixing, and of the passes of tasks without an index.
        cached: read the tasks that can be cached from their caches.
        num_threads: that read ahead.
    """

    name: str
    tasks: tuple[seqio.Task, ...]
    rates: tuple[float, ...]
    lengths: Mapping[str, int]
    converter: seqio.FeatureConverter
    seed: int = 0
    cached: bool = False
    num_threads: int = 2

    @functools.cached_property
    def order(self) -> ExampleOrder:
        """Which task stands at each index, and how many of its examples stand before it."""
        return ExampleOrder((np.zeros(1, np.int32),) * len(self.tasks), self.seed, False, self.rates)

    def from_cache(self, task: seqio.Task) -> bool:
        """Whether a task is read from its cache.

        Raises:
            UserError: it must be, and is not, or there is none.
        """
        if not (self.cached and task.supports_caching):
            if task.requires_caching:
                raise UserError(f"the seqio Task {task.name} is read from its cache only; give --set SEQIO_CACHE=DIR")
            return False
        if not task.cache_dir:
            raise UserError(f"the folders of SEQIO_CACHE hold no cache of the seqio Task {task.name}; write it with "
                            "seqio_cache_tasks, or leave SEQIO_CACHE out")
        return True

    @functools.cached_property
    def has_index(self) -> tuple[bool, ...]:
        """For each task, whether its n-th example can be asked for."""
        return tuple(not self.from_cache(task) and self._is_one_to_one(task) for task in self.tasks)

    def _is_one_to_one(self, task: seqio.Task) -> bool:
        """Whether a task stands on an `IndexedSource`, and makes one example of each of its examples.

        tf.data knows how many elements a pipeline has until something drops or adds some.
        """
        if not isinstance(task.source, IndexedSource):
            return False
        some = tf.data.Dataset.range(3)
        return int(self._dataset(task, TRAIN, some).cardinality()) == 3

    def _dataset(
        self,
        task: seqio.Task,
        split: str,
        ordinals: tf.data.Dataset | None = None,
        shard: seqio.ShardInfo | None = None,
        pass_seed: int | None = None,
    ) -> tf.data.Dataset:
        """The examples of a task: those at some indices, or those of a shard; with a seed pass after pass."""
        use_cached = ordinals is None and self.from_cache(task)
        with _one_line(f"the seqio Task {task.name} cannot be read"):
            if ordinals is not None:
                task = task.replace(source=_Picked(task.source, ordinals))
            elif isinstance(task.source, seqio.FunctionDataSource) and not use_cached:
                task = task.replace(source=_Unseeded(task.source))
            dataset = task.get_dataset(
                self.lengths,
                split,
                use_cached=use_cached,
                shuffle=pass_seed is not None and task.shuffle_buffer_size is not None,
                seed=pass_seed,
                shard_info=shard,
                num_epochs=1 if pass_seed is None else None,
                trim_output_features=False,
                try_in_mem_cache=False,
            )
            return dataset.map(lambda example: {name: example[name] for name in self.converter.TASK_FEATURES})

    def training(self, start: int, batch_size: int, rows: Sequence[int]) -> Iterator[Batch]:
        """`rows` of the global batches that begin with the example `start`, without end.

        Raises:
            UserError: a task cannot be read, or comes to an end.
        """
        shard = _shard(rows, batch_size)
        # A host whose rows are no shard of their own reads all rows of what has no index.
        read = rows if shard is not None or all(self.has_index) else range(batch_size)
        slots = _slots(self.order, start, batch_size, read)
        pass_seed = hash_bits(self.seed, "pass", start) % 2**31
        datasets = []
        for number, (task, has_index) in enumerate(zip(self.tasks, self.has_index, strict=True)):
            if has_index:
                mine = slots.filter(lambda task, ordinal, number=number: task == number)
                ordinals = mine.map(lambda task, ordinal: ordinal)
                ordinals = ordinals.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
                datasets.append(self._dataset(task, TRAIN, ordinals))
            else:
                datasets.append(self._dataset(task, TRAIN, shard=shard, pass_seed=pass_seed))
        chosen = slots.map(lambda task, ordinal: task)
        with _one_line(self._what_is_wrong):
            mixed = tf.data.Dataset.choose_from_datasets(datasets, chosen, stop_on_empty_dataset=True)
            batches = self.converter(mixed, self.lengths).batch(len(read), drop_remainder=True).prefetch(2)
        for batch in self._read(batches):
            yield batch if read is rows else {name: array[list(rows)] for name, array in batch.items()}
        raise UserError(f"a Task of the seqio Mixture {self.name} gives no (more) training examples; leave it out")

    def heldout(
        self, max_examples: int | None, batch_size: int, rows: Sequence[int]
    ) -> Iterator[list[Example]]:
        """For each held-out batch, those of this host's `rows` that it has; the same number of batches on every host.

        Args:
            max_examples: at most so many examples, evenly spread where all tasks have an index, else the first.
            batch_size: of the global batch.
            rows: of this host.
        """
        there = [index for index, task in enumerate(self.tasks) if VALIDATION in task.splits]
        if not there:
            return
        if not all(self.has_index[index] for index in there):
            examples = self._read(self._one_after_the_other([self._dataset(self.tasks[i], VALIDATION) for i in there]))
            examples, kept = itertools.islice(examples, max_examples), set(rows)
            while batch := list(itertools.islice(examples, batch_size)):
                yield [example for row, example in enumerate(batch) if row in kept]
            return
        lengths = [self.tasks[index].source.examples.num_examples(VALIDATION) for index in there]
        available, ends = sum(lengths), np.cumsum(lengths)
        count = available if max_examples is None else min(available, max_examples)
        batches = range(0, count, batch_size)
        mine = [first + row for first in batches for row in rows if first + row < count]
        spread = np.array([place * available // count for place in mine], np.int64)
        datasets = []
        for index, end, length in zip(there, ends, lengths, strict=True):
            ordinals = spread[(end - length <= spread) & (spread < end)] - (end - length)
            if len(ordinals):
                ordinals = tf.data.Dataset.from_tensor_slices(ordinals)
                datasets.append(self._dataset(self.tasks[index], VALIDATION, ordinals))
        examples = self._read(self._one_after_the_other(datasets)) if datasets else iter(())
        for _ in batches:  # what cannot be read is missing, and the others move up
            yield list(itertools.islice(examples, len(rows)))

    def _one_after_the_other(self, datasets: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
        with _one_line(self._what_is_wrong):
            joined = functools.reduce(lambda first, second: first.concatenate(second), datasets)
            return self.converter(joined, self.lengths).prefetch(2)

    @property
    def _what_is_wrong(self) -> str:
        return f"the examples of the seqio Mixture {self.name} are not what this training learns from"

    def _read(self, dataset: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
        options = tf.data.Options()
        options.deterministic = True
        options.threading.private_threadpool_size = self.num_threads
        try:
            yield from dataset.with_options(options).as_numpy_iterator()
        except tf.errors.OpError as error:
            raise UserError(f"the seqio Mixture {self.name} cannot be read on: {_told(error)}") from error


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Makes one line of whatever a user's source, preprocessors or features raise while a pipeline is put together."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001
        raise UserError(f"{what} ({_told(error)}); see docs/data.md") from error


def _shard(rows: Sequence[int], batch_size: int) -> seqio.ShardInfo | None:
    """The host whose rows these are among hosts with as many neighbouring rows each; None where there are no such."""
    size = len(rows)
    is_block = batch_size % size == 0 and rows[0] % size == 0 and list(rows) == list(range(rows[0], rows[0] + size))
    return seqio.ShardInfo(index=rows[0] // size, num_shards=batch_size // size) if is_block else None


def _slots(order: ExampleOrder, start: int, batch_size: int, rows: Sequence[int]) -> tf.data.Dataset:
    """(task, ordinal of its example), int64 each, for each of the rows of the batches that begin with `start`."""

    def of_batch(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = [order.slot(start + int(number) * batch_size + row) for row in rows]
        return tuple(np.array(slots, np.int64).T)

    def with_shapes(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        columns = tf.numpy_function(of_batch, [number], (tf.int64, tf.int64))
        for column in columns:
            column.set_shape((len(rows),))
        return tuple(columns)

    return tf.data.Dataset.range(ENDLESS).map(with_shapes).unbatch()


def _told(error: Exception) -> str:
    """The line that somebody wrote for an error; TensorFlow puts a name of its own before it and a trace after it."""
    line = str(error).partition("\n")[0]
    for before in ("UserError: ", "assertion failed: ", "}} "):
        _, found, after = line.partition(before)
        if found:
            return first_line(ValueError(after))
    return first_line(error)
