"""Fits the standardisation and the centroids of a semantic tokenizer, as a learner like the others."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.ranges import Count, Range, Share
from audiolm_jax.semantic import kmeans
from audiolm_jax.semantic.loaded_params import loaded_params
from audiolm_jax.semantic.network.encoder import whole_frames
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState


class Phase(enum.StrEnum):
    """What a step does; each is compiled on its own."""

    STATISTICS = "mean and deviation"
    CLUSTERS = "centroids"


@dataclasses.dataclass(frozen=True)
class KMeansLearner:
    """k-means over features of audio batches {"samples": float32[B, T], "num_samples": int32[B]} at the
    encoder's rate.

    The first `statistics_steps` steps accumulate mean and deviation of every dimension. Then the centroids start by
    k-means++ on frames of the coming batches, and from then on every step is one mini-batch. AudioLM standardises
    before clustering but does not say how; here the statistics are of the training set, and clustering is the
    mini-batch k-means of Sculley (2010) with fading counts and restarts.

    Attributes:
        tokenizer: the encoder, its layer, and K.
        load_encoder: returns the trained encoder's parameters; called once, when training starts from nothing. From
            then on those that the layer depends on are part of the state.
        statistics_steps: length of the first pass; at least 1.
        start_frames: how many frames k-means++ starts from; several times K.
        decay: of a centroid's count, per step (see `kmeans.update`).
        restart_every_steps: how often empty clusters are looked for.
        name: of the learner, in logs and folders.
    """

    tokenizer: SemanticTokenizerConfig
    load_encoder: Callable[[], Any]
    statistics_steps: Count = 100
    start_frames: Count = 16_384
    decay: Share = 0.99
    restart_every_steps: Count = 10
    name: str = "kmeans"

    @property
    def crop_range(self) -> Range:
        """Samples of a crop: one frame at least."""
        return Range(self.tokenizer.encoder.hop_samples)

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """Empty statistics and centroids around the trained encoder."""
        encoder = loaded_params(self._used_params, jax.eval_shape(self._fresh_encoder))
        dim = self.tokenizer.encoder.dim
        collections = {
            "statistics": kmeans.Statistics.empty(dim),
            "clusters": kmeans.Clusters.empty(self.tokenizer.num_clusters, dim),
        }
        return TrainState.create({"encoder": encoder}, (), collections)

    def phase(self, step: int) -> Phase:
        """What happens at a step."""
        return Phase.STATISTICS if step < self.statistics_steps else Phase.CLUSTERS

    def start_batches(self, step: int, batch: Batch) -> int:
        """How many batches the start of the centroids takes before this step."""
        if step != self.statistics_steps:
            return 0
        batch_size, num_samples = batch["samples"].shape
        frames = batch_size * -(-num_samples // self.tokenizer.encoder.hop_samples)
        return -(-self.start_frames // frames)

    def start_features(self, state: TrainState, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Features [N, D] of frames that lie evenly in a batch, `start_frames` at most, and their mask bool[N]."""
        frames, valid = self._frames(state, batch)
        places = np.linspace(0, len(frames) - 1, min(self.start_frames, len(frames))).astype(int)
        return frames[places], valid[places]

    def start(self, state: TrainState, features: list[tuple[jax.Array, jax.Array]], rng: jax.Array) -> TrainState:
        """`state` with centroids by k-means++ on the features of some batches, moved once by all of them."""
        frames, valid = (jnp.concatenate(part) for part in zip(*features, strict=True))
        standardised = self._standardise(state.collections["statistics"], frames)
        clusters = kmeans.start(rng, standardised, valid, self.tokenizer.num_clusters)
        clusters, _, _ = kmeans.update(clusters, standardised, valid, decay=0.0)
        return state.replace(collections=state.collections | {"clusters": clusters})

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array, phase: Phase) -> tuple[TrainState, Metrics]:
        """Accumulates the statistics, or moves the centroids."""
        frames, valid = self._frames(state, batch)
        statistics, clusters = state.collections["statistics"], state.collections["clusters"]
        inertia, used, restarted = jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32)
        if phase is Phase.STATISTICS:
            statistics = kmeans.add_frames(statistics, frames, valid)
        else:
            standardised = self._standardise(statistics, frames)
            clusters, inertia, used = kmeans.update(clusters, standardised, valid, self.decay)
            clusters, restarted = jax.lax.cond(
                (state.step - self.statistics_steps) % self.restart_every_steps == 0,
                lambda: kmeans.restart_empty(rng, clusters, standardised, valid),
                lambda: (clusters, jnp.zeros((), jnp.int32)),
            )
        clustering = jnp.float32(phase is Phase.CLUSTERS)
        metrics = {
            "loss": Metric.of(inertia / self.tokenizer.encoder.dim),
            "clusters_in_batch": Metric(total=used * clustering, weight=clustering),
            "restarted_clusters": Metric(total=restarted * clustering, weight=clustering),
        }
        collections = {"statistics": statistics, "clusters": clusters}
        return state.replace(step=state.step + 1, collections=collections), metrics

    def eval_step(self, state: TrainState, batch: Batch) -> Metrics:
        """Mean squared distance to the nearest centroid, per standardised dimension: 1 without any clustering."""
        num_samples = jnp.asarray(batch["num_samples"])
        if "example_weights" in batch:
            num_samples = jnp.where(batch["example_weights"] > 0, num_samples, 0)
        frames, valid = self._frames(state, {"samples": batch["samples"], "num_samples": num_samples})
        standardised = self._standardise(state.collections["statistics"], frames)
        distances = kmeans.squared_distances(standardised, state.collections["clusters"].centroids)
        squared = jnp.min(distances, axis=1) + jnp.sum(jnp.square(standardised), axis=1)
        return {"loss": Metric.mean(squared / standardised.shape[1], valid)}

    def logical_axes(self, batch: Batch) -> Any:
        """A tree like the parameters whose leaves are tuples of logical axis names."""
        specs = nn.get_partition_spec(jax.eval_shape(self._boxed_encoder))
        return {"encoder": jax.tree.map(tuple, specs, is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec))}

    def collection_axes(self, batch: Batch) -> Any:
        """Centroids are split along their width, like what they are compared with."""
        del batch
        return {"clusters": kmeans.Clusters(("vocab", "embed"), None, None)}

    def _frames(self, state, batch):
        """Features float32[B * T_s, D] and their mask bool [B * T_s]."""
        config = self.tokenizer
        samples, valid = whole_frames(config.encoder, batch["samples"], batch["num_samples"])
        frames = config.encoder.frames(state.params["encoder"], samples, batch["num_samples"], config.layer)
        return frames.astype(jnp.float32).reshape(-1, frames.shape[-1]), valid.reshape(-1)

    @staticmethod
    def _standardise(statistics, frames):
        return (frames - statistics.mean) / statistics.std

    def _used_params(self):
        return self.tokenizer.encoder.used_params(self.load_encoder(), self.tokenizer.layer)

    def _boxed_encoder(self):
        encoder = self.tokenizer.encoder
        return encoder.used_params(encoder.init(jax.random.key(0)), self.tokenizer.layer)

    def _fresh_encoder(self):
        return nn.unbox(self._boxed_encoder())
