"""Files by the names of the recordings that they belong to; that two files have one name is a mistake."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from audiolm_jax.errors import UserError


def by_key(folder: str | Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their path below a folder without suffix, in the order of these keys.

    Raises:
        UserError: two of them have one key.
    """
    found: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{path} and {found[key]} differ only in their suffix; remove one of them")
        found[key] = path
    return {key: found[key] for key in sorted(found)}


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by their name alone, without suffix, wherever they lie."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def only(found: Mapping[str, list[Path]], stem: str) -> Path:
    """The one file of a name. Raises UserError where two have it."""
    first, *others = found[stem]
    if others:
        raise UserError(f"two files are called {stem}, where one name is one recording: {first} and {others[0]}; "
                        "keep one")  # fmt: skip
    return first
