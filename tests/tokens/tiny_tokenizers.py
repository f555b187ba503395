"""A codec and a semantic tokenizer small enough for tests, both with the real contracts."""

import dataclasses
import hashlib

import jax
import numpy as np

from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig


@dataclasses.dataclass(frozen=True)
class LoudnessTokenizer:
    """Semantic tokens by the loudness of each 40 ms; `params` is {"scale": float}."""

    sample_rate_hz: int = 16_000
    hop_samples: int = 640
    vocab_size: int = 32

    def tokenize(self, params, samples, num_samples=None):
        samples = np.asarray(samples)
        lengths = np.full(len(samples), samples.shape[1]) if num_samples is None else np.asarray(num_samples)
        samples = np.where(np.arange(samples.shape[1]) < lengths[:, None], samples, 0)
        padded = np.pad(samples, ((0, 0), (0, -samples.shape[1] % self.hop_samples)))
        frames = padded.reshape(len(samples), -1, self.hop_samples)
        loudness = np.sqrt(np.mean(frames**2, axis=-1)) * params["scale"]
        return np.clip((loudness * self.vocab_size).astype(np.int32), 0, self.vocab_size - 1)

    def fingerprint(self, params):
        return hashlib.sha256(str((self, float(params["scale"]))).encode()).hexdigest()[:16]


def tiny_codec():
    """An untrained SoundStream of three levels of 16 codes, and its parameters."""
    config = SoundStreamConfig(
        encoder_channels=(2, 4, 4, 8, 8),
        decoder_channels=(2, 4, 4, 8, 8),
        embed_dim=4,
        num_quantizers=3,
        codebook_size=16,
    )
    rng = np.random.default_rng(0)

    def drawn(module, example):
        # Only the shapes come from JAX: a start of the network itself would compile it operation by operation.
        shapes = jax.eval_shape(lambda: module(config).init(jax.random.key(0), example)["params"])
        return jax.tree.map(lambda leaf: (rng.normal(size=leaf.shape) * 0.3).astype(np.float32), shapes)

    params = {
        "encoder": drawn(Encoder, np.zeros((1, 640), np.float32)),
        "decoder": drawn(Decoder, np.zeros((1, 2, 4), np.float32)),
        "codebooks": rng.normal(size=(3, 16, 4)).astype(np.float32),
    }
    return SoundStream(config), params


def tiny_semantic(scale: float = 2.0):
    """The loudness tokenizer and its parameters."""
    return LoudnessTokenizer(), {"scale": scale}


def load(scale: float = 2.0):
    """Both, as a Beam worker of another process loads them."""
    from audiolm_jax.tokens.tokenizers import Tokenizers

    return Tokenizers(*tiny_codec(), *tiny_semantic(scale))
