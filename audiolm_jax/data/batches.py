"""Batches of examples that are pure functions of a global index, cut into the rows of each host."""

from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np

Example = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]
Cursor = dict[str, int]
BatchShapes = dict[str, jax.ShapeDtypeStruct]

# The index of the last example ever; Grain wants a length.
_NO_END = 2**60


def initial_cursor() -> Cursor:
    """The cursor before the first batch: `examples` counts the examples that all hosts together have used."""
    return {"examples": 0}


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
) -> Iterator[tuple[Batch, Cursor]]:
    """This host's rows of global batches from a cursor on, read ahead in threads.

    Args:
        example: the example at a global index; called from several threads.
        batch_size: of the global batch.
        cursor: where to start; it may have been saved with another number of hosts.
        rows: of the global batch, which this host holds (`parallel.mesh.host_rows`); None for all.
        num_threads: threads that read ahead.

    Yields:
        (batch, cursor after it); every array of the batch starts with the axis of `rows`.
    """
    rows = all_rows(batch_size, rows)
    start = cursor["examples"]

    def local_example(position: int) -> Example:
        batch, row = divmod(position, len(rows))
        return example(start + batch * batch_size + rows[row])

    dataset = grain.MapDataset.range(_NO_END).map(local_example).batch(len(rows))
    # Two batches a thread is enough to hide the reading behind a step, and bounds the memory.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    for count, batch in enumerate(dataset.to_iter_dataset(options), start=1):
        yield batch, {"examples": start + count * batch_size}


def finite_batches(
    example: Callable[[int], Example | None],
    num_examples: int,
    batch_size: int,
    rows: Sequence[int] | None,
) -> Iterator[Batch]:
    """This host's rows of the batches that hold `num_examples` examples once each.

    Every host yields the same number of batches. Rows past the end, and rows whose example is None, are zeros; the key
    `example_weights` float32[B] is 0 there and 1 elsewhere.
    """
    rows = all_rows(batch_size, rows)
    template: Example | None = None
    for start in range(0, num_examples, batch_size):
        found = [example(start + row) if start + row < num_examples else None for row in rows]
        template = next((item for item in found if item is not None), template)
        # A host whose rows all lie past the end still has to know the shapes.
        search = range(num_examples) if template is None else ()
        template = template or next((item for index in search if (item := example(index)) is not None), None)
        if template is None:
            return
        blank = {name: np.zeros_like(value) for name, value in template.items()}
        batch = {name: np.stack([(item or blank)[name] for item in found]) for name in blank}
        batch["example_weights"] = np.asarray([item is not None for item in found], np.float32)
        yield batch
