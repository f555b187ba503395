"""Crops stay aligned at any pair of rates; collapsing loses no duration."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_jax.tokens.alignment import (
    collapse,
    draw_crop,
    expand,
    joint_period_seconds,
    num_frames,
    num_periods,
    token_rate_hz,
)

PAIRS = [
    (16_000, 640, 16_000, 320),
    (16_000, 320, 24_000, 320),
    (16_000, 640, 24_000, 1920),
    (16_000, 320, 44_100, 512),
]


def test_joint_periods_by_hand():
    assert joint_period_seconds(Fraction(25), Fraction(50)) == Fraction(1, 25)
    assert joint_period_seconds(Fraction(50), Fraction(75)) == Fraction(1, 25)
    assert joint_period_seconds(Fraction(25), Fraction(25, 2)) == Fraction(2, 25)
    assert token_rate_hz(44_100, 512) == Fraction(44_100, 512)
    with pytest.raises(ValueError):
        joint_period_seconds(Fraction(0))
    with pytest.raises(ValueError):
        token_rate_hz(16_000, 0)


@settings(max_examples=200)
@given(st.sampled_from(PAIRS), st.integers(1, 400_000), st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_crops_of_both_streams_start_at_the_same_time(pair, num_samples, length, uniform):
    rates = (token_rate_hz(*pair[:2]), token_rate_hz(*pair[2:]))
    frames = {
        rates[0]: num_frames(num_samples, pair[1]),
        rates[1]: num_frames(-(-num_samples * pair[2] // pair[0]), pair[3]),
    }
    period = joint_period_seconds(*rates)
    total = num_periods(frames, period)
    crop = draw_crop(total, length, period, uniform)
    spans = [crop.frames(rate) for rate in rates]
    assert spans[0].start / rates[0] == spans[1].start / rates[1] == crop.start * period
    assert spans[0].stop / rates[0] == spans[1].stop / rates[1]
    # Every crop holds something, and the one marked as the end, and no other, holds the last frame of both streams.
    held = [span.stop >= frames[rate] for span, rate in zip(spans, rates, strict=True)]
    assert all(held) == crop.is_end
    assert any(span.start < frames[rate] for span, rate in zip(spans, rates, strict=True))
    assert crop.start + crop.length <= max(total, length)


def test_starts_are_spread_over_all_places():
    starts = {draw_crop(12, 10, Fraction(1, 25), u).start for u in np.linspace(0, 1, 100, endpoint=False)}
    assert starts == {0, 1, 2}
    with pytest.raises(ValueError):
        draw_crop(12, 10, Fraction(1, 25), 1.0)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_collapse_and_expand_are_inverse(tokens):
    values, runs = collapse(np.array(tokens, np.int32))
    np.testing.assert_array_equal(expand(values, runs), tokens)
    assert not np.any(values[1:] == values[:-1]) and np.all(runs > 0)
    assert runs.sum() == len(tokens)
