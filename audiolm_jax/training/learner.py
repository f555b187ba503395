"""What the training loop asks of a learner: codec, w2v-BERT, k-means and the three language-model stages alike.

A learner is a frozen dataclass of configuration; it holds no arrays and has no train or eval mode. The loop jits its
methods with the shardings of `parallel.mesh`, so inside them an array is the GLOBAL array: a mean over the batch axis
is the mean over all devices, and nothing else has to be said about devices.

For those who write a learner:
- `init` returns PLAIN arrays: parameters made with `nn.with_logical_partitioning` are unboxed (`nn.unbox`) before
  they go into the TrainState, so that states, checkpoints and bundles never contain boxes.
- `logical_axes(batch)` is optional. It returns a tree like `params` whose leaves are tuples of logical axis names
  (`None` for an axis without a name), for example by `nn.get_partition_spec(jax.eval_shape(module.init, ...))`.
  `parallel.mesh.state_shardings` maps the names to the mesh; the optimizer's moments follow their parameters.
- `collection_axes(batch)` is optional too, and names the axes of `collections` (or of those that are large) likewise.
  Without the two methods everything is replicated, and a mesh with `fsdp` refuses what is large.
- `crop_range` (a `ranges.Range`, optional) tells how many samples a crop of audio must have.
- `train_step` gets a key that is already folded with the step: the same state and batch give the same result, which
  is what makes a resumed run equal a straight one. Split it by purpose.
- `state.step` counts from 0 and `train_step` returns it one higher.
- `phase(step)` is optional: a hashable value that says what kind of step it is, for a learner whose steps change. It
  is handed to `train_step` as `phase`, and each phase is compiled on its own, so that no step carries a branch that it
  does not take.
- `start_batches(step, batch)`, `start_features(state, batch)` and `start(state, features, rng)` are optional, all three
  or none: what happens once before a step and needs more than its batch, like the start of codebooks by k-means. The
  loop computes the features of as many of the coming batches as the first says (0: nothing happens), without using
  them up, and hands `start` the list.
- Metrics contain "loss"; a non-finite "loss" stops the run. Per-step scalars are `Metric.of(x)`.
- `eval_step` honours `batch["example_weights"]` (float32[B]): rows with weight 0 are padding and count nowhere.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Protocol

import jax
import numpy as np

from audiolm_jax.training.state import Metrics, TrainState

Batch = dict[str, np.ndarray | jax.Array]


class Learner(Protocol):
    """Pure functions over a TrainState; see the module's text for what each must keep."""

    name: str

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """The state at step 0, for batches of this shape. Called under jit; uses only shapes unless it must not."""

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One update."""

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Metrics of one held-out batch; deterministic."""


def phase_of(learner: Learner, step: int) -> Hashable:
    """The phase that a learner is in at a step; None for one that has none."""
    return learner.phase(step) if hasattr(learner, "phase") else None


def step_of_phase(learner: Learner, phase: Hashable) -> Callable[..., tuple[TrainState, Metrics]]:
    """(state, batch, rng) -> (state, metrics), a learner's step in a phase."""
    return learner.train_step if phase is None else functools.partial(learner.train_step, phase=phase)
