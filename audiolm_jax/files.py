"""A file that is replaced whole or not at all."""

import os
import tempfile
from pathlib import Path


def is_plain_name(name: str) -> bool:
    """Whether a name that stands in a file of other people's is that of a file in the same folder, and can be one."""
    return Path(name).name == name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= 255


def replace_file(path, data: bytes) -> None:
    """Writes `data` under a temporary name in the same folder, then renames it to `path`.

    A reader sees the old file or the new one, never half of it, and a full disk leaves the old file as it was.
    Missing folders are made. Raises OSError where the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files for the owner alone; a result file should be readable like any other.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
