"""Distances between many pairs of segments by dynamic time warping, in batches of one shape (Libri-light's ABX).

The distance of two segments is the sum of frame distances along the cheapest path through their matrix, divided by the
number of frames on that path. A path goes one step in one segment or in both. Where several lead to the same cost, the
one that counts is found from the end: a step in both segments if it is no dearer than the others, else a step in the
second segment alone ("left") if that is no dearer than one in the first ("up"). Only exact ties make d(a, b) and
d(b, a) differ, so one pass over a pair gives both.
"""

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.evaluation.abx import frame_distances

MAX_SEGMENT_FRAMES = 4096

# Lengths to which segments are padded: eighths of the next power of two, at least 8 apart.
_SIZES = np.array([
    *range(8, 65, 8), *(base + base // 8 * step for base in (64, 128, 256, 512, 1024, 2048) for step in range(1, 9))
])  # fmt: skip
_BATCH_FLOATS = 1 << 21  # of a batch's frames and distances: what the caches of a core hold
_BATCH_LEAST, _BATCH_MOST = 16, 1024
# Cells of frame distances at 64 dimensions that cost as much as one more program costs to compile.
_COMPILATION_CELLS = 6e7
_LOW_HALF, _HIGH_HALF, _ONE_IN_BOTH = 0xFFFF, -0x10000, 0x10001


def length_classes(lengths: np.ndarray) -> np.ndarray:
    """Index of the padded length of each segment, int[N]; there are `num_length_classes` of them.

    Lengths run from 1 to `MAX_SEGMENT_FRAMES`.
    """
    return np.searchsorted(_SIZES, lengths)


def num_length_classes() -> int:
    return len(_SIZES)


def plan_shapes(pair_counts: np.ndarray, num_dims: int) -> tuple[tuple[int, int], ...]:
    """The few shapes (frames of the shorter segment, of the longer) that pairs are padded to.

    Every shape is a program to compile, every frame of padding is work: shapes are merged, the cheapest merge first,
    as long as what it adds to the work is less than a compilation.

    Args:
        pair_counts: int[C, C], how many pairs have a first and a second segment of each length class.
        num_dims: of a frame.

    Returns:
        Shapes by their size; each pair goes to the first that holds it.
    """
    counts = np.triu(pair_counts) + np.tril(pair_counts, -1).T
    shorter, longer = np.nonzero(counts)
    rows, columns, weights = _SIZES[shorter], _SIZES[longer], counts[shorter, longer].astype(float)
    allowed = _COMPILATION_CELLS * 128 / (num_dims + 64)
    while len(rows) > 1:
        merged_rows, merged_columns = np.maximum.outer(rows, rows), np.maximum.outer(columns, columns)
        work = weights * rows * columns
        added = np.add.outer(weights, weights) * merged_rows * merged_columns - np.add.outer(work, work)
        np.fill_diagonal(added, np.inf)
        one, other = np.unravel_index(np.argmin(added), added.shape)
        if added[one, other] > allowed:
            break
        rows[one], columns[one] = merged_rows[one, other], merged_columns[one, other]
        weights[one] += weights[other]
        rows, columns, weights = (np.delete(values, other) for values in (rows, columns, weights))
    return tuple(sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda shape: (math.prod(shape), shape)))


def pair_distances(
    frames: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    distance: str = "cosine",
    shapes: tuple[tuple[int, int], ...] | None = None,
    capacity_frames: int | None = None,
    progress: Callable[[int], None] = lambda pairs: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of P pairs of segments.

    Args:
        frames: float32[T, D], see `frame_distances.unit_frames`.
        starts, lengths: int[N], the frames of each segment; lengths from 1 to `MAX_SEGMENT_FRAMES`.
        first, second: int[P], segments of each pair.
        distance: of frames, one of `frame_distances.DISTANCES`.
        shapes: of `plan_shapes`; None to plan for these pairs alone.
        capacity_frames: at least T; calls with the same one, and the same shapes, share their programs.
        progress: told of every batch that is done.

    Returns:
        (d(first, second), d(second, first)), both float32[P].
    """
    classes = length_classes(lengths)
    if shapes is None:
        pair_counts = np.zeros((len(_SIZES), len(_SIZES)), np.int64)
        np.add.at(pair_counts, (classes[first], classes[second]), 1)
        shapes = plan_shapes(pair_counts, frames.shape[1])
    longest = max((columns for _, columns in shapes), default=0)
    capacity = max(len(frames), capacity_frames or 0) + longest
    turned = np.zeros((frames.shape[1], capacity), np.float32)
    turned[:, : len(frames)] = frame_distances.dims_first(frames)
    on_device = jax.device_put(turned)

    swapped = lengths[first] > lengths[second]
    shorter, longer = np.where(swapped, second, first), np.where(swapped, first, second)
    prefers_left, prefers_up = np.empty(len(first), np.float32), np.empty(len(first), np.float32)

    def run(batch: tuple[tuple[int, int], int, np.ndarray]) -> None:
        (rows, columns), size, pairs = batch
        filled = np.pad(pairs, (0, size - len(pairs)), mode="edge")  # the last pair again, to one shape
        row, column = shorter[filled], longer[filled]
        spans = (starts[row], lengths[row], starts[column], lengths[column])
        made = _warp(
            on_device, frame_distances.CONSTANTS, *(span.astype(np.int32) for span in spans), rows, columns, distance
        )
        prefers_left[pairs], prefers_up[pairs] = (np.asarray(values)[: len(pairs)] for values in made)
        progress(len(pairs))

    # A batch is too small to keep all cores busy from within, so several run at once.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as workers:
        for _ in workers.map(run, _batches(shapes, lengths[shorter], lengths[longer], len(turned))):
            pass
    return np.where(swapped, prefers_up, prefers_left), np.where(swapped, prefers_left, prefers_up)


def _batches(shapes, row_lengths: np.ndarray, column_lengths: np.ndarray, num_dims: int):
    """(shape, pairs in a full batch, indices of pairs) of all batches.

    Pairs keep their order, in which neighbours share segments. One batch of each shape comes first, so that the
    programs are compiled side by side.
    """
    left = np.ones(len(row_lengths), bool)
    heads, others = [], []
    for rows, columns in shapes:
        inside = left & (row_lengths <= rows) & (column_lengths <= columns)
        left &= ~inside
        pairs = np.flatnonzero(inside)
        size = _batch_size(rows, columns, num_dims)
        batches = [((rows, columns), size, pairs[begin : begin + size]) for begin in range(0, len(pairs), size)]
        heads += batches[:1]
        others += batches[1:]
    if left.any():
        raise ValueError("shapes were planned for other lengths: they hold not all pairs")
    return heads + others


def _batch_size(rows: int, columns: int, num_dims: int) -> int:
    """Pairs in a batch: a power of two."""
    floats = num_dims * (rows + columns) + 4 * rows * columns
    return min(max(1 << (_BATCH_FLOATS // floats).bit_length() - 1, _BATCH_LEAST), _BATCH_MOST)


@functools.partial(jax.jit, static_argnames=("rows", "columns", "distance"))
def _warp(frames, constants, row_start, row_length, column_start, column_length, rows, columns, distance):
    """One batch of P pairs, the segments of rows no longer than those of columns.

    Args:
        frames: float32[D, T] of `frame_distances.dims_first`, at least `columns` of them behind the last start.
        constants: `frame_distances.CONSTANTS`.
        row_start, row_length, column_start, column_length: int32[P].
        rows, columns: frames that both are padded to.

    Returns:
        (float32[P] where ties go to the left, float32[P] where they go up).
    """

    def segments(starts, count):  # [P, D, count]
        return jax.vmap(lambda start: jax.lax.dynamic_slice(frames, (0, start), (frames.shape[0], count)))(starts)

    between = frame_distances.between(segments(row_start, rows), segments(column_start, columns), constants, distance)
    distances = _skewed(between)
    num_pairs = distances.shape[-1]
    pair = jnp.arange(num_pairs)
    last_diagonal = row_length + column_length - 2
    cost = jnp.full((rows + 1, num_pairs), jnp.inf)
    path = jnp.zeros((rows + 1, num_pairs), jnp.int32)

    # Two diagonals at a time: each overwrites the one before the last, and nothing is copied.
    def two_diagonals(half, carry):
        last, before, ended = carry
        newer = _next_diagonal(distances, 2 * half, last, before)
        newest = _next_diagonal(distances, 2 * half + 1, newer, last)
        for diagonal, values in ((2 * half, newer), (2 * half + 1, newest)):
            ended = tuple(
                jnp.where(diagonal == last_diagonal, value[row_length, pair], kept)
                for value, kept in zip(values, ended, strict=True)
            )
        return newest, newer, ended

    # The corner before the first cell costs nothing; the cell (i, j) is in row i + 1 of diagonal i + j.
    carry = (cost, path), (cost.at[0].set(0.0), path), (cost[0], path[0])
    num_diagonals = jnp.max(last_diagonal) + 1
    *_, (total, length) = jax.lax.fori_loop(0, (num_diagonals + 1) // 2, two_diagonals, carry)
    return total / (length & _LOW_HALF), total / (length >> 16)


def _skewed(distances: jax.Array) -> jax.Array:
    """[P, I, J] to [I, I + J, P]: diagonal k of every matrix in [:, k], the pairs side by side."""
    num_pairs, rows, columns = distances.shape
    width = rows + columns
    padded = jnp.pad(jnp.transpose(distances, (1, 2, 0)), ((0, 0), (0, rows + 1), (0, 0)))
    return padded.reshape(-1, num_pairs)[: rows * width].reshape(rows, width, num_pairs)


def _next_diagonal(distances, diagonal, last, before):
    """(costs, path lengths) [I + 1, P] of one diagonal from the two before it; row 0 is outside the matrix.

    Path lengths are two numbers of 16 bits: the lower where ties go to the left, the higher where they go up.
    """
    (last_cost, last_path), (before_cost, before_path) = last, before
    up, left, both = last_cost[:-1], last_cost[1:], before_cost[:-1]
    row = jnp.arange(len(up))[:, None]
    here = jax.lax.dynamic_index_in_dim(distances, diagonal, 1, False)
    cost = jnp.where(row > diagonal, jnp.inf, here + jnp.minimum(jnp.minimum(up, left), both))

    up_path, left_path = last_path[:-1], last_path[1:]
    tied = (left_path & _LOW_HALF) | (up_path & _HIGH_HALF)
    aside = jnp.where(left < up, left_path, jnp.where(up < left, up_path, tied))
    path = _ONE_IN_BOTH + jnp.where((both <= left) & (both <= up), before_path[:-1], aside)
    outside = (jnp.full_like(cost[:1], jnp.inf), jnp.zeros_like(path[:1]))
    # Without the barrier XLA computes a diagonal again for each of its uses in the next, and that one's, and so on.
    return jax.lax.optimization_barrier((jnp.concatenate([outside[0], cost]), jnp.concatenate([outside[1], path])))
