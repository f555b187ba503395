"""What a scan found in the files of a corpus, kept on disk so that the next start need not open them again."""

import dataclasses
import functools
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audiolm_jax.data.corpora.voice_activity import Ranges
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.files import replace_file, user_cache_folder
from audiolm_jax.files.array_file import read_arrays
from audiolm_jax.files.plain_json import parse

# Files that are read at once: on a network disk most of the time is spent waiting.
_NUM_THREADS = 16
_FILES_PER_CHUNK = 2000
_SECONDS_BETWEEN_SAVES = 60.0
_VERSION = 1

# Size and time of change of a recording and of the file beside it; -1 for a file that is not there.
Stamp = tuple[int, int, int, int]
# What no file has, so that it is looked at again.
_NEVER: Stamp = (-1, -1, -1, -1)


@dataclasses.dataclass(frozen=True, eq=False)
class FileSegments:
    """The segments of one file.

    Attributes:
        num_ranges: int32[S], ranges of each segment.
        ranges: int32[R, 2] of samples, R = sum of num_ranges.
        reason: why the file, or a part of it, cannot be used; "" if all is well.
        is_unread: whether that may be the machine's fault, so that the next start tries the file again.
    """

    num_ranges: np.ndarray
    ranges: np.ndarray
    reason: str = ""
    is_unread: bool = False

    @staticmethod
    def unusable(path: Path, error: Exception) -> "FileSegments":
        """Of a file that gave an error, whatever the decoder's or parser's."""
        reason = str(error) if isinstance(error, UserError) else f"it cannot be read ({first_line(error)})"
        cause = error.__cause__ if isinstance(error, UserError) else error
        is_unread = isinstance(cause, (OSError, MemoryError)) and not isinstance(cause, FileNotFoundError)
        none = FileSegments.of((), reason.replace(f"{path} ", "it "))
        return dataclasses.replace(none, is_unread=is_unread)

    @staticmethod
    def of(segments: Sequence[Ranges], reason: str = "") -> "FileSegments":
        """From the ranges of each segment, in samples below 2^31: 37 hours of speech, 12 of music at 48 kHz."""
        ranges = np.asarray([pair for segment in segments for pair in segment], np.int64).reshape(-1, 2)
        if ranges.max(initial=0) > np.iinfo(np.int32).max:
            return FileSegments.of((), "it is too long: 2^31 samples or more")
        num_ranges = np.asarray([len(segment) for segment in segments], np.int32)
        return FileSegments(num_ranges, ranges.astype(np.int32), reason)


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentIndex:
    """Columns over the files F of a corpus, their segments S and their ranges R.

    Attributes:
        names: path of each file below the root.
        stamps: int64[F, 4], see `Stamp`.
        first_segment: int64[F + 1].
        first_range: int64[S + 1].
        ranges: int32[R, 2].
        reasons: of each file, "" if all is well.
    """

    names: tuple[str, ...]
    stamps: np.ndarray
    first_segment: np.ndarray
    first_range: np.ndarray
    ranges: np.ndarray
    reasons: tuple[str, ...]

    @staticmethod
    def of(names: Sequence[str], stamps: Sequence[Stamp], files: Sequence[FileSegments]) -> "SegmentIndex":
        """From what was found in each file."""
        num_ranges = np.concatenate([np.zeros(0, np.int32), *(file.num_ranges for file in files)])
        return SegmentIndex(
            tuple(names),
            np.asarray(stamps, np.int64).reshape(-1, 4),
            _starts([len(file.num_ranges) for file in files]),
            _starts(num_ranges),
            np.concatenate([np.zeros((0, 2), np.int32), *(file.ranges for file in files)]),
            tuple(file.reason for file in files),
        )

    def file(self, place: int) -> FileSegments:
        """What was found in the file at a place."""
        first, last = self.first_segment[place], self.first_segment[place + 1]
        bounds = self.first_range[first : last + 1]
        ranges = self.ranges[bounds[0] : bounds[-1]]
        return FileSegments(np.diff(bounds).astype(np.int32), ranges, self.reasons[place])

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def find(self, name: str, stamp: Stamp) -> FileSegments | None:
        """What was found in a file, if it has not changed since."""
        place = self._places.get(name)
        if place is None or tuple(self.stamps[place].tolist()) != stamp:
            return None
        return self.file(place)


def _starts(lengths) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def index_path(cache_dir: str | Path | None, kind: str, root: Path, *settings: object) -> Path:
    """Where the index of a folder is kept; another folder, or other settings, are another file."""
    text = json.dumps([_VERSION, str(root.resolve()), *map(str, settings)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(cache_dir or user_cache_folder()) / f"{kind}-{digest}.npz"


def _save(path: Path, index: SegmentIndex) -> None:
    """Writes an index; a place that cannot be written costs the next start its time, and nothing else."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        names=_packed(index.names),
        stamps=index.stamps,
        first_segment=index.first_segment,
        first_range=index.first_range,
        ranges=index.ranges,
        reasons=_packed(index.reasons),
    )
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        print(f"the index of the corpus cannot be kept in {path.parent} ({error.strerror})", file=sys.stderr)


def _packed(lines: Sequence[str]) -> np.ndarray:
    """uint8 of JSON: names may hold anything but need no pickle."""
    return np.frombuffer(json.dumps(lines).encode(), np.uint8)


def _load(path: Path) -> SegmentIndex:
    """The index in a file; an empty one if there is none or it is damaged."""
    try:
        columns = read_arrays(path)
        names, reasons = (tuple(parse(columns[name].tobytes())) for name in ("names", "reasons"))
        numbers = [columns[name] for name in ("stamps", "first_segment", "first_range", "ranges")]
        index = SegmentIndex(names, *numbers, reasons)
        shapes = [(len(names), 4), (len(names) + 1,), (int(numbers[1][-1]) + 1,), (int(numbers[2][-1]), 2)]
        if [column.shape for column in numbers] == shapes and len(reasons) == len(names):
            return index
    except (OSError, KeyError, IndexError, TypeError, ValueError):
        pass
    return SegmentIndex.of((), (), ())


def up_to_date_index(
    path: Path,
    stamps: Mapping[str, Stamp],
    inspect: Callable[[str], FileSegments],
    progress: bool | None = None,
) -> SegmentIndex:
    """The index of files, of which only the new and the changed are opened.

    What is found is written every minute, so a scan that is stopped goes on where it was.

    Args:
        path: where the index is kept.
        stamps: size and time of change of each file by name; the index has this order.
        inspect: what a file holds; called from several threads, never raises for a damaged file.
        progress: whether to show a bar on stderr; None: if it is a terminal.
    """
    before = _load(path)
    found = {name: before.find(name, stamp) for name, stamp in stamps.items()}
    missing = [name for name, segments in found.items() if segments is None]
    if not missing and before.names == tuple(stamps):
        return before
    hidden = not (sys.stderr.isatty() if progress is None else progress)
    try:
        _inspect_all(path, stamps, found, missing, inspect, hidden)
    finally:
        # Also what was found before Ctrl-C.
        index = _joined(stamps, found)
        _save(path, index)
    return index


def _inspect_all(
    path: Path,
    stamps: Mapping[str, Stamp],
    found: dict[str, FileSegments | None],
    missing: Sequence[str],
    inspect: Callable[[str], FileSegments],
    hidden: bool,
) -> None:
    """Fills `found` for the missing files, and writes what is known every minute."""
    saved = time.monotonic()
    with ThreadPoolExecutor(_NUM_THREADS) as threads, tqdm(
        total=len(missing), desc="reading the corpus", unit="file", disable=hidden
    ) as bar:
        for start in range(0, len(missing), _FILES_PER_CHUNK):
            chunk = missing[start : start + _FILES_PER_CHUNK]
            for name, segments in zip(chunk, threads.map(inspect, chunk), strict=True):
                found[name] = segments
                bar.update()
            if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                _save(path, _joined(stamps, found))
                saved = time.monotonic()


def _joined(stamps: Mapping[str, Stamp], found: Mapping[str, FileSegments | None]) -> SegmentIndex:
    """An index of the files that are known so far."""
    known = [name for name in stamps if found[name] is not None]
    kept = [_NEVER if found[name].is_unread else stamps[name] for name in known]
    return SegmentIndex.of(known, kept, [found[name] for name in known])
