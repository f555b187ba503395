"""Golden arrays of each stage, EOS only at real ends, and nothing ever cut off."""

import dataclasses

import numpy as np
import pytest

from audiolm_jax.data.feed.examples import evaluation_crops, join, prefix_and_target, stage_example, training_crop
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.layout import ACOUSTIC, EOS
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import PAPER_RATES, coarse_stage, fine_stage, semantic_stage
from tests.data.tiny_records import STAGES, make_record

# 5 semantic and 9 acoustic frames (the last semantic frame is half filled), 4 levels of 8 codes.
RECORD = TokenRecord(
    "k", "s", "k.flac", 2800, np.array([3, 3, 5, 5, 3]), np.arange(36).reshape(9, 4) % 8, "aa", "bb"
)


def test_semantic_golden():
    stage = semantic_stage(semantic_vocab=16, crop_seconds=0.12)
    crops = evaluation_crops(RECORD, stage)
    assert [(crop.start, crop.is_end) for crop in crops] == [(0, False), (3, True)]
    first, last = (stage_example(RECORD, stage, crop) for crop in crops)
    np.testing.assert_array_equal(first["ids"], [5, 7, 0, 0])  # 3 3 5 collapsed, no end
    np.testing.assert_array_equal(first["loss_weights"], [1, 1, 0, 0])
    np.testing.assert_array_equal(last["ids"], [7, 5, EOS, 0])  # 5 3 and the real end
    np.testing.assert_array_equal(last["loss_weights"], [1, 1, 1, 0])
    whole = dataclasses.replace(stage, collapse_repeats=False)
    np.testing.assert_array_equal(stage_example(RECORD, whole, crops[0])["ids"], [5, 5, 7, 0])


def test_coarse_golden():
    stage = coarse_stage(PAPER_RATES, semantic_vocab=16, codebook_size=8, num_coarse_quantizers=2, crop_seconds=0.08)
    crops = evaluation_crops(RECORD, stage)
    assert [crop.start for crop in crops] == [0, 2, 4]
    # Levels 0 and 1 start at ids 18 and 26; frames are 0 1 | 4 5 | 0 1 | 4 5.
    first = stage_example(RECORD, stage, crops[0])
    np.testing.assert_array_equal(first["ids"], [5, 18, 27, 22, 31, 18, 27, 22, 31, 0])
    np.testing.assert_array_equal(first["loss_weights"], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    # The last crop holds one semantic frame and the ninth acoustic frame, and no EOS.
    last = stage_example(RECORD, stage, crops[2])
    np.testing.assert_array_equal(last["ids"], [5, 18, 27, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(last["loss_weights"], [0, 1, 1, 0, 0, 0, 0, 0, 0, 0])


def test_fine_golden():
    stage = fine_stage(codebook_size=8, num_coarse_quantizers=1, num_quantizers=3, crop_seconds=0.04)
    crops = evaluation_crops(RECORD, stage)
    assert len(crops) == 5
    # Level 0 starts at 2, 1 at 10, 2 at 18: coarse ids of both frames, then both frames' fine ids.
    np.testing.assert_array_equal(stage_example(RECORD, stage, crops[0])["ids"], [2, 6, 11, 20, 15, 24])
    np.testing.assert_array_equal(stage_example(RECORD, stage, crops[4])["ids"], [2, 11, 20, 0, 0, 0])
    np.testing.assert_array_equal(stage_example(RECORD, stage, crops[4])["loss_weights"], [0, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_evaluation_crops_hold_every_target_once(stage):
    for num_samples in (1, 320, 321, 5_000, 16_000, 33_333):
        record = make_record("k", "s", num_samples, seed=num_samples)
        crops = evaluation_crops(record, stage)
        target = np.concatenate([prefix_and_target(record, stage, crop)[1] for crop in crops])
        assert np.sum(target == EOS) == int(stage.target_eos)
        assert [crop.is_end for crop in crops] == [False] * (len(crops) - 1) + [True]
        part = stage.target
        if part.stream == ACOUSTIC:
            levels = slice(part.first_level, part.first_level + part.num_levels)
            codes = stage.layout.decode_frames(ACOUSTIC, target, part.first_level, part.num_levels)
            np.testing.assert_array_equal(codes, record.acoustic_tokens[:, levels])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_eos_stands_only_at_real_ends(stage):
    record = make_record("k", "s", 30_000, seed=0)
    ends = 0
    for uniform in np.linspace(0, 1, 200, endpoint=False):
        crop = training_crop(record, stage, uniform)
        example = stage_example(record, stage, crop)
        assert np.sum(example["ids"] == EOS) == int(stage.target_eos and crop.is_end)
        assert len(example["ids"]) == stage.sequence_length
        assert example["ids"].dtype == np.int32 and example["loss_weights"].dtype == np.float32
        ends += crop.is_end
    assert 0 < ends < 200


def test_too_long_raises_and_is_not_trimmed():
    stage = STAGES[0]
    with pytest.raises(ValueError, match="do not fit"):
        join(np.zeros(0, np.int32), np.full(stage.sequence_length + 1, 2, np.int32), stage)


def test_a_record_with_too_few_levels_raises():
    with pytest.raises(ValueError, match="levels"):
        crop = training_crop(RECORD, STAGES[2], 0.0)
        stage_example(dataclasses.replace(RECORD, acoustic_tokens=RECORD.acoustic_tokens[:, :3]), STAGES[2], crop)


def test_tokens_that_the_stage_does_not_know_are_told():
    for field, value in (("semantic_tokens", np.full(5, 16)), ("acoustic_tokens", np.full((9, 4), 8))):
        record = dataclasses.replace(RECORD, **{field: value})
        with pytest.raises(UserError, match=r"the tokens of k are not those of stage coarse \(.* must lie in 0\.\."):
            stage_example(record, STAGES[1], evaluation_crops(record, STAGES[1])[0])
