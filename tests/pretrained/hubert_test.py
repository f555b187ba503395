"""HuBERT and wav2vec 2.0 beside the reference implementation; see tests/pretrained/parity.py."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.rules import LOGICAL_AXIS_RULES
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from audiolm_jax.pretrained.speech.hubert import KIND, WAV2VEC2_KIND, HubertConfig
from tests.pretrained import golden_model

GOLDEN = golden_model.GOLDEN
KINDS = {"hubert": KIND, "wav2vec2": WAV2VEC2_KIND}
HOP = 160


def golden(name: str):
    """(model, its parameters, what the reference says)."""
    model, params, _, expected = golden_model.golden(KINDS[name])
    return model, params, expected


def rows(expected) -> tuple[np.ndarray, np.ndarray]:
    """Samples [4, T] and their numbers: three recordings, one shorter than a frame; behind them what is never heard."""
    waves = [*(expected[f"wave.{number}"] for number in range(3)), np.ones(100, np.float32)]
    lengths = np.int32([len(wave) for wave in waves])
    samples = np.full((4, 160 * HOP), np.nan, np.float32)
    for row, wave in zip(samples, waves, strict=True):
        row[: len(wave)] = wave
    return samples, lengths


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("name", KINDS)
def test_features_are_those_of_the_reference(name):
    model, params, expected = golden(name)
    wave = expected["wave.1"]
    made = np.asarray(model.features(params, wave[None]))[0]
    assert len(made) == model.num_frames(len(wave))
    assert_close(made, expected[f"layer.1.{model.num_layers}"])


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", KINDS)
def test_a_padded_batch_is_each_row_alone(name, layer):
    model, params, expected = golden(name)
    samples, lengths = rows(expected)
    made = np.asarray(model.features(params, samples, lengths, layer))
    for number in range(3):
        wanted = expected[f"layer.{number}.{layer}"]
        assert len(wanted) == model.num_frames(int(lengths[number]))
        assert_close(made[number, : len(wanted)], wanted)
        np.testing.assert_array_equal(made[number, len(wanted) :], 0)
    np.testing.assert_array_equal(made[3], 0)


def test_frames_are_features_of_whole_hops_with_zeros_around():
    model, params, expected = golden("hubert")
    assert not model.normalize_samples  # so that zeros are zeros before and after
    samples, lengths = rows(expected)
    made = np.asarray(model.frames(params, samples, lengths, 2, np.int32(0)))
    assert made.shape == (4, 160, model.dim)
    counts = -(-lengths // HOP)
    around = np.zeros_like(samples)
    for row, length in enumerate(lengths):
        around[row, 15 : 15 + length] = samples[row, :length]
    wanted = np.asarray(model.features(params, around, (counts * HOP + 30).astype(np.int32), 2))
    for row, count in enumerate(counts):
        assert_close(made[row, :count], wanted[row, :count])
        np.testing.assert_array_equal(made[row, count:], 0)


@pytest.mark.parametrize("name", KINDS)
def test_frames_that_do_not_belong_to_a_row_come_first(name):
    model, params, expected = golden(name)
    samples, lengths = rows(expected)
    made = np.asarray(model.frames(params, samples, lengths, 2, np.int32(0)))
    behind = np.roll(samples, 5 * HOP, axis=1)
    behind[:, : 5 * HOP] = np.nan
    shifted = np.asarray(model.frames(params, behind, lengths + 5 * HOP, 2, np.int32(5)))
    np.testing.assert_array_equal(shifted[:, :5], 0)
    assert_close(shifted[:, 5:], made[:, :-5])


@pytest.mark.parametrize("name", KINDS)
def test_half_precision_gives_float32(name):
    model, params, _ = golden(name)
    half = dataclasses.replace(model, compute_dtype="bfloat16")
    samples = jax.ShapeDtypeStruct((2, 1000), np.float32)
    made = jax.eval_shape(half.features, params, samples, np.int32([1000, 700]))
    assert (made.shape, made.dtype) == ((2, 6, model.dim), np.float32)


def test_less_than_a_frame_has_no_features():
    model, params, _ = golden("hubert")
    assert model.features(params, np.zeros((2, 180), np.float32)).shape == (2, 0, model.dim)
    assert model.num_frames(180) == 0
    np.testing.assert_array_equal(model.num_frames(np.int32([0, 189, 190, 349, 350])), [0, 0, 1, 1, 2])


@pytest.mark.parametrize("name", KINDS)
def test_written_weights_are_read_to_the_last_bit(name):
    model, params, _ = golden(name)
    weight_map = KINDS[name].weight_map(model)
    written = write_weights(params, weight_map)
    jax.tree.map(np.testing.assert_array_equal, read_weights(written, weight_map, name).params, params)
    published = set(load_file(GOLDEN / name / "model.safetensors"))
    old = {key.replace("parametrizations.weight.original0", "weight_g") for key in published}
    assert set(written) == {key.replace("parametrizations.weight.original1", "weight_v") for key in old}


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("hubert", ["lm_head.weight", "lm_head.bias"]),
        ("wav2vec2", ["quantizer.codevectors", "quantizer.weight_proj.bias", "project_hid.weight", "project_q.bias"]),
        ("wav2vec2", ["projector.weight", "tdnn.0.kernel.weight", "feature_extractor.weight", "objective.weight"]),
    ],
)
def test_heads_are_left_out_and_listed(name, heads):
    model, params, _ = golden(name)
    tensors = load_file(GOLDEN / name / "model.safetensors")
    del tensors["masked_spec_embed"]  # models without masking lack it
    tensors = {f"{name}.{key}": value for key, value in tensors.items()}
    tensors |= {head: np.ones(3, np.float32) for head in heads}
    read = read_weights(tensors, KINDS[name].weight_map(model), name)
    assert read.left_out == tuple(sorted(heads))
    jax.tree.map(np.testing.assert_array_equal, read.params, params)


def test_random_parameters_have_the_shapes_of_published_ones():
    for name in KINDS:
        model, params, _ = golden(name)
        boxed = jax.eval_shape(model.init, jax.random.key(0))
        shapes = jax.tree.map(lambda leaf: leaf.shape, nn.unbox(boxed))
        assert shapes == jax.tree.map(lambda leaf: leaf.shape, params)
    boxed = jax.eval_shape(HubertConfig.large().init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(boxed)) == pytest.approx(315e6, rel=0.01)
    fsdp = {axis for axis, mesh_axis in LOGICAL_AXIS_RULES if mesh_axis == "fsdp"}
    for box in jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)):
        assert len(box.names) == len(box.value.shape)
        assert box.value.size < 250_000 or fsdp & set(box.names), box


def test_published_sizes():
    assert HubertConfig.base() == KIND.read_config({}, {}) == WAV2VEC2_KIND.read_config({}, {})
    large = {
        "conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "hidden_size": 1024,
        "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    }  # fmt: skip
    assert HubertConfig.large() == KIND.read_config(large, {"do_normalize": True})
    assert (HubertConfig().hop_samples, HubertConfig().receptive_samples) == (320, 400)


@pytest.mark.parametrize(
    ("config", "preprocessor", "message"),
    [
        ({"hidden_act": "relu"}, {}, "hidden_act is 'relu'"),
        ({"feat_extract_activation": "gelu_new"}, {}, "feat_extract_activation"),
        ({"add_adapter": True}, {}, "before the adapter"),
        ({"adapter_attn_dim": 16}, {}, "adapters of single languages"),
        ({"feat_extract_norm": "batch"}, {}, "conv_norm is 'batch'"),
        ({"conv_dim": [512]}, {}, "equally many"),
        ({"conv_stride": (11, 2, 2, 2, 2, 2, 2)}, {}, "must be 1 to the conv_kernels"),
        ({"num_attention_heads": 7}, {}, "multiple of num_heads 7"),
        ({"hidden_size": "768"}, {}, "hidden_size is '768'"),
        ({}, {"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, "reads waveforms"),
        ({}, {"do_normalize": 1}, "do_normalize is 1"),
    ],
)
def test_what_is_not_computed_is_refused(config, preprocessor, message):
    for kind in KINDS.values():
        with pytest.raises(UserError, match=message):
            kind.read_config(config, preprocessor)


def test_what_only_hubert_knows_does_not_change_wav2vec2():
    only_hubert = {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True}
    assert WAV2VEC2_KIND.read_config(only_hubert, {}) == HubertConfig()
    assert KIND.read_config(only_hubert, {}) == HubertConfig(project_norm=False, position_batch_norm=True)


def test_a_layer_that_is_not_there():
    model, params, _ = golden("hubert")
    with pytest.raises(UserError, match="layer 4 is not among the layers 0 to 3"):
        model.features(params, np.zeros((1, 800), np.float32), None, 4)
