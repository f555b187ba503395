"""Which triples an item file makes: groups of tokens, and the cells whose errors ABX averages.

Nothing here depends on the order of rows or files: tokens are sorted, and what a cap leaves out is decided by hashes of
names and times.
"""

import dataclasses

import numpy as np

from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.evaluation.abx.item_file import ItemFile, Names


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """G groups of tokens of one context, speaker and phone, in the order of these three names.

    Attributes:
        rows: int64[M], rows of the item file, group after group, and in a group by file, onset and offset.
        bounds: int64[G + 1], where each group begins and ends in `rows`.
        context, speaker, phone: int32[G], indices of their names.
    """

    rows: np.ndarray
    bounds: np.ndarray
    context: np.ndarray
    speaker: np.ndarray
    phone: np.ndarray

    def __len__(self) -> int:
        return len(self.context)

    @property
    def sizes(self) -> np.ndarray:
        """Tokens in each group, int64[G]."""
        return np.diff(self.bounds)


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """C cells: all triples of a token of group `a`, one of `b` and one of `x`.

    Attributes:
        a, b, x: int64[C]. Within a speaker x is a, and a token is not compared with itself.
    """

    a: np.ndarray
    b: np.ndarray
    x: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    @classmethod
    def joined(cls, parts: list["Cells"]) -> "Cells":
        """The cells of all parts, one part after another."""
        return cls(*(np.concatenate([getattr(part, side) for part in parts]) for side in ("a", "b", "x")))

    def triples(self, sizes: np.ndarray) -> np.ndarray:
        """Number of triples of each cell, int64[C]."""
        return (sizes[self.a] - (self.a == self.x)) * sizes[self.b] * sizes[self.x]


def group_rows(items: ItemFile, usable: np.ndarray, max_group_size: int, seed: int) -> Groups:
    """Groups of the usable rows (bool[N]), each with at most max_group_size of them; 0 for no cap."""
    rows = np.flatnonzero(usable)
    keys = (items.contexts.index, items.speakers.index, items.phones.index)
    within_group = (items.files.index, items.onset_seconds, items.offset_seconds)
    rows = rows[np.lexsort([key[rows] for key in reversed(keys + within_group)])]
    number = _run_numbers(*(key[rows] for key in keys))
    if max_group_size:
        times = [np.ascontiguousarray(part).view(np.uint64) for part in within_group[1:]]
        draws = _draws([_hashes(items.files, seed, "abx token")[items.files.index], *times])
        kept = _places(number, draws[rows]) < max_group_size
        rows, number = rows[kept], number[kept]
    bounds = np.concatenate([np.flatnonzero(np.diff(number, prepend=-1)), [len(rows)]])
    return Groups(rows, bounds, *(key[rows[bounds[:-1]]] for key in keys))


def within_cells(groups: Groups) -> Cells:
    """All ordered pairs of phones of one context and speaker, where A has at least two tokens."""
    a, b = _ordered_pairs(_run_numbers(groups.context, groups.speaker))
    kept = groups.sizes[a] > 1
    return Cells(a[kept], b[kept], a[kept])


def across_cells(groups: Groups, items: ItemFile, max_x_across: int, seed: int) -> Cells:
    """The same pairs, each with every other speaker who has phone A in the context, at most max_x_across of them."""
    by_phone = np.lexsort([groups.speaker, groups.phone, groups.context])
    a, x = (by_phone[side] for side in _ordered_pairs(_run_numbers(groups.context[by_phone], groups.phone[by_phone])))
    order = np.lexsort([x, a])
    a, x = a[order], x[order]
    if max_x_across:
        names = ((items.contexts, groups.context, a), (items.phones, groups.phone, a),
                 (items.speakers, groups.speaker, a), (items.speakers, groups.speaker, x))  # fmt: skip
        kept = _places(a, _draws([_hashes(name, seed, "abx x")[index[side]] for name, index, side in names]))
        a, x = a[kept < max_x_across], x[kept < max_x_across]
    with_b, b = _ordered_pairs(_run_numbers(groups.context, groups.speaker))
    first_b = np.searchsorted(with_b, np.arange(len(groups) + 1))
    pair, place = expanded(np.diff(first_b)[a])
    return Cells(a[pair], b[first_b[a[pair]] + place], x[pair])


def expanded(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row i counts[i] times: (the rows, 0 .. counts[i] - 1 for each)."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)


def _run_numbers(*keys: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... for each run of rows with equal keys, int64[N]."""
    changed = np.zeros(len(keys[0]), bool)
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.cumsum(changed)


def _ordered_pairs(run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j), i != j, of all rows of one run, sorted; run numbers int[N] ascend."""
    sizes = np.bincount(run, minlength=1)
    first = np.cumsum(sizes) - sizes
    left, place = expanded(sizes[run])
    right = first[run[left]] + place
    return left[left != right], right[left != right]


def _places(run: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Place of each row in its run by the size of its draw, int64[N]; run numbers ascend."""
    order = np.lexsort([draws, run])
    sizes = np.unique(run, return_counts=True)[1]
    places = np.empty(len(run), np.int64)
    places[order] = expanded(sizes)[1]
    return places


def _hashes(names: Names, seed: int, purpose: str) -> np.ndarray:
    """64 pseudo-random bits of each distinct name, uint64."""
    return np.array([hash_bits(seed, purpose, name) for name in names.distinct], np.uint64)


def _draws(columns: list[np.ndarray]) -> np.ndarray:
    """64 pseudo-random bits of each row of uint64 columns, by the finaliser of SplitMix64."""
    state = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        state = (state ^ column) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
