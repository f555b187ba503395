"""Utterances of a corpus: many of them in little memory, split by speaker, read one by one."""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from audiolm_jax.audio import Waveform, read_ranges
from audiolm_jax.data.corpora.voice_activity import Ranges
from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.files.object_storage import any_path
from audiolm_jax.tokens.records import SourceFile
from audiolm_jax.tokens.split import Split

# Lines about files that are left out, before the rest is only counted.
_MAX_LINES = 20


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording or a part of one.

    Attributes:
        path: of the file.
        speaker: who speaks.
        key: unique in its corpus and the same on every machine.
        ranges: [start, stop) in samples at the file's own rate, read one after the other; empty: the whole file.
        sample_rate_hz: of the file; None where that is not known before it is read.
    """

    path: Path
    speaker: str
    key: str
    ranges: Ranges = ()
    sample_rate_hz: int | None = None


def read_utterance(utterance: Utterance, sample_rate_hz: int | None = None) -> Waveform:
    """The sound of an utterance, nothing else of its file, at a rate (None: the file's).

    Raises:
        UserError: the file cannot be read, or is shorter than it was.
    """
    return read_ranges(utterance.path, utterance.ranges, sample_rate_hz)


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A file of a corpus, or a part of it, that cannot be used, and in one line why.

    Attributes:
        source: its path below the root.
        key: what its utterance would be called.
        speaker: who speaks.
        reason: for the user.
    """

    source: str
    key: str
    speaker: str
    reason: str


def tell_left_out(left_out: Sequence[LeftOut]) -> None:
    """Says on stderr what is left out, the first of them by name."""
    for entry in left_out[:_MAX_LINES]:
        print(f"left out: {entry.source}: {entry.reason}", file=sys.stderr)
    if len(left_out) > _MAX_LINES:
        print(f"left out: {len(left_out) - _MAX_LINES} more", file=sys.stderr)


@dataclasses.dataclass(frozen=True, eq=False)
class UtteranceTable:
    """The files of a corpus F and their segments S as columns: 3.6 million segments are some 60 bytes each.

    Attributes:
        root: the corpus's folder.
        files: path of each file below the root, in the order of the keys.
        speakers: speaker of each file.
        first_segment: int64[F + 1], where the segments of each file begin; None: every file is one utterance.
        first_range: int64[S + 1], where the ranges of each segment begin.
        ranges: int32[R, 2] of samples.
        sample_rate_hz: of all files; None where they were not opened.
    """

    root: Path
    files: Sequence[str]
    speakers: Sequence[str]
    first_segment: np.ndarray | None = None
    first_range: np.ndarray | None = None
    ranges: np.ndarray | None = None
    sample_rate_hz: int | None = None

    def __len__(self) -> int:
        """Utterances of all files."""
        return len(self.files) if self.first_segment is None else int(self.first_segment[-1])

    def file_key(self, file: int) -> str:
        """The path below the root without its suffix."""
        return Path(self.files[file]).with_suffix("").as_posix()

    def file_of(self, index: int) -> int:
        """The file of an utterance."""
        if self.first_segment is None:
            return index
        return int(np.searchsorted(self.first_segment, index, side="right")) - 1

    def utterance(self, index: int) -> Utterance:
        """The utterance at an index; the n-th segment of a file has the file's key with _%04d of n after it."""
        file = self.file_of(index)
        suffix, ranges = self._part(file, index)
        path, key = self.root / self.files[file], self.file_key(file) + suffix
        return Utterance(path, self.speakers[file], key, ranges, self.sample_rate_hz)

    def parts(self, file: int) -> Iterator[tuple[str, Ranges]]:
        """For each utterance of a file, what its key has after that of the file, and its ranges."""
        if self.first_segment is None:
            return iter([self._part(file, file)])
        return (self._part(file, index) for index in range(self.first_segment[file], self.first_segment[file + 1]))

    def _part(self, file: int, index: int) -> tuple[str, Ranges]:
        if self.first_segment is None:
            return "", ()
        rows = self.ranges[self.first_range[index] : self.first_range[index + 1]]
        return f"_{index - self.first_segment[file]:04d}", tuple(map(tuple, rows.tolist()))

    def indices_of(self, chosen: np.ndarray) -> np.ndarray:
        """int64 indices of the utterances of the files that are True in bool[F]."""
        if self.first_segment is not None:
            chosen = np.repeat(chosen, np.diff(self.first_segment))
        return np.flatnonzero(chosen)


class UtteranceList(Sequence[Utterance]):
    """Some utterances of a table, each made when it is asked for."""

    def __init__(self, table: UtteranceTable, indices: np.ndarray):
        self._table = table
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> Utterance: ...
    @overload
    def __getitem__(self, place: slice) -> "UtteranceList": ...

    def __getitem__(self, place):
        if isinstance(place, slice):
            return UtteranceList(self._table, self._indices[place])
        return self._table.utterance(int(self._indices[place]))

    def __iter__(self) -> Iterator[Utterance]:
        return (self._table.utterance(int(index)) for index in self._indices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (UtteranceList, list)) and list(self) == list(other)

    __hash__ = None

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speaker of each utterance, without making the utterances."""
        speakers = self._table.speakers
        if self._table.first_segment is None:
            return tuple(speakers[index] for index in self._indices)
        files = np.searchsorted(self._table.first_segment, self._indices, side="right") - 1
        return tuple(speakers[file] for file in files)

    @property
    def seconds(self) -> float | None:
        """[s] of sound in all of them; None where the table has no ranges, or no rate for them."""
        table = self._table
        if table.ranges is None or not table.sample_rate_hz:
            return None
        ends = np.concatenate([[0], np.cumsum(np.diff(table.ranges)[:, 0], dtype=np.int64)])
        segments = np.diff(ends[table.first_range])
        return float(segments[self._indices].sum() / table.sample_rate_hz)


class SourceFiles(Sequence[SourceFile]):
    """All utterances of a split corpus as the extraction reads them, each made when it is asked for."""

    def __init__(self, table: UtteranceTable, is_heldout: np.ndarray):
        self._table = table
        self._is_heldout = is_heldout

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        file = self._table.file_of(index)
        utterance = self._table.utterance(index)
        return SourceFile(
            path=str(any_path(utterance.path)),
            source=self._table.files[file],
            key=utterance.key,
            speaker=utterance.speaker,
            split=self._split(file),
            ranges=utterance.ranges,
        )

    def __iter__(self) -> Iterator[SourceFile]:
        root = os.fspath(self._table.root.absolute())
        for file, source in enumerate(self._table.files):
            path, key = f"{root}/{source}", self._table.file_key(file)
            speaker, split = self._table.speakers[file], self._split(file)
            for suffix, ranges in self._table.parts(file):
                yield SourceFile(path, source, key + suffix, speaker, split, ranges)

    def _split(self, file: int) -> str:
        return "heldout" if self._is_heldout[file] else "train"


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """What a scan of a corpus found.

    Attributes:
        table: files and segments.
        is_heldout: bool[F], whether a file is kept out of training.
        left_out: files that cannot be used.
    """

    table: UtteranceTable
    is_heldout: np.ndarray
    left_out: tuple[LeftOut, ...] = ()

    @functools.cached_property
    def utterances(self) -> UtteranceList:
        """All of them, by file and then by segment."""
        return UtteranceList(self.table, np.arange(len(self.table)))

    @functools.cached_property
    def train(self) -> UtteranceList:
        """Those to train on."""
        return UtteranceList(self.table, self.table.indices_of(~self.is_heldout))

    @functools.cached_property
    def heldout(self) -> UtteranceList:
        """Those for evaluation only."""
        return UtteranceList(self.table, self.table.indices_of(self.is_heldout))

    def source_files(self) -> SourceFiles:
        """All of them with their splits, for the extraction."""
        return SourceFiles(self.table, self.is_heldout)

    def file_keys(self, heldout_only: bool = False) -> list[str]:
        """The keys of all files, or of those that are held out, whatever they are cut into."""
        files = np.flatnonzero(self.is_heldout) if heldout_only else range(len(self.table.files))
        return [self.table.file_key(int(file)) for file in files]

    def split(self, kind: str, settings: dict[str, Any]) -> Split:
        """The split as it is stored with what is made of the corpus; see `Split` for the arguments."""
        return Split.of(kind, settings, self.file_keys(), self.table.speakers, self.is_heldout.tolist())


def heldout_speaker_names(speakers: Sequence[str], count: int, seed: int) -> frozenset[str]:
    """The speakers to hold out: those whose names hash lowest, at most a quarter of all but at least one.

    Empty for a single speaker, and for a count of 0.
    """
    names = sorted(set(speakers))
    if len(names) < 2:
        return frozenset()
    count = min(count, max(1, len(names) // 4))
    return frozenset(sorted(names, key=lambda name: (hash_bits(seed, "heldout", name), name))[:count])


def heldout_files(table: UtteranceTable, names: frozenset[str], count: int, seed: int) -> np.ndarray:
    """bool[F]: the files of the held-out speakers; of a single speaker's a tenth, those whose keys hash lowest."""
    if names or not count or len(table.files) < 2:
        return np.fromiter((speaker in names for speaker in table.speakers), bool, len(table.files))
    keys = [table.file_key(file) for file in range(len(table.files))]
    by_hash = sorted(range(len(keys)), key=lambda file: (hash_bits(seed, "heldout", keys[file]), keys[file]))
    is_heldout = np.zeros(len(keys), bool)
    is_heldout[by_hash[: max(1, len(keys) // 10)]] = True
    return is_heldout
