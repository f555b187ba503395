"""Chunks against a single pass: the same tokens, bit for bit, and the same samples."""

import dataclasses
import functools
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.codec import chunked
from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig
from audiolm_jax.errors import UserError

TINY = SoundStreamConfig(
    encoder_channels=(4, 4, 8, 8, 8), decoder_channels=(4, 4, 8, 8, 8), embed_dim=8, num_quantizers=3, codebook_size=16
)
SPECTRAL = dataclasses.replace(
    TINY, stem="spectrum", stem_stride=16, strides=(5, 4), main_path="linear", residual_unit="separable",
    encoder_channels=(4, 8, 8), decoder_channels=(4, 8, 8),
)


@functools.cache
def tiny_codec(config=TINY):
    latents = jnp.zeros((1, 1, TINY.embed_dim))
    params = nn.unbox({
        "encoder": Encoder(config).init(jax.random.key(0), jnp.zeros((1, TINY.hop_samples)))["params"],
        "decoder": Decoder(config).init(jax.random.key(1), latents)["params"],
        "codebooks": jax.random.normal(jax.random.key(2), (TINY.num_quantizers, TINY.codebook_size, TINY.embed_dim)),
    })
    # Biases away from zero: silence before the recording must not be mistaken for recorded silence.
    params = jax.tree.map(lambda leaf: leaf + 0.1 if leaf.ndim == 1 else leaf, params)
    return SoundStream(config), params


def noise(num_samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, num_samples)).astype(np.float32)


def reach(jacobian_of_frame) -> int:
    """First input position that an output depends on."""
    return int(np.flatnonzero(np.abs(np.asarray(jacobian_of_frame)))[0])


@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 4, 5, 8)},
        {"strides": (2, 3)},
        {"strides": (5, 2, 2), "stem_stride": 16},
        {"strides": (2, 1), "stem_stride": 10, "stem": "spectrum", "main_path": "linear"},
        {"strides": (2, 3), "stem_stride": 4, "residual_unit": "separable"},
        {"strides": (2, 3), "residual_unit": "separable"},
    ],
)
def test_context_is_the_receptive_field(options):
    width = (4,) * (len(options["strides"]) + 1)
    config = SoundStreamConfig(encoder_channels=width, decoder_channels=width, embed_dim=4, **options)
    hop, frames = config.hop_samples, 24 if len(config.strides) == 4 else 200
    encoder, decoder = Encoder(config), Decoder(config)
    samples = jnp.asarray(noise(frames * hop))
    weights = nn.unbox(jax.jit(encoder.init)(jax.random.key(0), samples))
    gradient = jax.jit(jax.grad(lambda x: encoder.apply(weights, x)[0, -1].sum()))(samples)
    first_frame = reach(gradient) // hop
    assert frames - 1 - first_frame == SoundStream(config).encoder_context.past_frames

    latents = jax.random.normal(jax.random.key(1), (1, frames, config.embed_dim))
    weights = nn.unbox(jax.jit(decoder.init)(jax.random.key(0), latents))
    future = SoundStream(config).decoder_context.future_frames
    frame = frames - 1 - future
    gradient = jax.jit(
        jax.grad(lambda x: decoder.apply(weights, x)[0, frame * hop : (frame + 1) * hop].sum())
    )(latents)
    touched = jnp.abs(gradient[0]).sum(axis=-1)
    assert frame - reach(touched) == SoundStream(config).decoder_context.past_frames
    assert frames - 1 - reach(touched[::-1]) == frame + future


@pytest.mark.parametrize("num_samples", [1, 319, 320, 16_001, 40_000])
@pytest.mark.parametrize("chunk_seconds", [0.42, 1.0])
@pytest.mark.parametrize("config", [TINY, SPECTRAL], ids=["waveform", "spectrum"])
def test_tokens_equal_those_of_one_pass(num_samples, chunk_seconds, config):
    codec, params = tiny_codec(config)
    samples = noise(num_samples, batch=2)
    tokens = chunked.encode_chunked(codec, params, samples, chunk_seconds)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, codec.encode(params, samples))


@pytest.mark.parametrize("num_frames", [1, 21, 22, 125])
@pytest.mark.parametrize("chunk_seconds", [0.42, 1.0])
@pytest.mark.parametrize("config", [TINY, SPECTRAL], ids=["waveform", "spectrum"])
def test_samples_equal_those_of_one_pass(num_frames, chunk_seconds, config):
    codec, params = tiny_codec(config)
    tokens = np.random.default_rng(1).integers(0, TINY.codebook_size, (2, num_frames, 2))
    samples = chunked.decode_chunked(codec, params, tokens, chunk_seconds)
    whole = np.asarray(codec.decode(params, tokens))
    assert samples.shape == whole.shape
    np.testing.assert_allclose(samples, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("config", [TINY, SPECTRAL], ids=["waveform", "spectrum"])
def test_a_row_does_not_hear_what_stands_behind_its_end(config):
    codec, params = tiny_codec(config)
    tokens = np.random.default_rng(1).integers(0, TINY.codebook_size, (2, 12, 2))
    padded = codec.decode(params, tokens, jnp.array([7, 12]))
    np.testing.assert_allclose(
        padded[0, : 7 * codec.hop_samples], codec.decode(params, tokens[:1, :7])[0], atol=1e-6
    )
    np.testing.assert_allclose(padded[1], codec.decode(params, tokens[1:])[0], atol=1e-6)


def test_one_shape_is_compiled_for_a_long_recording():
    codec, params = tiny_codec()
    shapes = set()

    class Watched:
        config, sample_rate_hz, hop_samples = codec.config, codec.sample_rate_hz, codec.hop_samples
        num_quantizers, encoder_context = codec.num_quantizers, codec.encoder_context

        def encode(self, params, samples, num_samples):
            shapes.add(samples.shape)
            return codec.encode(params, samples, num_samples)

    chunked.encode_chunked(Watched(), params, noise(100_000), chunk_seconds=1.0)
    assert shapes == {(1, 16_000)}


def test_chunk_shorter_than_the_context_is_a_user_error():
    codec, params = tiny_codec()
    with pytest.raises(UserError, match="chunk_seconds is 0.1"):
        chunked.encode_chunked(codec, params, noise(32_000), chunk_seconds=0.1)


def test_a_minute_at_the_paper_size_is_encoded_in_less_than_two_gigabytes():
    program = """
import re, sys, numpy as np
sys.path.insert(0, "benchmarks")
import jax, codec as benchmark
from audiolm_jax.codec import chunked, soundstream
config = soundstream.SoundStreamConfig()
samples = np.zeros((1, 60 * config.sample_rate_hz), np.float32)
params = benchmark.random_params(config, jax.random.key(0))
tokens = chunked.encode_chunked(soundstream.SoundStream(config), params, samples)
assert tokens.shape == (1, 3000, 12)
# Not ru_maxrss, which a child inherits from the process that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 2e9
