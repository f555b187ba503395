"""Files that are replaced whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# Of a name within that of its temporary file: 255 bytes is the most that file systems take, for either.
_NAME_CHARACTERS = 32


def user_cache_folder() -> Path:
    """$XDG_CACHE_HOME/audiolm_jax, or ~/.cache/audiolm_jax; RuntimeError where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiolm_jax"


def is_plain_name(name: str) -> bool:
    """Whether a name that stands in a file of other people's is that of a file in the same folder, and can be one."""
    return Path(name).name == name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= 255


def replace_file(path, data: bytes) -> None:
    """Writes `data` under a temporary name in the same folder, then renames it to `path`.

    A reader sees the old file or the new one, never half of it, and a full disk leaves the old file as it was.
    Missing folders are made. Raises OSError, which names `path`, where the folder cannot be made or written.
    """
    path = Path(path)
    replace_files(path.parent, {path.name: data})


def replace_files(folder, files: Mapping[str, bytes], last: str | None = None) -> None:
    """Writes all `files` (content by name) into a folder under temporary names, and then renames all of them.

    So a full disk is met before the first old file is replaced. Where `last` is named, that file is removed before the
    others are replaced and put in place after them: a folder without it is not whole. Missing folders are made.

    Raises:
        OSError: the folder cannot be made or written; names the file that could not be.
    """
    folder = Path(folder)
    parts: dict[str, Path] = {}
    is_new = not folder.exists()
    try:
        for name, data in files.items():
            with error_names(folder / name):
                folder.mkdir(parents=True, exist_ok=True)
                handle, part = tempfile.mkstemp(prefix=f".{name[:_NAME_CHARACTERS]}.", suffix=".part", dir=folder)
                parts[name] = Path(part)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                # mkstemp makes files for the owner alone; a result file should be readable like any other.
                os.chmod(part, 0o666 & ~file_mode_mask())
        if last is not None:
            (folder / last).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == last):
            with error_names(folder / name):
                os.replace(parts[name], folder / name)
            del parts[name]
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
        if parts and is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def file_mode_mask() -> int:
    """The process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def error_names(path) -> Iterator[None]:
    """Within the block an OSError names `path`: one of a full disk names nothing, others a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
