"""The compiled functions of a run, and what goes in and out of them: shapes, types, and where each array lies.

The training loop runs them; `audiolm check` compiles the same ones for a machine that is not there.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh

from audiolm_jax.data.feed.batches import BatchShapes
from audiolm_jax.parallel.mesh import batch_sharding, mesh_context, replicated, state_shardings
from audiolm_jax.parallel.replication import check_split
from audiolm_jax.training.learner import Batch, Learner, phase_of, step_of_phase
from audiolm_jax.training.state import Metrics, TrainState

# What a random key is for; folded into the run's root key before the step is.
_PURPOSE_INIT, _PURPOSE_TRAIN, _PURPOSE_SAMPLE, _PURPOSE_START = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Program:
    """A learner on a mesh.

    Attributes:
      mesh: of the devices, which may be those of a topology that is only compiled for.
      state: the TrainState as shapes with shardings.
      batch: the global training batch as shapes with shardings.
      eval_batch: the global held-out batch likewise.
      init: (batch) -> state at step 0.
      train_step: (state, batch, phase) -> (next state, metrics); the memory of `state` is reused for the next one, and
        each phase is compiled on its own.
      phase: step -> the phase that the learner is in; None for a learner that has none.
      start_batches: step -> how many of the coming batches `start` takes before it; 0 where nothing starts.
      start: (state, batches) -> the state with which the step begins; see `training.learner`.
      eval_step: (state, eval_batch) -> metrics.

    `init`, `train_step` and `eval_step` are jitted; call and lower them within `parallel.mesh.mesh_context(mesh)`.
    """

    mesh: Mesh
    state: TrainState
    batch: BatchShapes
    eval_batch: BatchShapes
    init: Callable[[Batch], TrainState]
    train_step: Callable[[TrainState, Batch, Hashable], tuple[TrainState, Metrics]]
    phase: Callable[[int], Hashable]
    start_batches: Callable[[int], int]
    start: Callable[[TrainState, Iterable[Batch]], TrainState] | None
    eval_step: Callable[[TrainState, Batch], Metrics]

    @property
    def batch_size(self) -> int:
        """Rows of the global training batch."""
        return next(iter(self.batch.values())).shape[0]


def make_program(
    learner: Learner, batch_shapes: BatchShapes, eval_batch_shapes: BatchShapes, mesh: Mesh, seed: int
) -> Program:
    """Shapes, shardings and jitted functions of a learner on a mesh; nothing is computed or compiled yet.

    Args:
      learner: what is trained.
      batch_shapes, eval_batch_shapes: of global batches, as a feed tells them.
      mesh: the devices.
      seed: root of the run's randomness. Keys are a function of (seed, purpose, step).

    Raises:
      UserError: the batch does not divide among the mesh's devices, or a large array is not split over `fsdp`.
    """
    # Keys are made inside the functions: made outside, they would be arrays on a device of this process.
    def init(batch: Batch) -> TrainState:
        return learner.init(jax.random.fold_in(jax.random.key(seed), _PURPOSE_INIT), batch)

    def train_step(state: TrainState, batch: Batch, phase: Hashable) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), _PURPOSE_TRAIN)
        return step_of_phase(learner, phase)(state, batch, jax.random.fold_in(key, state.step))

    batch, eval_batch = _placed_batch(mesh, batch_shapes), _placed_batch(mesh, eval_batch_shapes)
    with mesh_context(mesh):
        abstract = jax.eval_shape(init, batch)
        logical_axes = learner.logical_axes(batch) if hasattr(learner, "logical_axes") else None
        collection_axes = learner.collection_axes(batch) if hasattr(learner, "collection_axes") else None
    shardings = state_shardings(mesh, abstract, logical_axes, collection_axes)
    state = jax.tree.map(_placed, abstract, shardings)
    check_split(mesh, state)
    return Program(
        mesh=mesh,
        state=state,
        batch=batch,
        eval_batch=eval_batch,
        init=jax.jit(init, in_shardings=(_shardings(batch),), out_shardings=shardings),
        train_step=jax.jit(
            train_step,
            in_shardings=(shardings, _shardings(batch)),
            out_shardings=(shardings, replicated(mesh)),
            donate_argnums=0,
            static_argnums=2,
        ),
        phase=functools.partial(phase_of, learner),
        start_batches=functools.partial(_start_batches, learner, batch),
        start=_start(learner, batch, shardings, seed),
        eval_step=jax.jit(
            learner.eval_step, in_shardings=(shardings, _shardings(eval_batch)), out_shardings=replicated(mesh)
        ),
    )


def _start_batches(learner: Learner, batch_shapes: BatchShapes, step: int) -> int:
    return learner.start_batches(step, batch_shapes) if hasattr(learner, "start_batches") else 0


def _start(learner: Learner, batch_shapes: BatchShapes, shardings: TrainState, seed: int):
    """`Program.start` of a learner; None for one that starts nothing."""
    if not hasattr(learner, "start"):
        return None
    features = jax.jit(learner.start_features, in_shardings=(shardings, _shardings(batch_shapes)))

    def begin(state: TrainState, gathered: list[jax.Array]) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), _PURPOSE_START)
        return learner.start(state, gathered, jax.random.fold_in(key, state.step))

    begin = jax.jit(begin, out_shardings=shardings, donate_argnums=0)
    return lambda state, batches: begin(state, [features(state, batch) for batch in batches])


def sample_key(seed: int, step: int) -> jax.Array:
    """The key of the clips that are made at a step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _PURPOSE_SAMPLE), step)


def _placed(leaf: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _placed_batch(mesh: Mesh, shapes: BatchShapes) -> BatchShapes:
    return {name: _placed(shape, batch_sharding(mesh, shape.shape[0])) for name, shape in shapes.items()}


def _shardings(batch: BatchShapes) -> dict[str, Any]:
    return {name: shape.sharding for name, shape in batch.items()}
