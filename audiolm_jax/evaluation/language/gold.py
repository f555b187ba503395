"""gold.csv of ZeroSpeech 2021: which recordings of sWUGGY (lexical) and sBLIMP (syntactic) form a pair.

A pair is a word and a non-word, or a sentence and one that breaks a rule, each spoken by several voices. What belongs
together is told by the columns: voice and id in the lexical file; voice, type, subtype and id in the syntactic one.
Where several rows have the same of these, the first correct one goes with the first incorrect one, and so on. That is
how ZeroSpeech 2021's evaluator pairs the rows of the files that it was made for (the i-th correct row with the i-th
incorrect one, whatever they are), without depending on their order.
"""

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.errors import UserError, brief, shown

SWUGGY, SBLIMP = "swuggy", "sblimp"

_PAIR_COLUMNS = {SWUGGY: ("id",), SBLIMP: ("type", "subtype", "id")}
_COLUMNS = {
    SWUGGY: ("filename", "id", "voice", "frequency", "correct"),
    SBLIMP: ("filename", "id", "voice", "type", "subtype", "correct"),
}
# A column that only the other task's file has, and the name of that file.
_OTHER = {SWUGGY: ("subtype", "syntactic", SBLIMP), SBLIMP: ("frequency", "lexical", SWUGGY)}
_TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclasses.dataclass(frozen=True)
class Trial:
    """The two recordings of a pair in one voice, by the stems of their files."""

    voice: str
    correct: str
    incorrect: str


@dataclasses.dataclass(frozen=True)
class MinimalPair:
    """A pair of things to say in all its voices.

    Attributes:
        name: unique in its file: the id, or "type/subtype/id".
        trials: one for each voice, in the order of the voices.
        frequency: of the word, as counted in LibriSpeech; None for sBLIMP and where the file has none.
        length: of the word in phones; None for sBLIMP and where the file has none.
        type, subtype: of the syntactic rule; "" for sWUGGY.
    """

    name: str
    trials: tuple[Trial, ...]
    frequency: int | None = None
    length: int | None = None
    type: str = ""
    subtype: str = ""


@dataclasses.dataclass(frozen=True)
class Gold:
    """A gold file, or a part of it.

    Attributes:
        task: "swuggy" or "sblimp".
        pairs: in the order of their names.
        path: of the file.
        notes: what a reader of the figures must know.
    """

    task: str
    pairs: tuple[MinimalPair, ...]
    path: str = ""
    notes: tuple[str, ...] = ()

    @property
    def stems(self) -> list[str]:
        """All recordings that need a score, in the order of their names."""
        trials = (trial for pair in self.pairs for trial in pair.trials)
        return sorted(stem for trial in trials for stem in (trial.correct, trial.incorrect))


@dataclasses.dataclass(frozen=True)
class _Row:
    line: int
    stem: str
    voice: str
    correct: bool
    pair: tuple[str, ...]
    frequency: int | None
    length: int | None


def read_gold(path: str | Path, task: str, max_pairs: int | None = None) -> Gold:
    """Reads and pairs a gold file.

    Args:
        path: gold.csv of lexical/dev or syntactic/dev, unchanged.
        task: SWUGGY or SBLIMP.
        max_pairs: keep at most so many pairs, evenly drawn by their names; None for all.

    Raises:
        UserError: the file is missing or not a CSV file with the task's columns, names a recording twice, or holds
            recordings that have no partner.
    """
    path = Path(path)
    rows = _read_rows(path, task)
    correct, incorrect = ([row for row in rows if row.correct is wanted] for wanted in (True, False))
    if len(correct) != len(incorrect):
        raise UserError(
            f"{path} has {len(correct)} correct and {len(incorrect)} incorrect rows, which cannot be paired; "
            "use the file as ZeroSpeech 2021 gives it"
        )
    partners = _by_key(incorrect)
    trials: dict[tuple[str, ...], list[tuple[_Row, _Row]]] = {}
    for key, rows_of_key in _by_key(correct).items():
        others = partners.pop(key, [])
        if len(others) != len(rows_of_key):
            raise _no_partner(path, (rows_of_key if len(rows_of_key) > len(others) else others)[0])
        trials.setdefault(key[1:], []).extend(zip(rows_of_key, others, strict=True))
    if partners:
        raise _no_partner(path, next(iter(partners.values()))[0])
    notes = []
    if any(a.pair != b.pair or a.voice != b.voice for a, b in zip(correct, incorrect, strict=True)):
        notes.append(
            f"the rows of {path.name} are in another order than ZeroSpeech 2021's evaluator relies on: it would take "
            "recordings of different pairs for partners, here they are paired by their columns"
        )
    pairs = sorted((_pair(path, name, trials[name]) for name in trials), key=lambda pair: pair.name)
    if max_pairs is not None and max_pairs < len(pairs):
        notes.append(f"{max_pairs} of {len(pairs)} pairs of {path.name} were measured, drawn by their names")
        drawn = sorted(pairs, key=lambda pair: (hash_bits(0, "pair", pair.name), pair.name))[:max_pairs]
        pairs = sorted(drawn, key=lambda pair: pair.name)
    if task == SWUGGY and (unknown := sum(pair.frequency is None for pair in pairs)):
        notes.append(f"{unknown} words of {path.name} have no frequency and are in no band")
    return Gold(task, tuple(pairs), str(path), tuple(notes))


def bare_stem(name: str) -> str:
    """A recording's name without folders and `.wav`."""
    stem = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    return stem[:-4] if stem.lower().endswith(".wav") else stem


def _read_rows(path: Path, task: str) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = [column.strip() for column in table.fieldnames or ()]
            _check_columns(path, task, columns)
            table.fieldnames = columns
            rows = [_row(path, task, table.line_num, values) for values in table]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give --gold the gold.csv of the task") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give --gold the gold.csv in it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}); use it as ZeroSpeech 2021 gives it") from error
    if not rows:
        raise UserError(f"{path} has no rows; use the file as ZeroSpeech 2021 gives it")
    seen: dict[str, int] = {}
    for row in rows:
        if row.stem in seen:
            again = f"{brief(row.stem)} is also on line {seen[row.stem]}"
            raise UserError(f"{path}, line {row.line}: {again}; remove one of them")
        seen[row.stem] = row.line
    return rows


def _check_columns(path: Path, task: str, columns: Sequence[str]) -> None:
    missing = [column for column in _COLUMNS[task] if column not in columns]
    for column in _COLUMNS[task]:
        if columns.count(column) > 1:
            raise UserError(f"{path} has two columns {column}; remove one of them")
    other_column, other_name, other_task = _OTHER[task]
    if missing and other_column in columns:
        raise UserError(f"{path} is the gold file of the {other_name} task; use it with `audiolm eval {other_task}`")
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}; the gold file of {task} has {', '.join(_COLUMNS[task])}"
        )


def _row(path: Path, task: str, line: int, values: dict) -> _Row:
    if None in values or None in values.values():
        raise UserError(f"{path}, line {line}: the row has not as many fields as the header; mend the file")
    values = {column: text.strip() for column, text in values.items()}
    correct = _TRUTHS.get(values["correct"].lower())
    if correct is None:
        raise UserError(f"{path}, line {line}: correct is {shown(values['correct'])}, it must be 1 or 0")
    is_word = task == SWUGGY and correct
    return _Row(
        line=line,
        stem=bare_stem(values["filename"]),
        voice=values["voice"],
        correct=correct,
        pair=tuple(values[column] for column in _PAIR_COLUMNS[task]),
        frequency=_count(path, line, "frequency", values) if is_word else None,
        length=_count(path, line, "length", values) if is_word and "length" in values else None,
    )


def _count(path: Path, line: int, column: str, values: dict[str, str]) -> int | None:
    """A whole number, None for an empty field; spreadsheets write 12 as 12.0."""
    text = values[column]
    if not text:
        return None
    try:
        number = float(text)
        if number >= 0 and number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{path}, line {line}: {column} is {shown(text)}, it must be a whole number")


def _by_key(rows: Iterable[_Row]) -> dict[tuple[str, ...], list[_Row]]:
    """Rows by voice and pair, in the order of the file."""
    found: dict[tuple[str, ...], list[_Row]] = {}
    for row in rows:
        found.setdefault((row.voice, *row.pair), []).append(row)
    return found


def _no_partner(path: Path, row: _Row) -> UserError:
    kind, other = ("correct", "incorrect") if row.correct else ("incorrect", "correct")
    return UserError(
        f"{path}, line {row.line}: the {kind} {brief(row.stem)} (pair {brief('/'.join(row.pair))}, voice "
        f"{brief(row.voice)}) has no "
        f"{other} partner; use the file as ZeroSpeech 2021 gives it"
    )


def _pair(path: Path, name: tuple[str, ...], rows: Sequence[tuple[_Row, _Row]]) -> MinimalPair:
    """One pair of all its rows (correct, incorrect), whatever their order."""
    facts = {(correct.frequency, correct.length) for correct, _ in rows}
    if len(facts) > 1:
        lines = brief(", ".join(str(correct.line) for correct, _ in rows))
        pair = brief("/".join(name))
        raise UserError(f"{path}, lines {lines}: the voices of pair {pair} differ in frequency or length")
    frequency, length = facts.pop()
    trials = sorted(
        (Trial(correct.voice, correct.stem, incorrect.stem) for correct, incorrect in rows),
        key=lambda trial: (trial.voice, trial.correct),
    )
    kind, subkind = name[:2] if len(name) == 3 else ("", "")
    return MinimalPair("/".join(name), tuple(trials), frequency, length, kind, subkind)
