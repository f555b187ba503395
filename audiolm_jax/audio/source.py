"""The bytes of one file of sound, in memory or on a disk."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from audiolm_jax.errors import UserError, first_line
from audiolm_jax.files.object_storage import check_access, is_remote, remote_path


class Source:
    """Bytes that can be read at any position.

    Attributes:
        path: what errors call it.
        size: bytes.
    """

    def __init__(self, path, data: bytes | BinaryIO, start: int = 0, size: int | None = None, corrections=()):
        """
        Args:
            path: for errors.
            data: all bytes, or an open file; it must stay open as long as this is used.
            start: where in them this begins.
            size: bytes from there; None: all.
            corrections: (position, bytes) each, read in place of what stands there.
        """
        self.path = path
        self._data, self._start, self._corrections = data, start, tuple(corrections)
        if size is None:
            size = (len(data) if isinstance(data, bytes) else data.seek(0, os.SEEK_END)) - start
        self.size = size

    def read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from a position, fewer at the end; raises OSError where the disk refuses."""
        size = min(size, self.size - position)
        if position < 0 or size <= 0:
            return b""
        begin = self._start + position
        if isinstance(self._data, bytes):
            found = self._data[begin : begin + size]
        else:
            self._data.seek(begin)
            found = self._data.read(size)
        for place, right in self._corrections:
            first = max(place, position)
            last = min(place + len(right), position + len(found))
            if first < last:
                found = found[: first - position] + right[first - place : last - place] + found[last - position :]
        return found

    def part(self, start: int, stop: int) -> "Source":
        """The bytes from `start` to `stop`, as a source of its own."""
        moved = [(place - start, right) for place, right in self._corrections]
        return Source(self.path, self._data, self._start + start, stop - start, moved)

    def corrected(self, position: int, right: bytes) -> "Source":
        """The same with other bytes at a position."""
        return Source(self.path, self._data, self._start, self.size, (*self._corrections, (position, right)))


class DecoderFile:
    """A source as the decoder reads it: a file that answers a wrong seek and a disk's error with too few bytes.

    The decoder calls it from C, where an exception would be lost. `error` holds the first one.
    """

    def __init__(self, source: Source):
        self._source, self._position = source, 0
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}[whence]
        self._position = min(max(base + offset, 0), self._source.size)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        try:
            found = self._source.read_at(self._position, len(buffer))
        except OSError as error:
            self.error = self.error or error
            return 0
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    # soundfile asks whether there is a `read`, and then calls `readinto`.
    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])


@contextlib.contextmanager
def open_source(path) -> Iterator[Source]:
    """The bytes of a file, or of an object in a bucket; of a pipe, once it ends.

    Raises UserError, in one line that names the file, if it is missing, a folder, empty, no file, or cannot be opened,
    and in place of an OSError of whoever reads it then.
    """
    if is_remote(path):
        yield _checked(Source(path, _remote_bytes(path)))
        return
    shown = _short(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{shown} is a folder; name one audio file")
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise UserError(f"{shown} is a device, no file; name an audio file")
        file = Path(path).open("rb")
    except UserError:
        raise
    except FileNotFoundError as error:
        # pathlib makes one slash of the two of an address.
        advice = "; give an address as a string" if is_remote(shown.replace(":/", "://", 1)) else ""
        raise UserError(f"{shown} does not exist{advice}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{shown} cannot be opened: {reason}; name an audio file") from error
    with file:
        try:
            yield _checked(Source(path, file if stat.S_ISREG(mode) else file.read()))
        except OSError as error:
            raise UserError(f"{shown} cannot be read: {error.strerror or first_line(error)}; read it again") from error


def _checked(source: Source) -> Source:
    if not source.size:
        raise UserError(f"{source.path} is empty (0 bytes); give an audio file")
    return source


def _remote_bytes(path) -> bytes:
    check_access(path)
    remote = remote_path(path)
    try:
        if remote.is_dir():
            raise UserError(f"{path} is a folder; name one audio file")
        return remote.read_bytes()
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Exception as error:  # noqa: BLE001 (every one of the libraries has errors of its own)
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


def _short(path) -> str:
    """The path for a message; a name that no file system takes is not repeated in full."""
    text = str(path)
    return text if len(text) <= 1000 else f"{text[:80]}... (a name of {len(text)} characters)"
