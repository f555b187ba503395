"""The work directory of a training: which run it holds, and who may write there.

One job at a time writes into it. Process 0 holds a lock on `WORKDIR/lock` while the training lasts. The operating
system takes the lock back when the process ends, however that happens, so a killed training keeps nobody out; the file
itself stays and means nothing.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from audiolm_jax import files
from audiolm_jax.errors import UserError
from audiolm_jax.parallel import hosts
from audiolm_jax.training.saved.saved_steps import saved_steps

# What a run may be continued with other values of: how long it is, what is written when, and on which devices it runs.
_FREE_MACROS = frozenset({
    "STEPS",
    "LOG_EVERY",
    "EVAL_EVERY",
    "SAMPLE_EVERY",
    "CHECKPOINT_EVERY",
    "CHECKPOINT_MINUTES",
    "KEEP_CHECKPOINTS",
    "CORPUS_CACHE",
    "FEED_CACHE_BYTES",
    "FEED_THREADS",
    "FEED_WORKERS",
    "MESH_DATA",
    "MESH_FSDP",
    "MESH_TENSOR",
    "MESH_SLICES",
    "MESH_SLICE_AXIS",
    "RESUME",
})

# What flock answers where another process holds the lock; NFS gives the first two, as it makes record locks of it.
_HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WorkDirectory:
    """Where everything of a run goes.

    Attributes:
      path: the folder; made when the training begins.
      config: gin text of the configuration, kept as `config.gin`; None for a run that Python code put together.
      resume: "auto" goes on with a run of the same configuration and refuses another one; "force" goes on whatever the
        configuration; "never" refuses a directory that holds a run. A directory without a checkpoint holds none.
    """

    path: Path
    config: str | None = None
    resume: str = "auto"

    @property
    def holds_run(self) -> bool:
        """Whether a training has come to its first checkpoint here; one that was refused or killed before has not."""
        return bool(saved_steps(self.path)) or (self.path / "done").exists()

    def check(self) -> None:
        """Reads only.

        Raises:
          UserError: the directory holds a run with another configuration, or any run if `resume` is "never".
        """
        if not self.holds_run or self.resume == "force":
            return
        if self.resume == "never":
            raise UserError(f"{self.path} holds a run already; give another --workdir, or --set RESUME=auto")
        config = self.path / "config.gin"
        if self.config is None or not config.exists():
            return
        before, now = fixed_lines(config.read_text()), fixed_lines(self.config)
        if before != now:
            changed = sorted(set(before) ^ set(now))[0]
            was = f"'{changed}' there" if changed in before else f"not '{changed}' there"
            raise UserError(f"{self.path} holds a run of another configuration ({was}); give another --workdir, or "
                            "--set RESUME=force to continue it with the new one")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it, this job and no other trains here. Every process of the job calls it; process 0 locks and writes.

        Raises:
          UserError: another training writes here, `check` refuses, or the directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                if hosts.is_main():
                    stack.enter_context(_locked(self.path))
                    self.check()
                    if self.config is not None:
                        files.replace_file(self.path / "config.gin", self.config.encode())
                    (self.path / "done").unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to {self.path}: {error.strerror}; change --workdir") from error
            hosts.barrier("work directory")
            yield

    def finished(self, steps: int) -> bool:
        """Whether a run here has done all of `steps`, its last evaluation too."""
        try:
            return json.loads((self.path / "done").read_text())["step"] >= steps
        except (OSError, ValueError, KeyError):
            return False

    def mark_done(self, step: int) -> None:
        """Notes that the run has done everything; process 0 writes."""
        if hosts.is_main():
            files.replace_file(self.path / "done", (json.dumps({"step": step}) + "\n").encode())


def fixed_lines(text: str) -> list[str]:
    """The bindings of a configuration that must stay as they are while a run goes on."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return [line for line in lines if line.split(" = ")[0] not in _FREE_MACROS]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within it, this process holds the lock of a folder.

    Raises:
      UserError: another process holds it.
    """
    import fcntl  # POSIX alone has it, and all but training runs elsewhere too

    path = folder / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                holder = os.pread(handle, 300, 0).decode(errors="replace").strip() or "another process"
                raise UserError(f"{folder} is in use: {holder} trains there; wait for its end, or give another "
                                "--workdir") from error
            _log.warning("%s cannot be locked (%s): see to it that no other training uses it", folder, error.strerror)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
