"""ABX item files in Libri-light's format: which stretch of which file is which phone, in which context, by whom."""

import dataclasses
from pathlib import Path

import numpy as np

from audiolm_jax.errors import UserError, shown

HEADER = "#file onset offset #phone prev-phone next-phone speaker"
_COLUMNS = ("file", "onset", "offset", "phone", "prev-phone", "next-phone", "speaker")
# Years; frames are counted from times, and numbers without bound overflow.
_LONGEST_SECONDS = 1e9
_OTHER_NAMES = {
    "filename": "file",
    "prev": "prev-phone",
    "previous-phone": "prev-phone",
    "next": "next-phone",
    "talker": "speaker",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
    """A column of N names: row i says `distinct[index[i]]`.

    Attributes:
        distinct: the names, each once, sorted.
        index: int32[N].
    """

    distinct: tuple[str, ...]
    index: np.ndarray

    @classmethod
    def of(cls, values: list[str]) -> "Names":
        distinct = tuple(sorted(set(values)))
        number = {name: position for position, name in enumerate(distinct)}
        return cls(distinct, np.fromiter((number[value] for value in values), np.int32, len(values)))


@dataclasses.dataclass(frozen=True, eq=False)
class ItemFile:
    """N rows, in the order of the file.

    Attributes:
        files: names of recordings, without folder and suffix.
        onset_seconds, offset_seconds: float64[N], of the whole triphone.
        phones: the middle phone of each row.
        contexts: its neighbours, "previous+next".
        speakers: of each row.
    """

    files: Names
    onset_seconds: np.ndarray
    offset_seconds: np.ndarray
    phones: Names
    contexts: Names
    speakers: Names

    def __len__(self) -> int:
        return len(self.onset_seconds)


def read_item_file(path: str | Path) -> ItemFile:
    """Reads an item file: a header line that names the columns, then a row for each item, white space between fields.

    The columns are those of HEADER, in any order; others may stand beside them. Empty lines count nowhere.

    Raises:
        UserError: the file is missing, not UTF-8 text or has no rows; its first line does not name every column once; a
            row has another number of fields than the header, or times that are not numbers.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no item file {path}; give --item a file in Libri-light's format") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; give --item a file in Libri-light's format") from error
    numbered = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UserError(f"{path} is empty; give --item a file in Libri-light's format")
    (_, header), *rows = numbered
    place = _places(path, header)
    if not rows:
        raise UserError(f"{path} has no rows behind its header line; give --item a file in Libri-light's format")
    for number, fields in rows:
        if len(fields) != len(header):
            raise UserError(f"{path}, line {number}: {len(fields)} fields, but the header has {len(header)} columns")
    column = {name: [fields[at] for _, fields in rows] for name, at in place.items()}
    contexts = zip(column["prev-phone"], column["next-phone"], strict=True)
    return ItemFile(
        files=Names.of(column["file"]),
        onset_seconds=_seconds(path, rows, place["onset"]),
        offset_seconds=_seconds(path, rows, place["offset"]),
        phones=Names.of(column["phone"]),
        contexts=Names.of([f"{before}+{after}" for before, after in contexts]),
        speakers=Names.of(column["speaker"]),
    )


def _places(path: Path, header: list[str]) -> dict[str, int]:
    """Where the header has each column."""
    names = [_column(field) for field in header]
    for name in _COLUMNS:
        if name not in names:
            found = shown(" ".join(header))
            raise UserError(
                f"{path}: the first line names no column {name} ({found}); begin the file with the line "
                f"'{HEADER}', the columns in the order that the rows have"
            )
        if names.count(name) > 1:
            raise UserError(f"{path}: the first line names the column {name} twice; remove one of the two columns")
    return {name: names.index(name) for name in _COLUMNS}


def _column(field: str) -> str:
    """The name of a column as HEADER has it, from the ways of writing it."""
    name = field.lstrip("#").lower().replace("_", "-")
    return _OTHER_NAMES.get(name, name)


def _seconds(path: Path, rows: list[tuple[int, list[str]]], column: int) -> np.ndarray:
    """One column of times."""
    try:
        seconds = np.array([float(fields[column]) for _, fields in rows])
    except ValueError:
        seconds = np.array([_or_nan(fields[column]) for _, fields in rows])
    if (wrong := np.flatnonzero(~(np.abs(seconds) <= _LONGEST_SECONDS))).size:
        number, fields = rows[wrong[0]]
        raise UserError(f"{path}, line {number}: {shown(fields[column])} is not a time in seconds")
    return seconds


def _or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def frame_spans(
    onset_seconds: np.ndarray, offset_seconds: np.ndarray, num_frames: np.ndarray, feature_seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """The frames of each row by Libri-light's rounding: those whose centres lie inside the row, without the last.

    Frame k has its centre at (k + 0.5) * feature_seconds. With step = 1 / feature_seconds the first frame is
    ceil(step * onset - 0.5), at least 0. floor(step * offset - 0.5) is the last that lies inside and is taken as an
    exclusive end, at most the number of frames. It is float64 that rounds, not the numbers on paper.

    Args:
        onset_seconds, offset_seconds: float64[N].
        num_frames: int[N], of the row's file.
        feature_seconds: from one frame to the next.

    Returns:
        (start, length) int64[N]; a length of 0 where no frame is left.
    """
    step = 1.0 / feature_seconds
    start = np.clip(np.ceil(step * onset_seconds - 0.5), 0.0, num_frames)
    end = np.minimum(np.floor(step * offset_seconds - 0.5), num_frames)
    length = np.maximum(end - start, 0.0)
    return start.astype(np.int64), length.astype(np.int64)
