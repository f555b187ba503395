"""Scores of recordings, by the stems of their files: ready ones, and the file in which our own are kept.

A ready file has a line `STEM SCORE` for every recording, as submissions to ZeroSpeech 2021 have; a higher score is
likelier. Our own begins with a line that tells how its scores were made, and is only ever added to.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audiolm_jax.errors import UserError, brief, shown
from audiolm_jax.evaluation.language.gold import bare_stem
from audiolm_jax.files import error_names
from audiolm_jax.files.plain_json import parse

_HEADER = "# audiolm scores 1 "
_COLUMNS = "stem score_per_token log_likelihood tokens tokens_hash sample_rate_hz"


@dataclasses.dataclass(frozen=True)
class Scores:
    """What recordings are compared by.

    Attributes:
        main: score by stem, that the headline figures come from: per token, or as the ready file has it.
        raw: log-likelihood of the whole recording by stem, None for ready scores, of which there is one kind.
        settings: how they were made.
        notes: what a reader must know.
    """

    main: Mapping[str, float]
    raw: Mapping[str, float] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ScoredRecording(NamedTuple):
    """One line of our own file.

    `log_likelihood` is the sum in nats over `num_tokens` tokens, whose hash is `tokens_hash`: equal tokens have equal
    scores, also when they are met again after a restart. `sample_rate_hz` is that of the file.
    """

    stem: str
    log_likelihood: float
    num_tokens: int
    tokens_hash: str
    sample_rate_hz: int

    @property
    def per_token(self) -> float:
        """Log-likelihood divided by the number of tokens."""
        return self.log_likelihood / self.num_tokens


def hash_of_tokens(tokens: np.ndarray) -> str:
    """16 hexadecimal digits of int[N]."""
    return hashlib.blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=8).hexdigest()


def read_scores(path: str | Path) -> Scores:
    """A ready score file, or a finished one of ours.

    Raises:
        UserError: the file is missing or empty, a line is not `STEM SCORE`, a score is not finite, or a stem has two.
    """
    path = Path(path)
    text = _read_text(path)
    if text.startswith(_HEADER):
        settings, lines = _parse_own(path, text)
        main = {line.stem: line.per_token for line in lines}
        raw = {line.stem: line.log_likelihood for line in lines}
        return Scores(main, raw, {**settings, "scores": str(path)})
    found: dict[str, float] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 2:
            raise UserError(f"{path}, line {number}: expected 'STEM SCORE', got {line.strip()[:60]!r}")
        stem = bare_stem(fields[0])
        if stem in found:
            raise UserError(f"{path}, line {number}: {brief(stem)} has a score already; every recording has one")
        try:
            found[stem] = float(fields[1])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: the score {shown(fields[1])} is not a number") from error
        if not math.isfinite(found[stem]):
            score = f"the score of {brief(stem)} is {brief(fields[1])}"
            raise UserError(f"{path}, line {number}: {score}; scores must be finite")
    if not found:
        raise UserError(f"{path} holds no scores; it should have a line 'STEM SCORE' for every recording")
    return Scores(found, None, {"scores": str(path), "score": "as given, higher is likelier"})


class ScoreFile:
    """Our own score file, to which lines are added while recordings are scored.

    Killed in the middle of a line it loses that line alone.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]):
        """Opens a file, or begins one.

        Args:
            path: of the file.
            settings: how scores are made, plain JSON values; those of a file that is there must be the same.

        Raises:
            UserError: the file is no score file of ours, or its scores were made in another way.
        """
        self.path = Path(path)
        self.done: dict[str, ScoredRecording] = {}
        header = f"{_HEADER}{json.dumps(settings, sort_keys=True)}\n# {_COLUMNS}\n"
        text = _read_text(self.path) if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole.startswith(_HEADER):
            found, lines = _parse_own(self.path, whole)
            differing = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
            if differing:
                raise UserError(f"{self.path} holds scores with another {differing[0]}; name another --output")
            self.done = {line.stem: line for line in lines}
        elif text and not header.startswith(text):
            raise UserError(f"{self.path} is there and holds no scores of ours; name another --output")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with error_names(self.path), self.path.open("r+b" if text else "wb") as file:
            file.truncate(len(whole.encode()))
            file.seek(0, os.SEEK_END)
            if not whole.startswith(_HEADER):
                file.truncate(0)
                file.seek(0)
                file.write(header.encode())

    def add(self, lines: Iterable[ScoredRecording]) -> None:
        """Adds finished recordings, on the disk when this returns."""
        lines = list(lines)
        text = "".join(
            f"{line.stem} {line.per_token!r} {line.log_likelihood!r} {line.num_tokens} {line.tokens_hash} "
            f"{line.sample_rate_hz}\n"
            for line in lines
        )
        with error_names(self.path), self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self.done |= {line.stem: line for line in lines}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give a file of scores") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give a file of scores") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text; give a file with a line 'STEM SCORE' for every recording") from error


def _parse_own(path: Path, text: str) -> tuple[dict[str, Any], list[ScoredRecording]]:
    """Settings and lines of our own file; a last line that was cut is left out."""
    settings, lines = {}, []
    for number, line in enumerate(text[: text.rfind("\n") + 1].split("\n")[:-1], 1):
        try:
            if number == 1:
                settings = dict(parse(line[len(_HEADER) :]))
            elif not line.startswith("#"):
                stem, _, log_likelihood, num_tokens, tokens_hash, rate_hz = line.split()
                scored = ScoredRecording(stem, float(log_likelihood), int(num_tokens), tokens_hash, int(rate_hz))
                if not math.isfinite(scored.log_likelihood) or scored.num_tokens < 1:
                    raise ValueError("a score of nothing")
                lines.append(scored)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}: damaged; remove the line, or score again") from error
    return settings, lines
