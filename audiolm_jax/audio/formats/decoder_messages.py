"""What the MP3 decoder prints about damaged frames.

libmpg123 writes to the file descriptor of stderr, past Python, and libsndfile has no way to tell it not to. While it
runs, the descriptor leads to a file of which only what others wrote is passed on. Decoders of several threads share one
such file; a new one waits where it has been open for long, so that nobody's line is late by more than a moment.
"""

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

_STDERR = 2
_LONGEST_SECONDS = 0.1
_OF_THE_DECODER = (b"[src/libmpg123/", b"Note: ", b"Warning: ")


class _Gate:
    """Who decodes now, and where stderr leads meanwhile."""

    def __init__(self):
        self.changed = threading.Condition()
        self.decoders = 0
        self.opened_at = 0.0
        self.stderr: int | None = None  # a copy of the real one
        self.caught: BinaryIO | None = None

    def open(self) -> None:
        with self.changed:
            while self.decoders and time.monotonic() - self.opened_at > _LONGEST_SECONDS:
                self.changed.wait()
            if not self.decoders:
                self.opened_at = time.monotonic()
                self._lead_away()
            self.decoders += 1

    def close(self) -> None:
        with self.changed:
            self.decoders -= 1
            if not self.decoders:
                self._lead_back()
                self.changed.notify_all()

    def _lead_away(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        try:
            self.caught = _memory_file()
            self.stderr = os.dup(_STDERR)
        except OSError:
            return  # there is no stderr, or no room for a file: the lines are printed
        os.dup2(self.caught.fileno(), _STDERR)

    def _lead_back(self) -> None:
        if self.stderr is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(self.stderr, _STDERR)
        os.close(self.stderr)
        self.stderr = None
        self.caught.seek(0)
        others = b"".join(line for line in self.caught if not line.startswith(_OF_THE_DECODER) and line.strip())
        self.caught.close()
        if others:
            os.write(_STDERR, others)

    def reset_in_child(self) -> None:
        """A process that was forked meanwhile has its stderr back, and none of the parent's decoders."""
        if self.stderr is not None:
            os.dup2(self.stderr, _STDERR)
        self.__init__()


def _memory_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("decoder_messages"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


_gate = _Gate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_gate.reset_in_child)


@contextlib.contextmanager
def dropped() -> Iterator[None]:
    """Keeps the decoder's own lines from stderr."""
    _gate.open()
    try:
        yield
    finally:
        _gate.close()
