"""Checkpoints of a run, through Orbax: asynchronous, whole or absent, restored onto our own shardings.

A checkpoint holds two items. `state` is a flat dictionary from a leaf's path ("params.encoder.kernel",
"opt_state.1.mu.encoder.kernel") to its array, so that it can be read without the code that wrote it. `meta` is JSON:
schema version, step, the feed's cursor, the gin text, fingerprints and package versions.
"""

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from audiolm_jax.errors import UserError

SCHEMA_VERSION = 1
VERSIONED_PACKAGES = ("audiolm_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one work directory, under `workdir/checkpoints`."""

    def __init__(self, workdir: str | Path, keep: int = 2):
        """Opens (and makes) the folder; `keep` newest checkpoints stay.

        Two at least, so that there is one to fall back to when the newest was damaged.
        """
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._keep = max(keep, 2)
        self._open()

    def _open(self) -> None:
        try:
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.LatestN(self._keep),
                    cleanup_tmp_directories=True,
                ),
                item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
            )
        except OSError as error:
            raise UserError(f"cannot write to {self._folder}: {error.strerror}; change --workdir") from error

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None if there is none."""
        return self._manager.latest_step()

    def save(self, state: Any, meta: dict[str, Any]) -> None:
        """Starts to save; returns once the arrays are copied, waits first for a save that is still being written.

        Args:
          state: the TrainState; its own `step` names the checkpoint. A step that is saved already is left alone.
          meta: JSON values to keep with it.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        meta = {"schema_version": SCHEMA_VERSION, "step": step, "versions": package_versions(), **meta}
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(_flat(state)), meta=ocp.args.JsonSave(meta)),
        )

    def restore(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that can be read, and its meta; None if there is no checkpoint.

        Args:
          abstract_state: a TrainState of `jax.ShapeDtypeStruct` with OUR shardings: where the arrays shall lie now,
            whatever mesh they were saved from.

        Raises:
          UserError: the checkpoint is of another model or of another schema, or none of them can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            try:
                # Metadata first: a checkpoint of another model is the user's mistake and not damage.
                saved = self._manager.item_metadata(step)["state"]
                if saved is None:
                    raise ValueError("the state's metadata is missing")
                meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
                self._check(step, saved.tree, _flat(abstract_state), meta)
                flat = self._manager.restore(
                    step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_flat(abstract_state)))
                )["state"]
            except UserError:
                raise
            except (OSError, ValueError, KeyError) as error:  # what truncated and missing files make Orbax raise
                reason = str(error).strip().splitlines()
                _log.warning("checkpoint %s/%d is damaged (%s); trying the one before", self._folder, step,
                             reason[0][:160] if reason else type(error).__name__)
                damaged.append(step)
                continue
            self._set_aside(damaged)
            leaves, tree = jax.tree_util.tree_flatten_with_path(abstract_state)
            return jax.tree_util.tree_unflatten(tree, [flat[_name(path)] for path, _ in leaves]), meta
        if steps:
            raise UserError(f"none of the checkpoints in {self._folder} can be read; restore one from a copy, "
                            "or give another --workdir")
        return None

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._manager.close()

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
        for step in steps:
            target = self._folder.parent / "checkpoints_damaged" / str(step)
            target.parent.mkdir(exist_ok=True)
            while target.exists():
                target = target.with_name(target.name + "_")
            (self._folder / str(step)).rename(target)
        self._open()


def load_params(workdir: str | Path, step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and collections of a finished or running training, as nested dictionaries of NumPy arrays.

    Args:
      workdir: a work directory of `audiolm train`.
      step: which checkpoint; the newest if not given.

    Returns:
      (arrays, meta): arrays = {"params": ..., "collections": ...} without the optimizer; meta as it was saved.

    Raises:
      UserError: the directory holds no such checkpoint.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())
    if not steps or (step is not None and step not in steps):
        raise UserError(f"no checkpoint {'' if step is None else f'{step} '}in {workdir}; train there first")
    path = folder / str(steps[-1] if step is None else step)
    checkpointer = ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(state=ocp.PyTreeCheckpointHandler(), meta=ocp.JsonCheckpointHandler())
    )
    saved = checkpointer.metadata(path).item_metadata["state"].tree
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
        for name, leaf in saved.items()
        if name.split(".")[0] in ("params", "collections")
    }
    restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
    restored = checkpointer.restore(
        path,
        args=ocp.args.Composite(
            state=ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True),
            meta=ocp.args.JsonRestore(),
        ),
    )
    flat, meta = restored["state"], restored["meta"]
    arrays = {"params": {}, "collections": {}}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = arrays
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = np.asarray(value)
    return arrays, meta


def init_from(workdir: str | Path, state: Any) -> Any:
    """`state` with the parameters of another run; step, optimizer and collections stay as they are.

    Raises:
      UserError: a parameter is missing there or has another shape.
    """
    arrays, meta = load_params(workdir)
    found = {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(arrays["params"])[0]}

    def replace(path, leaf):
        value = found.get(_name(path))
        if value is None or value.shape != leaf.shape:
            there = "missing" if value is None else f"{list(value.shape)}"
            raise UserError(f"INIT_FROM {workdir} (step {meta['step']}): parameter '{_name(path)}' is {there} there "
                            f"and {list(leaf.shape)} here")
        return jax.device_put(value.astype(leaf.dtype), leaf.sharding)

    return state.replace(params=jax.tree_util.tree_map_with_path(replace, state.params))


def package_versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    versions = {}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _flat(state: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
