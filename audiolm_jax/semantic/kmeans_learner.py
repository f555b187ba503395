"""Fits the standardisation and the centroids of a semantic tokenizer, as a learner like the others."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.semantic import kmeans
from audiolm_jax.semantic.encoder import whole_frames
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.training.learner import Batch
from audiolm_jax.training.state import Metric, Metrics, TrainState


@dataclasses.dataclass(frozen=True)
class KMeansLearner:
    """k-means over features of audio batches {"samples": float32[B, T], "num_samples": int32[B]} at the
    encoder's rate.

    The first `statistics_steps` steps accumulate mean and deviation of every dimension and keep the latest frames.
    The next step fixes both, starts the centroids on the kept frames by k-means++, and from then on every step is one
    mini-batch. AudioLM standardises before clustering but does not say how; here the statistics are of the training
    set, and clustering is the mini-batch k-means of Sculley (2010) with fading counts and restarts.

    Attributes:
        tokenizer: the encoder, its layer, and K.
        load_encoder: returns the trained encoder's parameters; called once, when training starts from nothing. From
            then on they are part of the state.
        statistics_steps: length of the first pass; at least 1.
        start_frames: how many of its frames are kept for k-means++; several times K.
        decay: of a centroid's count, per step (see `kmeans.update`).
        restart_every_steps: how often empty clusters are looked for.
        name: of the learner, in logs and folders.
    """

    tokenizer: SemanticTokenizerConfig
    load_encoder: Callable[[], Any]
    statistics_steps: int = 100
    start_frames: int = 16_384
    decay: float = 0.99
    restart_every_steps: int = 10
    name: str = "kmeans"

    def init(self, rng: jax.Array, batch: Batch) -> TrainState:
        """Empty statistics and centroids around the trained encoder."""
        encoder = self._trained_encoder(jax.eval_shape(self._fresh_encoder))
        dim = self.tokenizer.encoder.dim
        collections = {
            "statistics": kmeans.Statistics.empty(dim),
            "clusters": kmeans.Clusters.empty(self.tokenizer.num_clusters, dim),
            "kept_features": jnp.zeros((self.start_frames, dim)),
            "kept": jnp.zeros(self.start_frames, bool),
        }
        return TrainState.create({"encoder": encoder}, (), collections)

    def train_step(self, state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        """Accumulates, starts, or moves the centroids, by the state's step."""
        frames, valid = self._frames(state, batch)
        old = state.collections

        def accumulate(_):
            statistics = kmeans.add_frames(old["statistics"], frames, valid)
            slots = (state.step * frames.shape[0] + jnp.arange(frames.shape[0])) % self.start_frames
            kept_features = old["kept_features"].at[slots].set(frames)
            kept = old["kept"].at[slots].set(valid)
            new = old | {"statistics": statistics, "kept_features": kept_features, "kept": kept}
            return new, jnp.float32(0), jnp.float32(0), jnp.float32(0)

        def start(_):
            standardised = self._standardise(old["statistics"], old["kept_features"])
            clusters = kmeans.start(rng, standardised, old["kept"], self.tokenizer.num_clusters)
            clusters, inertia, used = kmeans.update(clusters, standardised, old["kept"], decay=0.0)
            return old | {"clusters": clusters}, inertia, used, jnp.float32(0)

        def move(_):
            standardised = self._standardise(old["statistics"], frames)
            clusters, inertia, used = kmeans.update(old["clusters"], standardised, valid, self.decay)
            due = (state.step - self.statistics_steps) % self.restart_every_steps == 0
            clusters, restarted = jax.lax.cond(
                due,
                lambda: kmeans.restart_empty(rng, clusters, standardised, valid),
                lambda: (clusters, jnp.zeros((), jnp.int32)),
            )
            return old | {"clusters": clusters}, inertia, used, restarted.astype(jnp.float32)

        phase = jnp.sign(state.step - self.statistics_steps) + 1
        new, inertia, used, restarted = jax.lax.switch(phase, (accumulate, start, move), None)
        clustering = (phase > 0).astype(jnp.float32)
        metrics = {
            "loss": Metric.of(inertia / self.tokenizer.encoder.dim),
            "clusters_in_batch": Metric(total=used * clustering, weight=clustering),
            "restarted_clusters": Metric(total=restarted * clustering, weight=clustering),
        }
        return state.replace(step=state.step + 1, collections=new), metrics

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
        """Centroids and kept frames are split along their width, like what they are compared with."""
        del batch
        return {"clusters": kmeans.Clusters(("vocab", "embed"), None, None), "kept_features": (None, "embed")}

    def tokenizer_params(self, state: TrainState) -> dict[str, Any]:
        """The parameters of the `SemanticTokenizer` that this state has fitted."""
        statistics = state.collections["statistics"]
        return {
            "encoder": state.params["encoder"],
            "mean": statistics.mean,
            "std": statistics.std,
            "centroids": state.collections["clusters"].centroids,
        }

    def _frames(self, state, batch):
        """Features float32[B * T_s, D] and their mask bool [B * T_s]."""
        config = self.tokenizer
        samples, valid = whole_frames(config.encoder, batch["samples"], batch["num_samples"])
        frames = config.encoder.frames(state.params["encoder"], samples, batch["num_samples"], config.layer)
        return frames.astype(jnp.float32).reshape(-1, frames.shape[-1]), valid.reshape(-1)

    @staticmethod
    def _standardise(statistics, frames):
        return (frames - statistics.mean) / statistics.std

    def _trained_encoder(self, shapes):
        """The encoder's parameters within a compiled program, without baking them into it as constants."""
        lock = threading.Lock()

        @functools.cache
        def load():
            return self.load_encoder()

        def load_once():
            with lock:
                return load()

        def call():
            return jax.pure_callback(load_once, shapes)

        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.size == 1:
            return call()
        # On every device, for a callback on one of them would have to reach the devices of other processes.
        return jax.shard_map(call, in_specs=(), out_specs=jax.P(), check_vma=False)()

    def _boxed_encoder(self):
        return self.tokenizer.encoder.init(jax.random.key(0))

    def _fresh_encoder(self):
        return nn.unbox(self._boxed_encoder())
