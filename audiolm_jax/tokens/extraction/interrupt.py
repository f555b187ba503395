"""Ctrl-C in a job of threads: it ends after what they are at, not with an exception somewhere in the middle of them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

# Of a process that Ctrl-C ended, as shells have it.
EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def ends_in_order(stop: Callable[[], None] | None) -> Iterator[None]:
    """Answers the first Ctrl-C within the block with a line and `stop`, the second by ending the process.

    In another thread than the main one nothing is changed: the signal is not this thread's.

    Args:
        stop: asks the block to end soon; called in the main thread between two of its instructions. None: nothing in
            this process can, and the first Ctrl-C ends it.

    Raises:
        KeyboardInterrupt: when the block has ended for the sake of `stop`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = threading.Event()

    def interrupt(*_) -> None:
        if stop is None or interrupted.is_set():
            end_now()
        interrupted.set()
        print("audiolm tokenize: stopping after this file; again to end now", file=sys.stderr, flush=True)
        stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted.is_set():
        raise KeyboardInterrupt


def end_now() -> None:
    """Ends this process as Ctrl-C does, from whichever of its threads and whatever the others wait for."""
    print("audiolm tokenize: stopped", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)
