"""Segments hold what Libri-Light's own tools put into theirs, and ranges are read as one recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_jax.audio import Waveform, read_ranges, write_audio
from audiolm_jax.data.corpora.voice_activity import (
    checked_spans,
    cut_by_voice_activity,
    cut_evenly,
    described_excess,
    narrowed,
    num_samples_of,
)
from audiolm_jax.errors import UserError


def seconds_of(segments, rate_hz=10):
    return [[(start / rate_hz, stop / rate_hz) for start, stop in segment] for segment in segments]


def test_stretches_are_joined_up_to_the_target():
    spans = [(0.5, 20.5), (21.0, 41.0), (50.0, 70.0), (80.0, 80.5)]
    assert seconds_of(cut_by_voice_activity(spans, 10, 1000)) == [
        [(0.5, 20.5), (21.0, 41.0), (50.0, 70.0)],  # 60 s: the target is still within it
        [(80.0, 80.5)],
    ]


def test_a_long_stretch_stays_whole_and_alone():
    spans = [(0.0, 1.0), (2.0, 102.0), (103.0, 104.0), (105.0, 106.0)]
    assert seconds_of(cut_by_voice_activity(spans, 10, 2000)) == [
        [(0.0, 1.0)],
        [(2.0, 102.0)],
        [(103.0, 104.0), (105.0, 106.0)],
    ]


def test_stretches_that_touch_are_one_range_and_samples_are_rounded_down():
    assert cut_by_voice_activity([(0.0, 0.19), (0.19, 0.39), (0.5, 0.5)], 10, 100) == [((0, 3),)]
    # 0.29 * 100 is 28.999..., and their tools take sample 28.
    assert cut_by_voice_activity([(0.29, 0.57)], 100, 100) == [((28, 56),)]


def test_what_lies_after_the_end_is_left_out():
    spans = [(0.0, 1.0), (1.5, 4.0), (5.0, 6.0)]
    assert cut_by_voice_activity(spans, 10, 20, segment_seconds=2.0) == [((0, 10),), ((15, 20),)]
    assert "ends at 6.00 s, the recording at 2.00 s" in described_excess(spans, 10, 20)
    assert described_excess([(0.0, 2.4)], 10, 20) == ""
    assert cut_by_voice_activity([], 10, 20) == []


@pytest.mark.parametrize("num_samples", [1, 99, 100, 101, 250, 1000])
def test_even_segments_are_few_and_alike(num_samples):
    segments = cut_evenly(num_samples, 10, segment_seconds=10.0)
    lengths = [num_samples_of(segment) for segment in segments]
    assert len(segments) == -(-num_samples // 100) and max(lengths) <= 100 and max(lengths) - min(lengths) <= 1
    samples = [n for segment in segments for start, stop in segment for n in range(start, stop)]
    assert samples == list(range(num_samples))
    assert cut_evenly(0, 10) == []


spans_lists = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 90)), max_size=30).map(
    lambda gaps: [
        (sum(a + b for a, b in gaps[:i]) + gaps[i][0], sum(a + b for a, b in gaps[: i + 1])) for i in range(len(gaps))
    ]
)


@settings(max_examples=200, deadline=None)
@given(spans_lists, st.integers(0, 1500), st.integers(1, 70))
def test_segments_are_the_greedy_partition_of_the_speech(spans, num_samples, target):
    segments = cut_by_voice_activity(spans, 1, num_samples, segment_seconds=float(target))
    samples = np.arange(num_samples)
    speech = np.concatenate([samples[:0], *(samples[start:stop] for start, stop in spans)])
    pieces = [np.concatenate([samples[start:stop] for start, stop in segment]) for segment in segments]
    np.testing.assert_array_equal(np.concatenate([samples[:0], *pieces]), speech)
    boundaries = {start for start, _ in spans}
    for segment in segments:
        parts = sum(segment[0][0] <= start < segment[-1][1] and stop > start for start, stop in spans)
        assert num_samples_of(segment) <= target or parts == 1
        assert segment[0][0] in boundaries
    for segment, following in zip(segments, segments[1:], strict=False):
        first = next(stop - start for start, stop in spans if start == following[0][0] and stop > start)
        assert num_samples_of(segment) + first > target


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=8), st.integers(0, 60), st.data())
def test_narrowed_ranges_are_a_crop_of_the_joined_ones(gaps, start, data):
    edges = np.cumsum([step for gap in gaps for step in gap]).tolist()
    ranges = tuple(zip(edges[::2], edges[1::2], strict=True))
    stop = start + data.draw(st.integers(0, 30))
    joined = [sample for low, high in ranges for sample in range(low, high)]
    assert [sample for low, high in narrowed(ranges, start, stop) for sample in range(low, high)] == joined[start:stop]


@pytest.mark.parametrize(
    "spans, message",
    [
        ("0.1 0.2", "no list"),
        ([[0.0, 1.0, 2.0]], "no pair"),
        ([[0.0, "1"]], "no pair"),
        ([[0.0, float("nan")]], "no pair"),
        ([[True, 2.0]], "no pair"),
        ([[2.0, 1.0]], "ends before it begins"),
        ([[-1.0, 1.0]], "ends before it begins"),
    ],
)
def test_damaged_voice_activity_is_one_line(spans, message):
    with pytest.raises(UserError, match=message):
        checked_spans(spans)
    with pytest.raises(UserError, match="positive"):
        cut_by_voice_activity([(0.0, 1.0)], 10, 10, segment_seconds=0.0)


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_ranges_are_read_alone_and_joined(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    samples = (np.arange(20_000) % 30_000 / 32768).astype(np.float32)
    write_audio(path, Waveform(samples, 16_000))
    ranges = ((0, 10), (5_000, 9_001), (19_990, 20_000))
    expected = np.concatenate([samples[start:stop] for start, stop in ranges])
    found = read_ranges(path, ranges)
    assert found.sample_rate_hz == 16_000
    np.testing.assert_array_equal(found.samples, expected)
    assert len(read_ranges(path, ranges, 8_000).samples) == -(-len(expected) // 2)
    np.testing.assert_array_equal(read_ranges(path, ()).samples, samples)


def test_ranges_of_a_bad_file_are_one_line(tmp_path):
    path = tmp_path / "x.flac"
    rng = np.random.default_rng(0)
    write_audio(path, Waveform(rng.uniform(-0.5, 0.5, 50_000).astype(np.float32), 16_000))
    with pytest.raises(UserError, match="none from 49999 to 50001"):
        read_ranges(path, ((49_999, 50_001),))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="x.flac"):
        read_ranges(path, ((45_000, 46_000),))
    np.testing.assert_equal(len(read_ranges(path, ((0, 1000),)).samples), 1000)
    path.write_text("no audio")
    with pytest.raises(UserError, match="not audio that can be read"):
        read_ranges(path, ((0, 10),))
    with pytest.raises(UserError, match="does not exist"):
        read_ranges(tmp_path / "y.flac", ((0, 10),))
