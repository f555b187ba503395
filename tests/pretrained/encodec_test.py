"""EnCodec: what the reference says of the small model, padded batches, windows, weights, configurations refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.pretrained.encodec import encodec
from audiolm_jax.pretrained.encodec.encodec import Encodec, EncodecConfig
from audiolm_jax.pretrained.files.huggingface_folder import open_huggingface_folder
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from tests.pretrained import golden_model, streamed_windows

WINDOW_FRAMES = 33
GOLDEN = golden_model.GOLDEN / "encodec"
golden = functools.partial(golden_model.golden, encodec.KIND)
rows = functools.partial(golden_model.rows, encodec.KIND)
assert_rows = functools.partial(golden_model.assert_rows, encodec.KIND)


def test_a_recording_alone():
    codec, params, _, expected = golden()
    wave, tokens = expected["wave.2"], expected["tokens.2"]
    assert len(wave) % codec.hop_samples
    np.testing.assert_array_equal(codec.encode(params, wave[None])[0], tokens)
    decoded = codec.decode(params, tokens[None])[0]
    assert len(decoded) == len(tokens) * codec.hop_samples
    np.testing.assert_allclose(decoded, expected["decoded.2"], rtol=0, atol=1e-5)


def test_rows_of_a_padded_batch_are_those_alone():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert np.all(num_samples % codec.hop_samples)
    assert_rows(codec.encode(params, samples, num_samples), "tokens")
    tokens, num_frames = rows("tokens", 5)
    assert_rows(codec.decode(params, tokens, num_frames), "decoded", atol=1e-5)


def test_windows_together_are_the_whole():
    codec, params, _, _ = golden()
    samples, num_samples = rows("wave", 0.7)
    assert_rows(streamed_windows.encoded(codec, params, samples, num_samples, WINDOW_FRAMES), "tokens")
    tokens, _ = rows("tokens", 0)
    assert_rows(streamed_windows.decoded(codec, params, tokens, WINDOW_FRAMES), "decoded", atol=1e-5)


def test_the_latents_are_sums_of_entries_also_of_fewer_levels():
    codec, params, _, expected = golden()
    tokens = expected["tokens.2"][None, :7, :2]
    wanted = params["codebooks"][0][tokens[..., 0]] + params["codebooks"][1][tokens[..., 1]]
    np.testing.assert_allclose(codec.embed(params, tokens), wanted, atol=1e-6)


def test_weights_survive_an_export_to_the_last_bit():
    _, params, weight_map, _ = golden()
    again = read_weights(write_weights(params, weight_map), weight_map, "again").params
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_an_export_has_every_tensor_of_the_checkpoint():
    _, params, weight_map, _ = golden()
    theirs = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor.shape
        for name, tensor in open_huggingface_folder(GOLDEN).tensors().items()
    }
    assert {name: tensor.shape for name, tensor in write_weights(params, weight_map).items()} == theirs


def test_config_of_the_published_model():
    assert encodec.KIND.read_config({"model_type": "encodec"}, {}) == EncodecConfig()
    codec = Encodec(EncodecConfig(num_quantizers=8))
    assert (codec.sample_rate_hz, codec.hop_samples, codec.num_quantizers) == (24_000, 320, 8)
    assert codec.bitrate_bps() == 6000
    assert codec.encoder_context is None and codec.decoder_context is None
    assert from_plain(EncodecConfig, to_plain(codec.config), "config") == codec.config


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"trim_right_ratio": 0.5}, "trim_right_ratio"),
        ({"codebook_dim": 64}, "codebook_dim"),
        ({"pad_mode": "circular"}, "pad_mode"),
        ({"norm_type": "layer_norm"}, "norm_type"),
        ({"norm_type": "time_group_norm"}, "use_causal_conv"),
        ({"num_filters": True}, "num_filters"),
        ({"target_bandwidths": []}, "target_bandwidths"),
    ],
)
def test_what_is_not_computed_is_refused(change, line):
    with pytest.raises(UserError, match=line):
        encodec.KIND.read_config(change, {})


def test_a_feature_extractor_of_another_model_is_refused():
    with pytest.raises(UserError, match="preprocessor_config.json: sampling_rate is 16000"):
        encodec.KIND.read_config({}, {"sampling_rate": 16_000})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"is_normalized": True, "chunk_length_s": 1.0}, "normalize = True and chunk_length_s = 1.0.*encodec_24khz"),
        ({"is_causal": False}, "use_causal_conv = False.*encodec_24khz"),
        ({"num_channels": 2}, "audio_channels = 2"),
    ],
)
def test_what_has_no_grid_of_frames_is_no_codec(change, line):
    with pytest.raises(UserError, match=line):
        encodec.KIND.make(dataclasses.replace(EncodecConfig(), **change))


def test_more_levels_than_the_weights_hold_are_refused():
    with pytest.raises(UserError, match="set 1 to 32"):
        EncodecConfig(num_quantizers=33)
