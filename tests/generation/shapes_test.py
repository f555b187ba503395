"""Sizes are few, hold what they are for, and leave little of themselves empty."""

import pytest

from audiolm_jax.generation.shapes import cache_size, prefill_size, shape_of_its_own, size_for
from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

STAGES = {"semantic": semantic_stage(), "coarse": coarse_stage(), "fine": fine_stage()}


def test_sizes_are_the_whole_three_quarters_a_half_and_so_on():
    assert sorted({size_for(length, 16) for length in range(1, 50)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert sorted({size_for(length, 750) for length in range(100, 1200)}) == [141, 188, 282, 375, 563, 750, 1125, 1500]
    assert size_for(100, 750, 64) == 192 and size_for(750, 750, 64) == 768


@pytest.mark.parametrize("whole", [1, 2, 7, 100, 2304])
def test_a_size_holds_its_lengths_and_is_at_most_a_third_empty(whole):
    sizes = [size_for(length, whole) for length in range(1, 3 * whole)]
    assert sizes == sorted(sizes)
    for length, size in enumerate(sizes, start=1):
        assert length <= size and size - length <= size / 3 + 2
        assert size_for(size, whole) == size or size - length <= 2


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_all_lengths_of_a_stage_have_few_sizes_and_the_longest_fills_its_own(stage):
    lengths = range(stage.max_length + 1)
    prefills, caches = ({size(stage, length) for length in lengths} for size in (prefill_size, cache_size))
    assert len(prefills) <= 12 and len(caches) <= 10
    assert max(caches) - stage.max_length < 128
    for length in lengths:
        assert length <= prefill_size(stage, length) <= cache_size(stage, length)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_shape_of_its_own_holds_its_rows_and_is_that_of_prompts_nearby(stage):
    whole = cache_size(stage, stage.max_length)
    for prompt in range(0, stage.max_length, 37):
        for budget in range(0, stage.max_length - prompt, 61):
            shape = shape_of_its_own(stage, prompt, budget)
            assert prompt <= shape.start <= shape.prefill_tokens <= shape.columns <= whole
            assert shape.start + budget <= shape.columns
    shapes = {shape_of_its_own(stage, prompt, 100) for prompt in range(65, 129)}
    assert len(shapes) == 1
