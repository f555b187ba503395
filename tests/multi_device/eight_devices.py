"""A tiny stage and codebooks on one device and on eight, in one process of eight simulated devices."""

import json
import sys

import jax
import numpy as np

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.discriminators import Discriminators
from audiolm_jax.codec.learner import SoundStreamLearner
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.codec.soundstream import SoundStreamConfig
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.parallel.mesh import MeshSizes, global_batch, make_mesh, mesh_context, state_shardings
from audiolm_jax.tokens.stages import coarse_stage
from audiolm_jax.training.optimizers import adam

MESHES = {"fsdp": MeshSizes(1, 8, 1), "mixed": MeshSizes(2, 2, 2)}


def stage_learner():
    config = TransformerConfig(num_layers=1, num_heads=2, embed_dim=16, mlp_dim=32, dropout=0.1, unroll=False)
    stage = coarse_stage(semantic_vocab=30, codebook_size=30, num_coarse_quantizers=2, crop_seconds=0.4)
    rng = np.random.default_rng(0)
    ids = np.zeros((8, stage.sequence_length), np.int32)
    weights = np.zeros(ids.shape, np.float32)
    ids[:, :8] = stage.layout.encode("semantic", 0, rng.integers(0, 30, (8, 8)))
    frames = rng.integers(0, 30, (8, 10, 2))
    ids[:, 8:28] = np.stack([stage.layout.encode_frames("acoustic", row, 0) for row in frames])
    weights[:, 8:28] = 1.0
    return StageLearner(stage, config, adam(1e-2, 1, 10)), {"ids": ids, "loss_weights": weights}


def codec_learner():
    config = SoundStreamConfig(
        strides=(4, 5),
        encoder_channels=(4, 8, 8),
        decoder_channels=(4, 8, 8),
        embed_dim=8,
        num_quantizers=2,
        codebook_size=16,
    )
    discriminators = Discriminators(channels=2, wave_channels=4, wave_max_channels=16)
    learner = SoundStreamLearner(config, adam(1e-3, 1, 10), adam(1e-3, 1, 10), discriminators)
    samples = np.random.default_rng(0).normal(size=(8, 2560)).astype(np.float32) * 0.1
    return learner, {"samples": samples, "num_samples": np.full(8, 2560, np.int32)}


def codebooks_on(sizes, devices):
    """Mean of each entry of codebooks that were started by k-means and updated once on one global batch."""
    settings = QuantizerSettings(recent_frames=256, kmeans_iterations=3)
    latents = np.random.default_rng(1).normal(size=(8, 32, 4)).astype(np.float32)

    @jax.jit
    def learn(latents):
        state = quantizer.remember(quantizer.initial_state(2, 16, 4, settings), latents)
        state = quantizer.kmeans_start(state, jax.random.key(0), settings)
        quantized = quantizer.quantize(latents, state.entries, np.full(8, 2))
        return quantizer.update(state, quantized, jax.random.key(1), settings).entries

    mesh = make_mesh(sizes, devices)
    with mesh_context(mesh):
        placed = global_batch({"latents": latents}, mesh, 8)["latents"]
        assert len(placed.sharding.device_set) == len(devices)
        return np.asarray(learn(placed)).mean(axis=-1).tolist()


def losses_of(learner, batch, sizes, devices):
    """Losses of two steps, and the share of the parameters' bytes that one device holds."""
    mesh = make_mesh(sizes, devices)
    with mesh_context(mesh):
        placed = global_batch(batch, mesh, 8)
        abstract = jax.eval_shape(learner.init, jax.random.key(0), placed)
        shardings = state_shardings(mesh, abstract, learner.logical_axes(placed))
        state = jax.jit(learner.init, out_shardings=shardings)(jax.random.key(0), placed)
        leaves = jax.tree.leaves(state.params)
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
        step = jax.jit(learner.train_step, donate_argnums=0, out_shardings=(shardings, None))
        losses = []
        for number in range(2):
            state, metrics = step(state, placed, jax.random.key(number))
            losses.append(metrics["loss"].value)
    return losses, held


def main() -> None:
    one = (MeshSizes(1, 1, 1), jax.devices()[:1])
    learner, batch = stage_learner()
    results = {"stage/one": losses_of(learner, batch, *one), "codebooks/one": codebooks_on(*one)}
    for name, sizes in MESHES.items():
        results[f"stage/{name}"] = losses_of(learner, batch, sizes, jax.devices())
    results["codebooks/data"] = codebooks_on(MESHES["mixed"], jax.devices())
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
