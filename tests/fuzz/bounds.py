"""What reading one file may take, and how a reading ended: read, refused in one line, or a fault.

Time is that of the process, so that other work on the machine counts for nothing. Memory is the growth of its resident
set at the highest, as Linux keeps it; elsewhere it is not measured. Readings that never come back, or that end the
process, are the business of whoever watches the process.
"""

import contextlib
import dataclasses
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from audiolm_jax.errors import UserError

MAX_SECONDS = 5.0
MAX_BYTES = 500_000_000
# Longer lines than this no person reads.
MAX_CHARACTERS = 2000
# Beyond this an allocation fails, so that a fault does not take the machine with it.
_CEILING_BYTES = 4_000_000_000

READ, REFUSED, FAULT = "read", "refused", "fault"


class _TooSlow(BaseException):
    """Not an Exception: what is tested may catch those."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a reading ended.

    Attributes:
        status: READ, REFUSED (a UserError of one line) or FAULT.
        message: the error's, and its place for a fault; empty for what was read.
        seconds: of processor time.
        peak_bytes: of memory beyond what the process had before.
    """

    status: str
    message: str
    seconds: float
    peak_bytes: int


def ending_of(read: Callable[[], Any], max_seconds: float = MAX_SECONDS) -> Ending:
    """Runs `read` within the bounds of this module, or in other seconds than those."""
    _forget_peak()
    before = _status_bytes("VmRSS")
    begun = time.process_time()
    try:
        with _interrupted_after(2 * max_seconds):
            read()
        status, message = READ, ""
    except UserError as error:
        status, message = REFUSED, str(error)
        if "\n" in message or not 0 < len(message) <= MAX_CHARACTERS:
            status, message = FAULT, f"not one clear line, but {len(message)} characters: {message[:200]!r}"
    except _TooSlow as error:
        status, message = FAULT, f"too slow at {_place(error)}"
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        status, message = FAULT, f"{type(error).__name__} at {_place(error)}: {str(error)[:200]}"
    seconds = time.process_time() - begun
    peak_bytes = max(0, _status_bytes("VmHWM") - before)
    if status != FAULT and seconds > max_seconds:
        status, message = FAULT, f"took {seconds:.1f} s"
    if status != FAULT and peak_bytes > MAX_BYTES:
        status, message = FAULT, f"took {peak_bytes / 1e6:.0f} MB, then: {message}"
    return Ending(status, message, seconds, peak_bytes)


def set_ceiling() -> None:
    """Lets allocations of this process fail that go far beyond the bounds."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + _CEILING_BYTES, hard))


@contextlib.contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(*_) -> None:
        raise _TooSlow

    previous = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _place(error: BaseException) -> str:
    """The last place in the project that the error came through: one fault has one place."""
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append((code.co_filename, f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"))
        trace = trace.tb_next
    ours = [place for file, place in places if "/audiolm_jax/" in file]
    # The interruption itself is no place.
    return (ours or [place for file, place in places if file != __file__] or ["?"])[-1]


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(name: str) -> int:
    """A number of /proc/self/status; 0 where there is none."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
