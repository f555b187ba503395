"""Checksums of a checkpoint's files: written before it is committed, compared before it is read.

Storage that loses or garbles bytes is rare and silent: an array with a few wrong weights is an array. The checksums
stand in the checkpoint itself, so that they are committed, copied and deleted together with it.
"""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKSUMS_FILE = "checksums.json"

# Orbax writes these into the folder after everything else, when the checksums are made already.
_WRITTEN_LAST = frozenset({CHECKSUMS_FILE, "_CHECKPOINT_METADATA", "commit_success.txt"})
_CHUNK_BYTES = 1 << 23
_NUM_THREADS = 4  # reading and CRC-32 run outside Python's lock


def write_checksums(folder: Path) -> None:
    """Writes `folder/checksums.json`: size in bytes and CRC-32 of every file of a checkpoint that is still being made.

    Raises OSError where a file cannot be read or written.
    """
    paths = _files(folder)
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        sums = dict(zip(map(lambda path: path.relative_to(folder).as_posix(), paths), threads.map(_size_and_sum, paths),
                        strict=True))
    (folder / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=0) + "\n")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, in a few words; None if all are as they were written.

    A checkpoint without checksums (of an earlier version, or copied in part) gets the benefit of the doubt: whether it
    can be read is seen when it is read.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return None
    try:
        expected = {name: tuple(values) for name, values in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{CHECKSUMS_FILE} cannot be read"

    def compare(name: str) -> str | None:
        size_bytes, _ = expected[name]
        try:
            found_bytes = (folder / name).stat().st_size
            if found_bytes != size_bytes:
                return f"{name} has {found_bytes} bytes instead of {size_bytes}"
            return None if _size_and_sum(folder / name) == expected[name] else f"{name} has other bytes than were saved"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name}: {error.strerror}"

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        return next((reason for reason in threads.map(compare, expected) if reason is not None), None)


def _files(folder: Path) -> list[Path]:
    """Every file but those that Orbax adds at the end, which lie in the folder itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if path.parent != folder or path.name not in _WRITTEN_LAST]


def _size_and_sum(path: Path) -> tuple[int, int]:
    size_bytes, checksum = 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size_bytes, checksum = size_bytes + len(chunk), zlib.crc32(chunk, checksum)
    return size_bytes, checksum
