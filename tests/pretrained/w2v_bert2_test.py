"""w2v-BERT 2.0: what the reference says of small models, padded batches, every hop, weights, configurations refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.parallel.rules import mesh_axes
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from audiolm_jax.pretrained.speech import distance_attention, w2v_bert2
from audiolm_jax.pretrained.speech.w2v_bert2 import KIND, W2vBert2Config
from tests.pretrained import golden_model

GOLDEN = golden_model.GOLDEN
ROWS = (0, 1, 2)
HOP = 320
# Largest difference from the reference. Mels are standardised, which magnifies the rounding of their logarithms.
TOLERANCE = 5e-5


def golden(name="wav2vec2-bert"):
    """(encoder, parameters, expected arrays)."""
    encoder, params, _, expected = golden_model.golden(KIND, name)
    return encoder, params, expected


def batch():
    """All recordings as rows, with noise behind their ends, and their lengths."""
    waves = [golden()[2][f"wave.{row}"] for row in ROWS]
    samples = np.random.default_rng(0).normal(size=(len(waves), max(map(len, waves)))).astype(np.float32)
    for row, wave in zip(samples, waves, strict=True):
        row[: len(wave)] = wave
    return samples, np.int32([len(wave) for wave in waves])


def test_rows_of_a_padded_batch_are_what_the_reference_gives_alone():
    encoder, params, expected = golden()
    samples, num_samples = batch()
    assert np.all(num_samples % HOP)
    made = np.asarray(encoder.features(params, samples, num_samples))
    for row in ROWS:
        wanted = expected[f"layer.{row}.3"]
        assert len(wanted) == encoder.num_frames(num_samples)[row]
        np.testing.assert_allclose(made[row, : len(wanted)], wanted, rtol=0, atol=TOLERANCE)
        assert np.all(made[row, len(wanted) :] == 0)


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_an_odd_mel_frame_and_other_kinds_of_position(position):
    encoder, params, expected = golden(f"wav2vec2-bert-{position}")
    assert encoder.position == position
    wanted = expected["layer.0.2"]
    made = encoder.features(params, expected["wave.0"][None])
    np.testing.assert_allclose(made, wanted[None], rtol=0, atol=TOLERANCE)


def test_a_middle_layer_alone():
    encoder, params, expected = golden()
    made = encoder.features(params, expected["wave.2"][None], None, 2)
    np.testing.assert_allclose(made[0], expected["layer.2.2"], rtol=0, atol=TOLERANCE)
    silence = encoder.features(params, jnp.zeros((1, len(expected["wave.2"]))), None, 2)
    assert np.all(np.isfinite(silence))


def test_frames_cover_every_hop_and_leave_out_what_is_before_and_behind_a_row():
    encoder, params, expected = golden()
    count = 40
    wave = expected["wave.0"][: count * HOP - 5]
    few = np.int32([len(wave), 21 * HOP + 1, 1, 0])
    samples = np.random.default_rng(0).normal(size=(4, count * HOP)).astype(np.float32)
    for row, kept in enumerate(few):
        samples[row, :kept] = wave[:kept]
    made = np.asarray(encoder.frames(params, samples, few, 3, np.int32([0, 0, 0, 0])))
    assert made.shape == (4, count, encoder.dim) and np.all(np.isfinite(made))
    for row, kept in enumerate(few):
        frames = -(-kept // HOP)
        assert np.all(made[row, frames:] == 0) and np.all(made[row, :frames].std(axis=-1) > 0.1)

    first = np.int32([0, 7, 3, 40])
    later = np.stack([np.roll(row, steps * HOP) for row, steps in zip(samples, first, strict=True)])
    shifted = np.asarray(encoder.frames(params, later, few + first * HOP, 3, first))
    for row, steps in enumerate(first):
        np.testing.assert_allclose(shifted[row], np.roll(made[row], steps, axis=0), atol=1e-5)


def test_frames_are_features_of_a_row_with_silence_around_it():
    encoder, params, expected = golden()
    wave = expected["wave.0"][: 20 * HOP]
    made = encoder.frames(params, wave[None], np.int32([len(wave)]), 0)
    around = np.pad(wave, 120)
    np.testing.assert_allclose(made, encoder.features(params, around[None], None, 0), atol=1e-5)


def test_less_than_a_window_has_no_frame():
    encoder, params, _ = golden()
    assert encoder.features(params, jnp.zeros((2, 399))).shape == (2, 0, encoder.dim)
    assert [encoder.num_frames(length) for length in (399, 400, 720, 721, 16_000)] == [0, 1, 2, 2, 49]


def test_moved_rows_are_picked_scores():
    rng = np.random.default_rng(0)
    for count, past, future in ((1, 9, 3), (5, 9, 3), (5, 3, 9), (30, 9, 3), (30, 29, 29)):
        scores = rng.normal(size=(2, 3, count, past + 1 + future)).astype(np.float32)
        place = np.arange(count)
        index = np.clip(place - place[:, None], -past, future) + past
        wanted = np.take_along_axis(scores, np.broadcast_to(index, (2, 3, count, count)), axis=-1)
        np.testing.assert_array_equal(distance_attention._shifted(scores, past, future), wanted)


@pytest.mark.parametrize("prefix, head", [("", "adapter.layers.0.ffn.bias"), ("wav2vec2_bert.", "lm_head.weight")])
def test_weights_come_back_to_the_last_bit(prefix, head):
    encoder, params, _ = golden()
    weight_map = KIND.weight_map(encoder)
    tensors = {prefix + name: array for name, array in write_weights(params, weight_map).items()}
    again = read_weights(tensors | {head: np.zeros(3, np.float32)}, weight_map, "again")
    assert again.left_out == (head,)
    jax.tree.map(np.testing.assert_array_equal, again.params, params)


def test_fresh_parameters_are_those_of_the_checkpoint():
    for name in ("wav2vec2-bert", "wav2vec2-bert-relative", "wav2vec2-bert-rotary"):
        encoder, params, _ = golden(name)
        fresh = nn.unbox(jax.eval_shape(encoder.init, jax.random.key(0)))
        assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)


def test_the_published_size_has_its_weights_and_can_be_split():
    boxed = jax.eval_shape(W2vBert2Config().init, jax.random.key(0))
    leaves = jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))
    assert sum(leaf.value.size for leaf in leaves) == 580_492_096  # as in the reference
    for leaf in leaves:
        axes = mesh_axes(leaf.value.shape, leaf.names, {"data": 1, "fsdp": 2, "tensor": 1})
        assert leaf.value.size * 4 < 2**20 or "fsdp" in axes, leaf.names


def test_bfloat16_gives_float32_features():
    config = W2vBert2Config(dim=16, num_layers=2, num_heads=2, mlp_dim=32, num_mels=20, compute_dtype="bfloat16")
    params = nn.unbox(jax.eval_shape(config.init, jax.random.key(0)))
    samples = jax.ShapeDtypeStruct((2, 16_000), np.float32)
    made = jax.eval_shape(lambda params, samples: config.features(params, samples), params, samples)
    assert made.shape == (2, 49, 16) and made.dtype == np.float32


def test_configurations():
    config = W2vBert2Config(dim=16, num_heads=2, position="rotary")
    assert from_plain(W2vBert2Config, json.loads(json.dumps(to_plain(config))), "test") == config
    assert KIND.read_config({}, {}) == W2vBert2Config()
    assert KIND.read_config({"position_embeddings_type": None, "hidden_act": "silu"}, {}).position == "none"


@pytest.mark.parametrize(
    "config, preprocessor, message",
    [
        ({"hidden_act": "gelu"}, {}, "hidden_act"),
        ({"position_embeddings_type": "alibi"}, {}, "position_embeddings_type"),
        ({"feature_projection_input_dim": 80}, {}, "feature_projection_input_dim"),
        ({"hidden_size": "1024"}, {}, "hidden_size"),
        ({"num_attention_heads": 15}, {}, "num_heads"),
        ({}, {"sampling_rate": 8000}, "sampling_rate"),
        ({}, {"stride": 1}, "stride"),
        ({}, {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "feature_extractor_type"),
        ({}, {"padding_side": "left"}, "padding_side"),
    ],
)
def test_what_is_not_computed_is_refused(config, preprocessor, message):
    with pytest.raises(UserError, match=message):
        KIND.read_config(config, preprocessor)


def test_a_layer_that_is_not_there_is_refused():
    encoder, params, _ = golden()
    with pytest.raises(UserError, match="layer 4"):
        encoder.features(params, jnp.zeros((1, 8_037)), None, 4)
    assert w2v_bert2.KIND.make(encoder) is encoder
