"""Several processes as one job: their start from the environment, what they agree on, and how they end together.

A pod runs the same command once on every machine. `joined` makes these processes one JAX job; everything else here is
host-side talk through the key-value store of JAX's coordination service, which process 0 holds: a few hundred bytes a
step and nothing on the devices, so that it never waits for, or delays, a training step.
"""

import collections
import contextlib
import dataclasses
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.launch import Launch, find_launch, whole_number

# Exit code where another process or its machine is lost: the same command goes on later. A user's mistake exits with 2.
EXIT_LOST = 1

# Waiting for the others is bounded by their death, which is noticed elsewhere, and by this.
_WAIT_SECONDS = 3600
# Keys of the store: the word of a process that fails, and who has left since.
_FAILED, _LEFT = "audiolm/failed", "audiolm/left/"
# How long process 0 stays to let the others read that word.
_FAREWELL_SECONDS = 5.0
# Decisions older than this are deleted. No process is ever so many steps behind another.
_KEPT_DECISIONS = 1000


@dataclasses.dataclass(frozen=True)
class Decision:
    """What all processes do after the same step.

    Attributes:
      stop: why to stop ("SIGTERM", "SIGTERM on process 3"); None to go on.
      save: whether process 0's clock wants a checkpoint.
    """

    stop: str | None
    save: bool


class _Job:
    """The job of several processes that this one has joined."""

    def __init__(self, client: Any, index: int, count: int):
        self.client, self.index, self.count = client, index, count
        self.ending = threading.Lock()  # taken for good by whatever ends this process first, and says why
        self.heard = threading.Event()
        self.uses: collections.Counter[str] = collections.Counter()


_job: _Job | None = None


def index() -> int:
    """This process's number in the job; 0 for a single process. Starts no JAX backend."""
    return 0 if _job is None else _job.index


def count() -> int:
    """Processes of the job; 1 for a single process. Starts no JAX backend."""
    return 1 if _job is None else _job.count


def is_main() -> bool:
    """Whether this is process 0, the only one that writes logs and figures, prints, and shows progress."""
    return index() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within it, this process is one of its job's; call it before anything that uses a device.

    The processes end together. A normal end waits for the others. When one ends by an exception, the others print one
    line that tells which and why, and exit with the same code; nobody is left waiting in a collective. When one is
    killed, or its machine is lost, the others exit too: at once where the broken connection is felt, and otherwise
    after AUDIOLM_HEARTBEAT_TIMEOUT_SECONDS (60). Start-up is given AUDIOLM_START_TIMEOUT_SECONDS (300); if a process is
    missing by then, the others say so in one line and exit with EXIT_LOST.

    A process whose `joined` ended by an exception can do nothing but exit.

    Raises:
      UserError: the variables that describe the job are incomplete or contradict each other.
    """
    global _job
    launch = find_launch(os.environ)
    if launch is None or _job is not None:
        yield
        return
    _job = _start(launch)
    try:
        _check_counts(_job)
        watcher = threading.Thread(target=_end_with_others, args=(_job,), daemon=True, name="hosts")
        watcher.start()
        with leaving_if_others_are_gone():
            yield
    except BaseException as error:
        _tell_others(_job, _exit_code(error), error)
        # JAX's exit handler, and a checkpoint's thread that Python joins even before those, wait for processes that
        # will not come any more; what is registered here runs before both. (Private, as is what thread pools use.)
        threading._register_atexit(_leave, _job, _exit_code(error))
        raise
    barrier("end")
    if is_main():
        _job.client.key_value_set(_FAILED, "")
    watcher.join()  # a thread that is still in the store when Python ends would make the process abort
    _job = None  # JAX's exit handler takes the rest apart


@contextlib.contextmanager
def leaving_if_others_are_gone() -> Iterator[None]:
    """Within it, an error that only tells of another process's end makes this one exit at once, with one line.

    For use around what would wait for the others on its way out: a save that is being written.
    """
    try:
        yield
    except Exception as error:
        if _job is None or not _is_lost_connection(error):
            raise
        if _job.heard.wait(2.0):  # the other process has told why it ends, and this one is ending with it
            threading.Event().wait()
        print(f"\nprocess {_job.index}: another process of the job is gone, its own log may tell why; start the job "
              "again, it goes on", file=sys.stderr, flush=True)
        _tell_others(_job, EXIT_LOST, error)
        _leave(_job, EXIT_LOST)


def barrier(name: str) -> None:
    """Waits until every process is here; `name` tells in an error where that is."""
    if _job is not None:
        _job.client.wait_at_barrier(_key(_job, f"barrier/{name}"), _WAIT_SECONDS * 1000)


def from_main(name: str, text: str) -> str:
    """Process 0's `text` on every process, all of which call it; what the others pass is ignored."""
    if _job is None:
        return text
    key = _key(_job, f"from_main/{name}")
    if _job.index == 0:
        _job.client.key_value_set(key, text)
        return text
    return _job.client.blocking_key_value_get(key, _WAIT_SECONDS * 1000)


def any_of(name: str, flag: bool) -> bool:
    """Whether `flag` is true on any process; all of them call it, and wait for each other."""
    if _job is None:
        return flag
    key = _key(_job, f"any_of/{name}")
    if flag:
        _job.client.key_value_set(f"{key}/{_job.index}", "1")
    barrier(f"any_of/{name}")
    return bool(_job.client.key_value_dir_get(f"{key}/"))


def _key(job: "_Job", name: str) -> str:
    """A key of the store for the next use of a name; uses are counted alike on all processes."""
    job.uses[name] += 1
    return f"audiolm/{name}/{job.uses[name]}"


class Agreement:
    """One small decision for each step, the same on every process.

    Process 0 decides and publishes, the others read: they wait for process 0's loop to come to the same step, while the
    devices work on the step that was dispatched before. Every process makes its agreements in the same order.
    """

    def __init__(self):
        self._step = 0
        self._prefix = "" if _job is None else _key(_job, "agreement") + "/"

    def decide(self, stop: str | None, save: bool) -> Decision:
        """What all processes do after this step; every process calls it once after each step.

        Args:
          stop: the name of the signal that asked this process to stop, None for none. One process is enough.
          save: whether a checkpoint is due by the clock; process 0's counts.
        """
        if _job is None:
            return Decision(stop, save)
        key, wish = f"{self._prefix}{self._step}", f"{self._prefix}stop"
        self._step += 1
        if _job.index > 0:
            if stop:
                _job.client.key_value_set(wish, f"{stop} on process {_job.index}", allow_overwrite=True)
            saves, _, reason = _job.client.blocking_key_value_get(key, _WAIT_SECONDS * 1000).partition(" ")
            return Decision(reason or None, saves == "save")
        stop = stop or _found(_job.client, wish)
        _job.client.key_value_set(key, f"{'save' if save else 'go'} {stop or ''}")
        if self._step > _KEPT_DECISIONS:
            _job.client.key_value_delete(f"{self._prefix}{self._step - 1 - _KEPT_DECISIONS}")
        return Decision(stop, save)


def _start(launch: Launch) -> _Job:
    """Joins the job, or exits with one line if the others do not come in time."""
    import jax

    # JAX offers no public way to the key-value store of its coordination service.
    from jax._src import distributed

    seconds = whole_number(os.environ, "AUDIOLM_START_TIMEOUT_SECONDS", 300)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's service would take SIGTERM away from `training.stop_signal`; `Agreement` does its work.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX's client aborts with a stack trace when its time is up; this comes before, with a line.
    arrived = threading.Event()
    threading.Thread(target=_give_up, args=(arrived, launch, seconds), daemon=True, name="hosts start").start()
    jax.distributed.initialize(
        launch.coordinator,
        launch.num_processes,
        launch.process_id,
        local_device_ids=launch.local_device_ids,
        cluster_detection_method=None if launch.coordinator is None else "deactivate",
        initialization_timeout=seconds + 60,
        heartbeat_timeout_seconds=whole_number(os.environ, "AUDIOLM_HEARTBEAT_TIMEOUT_SECONDS", 60),
    )
    arrived.set()
    state = distributed.global_state
    return _Job(state.client, state.process_id, state.num_processes)


def _give_up(arrived: threading.Event, launch: Launch, seconds: int) -> None:
    if arrived.wait(seconds):
        return
    if launch.coordinator is None:
        who = "this host of the TPU pod"
    else:
        who = f"process {launch.process_id} of {launch.num_processes}, coordinator {launch.coordinator},"
    print(f"{who} has waited {seconds} s for the other processes; start all of them, with the same coordinator and "
          "number of processes, and let them reach that port", file=sys.stderr, flush=True)
    os._exit(EXIT_LOST)


def _check_counts(job: _Job) -> None:
    """Raises UserError where this process was told another number of processes than process 0."""
    if job.index == 0:
        job.client.key_value_set("audiolm/count", str(job.count))
        return
    there = int(job.client.blocking_key_value_get("audiolm/count", _WAIT_SECONDS * 1000))
    if there != job.count:
        raise UserError(f"process {job.index} was told of {job.count} processes, process 0 of {there}; start all of "
                        "them with the same number")


def _found(client: Any, key: str) -> str | None:
    import jax

    try:
        return client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError:  # the store's way to say that there is none
        return None


def _end_with_others(job: _Job) -> None:
    """Waits, as long as the job runs, for the word of a process that fails; then prints it and ends this one."""
    try:
        said = job.client.blocking_key_value_get(_FAILED, 10**9)
    except Exception:  # noqa: BLE001 - process 0 is gone, and JAX ends this process
        return
    if not said or not job.ending.acquire(blocking=False):
        return
    job.heard.set()
    code, _, line = said.partition(" ")
    print(f"\n{line}", file=sys.stderr, flush=True)  # a progress bar may stand in the last line
    _leave(job, int(code))


def _tell_others(job: _Job, code: int, error: BaseException) -> None:
    """Lets the others know that this process ends, and why; does not return where it ends already with another."""
    if not job.ending.acquire(blocking=False):
        threading.Event().wait()
    told = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        told = f"{type(error).__name__}: {told}"[:500]
    with contextlib.suppress(Exception):  # another has failed before, or there is nobody left to tell
        job.client.key_value_set(_FAILED, f"{code} process {job.index} has stopped: {told}")


def _leave(job: _Job, code: int) -> None:
    """Ends this process without waiting for those that do not come; process 0, which holds the store, goes last."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(Exception):
        if job.index > 0:
            job.client.key_value_set(f"{_LEFT}{job.index}", "1")
        until = time.monotonic() + _FAREWELL_SECONDS
        while job.index == 0 and time.monotonic() < until and len(job.client.key_value_dir_get(_LEFT)) < job.count - 1:
            time.sleep(0.05)
        time.sleep(0.2 if job.index == 0 else 0.0)  # the last of them is still on its way out
    os._exit(code)


def _exit_code(error: BaseException) -> int:
    """The code the command line exits with after this error."""
    if isinstance(error, (UserError, OSError)):
        return 2
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an error is only the consequence of another process's end: broken collectives, or a broken store."""
    said = re.search(r"\b(gloo|nccl|connection (reset|closed|refused)|unavailable)\b", str(error).lower())
    return said is not None and not isinstance(error, (UserError, OSError))
