"""Training of w2v-BERT: one masked pass, one Adam update."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Range
from audiolm_jax.semantic.objectives import ClassCounts
from audiolm_jax.semantic.w2v_bert import Predictions, W2vBert, W2vBertConfig, pad_to_frames, quantizer_start
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState

EVAL_SEED = 0  # held-out batches are masked alike at every evaluation, so their losses can be compared


@dataclasses.dataclass(frozen=True)
class W2vBertLearner:
    """Learner of the semantic encoder; batches are {"samples": float32[B, T], "num_samples": int32[B]} at 16 kHz.

    Attributes:
        config: the model.
        optimizer: see `training.optimization.optimizers.adam`; the paper warms up to 2e-3 and decays with
            the inverse square root.
        remat: what the backward pass computes again: "none"; "full" keeps only the input of every conformer block.
        name: of the learner, in logs and folders.
    """

    config: W2vBertConfig
    optimizer: optax.GradientTransformation
    remat: str = "none"
    name: str = "w2v_bert"

    def __post_init__(self):
        if self.remat not in ("none", "full"):
            raise UserError(f"remat is '{self.remat}', but must be none or full")

    @property
    def crop_range(self) -> Range:
        """Samples of a crop: something is left of it beside a masked span."""
        return Range((self.config.mask_span_frames + 1) * self.config.hop_samples)

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """Fresh parameters; the quantizer starts from the k-means of this batch's front-end frames."""
        params = nn.unbox(self._boxed_params(rng, batch))
        samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
        frames = W2vBert(self.config).apply({"params": params}, samples, valid, method=W2vBert.front)
        start_key = jax.random.fold_in(rng, 1)
        start = quantizer_start(self.config, start_key, frames.reshape(-1, frames.shape[-1]), valid.reshape(-1))
        params["quantizer"] = params["quantizer"] | start
        return TrainState.create(params, self.optimizer.init(params))

    def logical_axes(self, batch: Batch):
        """A tree like the parameters whose leaves are tuples of logical axis names."""
        boxed = jax.eval_shape(self._boxed_params, jax.random.key(0), batch)
        specs = nn.get_partition_spec(boxed)
        return jax.tree.map(tuple, specs, is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec))

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One update."""
        dropout_key, pass_key = jax.random.split(rng)

        def loss_of(params):
            samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
            predictions = W2vBert(self.config, self.remat == "full").apply(
                {"params": params}, samples, valid, state.step, pass_key, rngs={"dropout": dropout_key}
            )
            return predictions.loss, predictions

        gradients, predictions = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        metrics = _metrics(predictions, jnp.ones(()))
        metrics["gradient_norm"] = Metric.of(optax.global_norm(gradients))
        params = optax.apply_updates(state.params, updates)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Held-out losses, without dropout and Gumbel noise, weighted by the frames of rows that are no padding."""
        predictions, valid = self._evaluated(state, batch)
        return _metrics(predictions, jnp.sum(valid).astype(jnp.float32))

    def class_counts(self, state: TrainState, batch: Batch) -> tuple[list[ClassCounts], Metrics]:
        """Of the quantizer's codes on masked frames of a held-out batch, and what else `evaluation.layers.encoder_exam`
        takes from a batch."""
        predictions, valid = self._evaluated(state, batch)
        metrics = _metrics(predictions, jnp.sum(valid).astype(jnp.float32))
        return [predictions.codes], {name: metrics[name] for name in ("contrastive_accuracy", "masked_share")}

    def _evaluated(self, state, batch):
        """The predictions of one held-out batch, and which frames are of rows that are no padding."""
        samples, valid = heldout_frames(batch)
        predictions = W2vBert(self.config).apply(
            {"params": state.params}, samples, valid, state.step, jax.random.key(EVAL_SEED), deterministic=True
        )
        return predictions, valid

    def _boxed_params(self, rng, batch):
        samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
        variables = W2vBert(self.config).init(rng, samples, valid, jnp.zeros((), jnp.int32), rng, deterministic=True)
        return variables["params"]


def heldout_frames(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """`pad_to_frames` of a held-out batch, whose rows of `example_weights` 0 have no frame."""
    num_samples = jnp.asarray(batch["num_samples"])
    if "example_weights" in batch:
        num_samples = jnp.where(batch["example_weights"] > 0, num_samples, 0)
    return pad_to_frames(batch["samples"], num_samples)


def _metrics(predictions: Predictions, weight) -> Metrics:
    means = {name: value for name, value in predictions._asdict().items() if name != "codes"}
    return {name: Metric(total=value * weight, weight=weight) for name, value in means.items()}
