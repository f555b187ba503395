"""MAESTRO v3 on disk: maestro-v3.0.0.json (or .csv) and the recordings that it names, in MAESTRO's own splits."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.data.corpora.even_segments import even_segments
from audiolm_jax.data.corpora.utterances import LeftOut, Listing, UtteranceTable
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.files.plain_json import parse

TABLE_NAME = "maestro-v3.0.0"
SPLITS = ("train", "validation", "test")
_COLUMNS = ("canonical_composer", "canonical_title", "split", "year", "audio_filename")


@dataclasses.dataclass(frozen=True)
class Performance:
    """One row of the table.

    Attributes:
        audio_filename: below the folder of the table.
        composer, title: of the composition, as MAESTRO spells them.
        split: one of SPLITS.
        year: of the performance.
    """

    audio_filename: str
    composer: str
    title: str
    split: str
    year: int

    @property
    def composition(self) -> str:
        """What must not be on both sides of a split."""
        return f"{self.composer}: {self.title}"

    @property
    def key(self) -> str:
        """The path below the folder without its suffix."""
        return Path(self.audio_filename).with_suffix("").as_posix()


def read_table(root: Path) -> list[Performance]:
    """All performances in the order of their keys.

    Raises:
        UserError: there is no table, it is damaged, or it names a recording twice.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder maestro-v3.0.0 of the unpacked archive")
    path = root / f"{TABLE_NAME}.json"
    if not path.is_file():
        path = path.with_suffix(".csv")
    if not path.is_file():
        raise UserError(f"{root} holds neither {TABLE_NAME}.json nor .csv; unpack maestro-v3.0.0.zip, give its folder")
    try:
        rows = _json_rows(path) if path.suffix == ".json" else _csv_rows(path)
        performances = [_performance(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {first_line(error)}); unpack it again") from error
    performances.sort(key=lambda performance: performance.key)
    for first, second in zip(performances, performances[1:], strict=False):
        if first.key == second.key:
            raise UserError(f"{path} names {second.audio_filename} twice; unpack it again")
    if not performances:
        raise UserError(f"{path} names no recordings; unpack it again")
    return performances


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """The table by columns, each a map from the row's number to the value, as rows."""
    columns = parse(path.read_bytes())
    return [{name: columns[name][row] for name in _COLUMNS} for row in columns["split"]]


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _performance(row: dict[str, Any]) -> Performance:
    composer, title, split, year, audio_filename = (row[name] for name in _COLUMNS)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}")
    if not Path(str(audio_filename)).name:
        raise ValueError("a row names no file")
    return Performance(str(audio_filename), str(composer), str(title), split, int(year))


def usable(root: Path, performances: list[Performance]) -> tuple[list[Performance], list[LeftOut]]:
    """Those whose recording is there and whose composition is in no other split, and the rest with reasons.

    Of a composition that the table puts into several splits only what is furthest from training is kept.
    """
    furthest: dict[str, int] = {}
    for performance in performances:
        place = SPLITS.index(performance.split)
        furthest[performance.composition] = max(place, furthest.get(performance.composition, 0))
    kept, left_out = [], []
    for performance in performances:
        split = SPLITS[furthest[performance.composition]]
        if not (root / performance.audio_filename).is_file():
            reason = "the table names it, but it is missing"
        elif performance.split != split:
            reason = f"its composition is in the {split} split too"
        else:
            kept.append(performance)
            continue
        left_out.append(LeftOut(performance.audio_filename, performance.key, performance.composition, reason))
    return kept, left_out


def list_maestro(
    root: Path, heldout_split: str, segment_seconds: float, cache_dir: str | Path | None
) -> Listing:
    """Segments of the train split to train on and of another one held out; "speaker" is the composition.

    Raises:
        UserError: none of the recordings can be used.
    """
    kept, left_out = usable(root, read_table(root))
    kept = [performance for performance in kept if performance.split in ("train", heldout_split)]
    files = [performance.audio_filename for performance in kept]
    index = even_segments("maestro", root, files, segment_seconds, cache_dir, heldout_split)
    unusable = zip(kept, index.reasons, strict=True)
    left_out += [LeftOut(p.audio_filename, p.key, p.composition, reason) for p, reason in unusable if reason]
    table = UtteranceTable(
        root,
        index.names,
        [performance.composition for performance in kept],
        index.first_segment,
        index.first_range,
        index.ranges,
    )
    if not len(table):
        raise UserError(f"{root} holds none of the recordings of its table; unpack maestro-v3.0.0.zip again")
    is_heldout = np.asarray([performance.split == heldout_split for performance in kept])
    return Listing(table, is_heldout, tuple(left_out))
