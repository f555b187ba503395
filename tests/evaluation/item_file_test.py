"""Item files, and which frames their rows are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx.item_file import frame_spans, read_item_file

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


def test_columns_are_found_by_their_names(tmp_path):
    usual, other = tmp_path / "usual.item", tmp_path / "other.item"
    usual.write_text(HEADER + "b 0.1 0.25 iy s n anna\na 1.5 2 aa t k ben\n")
    other.write_text(
        "\ufeff#speaker next_phone  Filename #phone offset\tonset word previous-phone\r\n"
        "anna n b iy 0.25 0.1 see s\nben k a aa 2 1.5 tack t\n",
        encoding="utf-8",
    )
    for path in (usual, other):
        items = read_item_file(path)
        assert [items.files.distinct[i] for i in items.files.index] == ["b", "a"]
        assert [items.phones.distinct[i] for i in items.phones.index] == ["iy", "aa"]
        assert [items.contexts.distinct[i] for i in items.contexts.index] == ["s+n", "t+k"]
        assert [items.speakers.distinct[i] for i in items.speakers.index] == ["anna", "ben"]
        assert items.onset_seconds.tolist() == [0.1, 1.5] and items.offset_seconds.tolist() == [0.25, 2.0]


def test_lines_end_where_a_text_file_has_line_ends(tmp_path):
    path = tmp_path / "x.item"
    path.write_text(HEADER + "b 0.1 0.25 i\u0085 s n anna\n", encoding="utf-8")
    assert len(read_item_file(path)) == 1 and read_item_file(path).phones.distinct == ("i",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("b 0.1 0.25 iy s n anna\nc 0.1 0.25 iy s n anna\n", "names no column file .*begin the file with the line"),
        ("#file onset offset #phone context speaker\na 1 2 aa s+n ben\n", "names no column prev-phone"),
        (HEADER.replace("speaker", "onset") + "a 1 2 aa s n 1\n", "names the column onset twice"),
        (HEADER, "no rows"),
        (HEADER + "a 1 2 aa s n\n", "line 2: 6 fields"),
        (HEADER + "a 1 2 aa s n ben more\n", "line 2: 8 fields"),
        (HEADER + "a 1 2 aa s n ben\n\na one 2 aa s n ben\n", "line 4: 'one'"),
        (HEADER + "a 1 nan aa s n ben\n", "line 2: 'nan'"),
        (HEADER + "a 1 inf aa s n ben\n", "line 2: 'inf'"),
        (HEADER + "a 1 1e308 aa s n ben\n", "line 2: '1e308' is not a time"),
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
