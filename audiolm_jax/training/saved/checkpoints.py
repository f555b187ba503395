"""Checkpoints of a run, through Orbax: asynchronous, whole or absent, restored onto our own shardings.

A checkpoint holds two items, and the checksums of their files. `state` is a flat dictionary from a leaf's path
("params.encoder.kernel", "opt_state.1.mu.encoder.kernel") to its array, so that it can be read without the code that
wrote it. `meta` is JSON: schema version, step, the feed's cursor, the sums of the metrics since the last log line, the
gin text, fingerprints and package versions.
"""

import errno
import importlib.metadata
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from audiolm_jax.errors import UserError, first_line
from audiolm_jax.parallel import hosts
from audiolm_jax.training.saved import checksums
from audiolm_jax.training.saved.saved_steps import checkpoint_folder, no_checkpoint, saved_steps

SCHEMA_VERSION = 1
VERSIONED_PACKAGES = ("audiolm_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

# A save that takes longer has failed.
_SAVE_TIMEOUT_SECONDS = 1200

# What a full disk or a folder that is gone makes Orbax and TensorStore raise when they write.
_STORAGE_ERRORS = (OSError, ValueError, KeyError, RuntimeError)

_log = logging.getLogger(__name__)


class _Failures(logging.Filter):
    """Takes errors out of Orbax's log, where each stands several times with its stack trace, and keeps the first.

    Orbax raises an error of its background threads only when all processes have come to the end of the save, and those
    that wait for the failed one do not come: its log is the only place that tells in time.
    """

    def __init__(self):
        super().__init__()
        self.first: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR or not record.exc_info or "orbax" not in record.pathname:
            return True
        self.first = self.first or record.exc_info[1]
        return False


_failures = _Failures()
logging.getLogger("absl").addFilter(_failures)


class Checkpoints:
    """The checkpoints of one work directory, under `workdir/checkpoints`.

    With several processes every one of them makes one, on a file system that all of them see, and calls the same
    methods in the same order: each writes and reads the parts of the arrays that its devices hold.
    """

    def __init__(self, workdir: str | Path, keep: int = 2):
        """Opens (and makes) the folder; `keep` newest checkpoints stay.

        Two at least, so that there is one to fall back to when the newest was damaged.

        Raises:
          UserError: the folder cannot be made or written to.
        """
        self._folder = checkpoint_folder(workdir)
        self._keep = max(keep, 2)
        self._saving: int | None = None
        self._save_began = 0.0
        self._save_seconds: float | None = None
        self._whole: int | None = None
        self._failed = False
        self._open()

    def _open(self) -> None:
        try:
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.LatestN(self._keep),
                    cleanup_tmp_directories=True,
                    async_options=ocp.options.AsyncOptions(
                        timeout_secs=_SAVE_TIMEOUT_SECONDS, post_finalization_callback=self._complete
                    ),
                ),
                item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
            )
        except OSError as error:
            raise UserError(f"cannot write to {self._folder}: {error.strerror}; change --workdir") from error

    def save(self, state: Any, meta: dict[str, Any]) -> None:
        """Starts to save; returns once the arrays are copied, waits first for a save that is still being written.

        Args:
          state: the TrainState; its own `step` names the checkpoint. A step that is saved already is left alone.
          meta: JSON values to keep with it.

        Raises:
          UserError: this save cannot begin, or the one before could not be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self.check()
        self.wait()
        self._saving, self._save_began, _failures.first = step, time.monotonic(), None
        meta = {"schema_version": SCHEMA_VERSION, "step": step, "versions": package_versions(), **meta}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(_flat(state)), meta=ocp.args.JsonSave(meta)),
                force=True,
            )
        except _STORAGE_ERRORS as error:
            raise self._save_failure(error) from error

    def _complete(self) -> None:
        """Adds the checksums to a checkpoint that is written but not yet renamed; Orbax calls it on process 0."""
        unnamed = sorted(self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*"))
        checksums.write_checksums(unnamed[0] if unnamed else self._folder / str(self._saving))
        self._save_seconds = time.monotonic() - self._save_began

    def check(self) -> None:
        """Looks, without waiting, whether a save that runs in the background has failed.

        Raises:
          UserError: it has: the disk is full, the folder is gone.
        """
        if self._saving is not None and _failures.first is not None:
            raise self._save_failure(_failures.first) from _failures.first

    def take_save_seconds(self) -> float | None:
        """How long the last save took until it was on disk, once; None if none was completed since the last call."""
        seconds, self._save_seconds = self._save_seconds, None
        return seconds

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: it cannot be written.
        """
        while hosts.count() > 1 and self._manager.is_saving_in_progress():
            self.check()  # a save that failed here is still in progress for the others
            time.sleep(0.01)
        try:
            self._manager.wait_until_finished()
        except _STORAGE_ERRORS as error:
            raise self._save_failure(error) from error
        self._whole = self._whole if self._saving is None else self._saving

    def close(self) -> None:
        """Waits and lets go of the folder. A failure that was told already is not told again."""
        if self._failed and hosts.count() > 1:
            return  # closing would wait for the other processes, which wait for what this one could not write
        try:
            self._manager.close()
        except _STORAGE_ERRORS as error:
            if not self._failed:
                raise self._save_failure(error) from error

    def _save_failure(self, error: Exception) -> UserError:
        self._failed = True
        before = [f"the checkpoint of step {self._whole} is whole; "] if self._whole is not None else []
        return UserError(f"cannot save step {self._saving} to {self._folder}: {_reason(error)}; {''.join(before)}make "
                         "room or mend the folder, then start the same command again")

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that is whole, and its meta; None if there is no checkpoint.

        Args:
          abstract_state: a TrainState of `jax.ShapeDtypeStruct` with OUR shardings: where the arrays shall lie now,
            whatever mesh and number of processes they were saved from.

        Raises:
          UserError: the checkpoint is of another model or of another schema, or none of them can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            # Process 0 looks at the files before anyone reads them, so that all go back to the same step.
            restored, reason = None, checksums.damage(self._folder / str(step)) if hosts.is_main() else None
            if not hosts.any_of(f"checkpoint {step} has other files", reason is not None):
                restored, reason = self._read(step, abstract_state)
                if hosts.any_of(f"checkpoint {step} cannot be read", restored is None):
                    restored = None
            if restored is not None:
                self._whole = step
                self._set_aside(damaged)
                return restored
            if hosts.is_main():
                _log.warning("checkpoint %s/%d is damaged (%s); trying the one before", self._folder, step,
                             reason or "on another process")
            damaged.append(step)
        if steps:
            raise UserError(f"none of the checkpoints in {self._folder} can be read; restore one from a copy, "
                            "or give another --workdir")
        return None

    def _read(self, step: int, abstract_state: Any) -> tuple[tuple[Any, dict[str, Any]] | None, str | None]:
        """((state, meta), None), or (None, why it cannot be read)."""
        wanted = _flat(abstract_state)
        try:
            # Metadata first: a checkpoint of another model is the user's mistake and not damage.
            saved = self._manager.item_metadata(step)["state"]
            if saved is None:
                raise ValueError("the state's metadata is missing")
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            self._check(step, saved.tree, wanted, meta)
            flat = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))["state"]
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - Orbax raises bare ones for damaged files
            return None, _reason(error)
        leaves, tree = jax.tree_util.tree_flatten_with_path(abstract_state)
        return (jax.tree_util.tree_unflatten(tree, [flat[leaf_name(path)] for path, _ in leaves]), meta), None

    def _check(self, step: int, saved: dict[str, Any], wanted: dict[str, Any], meta: dict[str, Any]) -> None:
        if meta.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"checkpoint {self._folder}/{step} has schema version {meta.get('schema_version')}, "
                            f"this program reads {SCHEMA_VERSION}; use the version of audiolm_jax that wrote it")
        differences = [f"'{name}' is new" for name in wanted.keys() - saved.keys()]
        differences += [f"'{name}' is gone" for name in saved.keys() - wanted.keys()]
        for name in wanted.keys() & saved.keys():
            before, now = (tuple(saved[name].shape), str(saved[name].dtype)), (wanted[name].shape,
                                                                               str(wanted[name].dtype))
            if before != now:
                differences.append(f"'{name}' was {before[1]}{list(before[0])} and is now {now[1]}{list(now[0])}")
        if differences:
            raise UserError(f"checkpoint {self._folder}/{step} is of another model: {sorted(differences)[0]} "
                            f"({len(differences)} difference(s)); give another --workdir or the sizes it was made with")

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged checkpoints out of the way of the save that will come at the same step."""
        if not steps:
            return
        self._manager.close()
        for step in steps if hosts.is_main() else ():
            target = self._folder.parent / "checkpoints_damaged" / str(step)
            try:
                target.parent.mkdir(exist_ok=True)
                while target.exists():
                    target = target.with_name(target.name + "_")
                (self._folder / str(step)).rename(target)
            except OSError as error:
                raise UserError(f"cannot move the damaged {self._folder}/{step} to {target.parent}: {error.strerror}; "
                                "move it away and start again") from error
        hosts.barrier(f"damaged checkpoints {steps}")
        self._open()


def newest_whole(workdir: str | Path) -> int:
    """The step of the newest checkpoint of a training whose files are as they were written.

    Raises:
      UserError: the directory holds no such checkpoint.
    """
    folder = checkpoint_folder(workdir)
    for step in saved_steps(workdir):
        reason = checksums.damage(folder / str(step))
        if reason is None:
            return step
        _log.warning("checkpoint %s/%d is damaged (%s); taking the one before", folder, step, reason)
    raise no_checkpoint(workdir)


def saved_leaves(workdir: str | Path, step: int) -> dict[str, Any]:
    """Shape and type of every array in a checkpoint, by the name of its leaf.

    Raises:
      UserError: the checkpoint cannot be read.
    """
    path = checkpoint_folder(workdir) / str(step)
    return _or_user_error(path, lambda: _reader().metadata(path).item_metadata["state"].tree)


def read_leaves(
    workdir: str | Path, step: int, wanted: dict[str, jax.ShapeDtypeStruct]
) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Some arrays of a checkpoint, each read to where its sharding says, and the checkpoint's meta.

    Every process of a job reads the parts that its own devices hold; nothing passes through one host's memory.

    Args:
      workdir: a work directory of `audiolm train`.
      step: which checkpoint.
      wanted: by the names of their leaves, shapes as they were saved, with types to convert to and shardings.

    Raises:
      UserError: the checkpoint cannot be read.
    """
    path = checkpoint_folder(workdir) / str(step)
    state = ocp.args.PyTreeRestore(
        wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    args = ocp.args.Composite(state=state, meta=ocp.args.JsonRestore())
    restored = _or_user_error(path, lambda: _reader().restore(path, args=args))
    return restored["state"], restored["meta"]


def load_params(workdir: str | Path, step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and collections of a finished or running training, as nested dictionaries of NumPy arrays.

    Args:
      workdir: a work directory of `audiolm train`.
      step: which checkpoint; the newest whole one if not given.

    Returns:
      (arrays, meta): arrays = {"params": ..., "collections": ...} without the optimizer; meta as it was saved.

    Raises:
      UserError: the directory holds no such checkpoint, or it cannot be read.
    """
    if step is not None and step not in (steps := saved_steps(workdir)):
        there = f"there are {', '.join(map(str, steps))}"
        raise UserError(f"no checkpoint {step} in {workdir}; {there}") if steps else no_checkpoint(workdir)
    step = newest_whole(workdir) if step is None else step
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
        for name, leaf in saved_leaves(workdir, step).items()
        if name.split(".")[0] in ("params", "collections")
    }
    flat, meta = read_leaves(workdir, step, wanted)
    arrays = {"params": {}, "collections": {}}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = arrays
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = np.asarray(value)
    return arrays, meta


def package_versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    versions = {}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def leaf_name(path: tuple[Any, ...]) -> str:
    """The name of a TrainState's leaf in a checkpoint: "params.encoder.kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _flat(state: Any) -> dict[str, Any]:
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def _reader() -> ocp.Checkpointer:
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(state=ocp.PyTreeCheckpointHandler(), meta=ocp.JsonCheckpointHandler())
    )


def _or_user_error(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - Orbax raises bare ones for damaged files
        raise UserError(f"checkpoint {path} cannot be read ({_reason(error)}); remove it to use the one before") from (
            error
        )


def _reason(error: BaseException) -> str:
    """What the operating system said, if it did; otherwise the first line of an error, short."""
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO):
        if os.strerror(number) in text:
            return os.strerror(number)
    return first_line(error)[:160]


