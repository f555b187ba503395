"""What masked prediction predicts where nothing of it is learned with the encoder: a class for every 40 ms frame.

Clusters of MFCC, then of a layer of the encoder that these have trained, and so on (HuBERT, Hsu et al. 2021, section
II-B); or the nearest of random vectors to a random projection of log-mel frames (BEST-RQ, Chiu et al. 2022).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Whole
from audiolm_jax.semantic import kmeans
from audiolm_jax.semantic.loaded_params import loaded_params
from audiolm_jax.semantic.mfcc import DIM, mfcc, pooled, row_standardised
from audiolm_jax.semantic.network.encoder import Encoder
from audiolm_jax.semantic.network.front_end import (
    HOP_SAMPLES,
    MEL_HOP_SAMPLES,
    NUM_MELS,
    SAMPLE_RATE_HZ,
    log_mel_frames,
)
from audiolm_jax.semantic.objectives import unit

_MELS_A_FRAME = HOP_SAMPLES // MEL_HOP_SAMPLES


class Targets(Protocol):
    """Classes of frames in one or several codebooks. What it holds is a plain tree of arrays, without gradients.

    All batches are samples float32[B, T * 640] at 16 kHz, zero outside the row, with num_samples int32[B] and the mask
    valid bool[B, T] of frames.
    """

    @property
    def num_classes(self) -> tuple[int, ...]:
        """Of each codebook."""

    def init(self, rng: jax.Array) -> dict[str, Any]:
        """What it holds before anything is known of the data."""

    def axes(self) -> dict[str, Any]:
        """Logical axes of what is large in it."""

    def start_batches(self, num_frames: int) -> int:
        """How many batches of so many frames `start` takes before the first step; 0 where it needs none."""

    def start_features(self, held: dict[str, Any], samples, num_samples, valid) -> tuple[jax.Array, jax.Array]:
        """What `start` needs of a batch: [N, D], and which of them count, bool[N]."""

    def start(self, held: dict[str, Any], features: jax.Array, valid: jax.Array, rng: jax.Array) -> dict[str, Any]:
        """What it holds from the first step on; as it is where another run has started it."""

    def ids(self, held: dict[str, Any], samples, num_samples, valid) -> list[jax.Array]:
        """int32[B, T] for each codebook."""


class FrameSource(Protocol):
    """Features float32[B, T, D] whose clusters are targets."""

    @property
    def dim(self) -> int:
        """D."""

    def boxed_params(self) -> dict[str, Any]:
        """Random parameters with their logical axes, of the shapes that `params` has; {} for none."""

    def params(self) -> dict[str, Any]:
        """Parameters that it computes with; under jit."""

    def __call__(self, params: dict[str, Any], samples, num_samples, valid) -> jax.Array:
        """The features of a batch, see `Targets`."""


@dataclasses.dataclass(frozen=True)
class MfccFrames:
    """MFCC with deltas, means of 40 ms, standardised over the row: the first iteration."""

    @property
    def dim(self) -> int:
        return DIM

    def boxed_params(self) -> dict[str, Any]:
        return {}

    def params(self) -> dict[str, Any]:
        return {}

    def __call__(self, params: dict[str, Any], samples, num_samples, valid) -> jax.Array:
        del params, num_samples
        return row_standardised(pooled(mfcc(log_mel_frames(samples)), _MELS_A_FRAME), valid)


@dataclasses.dataclass(frozen=True)
class TeacherFrames:
    """A layer of a trained encoder: the iterations after the first.

    Attributes:
        encoder: the teacher; of several frames of its own in 40 ms the mean is taken.
        load_encoder: returns its parameters; called once, when training starts from nothing. From then on those that
            the layer depends on are part of the state.
        layer: its block whose output is clustered, counted from 1.
    """

    encoder: Encoder
    load_encoder: Callable[[], Any]
    layer: Whole

    def __post_init__(self):
        if not 0 <= self.layer <= self.encoder.num_layers:
            raise UserError(f"layer {self.layer} is not among the layers 0 to {self.encoder.num_layers} of the teacher")
        if self.encoder.sample_rate_hz != SAMPLE_RATE_HZ or HOP_SAMPLES % self.encoder.hop_samples:
            raise UserError(
                f"a teacher at {SAMPLE_RATE_HZ} Hz whose frames divide {HOP_SAMPLES} samples is wanted; this one has "
                f"{self.encoder.hop_samples} at {self.encoder.sample_rate_hz} Hz"
            )

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def boxed_params(self) -> dict[str, Any]:
        return self.encoder.used_params(self.encoder.init(jax.random.key(0)), self.layer)

    def params(self) -> dict[str, Any]:
        shapes = jax.eval_shape(lambda: nn.unbox(self.boxed_params()))
        return loaded_params(lambda: self.encoder.used_params(self.load_encoder(), self.layer), shapes)

    def __call__(self, params: dict[str, Any], samples, num_samples, valid) -> jax.Array:
        frames = self.encoder.frames(params, samples, num_samples, self.layer).astype(jnp.float32)
        return jnp.where(valid[..., None], pooled(frames, HOP_SAMPLES // self.encoder.hop_samples), 0.0)


@dataclasses.dataclass(frozen=True)
class ClusterTargets:
    """The nearest of the centroids that k-means finds on the frames of the first batches; they stay as they are.

    Features are standardised by mean and deviation of these frames.

    Attributes:
        source: of the features.
        num_clusters: of each codebook; several at once are several views of the same frames, coarse and fine.
        start_frames: that k-means runs on; many times the clusters.
        iterations: of Lloyd, after k-means++.
    """

    source: FrameSource
    num_clusters: tuple[Count, ...] = (100,)
    start_frames: Count = 32_768
    iterations: Count = 20

    def __post_init__(self):
        if not self.num_clusters:
            raise UserError("num_clusters is empty; give the clusters of one codebook at least")
        if self.start_frames < max(self.num_clusters):
            raise UserError(f"start_frames is {self.start_frames}, fewer than the {max(self.num_clusters)} clusters")

    @property
    def num_classes(self) -> tuple[int, ...]:
        return self.num_clusters

    def init(self, rng: jax.Array) -> dict[str, Any]:
        del rng
        params, dim = self.source.params(), self.source.dim
        centroids = {_codebook(k): jnp.zeros((size, dim)) for k, size in enumerate(self.num_clusters)}
        held = {"mean": jnp.zeros(dim), "std": jnp.zeros(dim), "centroids": centroids}
        return held | ({"source": params} if params else {})

    def axes(self) -> dict[str, Any]:
        specs = nn.get_partition_spec(jax.eval_shape(self.source.boxed_params))
        source = jax.tree.map(tuple, specs, is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec))
        axes = {"centroids": {_codebook(k): ("vocab", "embed") for k in range(len(self.num_clusters))}}
        return axes | ({"source": source} if source else {})

    def start_batches(self, num_frames: int) -> int:
        return -(-self.start_frames // num_frames)

    def start_features(self, held: dict[str, Any], samples, num_samples, valid) -> tuple[jax.Array, jax.Array]:
        return self._features(held, samples, num_samples, valid), valid.reshape(-1)

    def start(self, held: dict[str, Any], features: jax.Array, valid: jax.Array, rng: jax.Array) -> dict[str, Any]:
        # All frames on every device: once in a training, and k-means++ draws one after another.
        features, valid = (nn.with_logical_constraint(x, (None,) * x.ndim) for x in (features, valid))
        statistics = kmeans.add_frames(kmeans.Statistics.empty(features.shape[1]), features, valid)
        standardised = (features - statistics.mean) / statistics.std
        centroids = {
            _codebook(k): kmeans.fit(jax.random.fold_in(rng, k), standardised, valid, size, self.iterations).centroids
            for k, size in enumerate(self.num_clusters)
        }
        made = {"mean": statistics.mean, "std": statistics.std, "centroids": centroids}
        # Kept where a run goes on with the targets of another one. No `cond`: on CPU XLA runs it many times slower.
        started = jnp.any(held["std"] > 0)
        return held | {
            name: jax.tree.map(lambda old, new: jnp.where(started, old, new), held[name], made[name]) for name in made
        }

    def ids(self, held: dict[str, Any], samples, num_samples, valid) -> list[jax.Array]:
        standardised = (self._features(held, samples, num_samples, valid) - held["mean"]) / held["std"]
        centroids = [held["centroids"][_codebook(k)] for k in range(len(self.num_clusters))]
        return [kmeans.assign(standardised, each).reshape(valid.shape) for each in centroids]

    def _features(self, held, samples, num_samples, valid):
        """float32[B * T, D]."""
        return self.source(held.get("source", {}), samples, num_samples, valid).reshape(-1, self.source.dim)


@dataclasses.dataclass(frozen=True)
class RandomProjectionTargets:
    """BEST-RQ: the four log-mel frames of 40 ms, standardised over the row and projected at random, to the nearest of
    random unit vectors. Nothing is learned, not even from the data.

    Attributes:
        codebook_size: vectors of a codebook.
        num_codebooks: each with a projection of its own.
        code_dim: width of the projection.
    """

    codebook_size: Count = 1024
    num_codebooks: Count = 1
    code_dim: Count = 16

    @property
    def num_classes(self) -> tuple[int, ...]:
        return (self.codebook_size,) * self.num_codebooks

    def init(self, rng: jax.Array) -> dict[str, Any]:
        width = _MELS_A_FRAME * NUM_MELS
        held = {}
        for k in range(self.num_codebooks):
            projection_key, codes_key = jax.random.split(jax.random.fold_in(rng, k))
            codes = jax.random.normal(codes_key, (self.codebook_size, self.code_dim))
            held[_codebook(k)] = {
                "projection": nn.initializers.xavier_normal()(projection_key, (width, self.code_dim)),
                "codes": unit(codes),
            }
        return held

    def axes(self) -> dict[str, Any]:
        axes = {"projection": (None, "embed"), "codes": ("vocab", "embed")}
        return {_codebook(k): axes for k in range(self.num_codebooks)}

    def start_batches(self, num_frames: int) -> int:
        del num_frames
        return 0

    def start_features(self, held: dict[str, Any], samples, num_samples, valid) -> tuple[jax.Array, jax.Array]:
        del held, num_samples
        stacked = log_mel_frames(samples).reshape(*valid.shape, _MELS_A_FRAME * NUM_MELS)
        standardised = row_standardised(stacked, valid)
        return standardised.reshape(-1, standardised.shape[-1]), valid.reshape(-1)

    def start(self, held: dict[str, Any], features: jax.Array, valid: jax.Array, rng: jax.Array) -> dict[str, Any]:
        del features, valid, rng
        return held

    def ids(self, held: dict[str, Any], samples, num_samples, valid) -> list[jax.Array]:
        frames, _ = self.start_features(held, samples, num_samples, valid)
        codebooks = [held[_codebook(k)] for k in range(self.num_codebooks)]
        return [kmeans.assign(unit(frames @ each["projection"]), each["codes"]).reshape(valid.shape)
                for each in codebooks]


def _codebook(index: int) -> str:
    return f"codebook_{index}"
