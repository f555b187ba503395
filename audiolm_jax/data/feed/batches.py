"""Batches of examples that are pure functions of a global index, cut into the rows of each host."""

from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np
from absl import flags

Example = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]
Cursor = dict[str, int]
BatchShapes = dict[str, jax.ShapeDtypeStruct]

# The number of the last batch ever; Grain wants a length.
_NO_END = 2**60


def initial_cursor() -> Cursor:
    """The cursor before the first batch: `examples` counts the examples that all hosts together have used."""
    return {"examples": 0}


def batch_indices(cursor: Cursor, batch_size: int) -> range:
    """The global indices of the batch that comes after a cursor, one for each row."""
    return range(cursor["examples"], cursor["examples"] + batch_size)


def all_rows(batch_size: int, rows: Sequence[int] | None) -> Sequence[int]:
    """The given rows of the global batch, or every one of them where there is one host only."""
    if rows is None:
        return range(batch_size)
    if not len(rows) or min(rows) < 0 or max(rows) >= batch_size:
        raise ValueError(f"rows {list(rows)[:8]}... are not of a global batch of {batch_size}")
    return rows


def endless_batches(
    example: Callable[[int], Example],
    batch_size: int,
    cursor: Cursor,
    rows: Sequence[int] | None,
    num_threads: int,
    num_workers: int = 0,
) -> Iterator[tuple[Batch, Cursor]]:
    """This host's rows of global batches from a cursor on, read ahead in threads or in processes.

    Args:
        example: the example at a global index; called from several threads.
        batch_size: of the global batch.
        cursor: where to start; it may have been saved with another number of hosts.
        rows: of the global batch, which this host holds (`parallel.mesh.host_rows`); None for all.
        num_threads: threads that read ahead, of each process.
        num_workers: processes that read ahead; 0 for threads of this process alone. `example` goes to them by pickle.

    Yields:
        (batch, cursor after it); every array of the batch starts with the axis of `rows`.
    """
    rows = all_rows(batch_size, rows)
    start = cursor["examples"]

    # One element is a batch: Grain's own batching costs a quarter of what an example of a stage takes.
    def local_batch(number: int) -> Batch:
        examples = [example(start + number * batch_size + row) for row in rows]
        return {name: np.stack([each[name] for each in examples]) for name in examples[0]}

    numbered = enumerate(_read_ahead(local_batch, _NO_END, num_threads, num_workers), start=1)
    for count, batch in numbered:
        yield batch, {"examples": start + count * batch_size}


def _read_ahead(
    local_batch: Callable[[int], Batch], num_batches: int, num_threads: int, num_workers: int = 0
) -> Iterator[Batch]:
    """The batches 0, 1, 2 ... in this order, made in threads or processes before they are asked for."""
    dataset = grain.MapDataset.range(num_batches).map(local_batch)
    # Two batches a thread is enough to hide the reading behind a step, and bounds the memory.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    dataset = dataset.to_iter_dataset(options)
    if num_workers:
        _let_grain_have_flags()
        workers = grain.multiprocessing.MultiprocessingOptions(num_workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(workers)
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()  # lets go of the shared memory of the workers


def _let_grain_have_flags() -> None:
    """Grain reads absl's flags when it starts workers, which fails in a program that never parsed any."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def finite_batches(
    example: Callable[[int], Example | None],
    num_examples: int,
    shapes: BatchShapes,
    rows: Sequence[int] | None,
    num_threads: int = 2,
) -> Iterator[Batch]:
    """This host's rows of the batches that hold `num_examples` examples once each, read ahead in threads.

    Args:
        example: the example at an index; None where it cannot be read. Called from several threads.
        num_examples: of all hosts together.
        shapes: of the global batches, `example_weights` float32[B] among them.
        rows: of the global batch, which this host holds; None for all.
        num_threads: threads that read ahead.

    Yields:
        the same number of batches on every host, whatever it could read. Rows past the end, and rows whose example is
        None, are zeros; `example_weights` is 0 there and 1 elsewhere.
    """
    batch_size = shapes["example_weights"].shape[0]
    rows = all_rows(batch_size, rows)

    def local_batch(number: int) -> Batch:
        indices = (number * batch_size + row for row in rows)
        return filled([example(index) if index < num_examples else None for index in indices], shapes, len(rows))

    if num_examples:  # Grain refuses an empty range
        yield from _read_ahead(local_batch, -(-num_examples // batch_size), num_threads)


def filled(examples: Sequence[Example | None], shapes: BatchShapes, num_rows: int) -> Batch:
    """A held-out batch of `num_rows` rows: `example_weights` is 1 for an example, 0 for None and where none is left."""
    batch = {name: np.zeros((num_rows, *shape.shape[1:]), shape.dtype) for name, shape in shapes.items()}
    for place, found in enumerate(examples):
        for name, value in ({} if found is None else found | {"example_weights": 1}).items():
            batch[name][place] = value
    return batch
