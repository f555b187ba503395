"""Where the results of a command go: looked at before the work, and kept elsewhere where the disk refuses after it."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from audiolm_jax.errors import UserError
from audiolm_jax.files.object_storage import is_remote
from audiolm_jax.files.replacing import replace_file

# Written on trial: a full disk often takes an empty file.
_TRIAL_BYTES = 4096
_OTHER = "name another output"


def check_files(paths: Sequence, inputs: Iterable = (), needed_bytes: int = 0) -> None:
    """Refuses files that could not be written, or must not be; nothing is made or changed.

    Args:
        paths: of the files that will be written, under temporary names and renamed. Those that are there are replaced.
        inputs: files and folders that the command reads; others than local ones that exist are passed over.
        needed_bytes: how large all of them together will be, if that is known.

    Raises:
        UserError: one is an input or is there and lies in one, is a folder or a device, or is named twice; or its
            folder cannot be made or written, or has no room.
    """
    paths = [Path(path) for path in paths]
    inputs = _local(inputs)
    for path in paths:
        _check_file(path, inputs)
        _try_to_write(path, path, needed_bytes)
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"cannot write {path} twice; give every output a name of its own")


def _check_file(path: Path, inputs: Sequence[Path]) -> None:
    found = _status(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise UserError(f"cannot write {path}: it is a folder; {_OTHER}")
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise UserError(f"cannot write {path}: it is no plain file; {_OTHER}")
    for given in inputs:
        if found is not None and os.path.samestat(found, given.stat()):
            raise UserError(f"cannot write {path}: it is the input {given}; {_OTHER}")
        if found is not None and given.is_dir() and _is_within(path, given):
            raise UserError(f"cannot write {path}: it is there and lies in the input {given}; {_OTHER}")


def check_folder(path, inputs: Iterable = (), sound_inputs: Iterable = ()) -> None:
    """The same for a folder that will be filled; one on object storage is not looked at.

    Args:
        path: of the folder.
        inputs: files and folders that the command reads and that it must not fill.
        sound_inputs: folders of recordings: where sound is made, it must not go below them either, because it would be
            read as recordings the next time.

    Raises:
        UserError: it is an input or lies below such a one, is a file, or cannot be made or written.
    """
    if is_remote(path):
        return
    path = Path(path)
    found = _status(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise UserError(f"cannot write into {path}: it is a file; name a folder")
    for given in _local((*inputs, *sound_inputs)):
        if found is not None and os.path.samestat(found, given.stat()):
            raise UserError(f"cannot write into {path}: it is the input {given}; {_OTHER}")
    for given in _local(sound_inputs):
        if given.is_dir() and _is_within(path, given):
            raise UserError(
                f"cannot write into {path}: it lies in {given}, where what is made would be read as recordings the "
                "next time; name a folder outside of it"
            )
    _try_to_write(path / "file", path)


def write_results(files: Mapping[Path, bytes], written: Callable[[Path], None] = lambda path: None) -> None:
    """Writes files (content by path) that took long to make; what cannot be written is kept in another folder.

    Args:
        files: each is replaced whole, in this order.
        written: called with each path that was written.

    Raises:
        UserError: one could not be written. The line says why, and where it is kept or that there is no room for it.
    """
    left: dict[Path, bytes] = {}
    reason = ""
    for path, data in files.items():
        try:
            replace_file(path, data)
        except OSError as error:
            left[Path(path)] = data
            reason = reason or error.strerror
            continue
        written(Path(path))
    if not left:
        return
    names = " and ".join(map(str, left)) if len(left) < 3 else f"{next(iter(left))} and {len(left) - 1} other files"
    folder = Path(os.path.commonpath([path.absolute().parent for path in left]))
    kept, tried = _keep({path.absolute().relative_to(folder): data for path, data in left.items()})
    if kept is None:
        raise UserError(f"cannot write {names} ({reason}), and there is no room in {tried}; make room and start again")
    if len(left) == 1:
        raise UserError(f"cannot write {names} ({reason}); kept as {kept / next(iter(left)).name}: move it from there")
    raise UserError(f"cannot write {names} ({reason}); kept in {kept}: move what is in it to {folder}")


def _keep(files: Mapping[Path, bytes]) -> tuple[Path | None, str]:
    """A new folder with the files by their places in it, None if none takes them; and where it was tried."""
    places = []
    # tempfile raises where it finds no room for a few bytes.
    for place in (tempfile.gettempdir, Path.cwd, Path.home):
        with contextlib.suppress(OSError, RuntimeError):
            places.append(Path(place()))
    for place in dict.fromkeys(places):
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="audiolm-kept-", dir=place))
            for path, data in files.items():
                replace_file(folder / path, data)
            return folder, ""
        except OSError:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    return None, ", ".join(map(str, dict.fromkeys(places))) or "any other folder"


def _status(path: Path) -> os.stat_result | None:
    """What is at a path, None for nothing yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refusal(path, error) from error


def _local(inputs: Iterable) -> list[Path]:
    """Those inputs that are here; whoever reads them tells what is wrong with the others."""
    found = []
    for given in inputs:
        with contextlib.suppress(OSError, ValueError):
            if given is not None and not is_remote(given) and Path(given).exists():
                found.append(Path(given))
    return found


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _try_to_write(path: Path, shown: Path, needed_bytes: int = 0) -> None:
    """Raises UserError, of `shown`, where `path` could not be written; folders that are not there are not made."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        if not folder.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        longest = os.pathconf(folder, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
        disk = shutil.disk_usage(folder)
    except OSError as error:
        raise _refusal(shown, error) from error
    # Some network file systems say nothing of their size.
    if disk.total and disk.free < needed_bytes:
        raise UserError(
            f"cannot write {shown}: it needs about {needed_bytes / 1e6:.3g} MB and {disk.free / 1e6:.3g} MB are free; "
            f"make room, or {_OTHER}"
        )


def _refusal(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}; make room or mend its folder, or {_OTHER}")
