"""Files that appear whole or not at all, and whose writer is known to be alive while they are being written.

A file is written as `.NAME.RANDOM.part` in the folder where it will stand, under a lock that the kernel drops when its
process ends, however it ends, and is then renamed. So a part that is not locked was left by a process that died and
may go, and a part that is locked says that somebody is at work on NAME. Two writers of one NAME do not disturb each
other: the last rename wins.

Folders on object storage (gs://, s3://) have neither locks nor renames, and need none: an object appears when its
last byte is there. Files for them are written on the local disk and then copied.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from audiolm_jax.files.object_storage import is_remote


@contextlib.contextmanager
def part_file(path: epath.Path) -> Iterator[Path]:
    """A local path to write to; it becomes `path` when the block ends without an exception, else it is removed.

    Raises:
        OSError: the folder cannot be made or written.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            yield temporary
            epath.Path(temporary).copy(path, overwrite=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, handle = _locked_part(Path(path))
    try:
        yield temporary
        # mkstemp makes files for the owner alone; a result file should be readable like any other.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def write_file(path: epath.Path, data: bytes) -> None:
    """Writes a whole file. Raises OSError where the folder refuses."""
    with part_file(path) as temporary:
        temporary.write_bytes(data)


def is_being_written(path: epath.Path) -> bool:
    """Whether a living process, on any host that sees the folder, has a part of `path`. False on object storage."""
    if is_remote(path):
        return False
    return any(not _is_dead(part) for part in Path(path).parent.glob(f".{path.name}.*.part"))


def remove_dead_parts(folder: epath.Path) -> list[str]:
    """Removes the parts of processes that died, never those of living ones; returns the names they were to get."""
    if is_remote(folder):
        return []
    removed = []
    for part in sorted(Path(folder).glob(".*.part")):
        if _is_dead(part, remove=True):
            removed.append(part.name[1:].rsplit(".", 2)[0])
    return removed


def _locked_part(path: Path) -> tuple[Path, int]:
    """A new part of `path` and the open handle that holds its lock."""
    import fcntl

    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        # A file system without locks takes the file as it is; then nobody takes it for a dead one either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.stat(name).st_ino == os.fstat(handle).st_ino:
                return Path(name), handle
        except FileNotFoundError:
            pass
        # Somebody who clears up came between the creation and the lock.
        os.close(handle)


def _is_dead(part: Path, remove: bool = False) -> bool:
    """Whether nobody holds the lock of a part; with `remove` it is then removed while no new writer can lock it."""
    import fcntl

    try:
        handle = os.open(part, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            part.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
