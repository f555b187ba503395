"""The order of training examples as a pure function of (seed, global index): nothing to store, nothing to replay."""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Positive

# Corpora are mixed in blocks of this many examples, so a share is exact to one part in 1024.
MIXTURE_BLOCK = 1024
# In the place of weights: the share of each folder is its hours of sound.
HOURS = "hours"
Weights = tuple[Positive, ...] | None | Literal["hours"]
_FEISTEL_ROUNDS = 6
_64_BITS = (1 << 64) - 1


def hash_bits(seed: int, purpose: str, *indices: int | str) -> int:
    """64 pseudo-random bits, the same on every machine, Python and NumPy version."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash_uniform(seed: int, purpose: str, *indices: int) -> float:
    """A number in [0, 1) drawn by index."""
    return (hash_bits(seed, purpose, *indices) >> 11) * 2.0**-53


def shuffled(position: int, size: int, seed: int, purpose: str, *indices: int) -> int:
    """Where `position` goes in a permutation of 0 .. size - 1 drawn by index, in a time that does not grow with size.

    A Feistel network permutes the smallest power of four that holds `size`; positions that leave the range walk on
    until they are back in it.
    """
    if not 0 <= position < size:
        raise ValueError(f"position {position} lies outside 0..{size - 1}")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    key = hash_bits(seed, purpose, *indices)
    while True:
        left, right = position >> half_bits, position & mask
        for round_key in range(_FEISTEL_ROUNDS):
            # The finaliser of SplitMix64 as round function.
            mixed = (key + (right + 1) * 0x9E3779B97F4A7C15 + round_key * 0xD1342543DE82EF95) & _64_BITS
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _64_BITS
            left, right = right, left ^ ((mixed >> 33) & mask)
        position = (left << half_bits) | right
        if position < size:
            return position


def check_weights(weights: Sequence[float] | str | None, count: int) -> None:
    """Raises UserError where the shares of a mixture are not one positive number for each of `count` folders.

    None and HOURS are no such numbers: the shares follow from what the folders hold.
    """
    if weights is None or weights == HOURS:
        return
    if len(weights) != count:
        raise UserError(f"{len(weights)} weights for {count} folder{'s' * (count != 1)} of data; give one for each "
                        "--data, in order")
    if not all(0 < weight < math.inf for weight in weights):
        raise UserError(f"the weights are {tuple(weights)}; each must be above 0; leave out the --data that has none")


def speaker_ids(names: Sequence[str]) -> np.ndarray:
    """int32[N]: for each name, its place among the sorted names; what an order needs to know of its items."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.fromiter((numbers[name] for name in names), np.int32, len(names))


@dataclasses.dataclass(frozen=True, eq=False)
class _Groups:
    """The items of a corpus by group; eight bytes an item, and nothing for a corpus that is one group.

    Attributes:
        ends: int64[G], for each group the number of items in it and in those before it.
        items: int32[N], the items of all groups one after the other; None where that is 0 .. N - 1.
    """

    ends: np.ndarray
    items: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, group: int) -> tuple[int, int]:
        """Where a group starts in `items`, and how many items it has."""
        start = int(self.ends[group - 1]) if group else 0
        return start, int(self.ends[group]) - start


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleOrder:
    """Which item of which corpus stands at each global index, without end.

    With `balance_speakers` every speaker of a corpus comes once in each pass, whatever their number of recordings,
    and a speaker's recordings take turns; without, every recording comes once in each pass. Each pass has its own
    permutation.

    Attributes:
        speakers: for each corpus, an int32 array with the speaker of each of its items, see `speaker_ids`.
        seed: of the order.
        balance_speakers: speaker first, then recording.
        weights: share of each corpus; None for shares by number of speakers (balanced) or recordings (not).
    """

    speakers: tuple[np.ndarray, ...]
    seed: int = 0
    balance_speakers: bool = True
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        if not self.speakers or not all(len(ids) for ids in self.speakers):
            raise ValueError("every corpus of an order needs at least one item")
        check_weights(self.weights, len(self.speakers))

    @functools.cached_property
    def _groups(self) -> list[_Groups]:
        """Items by corpus and group; a group is a speaker, or the whole corpus."""
        corpora = []
        for ids in self.speakers:
            if not self.balance_speakers:
                corpora.append(_Groups(np.asarray([len(ids)], np.int64), None))
                continue
            counts = np.bincount(ids)
            ends = np.cumsum(counts[counts > 0])
            # Records lie by speaker as a rule, and then nothing has to be sorted or kept.
            is_sorted = bool(np.all(ids[:-1] <= ids[1:]))
            corpora.append(_Groups(ends, None if is_sorted else np.argsort(ids, kind="stable").astype(np.int32)))
        return corpora

    @property
    def shares(self) -> tuple[float, ...]:
        """Examples of each corpus in a block of the mixture."""
        return tuple(map(float, self._counts))

    @functools.cached_property
    def _counts(self) -> list[int]:
        """Examples of each corpus in a block of the mixture, by largest remainders."""
        weights: Sequence[float] = self.weights or [
            len(groups) if self.balance_speakers else len(ids)
            for groups, ids in zip(self._groups, self.speakers, strict=True)
        ]
        shares = [weight * MIXTURE_BLOCK / sum(weights) for weight in weights]
        counts = [max(1, int(share)) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda c: (counts[c] - shares[c], c))
        for corpus in itertools.islice(itertools.cycle(by_remainder), max(0, MIXTURE_BLOCK - sum(counts))):
            counts[corpus] += 1
        return counts

    @functools.cached_property
    def _block(self) -> list[tuple[int, int]]:
        """For each place of a block, its corpus and the number of earlier places of that corpus in the block."""
        corpora = [corpus for corpus, count in enumerate(self._counts) for _ in range(count)]
        seen = [0] * len(self._counts)
        places = []
        for position in range(len(corpora)):
            corpus = corpora[shuffled(position, len(corpora), self.seed, "mixture")]
            places.append((corpus, seen[corpus]))
            seen[corpus] += 1
        return places

    def slot(self, index: int) -> tuple[int, int]:
        """The corpus at a global index, and how many smaller indices have the same corpus."""
        if len(self.speakers) == 1:
            return 0, index
        block, place = divmod(index, len(self._block))
        corpus, earlier = self._block[place]
        return corpus, block * self._counts[corpus] + earlier

    def item(self, corpus: int, ordinal: int) -> int:
        """The item of a corpus that is used as its `ordinal`-th."""
        groups = self._groups[corpus]
        turn, slot = divmod(ordinal, len(groups))
        group = shuffled(slot, len(groups), self.seed, "speaker", corpus, turn)
        start, size = groups.span(group)
        cycle, position = divmod(turn, size)
        place = start + shuffled(position, size, self.seed, "item", corpus, group, cycle)
        return place if groups.items is None else int(groups.items[place])
