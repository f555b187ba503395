"""Training of a clip classifier."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from audiolm_jax.classifier.augmentation import Augmentation, change_log_mel, change_samples
from audiolm_jax.classifier.network import LOG_MEL_DEVIATION, ClipClassifier, ClipClassifierConfig, log_mel
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState

_STATISTICS = "batch_stats"


@dataclasses.dataclass(frozen=True)
class ClipClassifierLearner:
    """Learner on batches {"samples": float32[B, clip_samples], "labels": int32[B]}.

    Held-out batches hold whole recordings instead: {"samples": float32[B, W, clip_samples], "window_weights":
    float32[B, W], "labels": int32[B], "example_weights": float32[B]}.

    Attributes:
        config: the network.
        optimizer: of all parameters.
        augmentation: of training clips; the paper has none.
    """

    config: ClipClassifierConfig
    optimizer: optax.GradientTransformation
    augmentation: Augmentation = Augmentation()
    name: str = "classifier"

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """Fresh parameters and running statistics."""
        variables = nn.unbox(self._boxed(rng))
        statistics = {_STATISTICS: variables[_STATISTICS]}
        return TrainState.create(variables["params"], self.optimizer.init(variables["params"]), statistics)

    def logical_axes(self, batch: Batch):
        """Names of the parameters' axes, a tree like `TrainState.params`."""
        return nn.get_partition_spec(jax.eval_shape(self._boxed, jax.random.key(0))["params"])

    def _boxed(self, rng):
        mel = jnp.zeros((1, self.config.frames, self.config.num_mels))
        return ClipClassifier(self.config).init(rng, mel, deterministic=True)

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One update."""
        samples_rng, mel_rng = jax.random.split(rng)
        mel = log_mel(self.config, change_samples(jnp.asarray(batch["samples"]), samples_rng, self.augmentation))
        mel = change_log_mel(mel, mel_rng, self.augmentation, LOG_MEL_DEVIATION)
        labels = jnp.asarray(batch["labels"])

        def loss_of(params):
            (logits, _), changed = ClipClassifier(self.config).apply(
                {"params": params, **state.collections}, mel, deterministic=False, mutable=[_STATISTICS]
            )
            loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
            return loss, (logits, changed)

        (loss, (logits, statistics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
        metrics = {
            "loss": Metric.of(loss),
            "accuracy": Metric.of(jnp.mean(jnp.argmax(logits, axis=-1) == labels)),
            "gradient_norm": Metric.of(optax.global_norm(gradient)),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, dict(statistics)), metrics

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Accuracy over windows, and over recordings by the mean of their windows' log-probabilities."""
        variables = {"params": state.params, **state.collections}
        labels = jnp.asarray(batch["labels"])
        weights = jnp.asarray(batch["example_weights"], jnp.float32)

        def window(_, column):
            logits, _ = ClipClassifier(self.config).apply(variables, log_mel(self.config, column), deterministic=True)
            return None, jax.nn.log_softmax(logits)

        # One window of every recording at a time: few activations at once, and rows stay on their devices.
        _, log_probabilities = jax.lax.scan(window, None, jnp.moveaxis(jnp.asarray(batch["samples"]), 1, 0))
        log_probabilities = jnp.moveaxis(log_probabilities, 0, 1)  # [B, W, classes]
        window_weights = jnp.asarray(batch["window_weights"])
        of_label = jnp.take_along_axis(log_probabilities, labels[:, None, None], axis=2)[..., 0]
        right = jnp.argmax(log_probabilities, axis=-1) == labels[:, None]
        both = window_weights * weights[:, None]
        total = jnp.sum(log_probabilities * window_weights[..., None], axis=1)
        return {
            "loss": Metric.mean(-of_label, both),
            "window_accuracy": Metric.mean(right, both),
            "accuracy": Metric.mean(jnp.argmax(total, axis=-1) == labels, weights),
        }
