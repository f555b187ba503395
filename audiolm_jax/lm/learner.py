"""Training of one stage's language model."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel, TargetNats
from audiolm_jax.tokens.layout import SEMANTIC
from audiolm_jax.tokens.stages import Stage
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState


@dataclasses.dataclass(frozen=True)
class StageLearner:
    """Cross-entropy of target tokens given everything before them, over the legal ids (see `StageModel`).

    Batches are dicts of `ids` int32[B, S] and `loss_weights` float32[B, S] (1 on target tokens), in evaluation also
    `example_weights` float32[B].

    Attributes:
        stage: which stage.
        config: sizes of the Transformer.
        optimizer: an optax transformation, for example `audiolm_jax.training.optimization.optimizers.adam(...)`.
    """

    stage: Stage
    config: TransformerConfig
    optimizer: optax.GradientTransformation

    @property
    def name(self) -> str:
        """ "lm_semantic", "lm_coarse", "lm_acoustic" or "lm_fine"; also the name of the weights in a bundle."""
        return f"lm_{self.stage.name}"

    @property
    def model(self) -> StageModel:
        """The language model, without its optimizer."""
        return StageModel(self.stage, self.config)

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """The state at step 0; of the batch nothing is used."""
        del batch
        params = self.model.init(rng)
        return TrainState.create(params, self.optimizer.init(params))

    def logical_axes(self, batch: Batch) -> dict[str, tuple[str | None, ...]]:
        """Names of the parameters' axes, for the mesh."""
        del batch
        return self.model.logical_axes()

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One update by the mean over the batch's target tokens.

        Metrics: those of `eval_step`, and `grad_norm`, the global norm before clipping.
        """

        def loss_function(params):
            target = self.model.target_nats(
                params, batch["ids"], batch["loss_weights"], rng if self.config.dropout > 0 else None
            )
            mean = jnp.sum(target.nats * target.weights) / jnp.maximum(jnp.sum(target.weights), 1.0)
            return mean, target

        (_, target), grads = jax.value_and_grad(loss_function, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = self._metrics(target) | {"grad_norm": Metric.of(optax.global_norm(grads))}
        return TrainState(state.step + 1, params, opt_state, state.collections), metrics

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """`loss` and `nats_per_token` (the same), `accuracy`, and `nats_semantic` or one `nats_level_Q` per level."""
        weights = batch["loss_weights"]
        if "example_weights" in batch:
            weights = weights * batch["example_weights"][:, None]
        return self._metrics(self.model.target_nats(state.params, batch["ids"], weights))

    def _metrics(self, target: TargetNats) -> Metrics:
        nats = Metric.mean(target.nats, target.weights)
        metrics = {
            "loss": nats,
            "nats_per_token": nats,
            "accuracy": Metric.mean(target.correct, target.weights),
        }
        if self.stage.target.stream == SEMANTIC:
            return metrics | {"nats_semantic": nats}
        for level in range(self.stage.target.num_levels):
            name = f"nats_level_{self.stage.target.first_level + level}"
            metrics[name] = Metric.mean(target.nats[:, :, level], target.weights[:, :, level])
        return metrics
