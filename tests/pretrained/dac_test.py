"""DAC: what the reference says of the small model, padded batches, windows, weights, configurations refused."""

import functools
import math

import flax.linen as nn
import jax
import numpy as np
import pytest

from audiolm_jax.codec import chunked
from audiolm_jax.codec.contract import Context
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.pretrained.dac import dac, dac_network, dac_quantizer
from audiolm_jax.pretrained.dac.dac import Dac
from audiolm_jax.pretrained.dac.dac_network import DacConfig
from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from tests.pretrained import golden_model

ROWS = golden_model.ROWS
WINDOW_FRAMES = 130
GOLDEN = golden_model.GOLDEN / "dac"
golden = functools.partial(golden_model.golden, dac.KIND)
rows = functools.partial(golden_model.rows, dac.KIND)


def assert_decoded(ours, wanted):
    """The reference ends a few samples early; ours are zeros there."""
    np.testing.assert_allclose(ours[: len(wanted)], wanted, rtol=0, atol=1e-5)
    assert not np.any(ours[len(wanted) :])


def test_a_recording_alone():
    codec, params, _, expected = golden()
    row = 2
    wave, tokens = expected[f"wave.{row}"], expected[f"tokens.{row}"]
    assert len(wave) % codec.hop_samples
    np.testing.assert_array_equal(codec.encode(params, wave[None])[0], tokens)
    decoded = codec.decode(params, tokens[None])[0]
    # One stride of three is odd, and after it comes one of two.
    assert len(decoded) == len(tokens) * codec.hop_samples == len(expected[f"decoded.{row}"]) + 2
    assert_decoded(decoded, expected[f"decoded.{row}"])


def test_rows_of_a_padded_batch_are_those_alone():
    codec, params, _, expected = golden()
    samples, num_samples = rows("wave", 0.7)
    encoded = codec.encode(params, samples, num_samples)
    tokens, num_frames = rows("tokens", 5)
    decoded = codec.decode(params, tokens, num_frames)
    for row in ROWS:
        np.testing.assert_array_equal(encoded[row][: num_frames[row]], expected[f"tokens.{row}"])
        assert_decoded(decoded[row], expected[f"decoded.{row}"])


def test_windows_together_are_the_whole():
    codec, params, _, expected = golden()
    seconds = WINDOW_FRAMES * codec.hop_samples / codec.sample_rate_hz
    tokens = chunked.encode_chunked(codec, params, expected["wave.0"][None], seconds)
    np.testing.assert_array_equal(tokens[0], expected["tokens.0"])
    assert_decoded(chunked.decode_chunked(codec, params, tokens, seconds)[0], expected["decoded.0"])


def averaging(network, inputs):
    """What a network gives whose layers average what they hear, so that nothing cancels and nothing grows."""
    shapes = nn.unbox(jax.eval_shape(network.init, jax.random.key(0), inputs))["params"]
    # With an alpha of zero a Snake is the identity.
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, leaf.ndim == 3 and 1 / math.prod(leaf.shape[:2])), shapes)
    return np.asarray(jax.jit(network.apply)({"params": params}, inputs))


def test_context_is_what_a_frame_hears():
    config = DacConfig(strides=(2, 3, 4), encoder_channels=1, decoder_channels=8, latent_dim=1)
    codec, hop, frame = Dac(config), config.hop_samples, 30
    latents = np.zeros((1, 2 * frame, 1), np.float32)
    latents[0, frame] = 1
    samples = np.repeat(latents[..., 0], hop, axis=1)
    encoded = averaging(dac_network.Encoder(config), samples)
    hearing = np.flatnonzero(encoded)
    assert codec.encoder_context == Context(past_frames=hearing[-1] - frame, future_frames=frame - hearing[0])
    decoded = averaging(dac_network.Decoder(config), latents)
    hearing = np.flatnonzero(decoded) // hop
    assert codec.decoder_context == Context(past_frames=hearing[-1] - frame, future_frames=frame - hearing[0])


def test_fewer_levels_are_the_first_ones():
    codec, params, _, expected = golden()
    latents = np.random.default_rng(0).normal(size=(2, 9, codec.config.latent_dim)).astype(np.float32)
    every = dac_quantizer.encode(params, latents, 5)
    np.testing.assert_array_equal(dac_quantizer.encode(params, latents, 2), every[..., :2])
    outward = params["projections"]["outward"]
    wanted = sum(
        params["codebooks"][level][every[..., level]] @ outward["kernel"][level] + outward["bias"][level]
        for level in range(2)
    )
    np.testing.assert_allclose(codec.embed(params, every[..., :2]), wanted, atol=1e-5)


def test_an_export_is_the_checkpoint():
    _, params, weight_map, _ = golden()
    theirs, ours = open_huggingface_folder(GOLDEN).tensors(), write_weights(params, weight_map)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)


def test_a_checkpoint_with_weight_normalisation_is_read():
    _, params, weight_map, _ = golden()
    normed = {}
    for name, tensor in open_huggingface_folder(GOLDEN).tensors().items():
        if name.endswith(".weight") and "codebook" not in name:
            axes = tuple(range(1, tensor.ndim))
            normed[f"{name}_g"] = np.sqrt(np.sum(np.square(tensor), axis=axes, keepdims=True))
            normed[f"{name}_v"] = tensor * 3
        else:
            normed[name] = tensor
    read = read_weights(normed, weight_map, "normed").params
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7), read, params)


def test_configs_of_the_published_models():
    published = {"downsampling_ratios": [2, 4, 5, 8], "upsampling_ratios": [8, 5, 4, 2], "hop_length": 512}
    config = dac.KIND.read_config(published | {"n_codebooks": 12}, {"hop_length": 320, "sampling_rate": 16_000})
    assert config == DacConfig()
    music = dac.KIND.read_config({"sampling_rate": 44_100}, {"hop_length": 512, "sampling_rate": 44_100})
    assert music == DacConfig(sample_rate_hz=44_100, strides=(2, 4, 8, 8), num_quantizers=9, num_codebooks=9)
    codec = Dac(DacConfig(num_quantizers=8))
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_quantizers) == (16_000, 320, 8)
    assert codec.bitrate_bps() == 4000
    assert (codec.encoder_context, codec.decoder_context) == (Context(8, 8), Context(10, 10))
    assert from_plain(DacConfig, to_plain(codec.config), "config") == codec.config


@pytest.mark.parametrize(
    ("change", "preprocessor", "line"),
    [
        ({"upsampling_ratios": [8, 4, 8, 2]}, {}, r"upsampling_ratios are \[8, 4, 8, 2\]"),
        ({"downsampling_ratios": [2, 1]}, {}, "at least 2"),
        ({"decoder_hidden_size": 100}, {}, "halved 4 times"),
        ({"codebook_dim": [8, 8]}, {}, "codebook_dim"),
        ({}, {"hop_length": 320}, "preprocessor_config.json: hop_length is 320, but only 512"),
        ({}, {"sampling_rate": 24_000}, "sampling_rate is 24000"),
        ({}, {"feature_size": 2}, "feature_size"),
    ],
)
def test_what_is_not_computed_is_refused(change, preprocessor, line):
    with pytest.raises(UserError, match=line):
        dac.KIND.read_config(change, preprocessor)


def test_more_levels_than_there_are_codebooks_are_refused():
    with pytest.raises(UserError, match="num_quantizers is 13; set 1 to 12"):
        DacConfig(num_quantizers=13)
