"""Examinations: what a training is judged by on held-out recordings, beside its loss, while it goes on."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Protocol

from jax.experimental import multihost_utils

from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.parallel import hosts
from audiolm_jax.training.learner import Learner
from audiolm_jax.training.state import TrainState

EXAMINATION = "examination"  # its name in the meta of a checkpoint and in a bundle's provenance


@dataclasses.dataclass(frozen=True)
class Examination:
    """What was found at a step; the last one is kept with every checkpoint.

    Attributes:
      step: after which it was made.
      figures: by name, for metrics.jsonl and TensorBoard.
      faults: what is wrong with the model, a sentence each; empty where nothing is.
      passed: whether the model is good enough for what builds on it; None where too little is installed to tell.
    """

    step: int
    figures: dict[str, float]
    faults: tuple[str, ...]
    passed: bool | None

    def in_words(self) -> str:
        """The verdict and the figures in one line, the faults in the lines after it."""
        verdict = {True: "passed", False: "not passed", None: "no verdict"}[self.passed]
        # Figures of single levels are many; a level that is wrong is among the faults.
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items() if "/" not in name)
        return "\n".join([f"{verdict}: {shown}", *(f"  fault: {fault}" for fault in self.faults)])

    @classmethod
    def of_meta(cls, meta: dict[str, Any], where: str) -> "Examination | None":
        """The examination in the meta of a checkpoint or in a bundle's provenance; None where there is none.

        Raises:
          UserError: it is damaged; the error names `where`.
        """
        plain = meta.get(EXAMINATION)
        return None if plain is None else from_plain(cls, plain, f"{where}: {EXAMINATION}")


class Examiner(Protocol):
    """Judges a model in training. Called on every process of a job, after the same steps."""

    def __call__(self, learner: Learner, feed: Any, state: TrainState) -> Examination | None:
        """What is found now; None while there is nothing to judge."""


def judged_by_process_0(params: Any, judge: Callable[[Any], Examination | None]) -> Examination | None:
    """What process 0 finds in all of `params`, on every process of a job; all of them call it.

    Args:
      params: a tree of global arrays, of which each process may hold a part.
      judge: is given the tree with the whole arrays; called on process 0 alone.
    """
    if hosts.count() > 1:
        params = multihost_utils.process_allgather(params, tiled=True)
    found = judge(params) if hosts.is_main() else None
    plain = json.loads(hosts.from_main(EXAMINATION, json.dumps(to_plain(found))))
    return from_plain(Examination | None, plain, "the examination of process 0")
