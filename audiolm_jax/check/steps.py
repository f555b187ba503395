"""The programs of an experiment, traced for a mesh of devices that need not be there."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from audiolm_jax.generation.decode import STEPS_PER_CALL, trace_decoding
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.parallel.mesh import MESH_AXES, mesh_context, replicated
from audiolm_jax.tokens.stages import Stage
from audiolm_jax.training.experiment import Experiment
from audiolm_jax.training.program import Program

# Continuations at once on one chip, and how much of the semantic stage's sequence is prompt: 3 of 30 s.
SAMPLING_ROWS = 8
SEMANTIC_PROMPT_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Step:
    """A program to compile.

    Attributes:
        name: "train", "eval", "prefill" or "token".
        traced: the real function, traced for its real shapes.
        arguments: its arrays as shapes with shardings, by name.
        num_chips: it runs on.
        iterations: of its loop in a call, whose length is not compiled in; figures are for one of them.
    """

    name: str
    traced: jax.stages.Traced
    arguments: dict[str, Any]
    num_chips: int
    iterations: int = 1


def training_steps(program: Program, last_step: int) -> list[Step]:
    """The train step, as it is at the last step of the run, and the eval step."""
    chips = program.mesh.size
    with mesh_context(program.mesh):
        train = program.train_step.trace(program.state, program.batch, program.phase(last_step))
        evaluate = program.eval_step.trace(program.state, program.eval_batch)
    return [
        Step("train", train, {"state": program.state, "batch": program.batch}, chips),
        Step("eval", evaluate, {"state": program.state, "batch": program.eval_batch}, chips),
    ]


def sampling_steps(experiment: Experiment, mesh: Mesh) -> list[Step]:
    """Prefill and token loop of a language-model stage on one chip of the mesh, as generation runs them; else none."""
    if not isinstance(experiment.learner, StageLearner):
        return []
    one = Mesh(np.asarray(mesh.devices).reshape(-1)[:1].reshape(1, 1, 1), MESH_AXES, axis_types=mesh.axis_types)
    prompt, new = sampling_lengths(experiment.learner.stage)
    with mesh_context(one):
        traced = trace_decoding(experiment.learner.model, SAMPLING_ROWS, prompt, new, replicated(one))
    iterations = {"token": STEPS_PER_CALL}
    return [Step(name, each, {"": each.in_avals}, 1, iterations.get(name, 1)) for name, each in traced.items()]


def sampling_lengths(stage: Stage) -> tuple[int, int]:
    """Tokens of the prompt and new tokens of a whole sequence: the prefix and the target."""
    prompt = stage.max_prefix_length or int(stage.max_target_length * SEMANTIC_PROMPT_SHARE)
    return prompt, stage.max_length - prompt
