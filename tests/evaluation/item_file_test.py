"""Item files, and which frames their rows are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.item_file import frame_spans, read_item_file

HEADER = "#file onset offset #phone prev-phone next-phone speaker\n"


def test_columns(tmp_path):
    path = tmp_path / "x.item"
    path.write_text(HEADER + "b 0.1 0.25 iy s n anna\n\na  1.5\t2 aa s  n ben\nb 3 4 iy s t anna\n")
    items = read_item_file(path)
    assert len(items) == 3
    assert items.files.distinct == ("a", "b") and items.files.index.tolist() == [1, 0, 1]
    assert items.phones.distinct == ("aa", "iy") and items.phones.index.tolist() == [1, 0, 1]
    assert items.contexts.distinct == ("s+n", "s+t") and items.contexts.index.tolist() == [0, 0, 1]
    assert items.speakers.distinct == ("anna", "ben")
    assert items.onset_seconds.tolist() == [0.1, 1.5, 3.0] and items.offset_seconds.tolist() == [0.25, 2.0, 4.0]


def test_the_first_line_is_a_header_whatever_it_says(tmp_path):
    path = tmp_path / "x.item"
    path.write_text("b 0.1 0.25 iy s n anna\nc 0.1 0.25 iy s n anna\n")
    assert read_item_file(path).files.distinct == ("c",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        (HEADER, "no rows"),
        (HEADER + "a 1 2 aa s n\n", "line 2: 6 fields"),
        (HEADER + "a 1 2 aa s n ben more\n", "line 2: 8 fields"),
        (HEADER + "a 1 2 aa s n ben\n\na one 2 aa s n ben\n", "line 4: 'one'"),
        (HEADER + "a 1 nan aa s n ben\n", "line 2: 'nan'"),
        (HEADER + "a 1 inf aa s n ben\n", "line 2: 'inf'"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(text, words, tmp_path):
    path = tmp_path / "x.item"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_item_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "x.item").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "x.item", tmp_path, tmp_path / "none.item"):
        with pytest.raises(UserError):
            read_item_file(path)


@given(
    st.lists(
        st.tuples(st.integers(-400, 40_000), st.integers(-400, 40_000), st.integers(0, 300)), min_size=1, max_size=20
    ),
    st.sampled_from([0.01, 0.02, 0.04, 0.0125]),
)
def test_frames_are_those_of_the_rounding_in_float64(rows, seconds):
    # Times in steps of 0.1 ms, as item files have them.
    onset, offset, num_frames = (np.array(column) for column in zip(*rows, strict=True))
    start, length = frame_spans(onset / 10_000, offset / 10_000, num_frames, seconds)
    step = 1 / seconds
    for i, (begin, end, count) in enumerate(rows):
        first = max(0, math.ceil(step * (begin / 10_000) - 0.5))
        last = min(count, math.floor(step * (end / 10_000) - 0.5))
        expected = (first, last - first) if first < count and last > first else None
        assert (None if length[i] == 0 else (start[i], length[i])) == expected


def test_the_end_is_exclusive_and_float64_rounds():
    onset, offset = np.array([0.0, 0.0275, 0.5475, 0.295]), np.array([0.1, 0.1075, 0.8075, 0.345])
    start, length = frame_spans(onset, offset, np.full(4, 1000), 0.01)
    # 100 * 0.295 - 0.5 is 28.999999999999996, 100 * 0.345 - 0.5 is 34.0.
    assert start.tolist() == [0, 3, 55, 29] and (start + length).tolist() == [9, 10, 80, 34]
