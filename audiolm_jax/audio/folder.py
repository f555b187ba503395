"""The sound files of a folder."""

import os
from pathlib import Path

from etils import epath

from audiolm_jax.errors import UserError
from audiolm_jax.object_storage import check_access, is_remote

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def audio_files(folder) -> list[Path]:
    """Every audio file below `folder`, sorted by path; files are recognised by AUDIO_SUFFIXES in any case.

    Raises UserError if there is no such folder. Hidden files and folders are left out. A folder on object storage gives
    paths of etils.epath.
    """
    check_access(folder)
    folder = epath.Path(folder) if is_remote(folder) else Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder that holds audio files")
    found = []
    for root, folders, names in folder.walk() if is_remote(folder) else os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        audio = [n for n in names if not n.startswith(".") and Path(n).suffix.lower() in AUDIO_SUFFIXES]
        found += [root / n if is_remote(folder) else Path(root, n) for n in audio]
    return sorted(found)
