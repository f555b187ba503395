"""The error of every ABX cell: distances of tokens, each pair once, and how many triples they get wrong."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from audiolm_jax.evaluation.abx import dtw
from audiolm_jax.evaluation.abx.abx_cells import Cells, Groups, expanded

_CHUNK_FLOATS = 1 << 24  # of the frames whose pairs are compared in one go
_BLOCKS_AT_ONCE = 1 << 16
_TRIPLES_AT_ONCE = 1 << 22


@dataclasses.dataclass(frozen=True, eq=False)
class _Blocks:
    """B pairs of groups whose tokens are all compared with one another; those of one context lie together.

    Attributes:
        first, second: int64[B], first <= second; sorted.
        of_a, of_b: int64[C], the block of x and a, and of x and b, of each cell.
    """

    first: np.ndarray
    second: np.ndarray
    of_a: np.ndarray
    of_b: np.ndarray

    @classmethod
    def of(cls, cells: Cells, num_groups: int) -> "_Blocks":
        keys = [np.minimum(cells.x, y) * num_groups + np.maximum(cells.x, y) for y in (cells.a, cells.b)]
        distinct, index = np.unique(np.concatenate(keys), return_inverse=True)
        return cls(*np.divmod(distinct, max(num_groups, 1)), *np.split(index, 2))

    def num_pairs(self, sizes: np.ndarray) -> int:
        """Pairs of tokens; of a group with itself each once."""
        one, other = sizes[self.first], sizes[self.second]
        return int(np.where(self.first == self.second, one * (one - 1) // 2, one * other).sum())

    def length_counts(self, groups: Groups, lengths: np.ndarray) -> np.ndarray:
        """How many pairs of tokens have which two length classes, int64[K, K]."""
        used, classes = np.unique(dtw.length_classes(lengths), return_inverse=True)
        by_group = np.zeros((len(groups), len(used)), np.float32)
        np.add.at(by_group, (np.repeat(np.arange(len(groups)), groups.sizes), classes), 1)
        counts = np.zeros((dtw.num_length_classes(),) * 2, np.int64)
        for begin in range(0, len(self.first), _BLOCKS_AT_ONCE):
            part = slice(begin, begin + _BLOCKS_AT_ONCE)
            made = by_group[self.first[part]].T @ by_group[self.second[part]]
            counts[np.ix_(used, used)] += made.round().astype(np.int64)
        return counts


def cell_errors(cells: Cells, groups: Groups, segments: list[np.ndarray], distance: str) -> tuple[np.ndarray, int]:
    """Error of every cell, and how many pairs of tokens were compared for all of them.

    Contexts are worked on a few at a time, so memory is that of the segments and of one chunk.

    Args:
        cells: of the groups; those of several kinds may share distances.
        groups: G of them with M tokens.
        segments: float32[t, D] of each token in the order of `groups.rows`, see `frame_distances.unit_frames`.
        distance: see `dtw.pair_distances`.

    Returns:
        (float64[C], number of pairs).
    """
    errors = np.empty(len(cells))
    blocks = _Blocks.of(cells, len(groups))
    num_pairs = blocks.num_pairs(groups.sizes)
    if not len(cells):
        return errors, num_pairs
    lengths, starts = np.array([len(segment) for segment in segments]), np.zeros(len(segments), np.int64)
    shapes = dtw.plan_shapes(blocks.length_counts(groups, lengths), segments[0].shape[1])
    token_compared = np.repeat(np.isin(np.arange(len(groups)), [blocks.first, blocks.second]), groups.sizes)
    frames_of_group = np.add.reduceat(np.where(token_compared, lengths, 0), groups.bounds[:-1])
    chunks = list(_chunks(groups.context, frames_of_group, _CHUNK_FLOATS // segments[0].shape[1]))
    # A power of two, so that other items and features of one process find their programs compiled.
    capacity_frames = 1 << (max(num_frames for _, _, num_frames in chunks) - 1).bit_length()
    with tqdm(total=num_pairs, desc="abx", unit="pair", unit_scale=True, disable=None) as bar:
        for first, end, _ in chunks:
            tokens = np.arange(groups.bounds[first], groups.bounds[end])
            tokens = tokens[token_compared[tokens]]
            chosen = np.flatnonzero((cells.a >= first) & (cells.a < end))
            if not len(chosen):
                continue
            starts[tokens] = np.cumsum(lengths[tokens]) - lengths[tokens]
            frames = np.concatenate([segments[token] for token in tokens])
            part = slice(*np.searchsorted(blocks.first, [first, end]))
            one, other, places = _pairs(blocks, part, groups)
            forward, backward = dtw.pair_distances(
                frames, starts, lengths, one, other, distance, shapes, capacity_frames, bar.update
            )
            matrices = places.matrices(forward, backward)
            errors[chosen] = _errors(cells, blocks, chosen, part.start, places, matrices, groups.sizes)
    return errors, num_pairs


def _chunks(context: np.ndarray, frames_of_group: np.ndarray, most_frames: int) -> Iterator[tuple[int, int, int]]:
    """(first group, end, frames) of runs of whole contexts, with most_frames where a context has no more by itself."""
    bounds = np.concatenate([np.flatnonzero(np.diff(context, prepend=-1)), [len(context)]])
    frames = np.add.reduceat(frames_of_group, bounds[:-1])
    first = held = 0
    for begin, count in zip(bounds[:-1].tolist(), frames.tolist(), strict=True):
        if held and held + count > most_frames:
            yield first, begin, held
            first, held = begin, 0
        held += count
    yield first, len(context), held


@dataclasses.dataclass(frozen=True, eq=False)
class _Places:
    """Where the distances of blocks lie in one flat array: for each block [first, second] and [second, first].

    Attributes:
        ahead, back: int64[B], where the two matrices begin; one and the same for a group with itself.
        pair_ahead, pair_back: int64[P], the two places of each pair.
        mirrored: bool[P], pairs of a group with itself.
        size: of the array.
    """

    ahead: np.ndarray
    back: np.ndarray
    pair_ahead: np.ndarray
    pair_back: np.ndarray
    mirrored: np.ndarray
    size: int

    def matrices(self, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
        """The flat array, float32. Of a token and itself it holds infinity: nearer than nothing, tied with nothing.

        Of two tokens of one group Libri-light takes the distance from the one before to the one behind, both ways.
        """
        flat = np.full(self.size, np.inf, np.float32)
        flat[self.pair_ahead] = forward
        flat[self.pair_back] = np.where(self.mirrored, forward, backward)
        return flat


def _pairs(blocks: _Blocks, part: slice, groups: Groups) -> tuple[np.ndarray, np.ndarray, _Places]:
    """All pairs of tokens (first int64[P], second int64[P]) of some blocks, and where their distances go."""
    first, second = blocks.first[part], blocks.second[part]
    rows, columns, same = groups.sizes[first], groups.sizes[second], first == second
    ends = np.cumsum(np.where(same, 1, 2) * rows * columns)
    ahead = ends - np.where(same, 1, 2) * rows * columns
    back = np.where(same, ahead, ahead + rows * columns)
    block, place = expanded(rows * columns)
    row, column = np.divmod(place, columns[block])
    kept = ~same[block] | (row < column)
    block, row, column = block[kept], row[kept], column[kept]
    places = _Places(
        ahead=ahead,
        back=back,
        pair_ahead=ahead[block] + row * columns[block] + column,
        pair_back=back[block] + column * rows[block] + row,
        mirrored=same[block],
        size=int(ends[-1]),
    )
    return groups.bounds[first[block]] + row, groups.bounds[second[block]] + column, places


def _errors(
    cells: Cells, blocks: _Blocks, chosen: np.ndarray, base: int, places: _Places, matrices: np.ndarray, sizes
) -> np.ndarray:
    """Error of the chosen cells, float64; blocks are counted from `base` in `places`."""
    a, b, x = cells.a[chosen], cells.b[chosen], cells.x[chosen]
    start_a, start_b = (
        np.where(x <= y, places.ahead[block[chosen] - base], places.back[block[chosen] - base])
        for y, block in ((a, blocks.of_a), (b, blocks.of_b))
    )
    cell, token = expanded(sizes[x])  # one row for each token of x
    num_a, num_b = sizes[a][cell], sizes[b][cell]
    wins = _doubled_wins(matrices, start_a[cell] + token * num_a, num_a, start_b[cell] + token * num_b, num_b)
    triples = (sizes[a] - (a == x)) * sizes[b] * sizes[x]
    return 1.0 - np.bincount(cell, weights=wins, minlength=len(chosen)) / (2.0 * triples)


def _doubled_wins(matrices: np.ndarray, start_a, num_a, start_b, num_b) -> np.ndarray:
    """For each token of x, twice how often one of num_a distances is less than one of num_b, and once how often equal.

    Args:
        matrices: float32, flat.
        start_a, num_a, start_b, num_b: int64[R], where the distances to the tokens of a and of b lie.

    Returns:
        int64[R].
    """
    wins = np.empty(len(start_a), np.int64)
    shape = num_a * (int(num_b.max()) + 1) + num_b
    order = np.argsort(shape, kind="stable")
    bounds = [*np.flatnonzero(np.diff(shape[order], prepend=-1)).tolist(), len(order)]
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        width_a, width_b = int(num_a[order[begin]]), int(num_b[order[begin]])
        step = max(_TRIPLES_AT_ONCE // (width_a * width_b), 1)
        for rows in (order[first : min(first + step, end)] for first in range(begin, end, step)):
            to_a = matrices[start_a[rows, None] + np.arange(width_a)][:, :, None]
            to_b = matrices[start_b[rows, None] + np.arange(width_b)][:, None, :]
            less, equal = (np.count_nonzero(beats, axis=(1, 2)) for beats in (to_a < to_b, to_a == to_b))
            wins[rows] = 2 * less + equal
    return wins
