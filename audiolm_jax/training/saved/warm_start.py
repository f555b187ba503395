"""Beginning a new run with what another one learned. Resuming a run is another matter: see `checkpoints`.

INIT_FROM takes the parameters and nothing else: a fresh optimizer, fresh collections. CONTINUE_FROM takes parameters,
the optimizer's moments and the collections (codebooks and their averages): training goes on under a new schedule or on
other data. Both begin at step 0, with the learning rate of step 0, the data order of SEED, and files of their own; the
other run is only read.
"""

import dataclasses
from typing import Any

import jax
import optax

from audiolm_jax.errors import UserError
from audiolm_jax.parallel import hosts
from audiolm_jax.training.saved.checkpoints import leaf_name, newest_whole, read_leaves, saved_leaves
from audiolm_jax.training.saved.saved_steps import no_checkpoint, saved_steps
from audiolm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Where a new run gets its first values from; made by `init_from` and `continue_from`.

    Attributes:
      macro: INIT_FROM or CONTINUE_FROM, as messages and checkpoints name it.
      workdir: of the other run.
      parts: fields of TrainState that are taken.
    """

    macro: str
    workdir: str
    parts: tuple[str, ...]

    def check(self) -> None:
        """Tells what is plain to see before anything is built.

        Raises:
          UserError: the folder is not the work directory of a training that has come to a checkpoint.
        """
        if not saved_steps(self.workdir):
            raise UserError(f"{self.macro}: {no_checkpoint(self.workdir)}")

    def apply(self, state: TrainState, fingerprints: dict[str, str] | None = None) -> tuple[TrainState, dict[str, Any]]:
        """`state` with the other run's values in its parts, each read straight to where the state's own lies.

        Every process of a job calls it. Values are converted to the state's types.

        Args:
          state: of the new run, at step 0, already where it shall lie.
          fingerprints: of the tokenizers whose tokens the new run learns; training goes on with the same ones only.

        Returns:
          (state, origin): origin = {"macro", "workdir", "step"}, and what the other run says of its own "splits" and
            "origin", to be kept with the checkpoints of the new run: what it has heard stays in the weights.

        Raises:
          UserError: there is no whole checkpoint, a value is missing there or has another shape, or CONTINUE_FROM
            names a run on tokens of other tokenizers.
        """
        self.check()
        step = int(hosts.from_main(f"{self.macro} {self.workdir}", str(newest_whole(self.workdir))))
        kept = _schedule_counts(state.opt_state)
        leaves, tree = jax.tree_util.tree_flatten_with_path(state)
        wanted = {}
        for path, leaf in leaves:
            name = leaf_name(path)
            if name.split(".")[0] in self.parts and name not in kept:
                wanted[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        self._check(step, wanted)
        found, meta = read_leaves(self.workdir, step, wanted)
        if "opt_state" in self.parts and meta.get("fingerprints") != fingerprints:
            raise UserError(f"{self.macro} {self.workdir} learned tokens of other tokenizers than those in the data "
                            "folder; INIT_FROM takes the parameters all the same")
        state = jax.tree_util.tree_unflatten(tree, [found.get(leaf_name(path), leaf) for path, leaf in leaves])
        heard = {name: meta[name] for name in ("splits", "origin") if meta.get(name)}
        return state, {"macro": self.macro, "workdir": str(self.workdir), "step": step, **heard}

    def _check(self, step: int, wanted: dict[str, jax.ShapeDtypeStruct]) -> None:
        saved = saved_leaves(self.workdir, step)
        for name, leaf in wanted.items():
            if name not in saved or tuple(saved[name].shape) != leaf.shape:
                there = f"{list(saved[name].shape)}" if name in saved else "missing"
                hint = "; INIT_FROM takes the parameters alone" if not name.startswith("params.") else ""
                raise UserError(f"{self.macro} {self.workdir} (step {step}): '{name}' is {there} there and "
                                f"{list(leaf.shape)} here{hint}")


def init_from(workdir: str) -> WarmStart:
    """Parameters only."""
    return WarmStart("INIT_FROM", workdir, ("params",))


def continue_from(workdir: str) -> WarmStart:
    """Parameters, the optimizer's moments and the collections; the schedule begins anew."""
    return WarmStart("CONTINUE_FROM", workdir, ("params", "opt_state", "collections"))


def _schedule_counts(opt_state: Any) -> set[str]:
    """Names of the optimizer's leaves that count the steps of a learning rate schedule."""
    nodes = jax.tree_util.tree_flatten_with_path(
        opt_state, is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState)
    )[0]
    return {
        leaf_name((jax.tree_util.GetAttrKey("opt_state"), *path, *inner))
        for path, node in nodes
        if isinstance(node, optax.ScaleByScheduleState)
        for inner, _ in jax.tree_util.tree_flatten_with_path(node)[0]
    }
