"""Folders on object storage (gs://, s3://), reached through etils.epath where a local path would do otherwise.

`etils.epath` reads gs:// with TensorFlow if it is installed and with gcsfs otherwise, and s3:// with s3fs.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audiolm_jax.errors import UserError

if TYPE_CHECKING:
    from etils import epath

SCHEMES = ("gs://", "s3://", "az://")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a file or folder lies on object storage."""
    return os.fspath(path).startswith(SCHEMES)


def remote_path(path: str | os.PathLike) -> "epath.Path":
    """A path of etils.epath, whose import takes longer than all that most commands do before their work."""
    from etils import epath

    return epath.Path(path)


def any_path(path: str | os.PathLike) -> "Path | epath.Path":
    """An absolute path of either kind."""
    return remote_path(path) if is_remote(path) else Path(path).absolute()


def check_access(folder: str | os.PathLike) -> None:
    """Asks a folder on object storage whether it is there, and does nothing for a local one.

    Raises:
        UserError: no library for it is installed, there are no credentials, or no network.
    """
    if not is_remote(folder):
        return
    try:
        remote_path(folder).exists()
    except Exception as error:  # noqa: BLE001 (every one of the libraries has errors of its own)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{os.fspath(folder)} cannot be reached: {reason}") from error


def fetch_folder(folder: str | os.PathLike) -> Path:
    """The folder itself if it is local, else a copy of its files in a temporary folder.

    Raises:
        UserError: the folder cannot be reached, or is not there.
    """
    if not is_remote(folder):
        return Path(folder)
    check_access(folder)
    remote = remote_path(folder)
    files = [path for path in remote.iterdir() if path.is_file()] if remote.is_dir() else []
    if not files:
        raise UserError(f"{os.fspath(folder)} is not there, or holds no files")
    copy = Path(tempfile.mkdtemp(prefix="audiolm-"))
    for path in files:
        path.copy(copy / path.name)
    return copy
