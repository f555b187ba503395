"""A whole system of a few thousand random parameters, made without compiling or training anything."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np

from audiolm_jax.bundle import Bundle, LanguageModel
from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.semantic.tokenizer import SemanticTokenizer, SemanticTokenizerConfig
from audiolm_jax.semantic.w2v_bert import W2vBert, W2vBertConfig
from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

CODEC = SoundStreamConfig(
    encoder_channels=(2, 4, 4, 8, 8), decoder_channels=(2, 4, 4, 8, 8), embed_dim=4, num_quantizers=4, codebook_size=16
)
ENCODER = W2vBertConfig(
    dim=8, num_heads=2, mlp_dim=16, contrastive_layers=1, mlm_layers=1, frontend_channels=2, codebook_size=8,
    code_dim=4, num_distractors=4,
)  # fmt: skip
TOKENIZER = SemanticTokenizerConfig(encoder=ENCODER, layer=2, num_clusters=16, window_frames=100, margin_frames=10)
TRANSFORMER = TransformerConfig(num_layers=1, num_heads=2, embed_dim=8, mlp_dim=16, dropout=0.0)
STAGES = {
    "semantic": semantic_stage(semantic_vocab=16, crop_seconds=4),
    "coarse": coarse_stage(semantic_vocab=16, codebook_size=16, num_coarse_quantizers=2, crop_seconds=2),
    "fine": fine_stage(codebook_size=16, num_coarse_quantizers=2, num_quantizers=4, crop_seconds=1),
}


def random_like(rng: np.random.Generator, init) -> dict:
    """Normal arrays of the shapes that a linen `init` would give."""
    shapes = nn.unbox(jax.eval_shape(init))
    return jax.tree.map(lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def tiny_tokenizers(seed: int = 0) -> Bundle:
    """Random codec and semantic tokenizer."""
    rng, key = np.random.default_rng(seed), jax.random.key(0)
    samples, frames = np.zeros((1, 6400), np.float32), np.ones((1, 10), bool)
    encoder = random_like(
        rng, lambda: W2vBert(ENCODER).init(key, samples, frames, np.int32(0), key, deterministic=True)["params"]
    )
    return Bundle(
        name="tiny",
        licence="CC0-1.0",
        codec=SoundStream(CODEC),
        codec_params={
            "encoder": random_like(rng, lambda: Encoder(CODEC).init(key, samples)["params"]),
            "decoder": random_like(rng, lambda: Decoder(CODEC).init(key, np.zeros((1, 2, 4), np.float32))["params"]),
            "codebooks": rng.normal(size=(4, 16, 4)).astype(np.float32),
        },
        semantic=SemanticTokenizer(TOKENIZER),
        semantic_params={
            "encoder": encoder,
            "mean": np.zeros(8, np.float32),
            "std": np.ones(8, np.float32),
            "centroids": rng.normal(size=(16, 8)).astype(np.float32),
        },
        provenance={"data": [{"name": "noise", "hours": 0.5, "licence": "CC0-1.0"}], "steps": {"codec": 7}},
        config_gin="STEPS = 7\n",
    )


def tiny_system(tokenizers: Bundle, seed: int = 1) -> Bundle:
    """`tokenizers` and random language models of all stages that say they were trained on its tokens."""
    rng = np.random.default_rng(seed)
    models = {
        name: LanguageModel(
            stage=stage,
            config=TRANSFORMER,
            params=random_like(rng, lambda stage=stage: StageModel(stage, TRANSFORMER).init(jax.random.key(0))),
            codec_fingerprint=tokenizers.codec_fingerprint,
            semantic_fingerprint=tokenizers.semantic_fingerprint,
            steps=11,
        )
        for name, stage in STAGES.items()
    }
    return dataclasses.replace(tokenizers, language_models=models, prompt=b"RIFF")
