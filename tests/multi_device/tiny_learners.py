"""Every learner of the project, small, with a batch of eight rows of which no two are alike."""

import dataclasses

import jax
import numpy as np
import optax

from audiolm_jax.classifier.augmentation import Augmentation
from audiolm_jax.classifier.learner import ClipClassifierLearner
from audiolm_jax.classifier.network import ClipClassifierConfig
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.semantic.cluster_learner import ClusterPredictionLearner
from audiolm_jax.semantic.cluster_targets import ClusterTargets, TeacherFrames
from audiolm_jax.semantic.kmeans_learner import KMeansLearner
from audiolm_jax.semantic.learner import W2vBertLearner
from audiolm_jax.semantic.perturbation import Perturbation
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.semantic.w2v_bert import W2vBertConfig
from audiolm_jax.tokens.stages import coarse_stage
from audiolm_jax.training.optimization.muon import muon, transformer_matrices
from audiolm_jax.training.optimization.optimizers import adam
from tests.codec import tiny_learner as codec

ROWS = 8
STAGE = coarse_stage(semantic_vocab=30, codebook_size=30, num_coarse_quantizers=2, crop_seconds=0.4)
SCANNED = TransformerConfig(num_layers=2, num_heads=8, embed_dim=32, mlp_dim=64, remat="dots", unroll=False)
UNROLLED = TransformerConfig(num_layers=2, num_heads=8, embed_dim=32, mlp_dim=64, gated_mlp=True)
ENCODER = W2vBertConfig(
    dim=16,
    num_heads=2,
    mlp_dim=32,
    contrastive_layers=1,
    mlm_layers=1,
    frontend_channels=8,
    codebook_size=16,
    code_dim=8,
    num_distractors=10,
)


def stage_batch():
    rng = np.random.default_rng(0)
    ids = np.zeros((ROWS, STAGE.sequence_length), np.int32)
    weights = np.zeros(ids.shape, np.float32)
    ids[:, :8] = STAGE.layout.encode("semantic", 0, rng.integers(0, 30, (ROWS, 8)))
    frames = rng.integers(0, 30, (ROWS, 10, 2))
    ids[:, 8:28] = np.stack([STAGE.layout.encode_frames("acoustic", row, 0) for row in frames])
    for row in range(ROWS):
        weights[row, 8 : 28 - 2 * max(row - 1, 0)] = 1.0
    return {"ids": ids, "loss_weights": weights}


def audio_batch(num_samples=12_800):
    rng = np.random.default_rng(1)
    pitch_hz = rng.uniform(200, 3000, (ROWS, 1)) * np.linspace(1, 1.5, num_samples)
    samples = 0.2 * np.sin(2 * np.pi * np.cumsum(pitch_hz, axis=1) / 16_000) + 0.01 * rng.normal(size=pitch_hz.shape)
    lengths = num_samples - 640 * np.arange(ROWS)
    samples[np.arange(num_samples) >= lengths[:, None]] = 0.0
    return {"samples": samples.astype(np.float32), "num_samples": lengths.astype(np.int32)}


def stage_learner():
    return StageLearner(STAGE, SCANNED, adam(1e-2, 1, 10)), stage_batch()


def unrolled_stage_learner():
    return StageLearner(STAGE, UNROLLED, muon(1e-2, 1, 10, matrices=transformer_matrices)), stage_batch()


def codec_learner():
    # Quantizer and discriminators start at step 1; a code below half of the mean use is dead, so some revive.
    settings = QuantizerSettings(decay=0.5, dead_share=0.5, start_latents=256, kmeans_iterations=2)
    learner = dataclasses.replace(codec.tiny_learner(optax.sgd(1e-2)), quantizer_settings=settings)
    return learner, codec.batch(0)


def w2v_bert_learner():
    # No Adam: it makes full steps of gradients that are zero but for rounding, the attention's key bias among them.
    return W2vBertLearner(ENCODER, optax.sgd(1e-3), remat="full"), audio_batch()


def trained_encoder():
    def params():
        return jax.jit(lambda: W2vBertLearner(ENCODER, optax.sgd(1.0)).init(jax.random.key(5), audio_batch()).params)()

    return jax.tree.map(np.asarray, params())


def clusters_learner():
    trained = trained_encoder()
    teacher = TeacherFrames(ENCODER, lambda: trained, layer=1)
    targets = ClusterTargets(teacher, (8, 4), start_frames=64, iterations=2)
    learner = ClusterPredictionLearner(
        ENCODER, targets, optax.sgd(1e-3), Perturbation(), middle_weight=0.5, remat="full"
    )
    return learner, audio_batch()


def kmeans_learner():
    trained = trained_encoder()
    tokenizer = SemanticTokenizerConfig(encoder=ENCODER, layer=1, num_clusters=8)
    # Step 0 gathers statistics, the others move the centroids and restart empty ones.
    learner = KMeansLearner(tokenizer, lambda: trained, statistics_steps=1, start_frames=64, restart_every_steps=1)
    return learner, audio_batch()


def classifier_learner():
    config = ClipClassifierConfig(("a", "b"), channels=(8, 16), num_mels=16, clip_seconds=0.2)
    augmentation = Augmentation(gain_db=6.0, jitter_db=3.0, masked_mels=2, masked_frames=2)
    batch = {"samples": audio_batch(3200)["samples"], "labels": np.arange(ROWS, dtype=np.int32) % 2}
    return ClipClassifierLearner(config, optax.sgd(1e-2), augmentation), batch


LEARNERS = {
    "stage": stage_learner,
    "unrolled": unrolled_stage_learner,
    "codec": codec_learner,
    "w2v_bert": w2v_bert_learner,
    "clusters": clusters_learner,
    "kmeans": kmeans_learner,
    "classifier": classifier_learner,
}
