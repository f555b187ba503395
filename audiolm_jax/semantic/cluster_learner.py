"""Training of the semantic encoder by masked prediction of classes that are given: HuBERT's, or BEST-RQ's."""

import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import NotNegative, Positive, Range
from audiolm_jax.semantic import objectives
from audiolm_jax.semantic.cluster_targets import Targets
from audiolm_jax.semantic.learner import EVAL_SEED, heldout_frames
from audiolm_jax.semantic.network.conformer import Linear
from audiolm_jax.semantic.network.front_end import SAMPLE_RATE_HZ
from audiolm_jax.semantic.perturbation import Perturbation
from audiolm_jax.semantic.w2v_bert import Masked, W2vBert, W2vBertConfig, num_frames, pad_to_frames
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState

_PERTURBATION = 2  # what a step's key is folded with for it; the others are split


class ClusterHeads(nn.Module):
    """Scores of the classes of every codebook.

    Args of the call:
        x: [B, T, D].

    Returns:
        one float32[B, T, N] for each codebook: a projection, or the cosine of one with a learned embedding of the
        class over the temperature (HuBERT, equation 3).
    """

    num_classes: tuple[int, ...]
    kind: str
    code_dim: int
    temperature: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x) -> list[jax.Array]:
        scores = []
        for index, size in enumerate(self.num_classes):
            if self.kind == "projection":
                head = Linear(size, ("embed", "vocab"), self.compute_dtype, name=f"projection_{index}")
                scores.append(head(x).astype(jnp.float32))
                continue
            projected = Linear(self.code_dim, ("embed", None), self.compute_dtype, name=f"projection_{index}")(x)
            init = nn.with_logical_partitioning(nn.initializers.normal(1.0), ("vocab", "embed"))
            embeddings = self.param(f"classes_{index}", init, (size, self.code_dim), jnp.float32)
            cosine = objectives.unit(projected) @ objectives.unit(embeddings).T
            scores.append(cosine / self.temperature)
        return scores


@dataclasses.dataclass(frozen=True)
class ClusterPredictionLearner:
    """Learner of the encoder of a w2v-BERT; batches are {"samples": float32[B, T], "num_samples": int32[B]} at 16 kHz.

    Spans of front-end frames are masked as in a w2v-BERT, and the classes of these frames, which the targets see
    unmasked, are predicted from the last block. The parameters hold those of a w2v-BERT that features depend on, under
    the same names, and the heads; a w2v-BERT's quantizer and its heads do not exist.

    Attributes:
        config: the encoder. Of its objective the mask alone counts, and `code_dim` is the width of a class embedding.
        targets: which classes.
        optimizer: see `training.optimization.optimizers`.
        perturbation: of what the encoder hears in training; the targets never hear it.
        head: "cosine" with learned embeddings, or "projection".
        temperature: that divides the cosine.
        middle_weight: of the same prediction from the block in the middle, the last "contrastive" one, with heads of
            its own; 0 for none.
        remat: what the backward pass computes again: "none"; "full" keeps only the input of every conformer block.
        name: of the learner, in logs and folders.
    """

    config: W2vBertConfig
    targets: Targets
    optimizer: optax.GradientTransformation
    perturbation: Perturbation = Perturbation(share=0.0)
    head: Literal["cosine", "projection"] = "cosine"
    temperature: Positive = 0.1
    middle_weight: NotNegative = 0.0
    remat: Literal["none", "full"] = "none"
    name: str = "cluster_prediction"

    def __post_init__(self):
        if self.middle_weight and not self.config.contrastive_layers:
            raise UserError("middle_weight is above 0, but contrastive_layers is 0: no block is in the middle")

    @property
    def crop_range(self) -> Range:
        """Samples of a crop: something is left of it beside a masked span."""
        return Range((self.config.mask_span_frames + 1) * self.config.hop_samples)

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """Fresh parameters, and targets that have not started."""
        params = nn.unbox(self._boxed_params(rng, batch))
        targets = self.targets.init(jax.random.fold_in(rng, 1))
        return TrainState.create(params, self.optimizer.init(params), {"targets": targets})

    def logical_axes(self, batch: Batch):
        """A tree like the parameters whose leaves are tuples of logical axis names."""
        specs = nn.get_partition_spec(jax.eval_shape(self._boxed_params, jax.random.key(0), batch))
        return jax.tree.map(tuple, specs, is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec))

    def collection_axes(self, batch: Batch) -> Any:
        """Those of the targets."""
        del batch
        return {"targets": axes} if (axes := self.targets.axes()) else {}

    def start_batches(self, step: int, batch: Batch) -> int:
        """How many batches the start of the targets takes before the first step."""
        batch_size, num_samples = batch["samples"].shape
        return 0 if step else self.targets.start_batches(batch_size * num_frames(num_samples))

    def start_features(self, state: TrainState, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """What the targets need of a batch: [N, D], and which of them count, bool[N]."""
        samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
        return self.targets.start_features(state.collections["targets"], samples, batch["num_samples"], valid)

    def start(self, state: TrainState, features: list[tuple[jax.Array, jax.Array]], rng: jax.Array) -> TrainState:
        """`state` with targets as they stay; as it is where another run has started them."""
        frames, valid = (jnp.concatenate(part) for part in zip(*features, strict=True))
        held = self.targets.start(state.collections["targets"], frames, valid, rng)
        return state.replace(collections=state.collections | {"targets": held})

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """One update."""
        dropout_key, mask_key = jax.random.split(rng)
        samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
        ids = self.targets.ids(state.collections["targets"], samples, batch["num_samples"], valid)
        perturb = None
        if self.perturbation.share:
            key = jax.random.fold_in(rng, _PERTURBATION)
            perturb = functools.partial(self.perturbation, key, sample_rate_hz=SAMPLE_RATE_HZ)

        def loss_of(params):
            passed = self._masked(params, samples, valid, mask_key, dropout_key, perturb)
            scores = self._heads().apply({"params": params["heads"]}, passed.last)
            loss = _loss(scores, ids, passed.masked)
            if self.middle_weight:
                middle = self._heads().apply({"params": params["middle_heads"]}, passed.middle)
                loss += self.middle_weight * _loss(middle, ids, passed.masked)
            return loss, (scores, passed.masked)

        (loss, (scores, masked)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        metrics = _metrics(scores, ids, masked, valid, jnp.ones(())) | {
            "loss": Metric.of(loss), "gradient_norm": Metric.of(optax.global_norm(gradients))
        }  # fmt: skip
        params = optax.apply_updates(state.params, updates)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Held-out loss and accuracies without dropout and perturbation, weighted by frames that are no padding."""
        scores, ids, masked, valid = self._evaluated(state, batch)
        weight = jnp.sum(valid).astype(jnp.float32)
        loss = _loss(scores, ids, masked)
        return _metrics(scores, ids, masked, valid, weight) | {"loss": Metric(total=loss * weight, weight=weight)}

    def class_counts(self, state: TrainState, batch: Batch) -> tuple[list[objectives.ClassCounts], Metrics]:
        """Of each codebook on masked frames of a held-out batch, and what else `evaluation.layers.encoder_exam` takes
        from a batch."""
        scores, ids, masked, valid = self._evaluated(state, batch)
        counts = [objectives.class_counts(score, each, masked) for score, each in zip(scores, ids, strict=True)]
        return counts, {"masked_share": Metric(jnp.sum(masked), jnp.sum(valid))}

    def _evaluated(self, state, batch):
        """(scores, ids, masked, valid) of a held-out batch."""
        samples, valid = heldout_frames(batch)
        ids = self.targets.ids(state.collections["targets"], samples, jnp.asarray(batch["num_samples"]), valid)
        passed = self._masked(state.params, samples, valid, jax.random.key(EVAL_SEED))
        scores = self._heads().apply({"params": state.params["heads"]}, passed.last)
        return scores, ids, passed.masked, valid

    def _masked(self, params, samples, valid, mask_key, dropout_key=None, perturb=None) -> Masked:
        """A pass of the encoder; without a key of dropout there is none."""
        return W2vBert(self.config, self.remat == "full").apply(
            {"params": {name: each for name, each in params.items() if name not in ("heads", "middle_heads")}},
            samples, valid, mask_key, dropout_key is None, perturb,
            rngs={} if dropout_key is None else {"dropout": dropout_key}, method=W2vBert.masked,
        )  # fmt: skip

    def _heads(self) -> ClusterHeads:
        config = self.config
        return ClusterHeads(
            self.targets.num_classes, self.head, config.code_dim, self.temperature, config.compute_dtype
        )

    def _boxed_params(self, rng, batch):
        encoder_key, head_key, middle_key = jax.random.split(rng, 3)
        samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
        params = W2vBert(self.config).init(encoder_key, samples, valid, method=W2vBert.encode)["params"]
        frame = jnp.zeros((1, 1, self.config.dim))
        params = {**params, "heads": self._heads().init(head_key, frame)["params"]}
        if self.middle_weight:
            params["middle_heads"] = self._heads().init(middle_key, frame)["params"]
        return params


def _loss(scores: list[jax.Array], ids: list[jax.Array], masked: jax.Array) -> jax.Array:
    """Cross-entropy on masked frames in nats, the mean over codebooks."""
    pairs = zip(scores, ids, strict=True)
    return sum(objectives.masked_prediction(score, each, masked)[0] for score, each in pairs) / len(ids)


def _metrics(scores, ids, masked, valid, weight) -> Metrics:
    """Figures of every codebook by name, each with one weight."""
    figures = {"masked_share": jnp.sum(masked) / jnp.maximum(jnp.sum(valid), 1)}
    for index, (score, each) in enumerate(zip(scores, ids, strict=True)):
        end = objectives.codebook_ending(index)
        size, predicted = score.shape[-1], jnp.argmax(score, axis=-1)
        used = jnp.zeros(size, bool).at[each].max(valid)
        figures |= {
            f"masked_accuracy{end}": objectives.accuracy(predicted, each, masked),
            f"unmasked_accuracy{end}": objectives.accuracy(predicted, each, valid & ~masked),
            f"target_usage{end}": jnp.mean(used),
            f"target_perplexity{end}": objectives.code_perplexity(each, valid, size),
            f"prediction_perplexity{end}": objectives.code_perplexity(predicted, masked, size),
        }
    return {name: Metric(total=value * weight, weight=weight) for name, value in figures.items()}
