"""A system that generates: untrained language models, and tokenizers that can be computed by hand."""

import dataclasses
import functools

import jax
import numpy as np

from audiolm_jax.audio import Waveform
from audiolm_jax.bundle import Bundle, LanguageModel
from audiolm_jax.codec.contract import Context
from audiolm_jax.codec.soundstream import SoundStreamConfig
from audiolm_jax.generation.pipeline import AudioLM
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

CODES, COARSE, ALL = 8, 2, 4
RATE, HOP = 16_000, 320


@dataclasses.dataclass(frozen=True)
class LoudnessCodec:
    """Level q of a frame is digit q of its peak in base 8; a frame decodes to that peak held."""

    config = SoundStreamConfig(num_quantizers=ALL, codebook_size=CODES)
    sample_rate_hz = RATE
    hop_samples = HOP
    num_quantizers = ALL
    codebook_size = CODES
    encoder_context = decoder_context = Context(past_frames=0)

    def encode(self, params, samples, num_samples=None):
        frames = np.pad(samples, ((0, 0), (0, -samples.shape[1] % HOP))).reshape(len(samples), -1, HOP)
        peak = np.minimum(np.abs(frames).max(axis=-1) * CODES**ALL, CODES**ALL - 1).astype(np.int32)
        return np.stack([peak // CODES ** (ALL - 1 - q) % CODES for q in range(ALL)], axis=-1)

    def decode(self, params, tokens, num_frames=None):
        weights = [CODES ** (ALL - 1 - q) for q in range(tokens.shape[-1])]
        return np.repeat((tokens * weights).sum(axis=-1) / CODES**ALL, HOP, axis=1).astype(np.float32)

    def fingerprint(self, params):
        return "0" * 16


@dataclasses.dataclass(frozen=True)
class LoudnessTokenizer:
    """One of eight loudnesses every 40 ms; remembers how many samples it has been shown."""

    sample_rate_hz = RATE
    hop_samples = 640
    vocab_size = 8
    heard: list = dataclasses.field(default_factory=list)

    def tokenize(self, params, samples, num_samples=None):
        self.heard.append(samples.shape[1])
        frames = np.pad(samples, ((0, 0), (0, -samples.shape[1] % 640))).reshape(len(samples), -1, 640)
        return np.minimum(np.abs(frames).max(axis=-1) * 8, 7).astype(np.int32)


@functools.cache
def system(collapsed=True, with_fine=True, provenance=()):
    config = TransformerConfig(num_layers=1, num_heads=1, embed_dim=8, mlp_dim=8)
    stages = [
        semantic_stage(semantic_vocab=8, crop_seconds=2, collapse_repeats=collapsed),
        coarse_stage(
            semantic_vocab=8,
            codebook_size=CODES,
            num_coarse_quantizers=COARSE if with_fine else ALL,
            crop_seconds=1,
            collapse_repeats=collapsed,
        ),
        fine_stage(codebook_size=CODES, num_coarse_quantizers=COARSE, num_quantizers=ALL, crop_seconds=0.4),
    ]
    models = {}
    for stage in stages[: 3 if with_fine else 2]:
        params = jax.tree.map(lambda value: 2 * value, StageModel(stage, config).init(jax.random.key(0)))
        models[stage.name] = LanguageModel(stage, config, params, "0" * 16, "0" * 16)
    return AudioLM(
        Bundle(
            name="toy",
            licence="none",
            codec=LoudnessCodec(),
            codec_params={},
            semantic=LoudnessTokenizer(),
            semantic_params={},
            language_models=models,
            provenance=dict(provenance),
        )
    )


def sound(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.random(-(-num_samples // 900)), 900)[:num_samples]
    return Waveform(level * rng.choice([-1, 1], num_samples) * 0.9, RATE)
