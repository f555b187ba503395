"""The three stages of the paper, piano, and exact lengths."""

from fractions import Fraction

import numpy as np
import pytest

from audiolm_jax.tokens.layout import EOS
from audiolm_jax.tokens.stages import TokenizerRates, acoustic_stage, coarse_stage, fine_stage, semantic_stage


def test_the_papers_stages():
    semantic, coarse, fine = semantic_stage(), coarse_stage(), fine_stage()
    # AudioLM, section IV-B: crops of 30, 10 and 3 s; 25 semantic tokens, 200 coarse and 400 fine ones a second.
    assert (semantic.max_prefix_length, semantic.max_target_length) == (0, 750 + 1)
    assert (coarse.max_prefix_length, coarse.max_target_length) == (250, 2000)
    assert (fine.max_prefix_length, fine.max_target_length) == (600, 1200)
    assert [stage.layout.vocab_size - 2 for stage in (semantic, coarse, fine)] == [1024, 5 * 1024, 12 * 1024]
    assert (semantic.collapse_repeats, coarse.collapse_repeats, fine.collapse_repeats) == (True, True, False)
    assert coarse.prefix_length(25) == 25 and coarse.target_length(50) == 200
    assert fine.prefix_length(150) == 600 and fine.target_length(150) == 1200


def test_piano_has_three_large_levels_and_no_fine_stage():
    stage = coarse_stage(codebook_size=16384, num_coarse_quantizers=3)
    assert stage.layout.vocab_size == 2 + 1024 + 3 * 16384
    assert stage.max_target_length == 10 * 50 * 3
    with pytest.raises(ValueError, match="no fine stage"):
        fine_stage(codebook_size=16384, num_coarse_quantizers=3, num_quantizers=3)


def test_the_acoustic_stage_is_the_coarse_one_without_its_prefix():
    alone = acoustic_stage(codebook_size=16384, num_coarse_quantizers=3)
    coarse = coarse_stage(codebook_size=16384, num_coarse_quantizers=3)
    assert alone.prefix is None and alone.target == coarse.target
    assert (alone.max_prefix_length, alone.max_target_length) == (0, coarse.max_target_length)
    assert alone.layout.vocab_size == 2 + 3 * 16384  # no ids for semantic tokens
    assert not alone.target_eos and not alone.allowed(0)[EOS]
    assert alone.period_seconds == Fraction(1, 50)


def test_eos_is_legal_only_where_the_stage_has_one():
    for position in range(16):
        assert semantic_stage().allowed(position)[EOS]
        assert not semantic_stage().allowed(position, allow_eos=False)[EOS]
        assert not coarse_stage().allowed(position)[EOS]
        assert not fine_stage().allowed(position)[EOS]


def test_the_mask_walks_through_the_levels():
    stage = fine_stage(codebook_size=8, num_coarse_quantizers=4, num_quantizers=6)
    level = stage.layout.decode(stage.allowed(np.arange(4)).argmax(axis=1)).level
    assert list(level) == [4, 5, 4, 5]


def test_other_rates_give_whole_joint_periods():
    rates = TokenizerRates(16_000, 320, 24_000, 320)  # 50 and 75 Hz
    stage = coarse_stage(rates, crop_seconds=1.03)
    assert stage.period_seconds == Fraction(1, 25) and stage.crop_periods == 25
    assert (stage.max_prefix_length, stage.max_target_length) == (50, 300)
    slow = TokenizerRates(16_000, 640, 24_000, 1920)  # 25 and 12.5 Hz
    stage = coarse_stage(slow, crop_seconds=3)
    assert stage.period_seconds == Fraction(2, 25) and stage.crop_periods == 37
    with pytest.raises(ValueError, match="shorter than one joint frame"):
        coarse_stage(slow, crop_seconds=0.05)


def test_sequences_are_rounded_up_to_the_multiple():
    stage = semantic_stage(length_multiple=128)
    assert stage.max_length == 751 and stage.sequence_length == 768
    with pytest.raises(ValueError, match="length_multiple"):
        semantic_stage(length_multiple=0)
