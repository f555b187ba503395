"""Rows to calls of few shapes, without a model."""

import pytest

from audiolm_jax.generation.batching import calls_by_shape, calls_of_one_shape
from audiolm_jax.generation.plan import coarse_rows, fine_rows, turns
from audiolm_jax.generation.shapes import cache_size, prefill_size
from audiolm_jax.tokens.stages import coarse_stage, fine_stage

COARSE, FINE = coarse_stage(), fine_stage()
# Frames known and in the end, of six samples; of the last nothing is to be drawn.
SAMPLES = ((150, 1100), (150, 900), (0, 130), (149, 950), (0, 1200), (60, 60))


def coarse_turns(samples=SAMPLES):
    return turns([coarse_rows(COARSE, sample, *frames) for sample, frames in enumerate(samples)])


def assert_calls_hold_their_rows(calls, rows):
    assert sorted((row.sample, row.position) for call in calls for row in call.rows) == sorted(
        (row.sample, row.position) for row in rows
    )
    for call in calls:
        assert 1 <= len(call.rows) <= call.num_rows
        assert call.budget == max(row.budget for row in call.rows)
        for row in call.rows:
            assert row.longest_prompt <= call.shape.start <= call.shape.prefill_tokens <= call.shape.columns
            assert call.shape.start + row.budget <= call.shape.columns


def test_calls_of_one_request_share_their_programs():
    rows = coarse_turns()
    calls = calls_of_one_shape(COARSE, rows)
    assert_calls_hold_their_rows(calls, sum(rows, []))
    # One call for each turn, of six rows at most, five of which there are.
    assert [len(call.rows) for call in calls] == [len(turn) for turn in rows] == [5, 4, 4]
    assert {call.num_rows for call in calls} == {6}
    assert len({(call.shape.prefill_tokens, call.shape.columns) for call in calls}) == 1
    assert calls_of_one_shape(COARSE, []) == calls_of_one_shape(COARSE, [[]]) == []


def test_a_long_unprompted_request_needs_no_more_columns_than_the_stage_has():
    """Its first window has no prompt and the most to draw, the others the longest prompt and less to draw."""
    calls = calls_of_one_shape(COARSE, coarse_turns([(0, 1200)]))
    assert [call.shape.start for call in calls] == [250, 850, 850]
    assert {call.shape.columns for call in calls} == {cache_size(COARSE, COARSE.max_length)}
    assert {call.shape.prefill_tokens for call in calls} == {prefill_size(COARSE, 850)}


@pytest.mark.parametrize(("chunks", "rows_of_calls"), [(1, [1]), (3, [3]), (5, [5]), (16, [16]), (20, [10, 10])])
def test_fine_chunks_are_in_calls_of_about_one_size(chunks, rows_of_calls):
    rows = fine_rows(FINE, 0, 0, 150 * chunks)
    calls = calls_of_one_shape(FINE, [rows], most_rows=16)
    assert_calls_hold_their_rows(calls, rows)
    assert [len(call.rows) for call in calls] == rows_of_calls
    assert {call.num_rows for call in calls} == {{1: 1, 3: 3, 5: 6, 16: 16, 10: 12}[rows_of_calls[0]]}


@pytest.mark.parametrize("num_rows", [1, 2, 4])
def test_the_shape_of_a_call_follows_from_each_of_its_rows(num_rows):
    rows = coarse_turns()
    calls = calls_by_shape(COARSE, rows, num_rows)
    assert_calls_hold_their_rows(calls, sum(rows, []))
    assert {call.num_rows for call in calls} == {num_rows}
    shapes = {(row.sample, row.position): call.shape for call in calls for row in call.rows}
    for sample, frames in enumerate(SAMPLES):
        alone = calls_by_shape(COARSE, [[row] for row in coarse_rows(COARSE, sample, *frames)], num_rows)
        for call in alone:
            assert shapes[sample, call.rows[0].position] == call.shape

    # Prompts of 149 and of 150 frames can share a call.
    assert shapes[1, 600] == shapes[0, 600] == shapes[3, 596]


def test_earlier_turns_come_first_and_long_rows_stay_together():
    rows = coarse_turns([(0, 500), (0, 400), (0, 500), (0, 390), (0, 850)])
    calls = calls_by_shape(COARSE, rows, 2)
    first = [[row.sample for row in call.rows] for call in calls if call.rows[0] in rows[0]]
    assert first == [[0, 2], [4, 1], [3]]
    assert [call.rows[0].sample for call in calls[len(first) :]] == [4]
