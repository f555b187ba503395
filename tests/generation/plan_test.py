"""Windows draw every frame once, and rows know how long their prompts and budgets can be; no model is at hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from audiolm_jax.generation.plan import (
    Row,
    Window,
    coarse_rows,
    fine_rows,
    plan_windows,
    semantic_rows,
    turns,
)
from audiolm_jax.tokens.stages import TokenizerRates, coarse_stage, fine_stage, semantic_stage

# 25 and 50 Hz as in the paper, and 50 and 75 Hz, whose joint period is two and three frames.
RATES = {"paper": TokenizerRates(16_000, 640, 16_000, 320), "2 to 3": TokenizerRates(16_000, 320, 24_000, 320)}


def test_the_paper_s_slide():
    # 3 s prompt, 22 s in the end, windows of 10 s of which 3 s are reused, 50 Hz.
    assert plan_windows(150, 1100, 500, 150, 2) == [
        Window(0, 150, 500),
        Window(350, 500, 850),
        Window(700, 850, 1100),
    ]


def test_a_prompt_as_long_as_the_window():
    assert plan_windows(150, 350, 150, 150, 2) == [Window(74, 150, 224), Window(148, 224, 298), Window(222, 298, 350)]


@pytest.mark.parametrize("multiple", [1, 2, 3])
@pytest.mark.parametrize("length", [6, 7, 50])
def test_every_frame_once_and_never_more_than_a_window(length, multiple):
    for known in range(0, 60, 7):
        for total in range(known, 90, 5):
            drawn = known
            for view in plan_windows(known, total, length, 5, multiple):
                assert view.known == drawn and view.start <= view.known < view.stop <= view.start + length
                assert view.start % multiple == 0 and view.start >= 0
                assert view.known - view.start >= min(drawn, min(5, length // 2)) or view.start == 0
                drawn = view.stop
            assert drawn == total


def test_what_fits_is_one_window():
    assert plan_windows(9, 10, 10, 3) == [Window(0, 9, 10)]
    assert plan_windows(10, 10, 10, 3) == []


def test_rows_of_the_paper_s_coarse_stage():
    """3 s prompt and 22 s in the end, 4 levels: windows of 10 s whose prompts hold 10 s of semantic tokens."""
    rows = coarse_rows(coarse_stage(), 7, 150, 1100)
    assert rows == [
        Row(7, Window(0, 150, 500), 1400, 600, 250 + 600, 1400),
        Row(7, Window(350, 500, 850), 1400, 2000, 250 + 600, 1400),
        Row(7, Window(700, 850, 1100), 1000, 3400, 250 + 600, 1400),
    ]


def test_a_window_that_is_not_full_counts_as_a_quarter_more():
    stage = coarse_stage()
    # Of 500 frames: 250 for all up to a half, 375 beyond.
    for total, counted in ((126, 250), (250, 250), (251, 375), (376, 500), (500, 500)):
        (row,) = coarse_rows(stage, 0, 50, total)
        assert row.budget == 4 * (total - 50) and row.longest_budget == 4 * (counted - 50)
        assert row.longest_prompt == (counted + 1) // 2 + 4 * 50


def test_rows_of_the_fine_stage_are_chunks_after_the_prompt():
    rows = fine_rows(fine_stage(), 1, 10, 320)
    assert [row.view for row in rows] == [Window(10, 10, 160), Window(160, 160, 310), Window(310, 310, 320)]
    assert [row.budget for row in rows] == [1200, 1200, 80] and [row.position for row in rows] == [80, 1280, 2480]
    assert {(row.longest_prompt, row.longest_budget) for row in rows} == {(600, 1200)}
    assert fine_rows(fine_stage(), 0, 30, 30) == []


def test_rows_of_a_collapsed_semantic_stage_may_end_from_the_expected_count_on():
    stage = semantic_stage(crop_seconds=30)
    # 175 frames of runs of 2 are 88 tokens, at most 97 of them.
    (row,) = semantic_rows(stage, 0, 40, 75, 250, 2.0)
    assert (row.view, row.budget, row.position, row.eos_from) == (Window(0, 40, 137), 97, 40, 88)
    assert (row.longest_prompt, row.longest_budget) == (75, 175)
    # Windows of 375 tokens, of which 37 are kept: what an earlier one draws counts.
    rows = semantic_rows(stage, 0, 40, 75, 1075, 2.0)
    assert [row.view for row in rows] == [Window(0, 40, 375), Window(338, 375, 590)]
    assert [row.eos_from for row in rows] == [500, 500 - 335]
    full = semantic_stage(crop_seconds=30, collapse_repeats=False)
    (row,) = semantic_rows(full, 0, 75, 75, 250, 2.0)
    assert row.budget == 175 and row.eos_from is None


def some_lengths(seed, count=300):
    """Pairs of known and total frames, 0 <= known <= total."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(1, 400, count)
    return [(int(rng.integers(0, total + 1)), int(total)) for total in totals]


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
def test_no_row_has_more_than_it_says(rates):
    """The longest prompt and budget bound what a stage gives a row, and together they fit the stage's sequence."""
    coarse = coarse_stage(rates, crop_seconds=2, num_coarse_quantizers=3)
    fine = fine_stage(rates, crop_seconds=1, num_coarse_quantizers=3, num_quantizers=5)
    ratio = Fraction(rates.semantic_hz) / rates.acoustic_hz
    for known, total in some_lengths(0):
        drawn = 0
        for row in coarse_rows(coarse, 0, known, total):
            words = math.ceil(row.view.stop * ratio) - math.floor(row.view.start * ratio)
            assert words + 3 * (row.view.known - row.view.start) <= row.longest_prompt
            assert row.budget <= row.longest_budget
            assert row.longest_prompt + row.longest_budget <= coarse.max_length
            assert row.position == 3 * known + drawn
            drawn += row.budget
        assert drawn == 3 * (total - known)
        for row in fine_rows(fine, 0, known, total):
            assert 3 * (row.view.stop - row.view.start) <= row.longest_prompt
            assert row.budget <= row.longest_budget
            assert row.longest_prompt + row.longest_budget <= fine.max_length


@pytest.mark.parametrize("collapsed", [True, False])
def test_no_semantic_row_has_more_than_its_frames(collapsed):
    stage = semantic_stage(crop_seconds=4, collapse_repeats=collapsed)
    rng = np.random.default_rng(1)
    for prompt_frames, total in some_lengths(2):
        mean_run = float(rng.uniform(1, 3)) if collapsed else 1.0
        known = int(rng.integers(1, prompt_frames + 1)) if prompt_frames and collapsed else prompt_frames
        rows = semantic_rows(stage, 0, known, prompt_frames, total, mean_run)
        for row in rows:
            assert row.view.known - row.view.start <= row.longest_prompt <= 100
            assert row.budget <= row.longest_budget
        assert len({(row.longest_prompt, row.longest_budget) for row in rows}) <= 1
        assert sum(row.budget for row in rows) <= total - prompt_frames


def test_turns_are_the_first_windows_then_the_second():
    stage, totals = coarse_stage(), (850, 40, 500)
    first, second, third = (coarse_rows(stage, sample, 0, total) for sample, total in enumerate(totals))
    assert turns([first, second, third]) == [[first[0], second[0], third[0]], [first[1]]]
    assert turns([[], []]) == []
