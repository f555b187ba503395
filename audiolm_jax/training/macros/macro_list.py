"""The macros of an experiment for people: names, values, and the comments they are declared with."""

import dataclasses
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.training.macros import configuration

_DECLARATION = re.compile(r"^(\w+) = (.*?)(?:  # (.+))?$")
_INCLUDE = re.compile(r"^include ['\"](.+)['\"]")
_WIDTH, _COMMENT_COLUMN = 120, 36


@dataclasses.dataclass(frozen=True)
class Macro:
    """A macro, its value in the experiment, and the comment beside its declaration ("" if it has none)."""

    name: str
    value: Any
    comment: str


@dataclasses.dataclass(frozen=True)
class Part:
    """The macros that one gin file declares, and what the file says of itself in its first lines."""

    title: str
    macros: tuple[Macro, ...]


def list_macros(exp: str | Path, overrides: Sequence[str] = ()) -> tuple[str, list[Part]]:
    """What an experiment says of itself, and its macros by the file that declares them.

    Args:
      exp: a path to a gin file, or the name of one in gin/exp.
      overrides: "MACRO=VALUE" each; the values are those with them.

    Raises:
      UserError: as `configuration.parse`.
    """
    configuration.parse(exp, overrides)
    values = configuration.macros()
    lines = {path: path.read_text().splitlines() for path in _files(configuration.find(exp))}
    declared = {path: [match for line in text if (match := _DECLARATION.match(line)) and match[1] in values]
                for path, text in lines.items()}
    # A file that declares a macro says what it is; those that only set it do not.
    home: dict[str, Path] = {}
    for told in (True, False):
        for path, matches in declared.items():
            for match in matches:
                if not told or match[3]:
                    home.setdefault(match[1], path)
    parts = [
        Part(_heading(lines[path]), tuple(
            Macro(match[1], values[match[1]], match[3] or "") for match in matches if home[match[1]] == path
        ))
        for path, matches in declared.items()
    ]  # fmt: skip
    return _heading(lines[configuration.find(exp)]), [part for part in parts if part.macros]


def in_words(exp: str | Path, overrides: Sequence[str] = ()) -> str:
    """`list_macros` as text of at most 120 columns."""
    heading, parts = list_macros(exp, overrides)
    text = [heading, "", "macros, which --set MACRO=VALUE changes:"]
    for part in parts:
        text += ["", *textwrap.wrap(part.title, _WIDTH)]
        for macro in part.macros:
            setting = f"  {macro.name} = {macro.value!r}"
            comment = textwrap.wrap(macro.comment, _WIDTH - _COMMENT_COLUMN)
            if comment and len(setting) + 2 <= _COMMENT_COLUMN:
                setting = setting.ljust(_COMMENT_COLUMN) + comment.pop(0)
            text += [setting, *(" " * _COMMENT_COLUMN + line for line in comment)]
    return "\n".join(text) + "\n"


def _files(path: Path) -> list[Path]:
    """A gin file after all that it includes, each once, in the order that gin reads them."""
    found: list[Path] = []
    for line in path.read_text().splitlines():
        if match := _INCLUDE.match(line):
            found += _files(configuration.find(match[1]))
    return list(dict.fromkeys([*found, path]))


def _heading(lines: list[str]) -> str:
    """The comment that a file begins with, without its marks."""
    heading = []
    for line in lines:
        if not line.startswith("#"):
            break
        heading.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(heading)
