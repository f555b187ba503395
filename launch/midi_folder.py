"""The MIDI files of a folder, and which of them are one piece. Part of `render_midi.py`."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".mid", ".midi")
# Without the number of the performance at its end.
PIECE = r"(.+?)(?:_p\d+)?"


class Mistake(ValueError):
    """What whoever started this has to change, in one line."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One MIDI file.

    Attributes:
        path: of the file.
        key: the path below the folder without its suffix.
        piece: that it is a performance of.
    """

    path: Path
    key: str
    piece: str

    @property
    def stem(self) -> str:
        """Of its sounds, below the folder that they fill and without their number."""
        return f"{self.piece}/{_flat(self.key)}"


def find_scores(folder: Path, piece: str = PIECE) -> list[Score]:
    """The MIDI files below a folder, by path.

    Args:
        folder: looked through with all folders in it.
        piece: a regular expression that the path below the folder, without suffix and with -- for /, matches whole; the
            first group that is not empty names the piece.

    Raises:
        Mistake: there is no such folder, it holds none, two files would have one name, or `piece` is no expression or
            gives a file no name.
    """
    try:
        expression = re.compile(piece)
    except re.error as error:
        raise Mistake(f"--piece {piece!r} is no regular expression ({error})") from error
    if not folder.is_dir():
        raise Mistake(f"{folder} is no folder; give a folder of MIDI files")
    scores: dict[str, Score] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        match = expression.fullmatch(_flat(key))
        name = next(filter(None, (*match.groups(), match[0]))) if match else ""
        if not name or "/" in name or name.startswith("."):
            raise Mistake(f"--piece {piece!r} gives {_flat(key)} no name; its first group is to be that of the piece")
        score = Score(path, key, name)
        if score.stem in scores:
            raise Mistake(f"{scores[score.stem].path} and {path} would have one name; rename one of them")
        scores[score.stem] = score
    if not scores:
        raise Mistake(f"{folder} holds no MIDI files ({', '.join(SUFFIXES)}); give a folder that does")
    return list(scores.values())


def in_turns(scores: list[Score], variants: int, seed: int) -> Iterator[tuple[Score, int]]:
    """Every file's first variant, every file's second ...; pieces mixed, so that the first minutes hold many."""
    mixed = sorted(scores, key=lambda score: hashlib.sha256(f"{seed}/{score.key}".encode()).digest())
    return ((score, variant) for variant in range(variants) for score in mixed)


def _flat(key: str) -> str:
    return key.replace("/", "--")
