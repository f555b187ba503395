"""Mimi: what the reference says of the small model, padded batches, windows, weights, configurations refused."""

import functools

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from audiolm_jax.pretrained.mimi import mimi, mimi_quantizer
from audiolm_jax.pretrained.mimi.mimi import Mimi
from audiolm_jax.pretrained.mimi.mimi_network import MimiConfig
from tests.pretrained import golden_model, streamed_windows

# 14 steps of the transformers, more than the 10 that their attention sees.
WINDOW_FRAMES = 7
GOLDEN = golden_model.GOLDEN / "mimi"
golden = functools.partial(golden_model.golden, mimi.KIND)
rows = functools.partial(golden_model.rows, mimi.KIND)
assert_rows = functools.partial(golden_model.assert_rows, mimi.KIND)


def test_a_recording_alone():
    codec, params, _, expected = golden()
    wave = expected["wave.2"]
    assert len(wave) % codec.hop_samples
    np.testing.assert_array_equal(codec.encode(params, wave[None])[0], expected["tokens.2"])


def test_samples_of_tokens():
    codec, params, _, expected = golden()
    tokens, num_frames = rows("tokens", 5)
    decoded = codec.decode(params, tokens, num_frames)
    assert decoded.shape[1] == tokens.shape[1] * codec.hop_samples
    assert len(expected["decoded.0"]) == decoded.shape[1]
    assert_rows(decoded, "decoded", atol=1e-5)


def test_fewer_levels_are_the_first_ones():
    params = jax.device_put(golden()[1])
    latents = np.random.default_rng(0).normal(size=(2, 9, 16)).astype(np.float32)
    semantic = mimi_quantizer.encode(params, latents, num_semantic=2, num_quantizers=2)
    tokens = mimi_quantizer.encode(params, latents, num_semantic=2, num_quantizers=4)
    assert tokens.shape == (2, 9, 4)
    np.testing.assert_array_equal(semantic, tokens[..., :2])


def test_rows_of_a_padded_batch_are_those_alone():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert np.all(num_samples % codec.hop_samples)
    assert_rows(codec.encode(params, samples, num_samples), "tokens")


def test_windows_together_are_the_whole():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert_rows(streamed_windows.encoded(codec, params, samples, num_samples, WINDOW_FRAMES), "tokens")
    tokens, _ = rows("tokens", 0)
    assert_rows(streamed_windows.decoded(codec, params, tokens, WINDOW_FRAMES), "decoded", atol=1e-5)


def test_one_program_serves_all_windows():
    codec, params, _, expected = golden()
    first, second = streamed_windows.programs_after_each_of_two_windows(
        codec, params, expected["wave.0"], WINDOW_FRAMES
    )
    assert second == first


def test_latents_are_the_sum_of_what_both_quantizers_give():
    codec, params, _, expected = golden()
    tokens = expected["tokens.2"][None, :7, :4]  # Two semantic levels and two acoustic ones.
    entries = [params["codebooks"][level][tokens[..., level]] for level in range(4)]
    semantic, acoustic = params["projections"]["semantic"], params["projections"]["acoustic"]
    wanted = (entries[0] + entries[1]) @ semantic["output"] + (entries[2] + entries[3]) @ acoustic["output"]
    np.testing.assert_allclose(codec.embed(params, tokens), wanted, atol=1e-5)
    alone = codec.embed(params, tokens[..., :1])
    np.testing.assert_allclose(alone, entries[0] @ semantic["output"], atol=1e-5)


def test_entries_are_sums_divided_by_counts():
    _, params, _, _ = golden()
    tensors = open_huggingface_folder(GOLDEN).tensors()
    name = "quantizer.acoustic_residual_vector_quantizer.layers.0.codebook."
    sums, counts = tensors[name + "embed_sum"], tensors[name + "cluster_usage"]
    assert counts.min() < 1e-5
    np.testing.assert_array_equal(params["codebooks"][2], sums / np.maximum(counts, np.float32(1e-5))[:, None])


def test_weights_survive_an_export_to_the_last_bit():
    _, params, weight_map, _ = golden()
    tensors = write_weights(params, weight_map)
    theirs = open_huggingface_folder(GOLDEN).tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: t.shape for n, t in theirs.items()}
    jax.tree.map(np.testing.assert_array_equal, read_weights(tensors, weight_map, "again").params, params)


def test_counts_of_a_codebook_are_needed():
    _, params, weight_map, _ = golden()
    tensors = write_weights(params, weight_map)
    name = "quantizer.semantic_residual_vector_quantizer.layers.1.codebook.cluster_usage"
    del tensors[name]
    with pytest.raises(UserError, match=rf"missing {name} \[64\]"):
        read_weights(tensors, weight_map, "folder")


def test_config_of_the_published_model():
    old = {"model_type": "mimi", "frame_rate": 12.5, "rope_theta": 10_000.0, "head_dim": 64, "sliding_window": 250}
    new = {"_frame_rate": None, "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"}}
    for config_json in (old, new, {}):
        assert mimi.KIND.read_config(config_json, {"sampling_rate": 24_000}) == MimiConfig()
    codec = Mimi(MimiConfig(num_quantizers=8))
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_quantizers) == (24_000, 1920, 8)
    assert codec.bitrate_bps() == 1100
    assert codec.encoder_context is None and codec.decoder_context is None
    assert from_plain(MimiConfig, to_plain(codec.config), "config") == codec.config
    assert len(mimi.KIND.weight_map(MimiConfig()).weights) == 286


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"audio_channels": 2}, "audio_channels is 2"),
        ({"use_causal_conv": False}, "use_causal_conv"),
        ({"pad_mode": "reflect"}, "pad_mode"),
        ({"trim_right_ratio": 0.5}, "trim_right_ratio"),
        ({"use_conv_shortcut": True}, "use_conv_shortcut"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"num_key_value_heads": 2}, "num_key_value_heads is 2, but only 8"),
        ({"upsample_groups": 1}, "upsample_groups is 1, but only 512"),
        ({"vector_quantization_hidden_dimension": 512}, "vector_quantization_hidden_dimension"),
        ({"codebook_dim": 512, "vector_quantization_hidden_dimension": 512}, "projections between them"),
        ({"frame_rate": 25.0}, "frame_rate is 25"),
        ({"sliding_window": None}, "sliding_window is None"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters: rope_type"),
        ({"decoder_config": None}, "decoder_config is null"),
        ({"num_filters": True}, "num_filters"),
    ],
)
def test_what_is_not_computed_is_refused(change, line):
    with pytest.raises(UserError, match=line):
        mimi.KIND.read_config(change, {})


def test_a_feature_extractor_that_changes_the_recording_is_refused():
    with pytest.raises(UserError, match="preprocessor_config.json: sampling_rate is 16000"):
        mimi.KIND.read_config({}, {"sampling_rate": 16_000})
    with pytest.raises(UserError, match="preprocessor_config.json: chunk_length_s is 1.0"):
        mimi.KIND.read_config({}, {"chunk_length_s": 1.0})


@pytest.mark.parametrize("levels", [0, 33])
def test_levels_that_the_weights_do_not_hold_are_refused(levels):
    with pytest.raises(UserError, match=f"num_quantizers is {levels}; this Mimi has 1 .* to 32"):
        MimiConfig(num_quantizers=levels)
