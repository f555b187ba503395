"""Published codecs in windows against a single pass, by the driver that serves every codec; short recordings too."""

from pathlib import Path

import numpy as np
import pytest

import audiolm_jax
from tests.pretrained.parity import speechlike

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"


@pytest.mark.parametrize("name", ["encodec", "dac", "mimi"])
def test_windows_give_what_the_whole_gives(name):
    codec = audiolm_jax.pretrained.load(GOLDEN / name)
    samples = speechlike(1.203, codec.sample_rate_hz, 3)[None]
    tokens = np.asarray(codec.encode(samples))
    window_seconds = 60 * codec.hop_samples / codec.sample_rate_hz
    np.testing.assert_array_equal(codec.encode_chunked(samples, window_seconds), tokens)
    whole = np.asarray(codec.decode(tokens))
    assert whole.shape == (1, tokens.shape[1] * codec.hop_samples)
    np.testing.assert_allclose(codec.decode_chunked(tokens, window_seconds), whole, atol=1e-5)


@pytest.mark.parametrize("name", ["encodec", "dac", "mimi"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_recording_of_a_few_frames(name, frames):
    codec = audiolm_jax.pretrained.load(GOLDEN / name)
    samples = speechlike(1, codec.sample_rate_hz, 4)[None, : frames * codec.hop_samples - 1]
    tokens = np.asarray(codec.encode(samples))
    assert tokens.shape[1] == frames
    np.testing.assert_array_equal(codec.encode_chunked(samples), tokens)
    np.testing.assert_allclose(codec.decode_chunked(tokens), codec.decode(tokens), atol=1e-5)
