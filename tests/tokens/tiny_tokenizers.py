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
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "encoder": Encoder(config).init(keys[0], np.zeros((1, 640), np.float32))["params"],
        "decoder": Decoder(config).init(keys[1], np.zeros((1, 2, 4), np.float32))["params"],
        "codebooks": 0.1 * jax.random.normal(keys[2], (3, 16, 4)),
    }
    return SoundStream(config), params


def tiny_semantic():
    """The loudness tokenizer and its parameters."""
    return LoudnessTokenizer(), {"scale": 2.0}


def load():
    """Both, as a Beam worker of another process loads them."""
    from audiolm_jax.tokens.extract import Tokenizers

    return Tokenizers(*tiny_codec(), *tiny_semantic())
