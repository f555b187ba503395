"""The cached decoder against the full forward pass, and what it does with batches, budgets and EOS."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.generation import decode
from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.sampling import SamplingSettings, row_keys
from audiolm_jax.generation.shapes import Shape
from audiolm_jax.lm.attention import distance_bias
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.layout import EOS, PAD
from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

CONFIG = TransformerConfig(num_layers=2, num_heads=2, embed_dim=16, mlp_dim=24, relative_max_distance=40)
GATED = dataclasses.replace(CONFIG, gated_mlp=True)
STAGES = {
    "semantic": semantic_stage(semantic_vocab=30, crop_seconds=1),
    "coarse": coarse_stage(semantic_vocab=30, codebook_size=30, num_coarse_quantizers=3, crop_seconds=1),
    "fine": fine_stage(codebook_size=30, num_coarse_quantizers=2, num_quantizers=5, crop_seconds=1),
}
GREEDY, FREE = SamplingSettings(0.0), SamplingSettings(1.0)


@functools.cache
def system(name, config=CONFIG):
    model = StageModel(STAGES[name], config)
    # Sharper than at the start of training, so that what is drawn depends on what was read.
    params = jax.tree.map(lambda value: value * 2, jax.jit(model.init)(jax.random.key(0)))
    return model, params, StageDecoder(model, params)


def prompt(stage, frames, seed=0):
    """A prefix of `frames` + 2 frames and `frames` frames of the target."""
    rng = np.random.default_rng((seed, frames))
    ids = []
    if stage.prefix is not None:
        codes = rng.integers(0, 30, (frames + 2, stage.prefix.num_levels))
        ids.append(stage.layout.encode_frames(stage.prefix.stream, codes, stage.prefix.first_level))
    codes = rng.integers(0, 30, (frames, stage.target.num_levels))
    ids.append(stage.layout.encode_frames(stage.target.stream, codes, stage.target.first_level))
    return np.concatenate(ids).astype(np.int32)


@pytest.mark.parametrize("config", [CONFIG, GATED], ids=["plain", "gated"])
def test_cached_equals_full_forward_at_every_position(config):
    model, params, decoder = system("coarse", config)
    rng = np.random.default_rng(0)
    lengths, width, columns, new = np.array([5, 64, 0]), 64, 128, 40
    inputs = rng.integers(1, model.stage.layout.vocab_size, (3, width + new)).astype(np.int32)
    weights = decoder._weights
    caches = jax.jit(decode.prefill_cache, static_argnums=0)(model, weights, inputs[:, :width], lengths, width)
    caches = jax.tree.map(lambda rows: jnp.pad(rows, ((0, 0), (0, columns - width), (0, 0))), caches)
    by_distance = distance_bias(
        weights["relative_bias"], columns, config.relative_buckets, config.relative_max_distance
    )
    step = jax.jit(
        lambda caches, ids, column: decode.cached_step(
            model, weights, caches, ids, column, decode._bias_of_column(by_distance, column, width - lengths)
        )
    )
    # What each row reads: its own first `length` inputs, then the common rest.
    full = [np.concatenate([inputs[row, : lengths[row]], inputs[row, width:]]) for row in range(3)]
    expected = [model.network.apply({"params": params}, row[None])[0] for row in full]
    for position in range(new):
        hidden, caches = step(caches, inputs[:, width + position], jnp.int32(width + position))
        logits = hidden @ params["embedding"].T
        for row in range(3):
            reference = expected[row][lengths[row] + position] @ params["embedding"].T
            np.testing.assert_allclose(logits[row], reference, atol=2e-4)
            assert logits[row].argmax() == reference.argmax()


@pytest.mark.parametrize("name", STAGES)
def test_greedy_decoding_is_the_argmax_of_the_full_forward(name):
    model, params, decoder = system(name)
    stage, start = model.stage, prompt(STAGES[name], 3)
    budget = 4 * stage.target.num_levels
    made = decoder.generate([start], [budget], row_keys(0, [0], 1), GREEDY)
    hidden = model.hidden(params, jnp.asarray(np.concatenate([start, made.ids[0]])[None]))
    logits = np.asarray(hidden @ params["embedding"].T)[0, len(start) :]
    allowed = stage.allowed(np.arange(budget), False)
    assert made.ids[0].tolist() == np.where(allowed, logits, -np.inf).argmax(axis=-1).tolist()


@pytest.mark.parametrize("name", STAGES)
def test_ragged_batch_equals_each_prompt_alone(name):
    model, _, decoder = system(name)
    prompts = [prompt(model.stage, frames) for frames in (0, 3, 7)]
    budgets = np.array([6, 2, 5]) * model.stage.target.num_levels
    keys = row_keys(0, np.arange(3), 1)
    together = decoder.generate(prompts, budgets, keys, FREE)
    for row in range(3):
        alone = decoder.generate([prompts[row]], budgets[row : row + 1], keys[row : row + 1], FREE)
        assert alone.ids[0].tolist() == together.ids[row, : budgets[row]].tolist()
        assert (together.ids[row, budgets[row] :] == PAD).all() and together.lengths[row] == budgets[row]


@pytest.mark.parametrize("name", STAGES)
def test_only_legal_ids_and_whole_frames(name):
    model, _, decoder = system(name)
    stage = model.stage
    budget = 4 * stage.target.num_levels
    for seed in range(4):
        made = decoder.generate([prompt(stage, 3)] * 3, [budget] * 3, row_keys(seed, np.arange(3), 1), FREE)
        allowed = stage.allowed(np.arange(budget), False)
        for row in made.ids:
            assert allowed[np.arange(budget), row].all()
            stage.layout.decode_frames(stage.target.stream, row, stage.target.first_level, stage.target.num_levels)


def test_eos_only_from_where_it_may_and_ends_its_row_alone():
    model, params, _ = system("semantic")
    eager = dict(params)
    # Every hidden state now points at EOS.
    eager["final_norm_scale"] = jnp.zeros(16).at[0].set(1.0)
    eager["embedding"] = params["embedding"].at[:, 0].set(0.0).at[EOS].set(jnp.eye(16)[0] * 2)
    decoder = StageDecoder(model, eager)
    keys = row_keys(0, np.arange(8), 1)
    prompts = [prompt(model.stage, 3, seed) for seed in range(8)]
    never = decoder.generate(prompts, [30] * 8, keys, FREE)
    assert not never.ended.any() and (never.ids > EOS).all()
    later = decoder.generate(prompts, [30] * 8, keys, FREE, eos_from=[6] * 8)
    assert later.ended.any() and (later.lengths >= 6).all()
    for row in range(8):
        assert (later.ids[row, : later.lengths[row]] > EOS).all()
        if later.ended[row]:
            assert later.ids[row, later.lengths[row]] == EOS
            assert (later.ids[row, later.lengths[row] + 1 :] == PAD).all()
    with pytest.raises(ValueError, match="no EOS"):
        system("coarse")[2].generate([prompt(STAGES["coarse"], 3)], [3], keys[:1], FREE, eos_from=[0])


def test_the_next_token_is_made_from_the_last(monkeypatch):
    """With a model that says "the last input plus one", decoding must count."""
    # A model that no other test has, so that nothing compiled is reused, by this test or by another.
    model, params, _ = system("semantic", dataclasses.replace(CONFIG, relative_max_distance=41))
    decoder = StageDecoder(model, params)

    def count(model, weights, caches, ids, column, bias):
        return jax.nn.one_hot(ids + 1, model.stage.layout.padded_vocab_size), caches

    monkeypatch.setattr(decode, "cached_step", count)
    monkeypatch.setattr(decode, "_table_logits", lambda table, hidden: hidden)
    made = decoder.generate([np.array([9, 4], np.int32)], [11], row_keys(0, [0], 1), SamplingSettings(0.0, 3, 0.99))
    assert made.ids[0].tolist() == list(range(5, 16))


def test_one_program_for_prompts_and_budgets_of_a_bucket():
    model, _, decoder = system("coarse")
    levels = model.stage.target.num_levels
    settings = SamplingSettings(0.7, 5)
    sizes = []
    for frames, new in ((1, 3), (4, 9), (7, 14)):
        decoder.generate([prompt(model.stage, frames)], [new * levels], row_keys(new, [0], 1), settings)
        sizes.append((decode._prefill._cache_size(), decode._advance._cache_size()))
    assert sizes[0] == sizes[1] == sizes[2]


def test_one_program_for_all_ways_to_draw():
    model, _, decoder = system("coarse")
    start, keys = prompt(model.stage, 3), row_keys(0, [0], 1)
    decoder.generate([start], [30], keys, FREE)
    before = decode._advance._cache_size()
    ways = [(0.0,), (0.5,), (0.7, 5), (0.7, 6), (1.3, 0, 0.9), (1.3, 4, 0.95), (0.0, 4, 0.5)]
    drawn = {way: decoder.generate([start], [30], keys, SamplingSettings(*way)).ids[0] for way in ways}
    assert decode._advance._cache_size() == before
    np.testing.assert_array_equal(drawn[0.0,], drawn[0.0, 4, 0.5])
    assert len({tuple(ids) for ids in drawn.values()}) > 3


@pytest.mark.parametrize("name", STAGES)
def test_padding_changes_nothing(name):
    """More room in the prefill, in front of the prompts and behind the new tokens, and empty rows."""
    model, _, decoder = system(name)
    prompts = [prompt(model.stage, frames) for frames in (0, 3, 7)]
    budgets, keys = np.array([6, 2, 5]) * model.stage.target.num_levels, row_keys(0, np.arange(3), 1)
    least = decoder.generate(prompts, budgets, keys, FREE)
    longest = max(map(len, prompts))
    for shape in (Shape(256, longest, 256), Shape(128, 101, 256), Shape(192, 192, 384)):
        roomy = decoder.generate(prompts, budgets, keys, FREE, shape=shape)
        np.testing.assert_array_equal(roomy.ids, least.ids, err_msg=str(shape))
    filled = decoder.generate([*prompts, prompts[0]], [*budgets, 0], keys[np.array([0, 1, 2, 0])], FREE)
    np.testing.assert_array_equal(filled.ids[:3], least.ids)
    assert (filled.ids[3] == PAD).all()


def test_a_shape_that_does_not_hold_the_call_is_refused():
    model, _, decoder = system("coarse")
    start, keys = prompt(model.stage, 3), row_keys(0, [0], 1)
    for shape in (Shape(64, len(start) - 1, 128), Shape(64, 65, 256), Shape(64, 64, 64 + 11), Shape(192, 64, 128)):
        with pytest.raises(ValueError, match="do not fit"):
            decoder.generate([start], [12], keys, FREE, shape=shape)


def test_progress_is_told(monkeypatch):
    monkeypatch.setattr(decode, "STEPS_PER_CALL", 5)
    model, _, decoder = system("coarse")
    told = []
    keys = row_keys(0, [0], 1)
    cut = decoder.generate([prompt(model.stage, 3)], [12], keys, FREE, on_progress=told.append)
    assert told == [5, 10, 12]
    monkeypatch.setattr(decode, "STEPS_PER_CALL", 128)
    assert (cut.ids == decoder.generate([prompt(model.stage, 3)], [12], keys, FREE).ids).all()
