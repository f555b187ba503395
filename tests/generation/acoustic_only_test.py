"""The acoustic-only system: one stage, no semantic tokens, the same commands."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from audiolm_jax.bundle import LanguageModel
from audiolm_jax.errors import UserError
from audiolm_jax.generation.pipeline import AudioLM, Request
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.stages import acoustic_stage, fine_stage
from tests.generation.pipeline_test import ALL, COARSE, CODES, HOP, RATE, sound, system


@functools.cache
def acoustic_only(with_fine=False):
    config = TransformerConfig(num_layers=1, num_heads=1, embed_dim=8, mlp_dim=8)
    levels = COARSE if with_fine else ALL
    stages = [acoustic_stage(codebook_size=CODES, num_coarse_quantizers=levels, crop_seconds=1)]
    if with_fine:
        stages.append(fine_stage(codebook_size=CODES, num_coarse_quantizers=COARSE, num_quantizers=ALL, crop_seconds=1))
    models = {}
    for stage in stages:
        params = jax.tree.map(lambda value: 2 * value, StageModel(stage, config).init(jax.random.key(0)))
        models[stage.name] = LanguageModel(stage, config, params, "0" * 16, "0" * 16)
    return AudioLM(dataclasses.replace(system().bundle, language_models=models))


@pytest.mark.parametrize("with_fine", [False, True])
def test_it_continues_a_prompt_over_several_windows(with_fine):
    lm = acoustic_only(with_fine)
    prompt = sound(RATE // 2)
    made = lm.generations(Request(prompt, seconds=2.5, prompt_seconds=0.4, num_samples=2))  # windows hold 1 s
    heard = lm.bundle.codec.encode({}, prompt.samples[None, : int(0.4 * RATE)])[0]
    for one in made:
        assert len(one.waveform.samples) == int(2.9 * RATE) and one.prompt_seconds == 0.4
        assert one.acoustic_tokens.shape == (int(2.9 * RATE) // HOP, ALL)
        np.testing.assert_array_equal(one.acoustic_tokens[: len(heard)], heard)
        assert one.semantic_tokens.size == 0
    assert (made[0].acoustic_tokens != made[1].acoustic_tokens).any()
    again = lm.generations(Request(prompt, seconds=2.5, prompt_seconds=0.4))
    np.testing.assert_array_equal(again[0].acoustic_tokens, made[0].acoustic_tokens)


def test_a_prompt_changes_what_is_drawn():
    lm = acoustic_only()
    loud, soft = (lm.generations(Request(sound(RATE, seed), seconds=0.5))[0].acoustic_tokens for seed in (0, 1))
    assert (loud[50:] != soft[50:]).any()


def test_it_needs_no_prompt():
    (made,) = acoustic_only().generations(Request(mode="unconditional", seconds=1.3))
    assert made.acoustic_tokens.shape == (65, ALL) and made.prompt_seconds == 0


def test_it_knows_no_semantic_tokens():
    with pytest.raises(UserError, match="toy has no coarse stage, which mode acoustic needs"):
        acoustic_only().generate(sound(RATE), mode="acoustic")
    with pytest.raises(UserError, match="no fine stage"):
        acoustic_only().generate(sound(RATE), mode="fine")


def test_it_draws_at_the_temperature_of_the_coarse_stage():
    lm, prompt = acoustic_only(), sound(RATE)
    (one,) = lm.generations(Request(prompt, seconds=0.5, temperature=(0.1, 0.8, 0.1)))
    (other,) = lm.generations(Request(prompt, seconds=0.5, temperature=(1.5, 0.8, 1.5)))
    np.testing.assert_array_equal(one.acoustic_tokens, other.acoustic_tokens)
    (warmer,) = lm.generations(Request(prompt, seconds=0.5, temperature=(0.1, 1.6, 0.1)))
    assert (one.acoustic_tokens != warmer.acoustic_tokens).any()


def test_what_it_draws_does_not_depend_on_what_is_drawn_beside_it():
    lm = acoustic_only()
    requests = [Request(sound(RATE, seed), seconds=0.5, seed=seed) for seed in range(3)]
    together = lm.generations_together(requests, fixed_rows=2)
    alone = [lm.generations_together([request], fixed_rows=2)[0] for request in requests]
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_array_equal(first[0].acoustic_tokens, second[0].acoustic_tokens)


def test_an_acoustic_stage_beside_a_coarse_one_is_refused():
    bundle = acoustic_only().bundle
    both = dataclasses.replace(bundle, language_models=bundle.language_models | system().bundle.language_models)
    with pytest.raises(UserError, match="an acoustic stage and a semantic stage"):
        AudioLM(both)
