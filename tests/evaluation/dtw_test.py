"""Batched dynamic time warping against one pair at a time, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_jax.evaluation.abx import dtw
from audiolm_jax.evaluation.abx.frame_distances import unit_frames

NUM_FRAMES, NUM_DIMS = 120, 6


def dense(seed=0):
    return unit_frames(np.random.default_rng(seed).normal(size=(NUM_FRAMES, NUM_DIMS)).astype(np.float32))


def of_few_vectors(seed=0):
    """Frames of four vectors, three at right angles to one another and one silent: paths tie, of several lengths."""
    book = np.eye(4, NUM_DIMS, dtype=np.float32)
    book[3] = 0
    return unit_frames(book[np.random.default_rng(seed).integers(0, 4, NUM_FRAMES)])


def frame_distances(frames, distance):
    """Of all frames to all: segments of one frame."""
    everything = np.arange(len(frames))
    first, second = (side.ravel() for side in np.meshgrid(everything, everything, indexing="ij"))
    ones = np.ones(len(frames), np.int64)
    made, back = dtw.pair_distances(frames, everything, ones, first, second, distance)
    np.testing.assert_array_equal(made, back)
    return made.reshape(len(frames), len(frames))


def warped(matrix):
    """Cost over path length of one matrix of frame distances, in float32."""
    cost = np.full(matrix.shape, np.inf, np.float32)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            before = [cost[cell] for cell in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if min(cell) >= 0]
            cost[i, j] = matrix[i, j] + min(before, default=np.float32(0))
    i, j = np.array(matrix.shape) - 1
    steps = 1
    while i or j:
        both, left, up = (
            cost[i - a, j - b] if i >= a and j >= b else np.inf for a, b in ((1, 1), (0, 1), (1, 0))
        )
        if i and j and both <= left and both <= up:
            i, j = i - 1, j - 1
        elif not i or (j and left <= up):
            j -= 1
        else:
            i -= 1
        steps += 1
    return cost[-1, -1] / np.float32(steps)


@pytest.fixture(scope="module", params=[("cosine", dense), ("cosine", of_few_vectors), ("euclidian", of_few_vectors)])
def material(request):
    distance, make = request.param
    frames = make()
    return distance, frames, frame_distances(frames, distance)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 21)), min_size=2, max_size=12))
def test_equals_one_pair_at_a_time(material, segments):
    distance, frames, between = material
    starts, lengths = np.array(segments).T
    first, second = (side.ravel() for side in np.meshgrid(np.arange(len(segments)), np.arange(len(segments))))
    made, back = dtw.pair_distances(frames, starts, lengths, first, second, distance, shapes=((8, 8), (24, 24)))
    for i, j, ahead, behind in zip(first, second, made, back, strict=True):
        rows, columns = (slice(starts[k], starts[k] + lengths[k]) for k in (i, j))
        assert ahead == warped(between[rows, columns]), (segments[i], segments[j])
        assert behind == warped(between[columns, rows]), (segments[j], segments[i])


def test_ties_make_the_two_directions_differ():
    # Otherwise the test above says nothing about ties.
    matrix = frame_distances(of_few_vectors(), "cosine")
    pairs = [(slice(i, i + 9), slice(j, j + 7)) for i in range(0, 100, 9) for j in range(0, 100, 7)]
    assert any(warped(matrix[a, b]) != warped(matrix[b, a]) for a, b in pairs)


def test_batches_and_shapes_change_nothing(monkeypatch):
    rng, frames = np.random.default_rng(2), of_few_vectors(2)
    starts, lengths = rng.integers(0, 90, 30), rng.integers(1, 25, 30)
    first, second = rng.integers(0, 30, (2, 400))
    made = dtw.pair_distances(frames, starts, lengths, first, second)
    monkeypatch.setattr(dtw, "_BATCH_MOST", 32)
    order = rng.permutation(400)
    other = dtw.pair_distances(
        frames, starts, lengths, first[order], second[order], shapes=((8, 16), (24, 40)), capacity_frames=500
    )
    for straight, permuted in zip(made, other, strict=True):
        np.testing.assert_array_equal(straight[order], permuted)


def test_shapes_hold_all_pairs_and_are_few():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.gamma(6, 4, 5000).astype(int) + 1, dtw.MAX_SEGMENT_FRAMES)
    classes = dtw.length_classes(lengths)
    counts = np.zeros((dtw.num_length_classes(),) * 2, np.int64)
    np.add.at(counts, (classes[:-1], classes[1:]), 1)
    few, many = dtw.plan_shapes(counts, 40), dtw.plan_shapes(10_000 * counts, 40)
    assert len(few) < 4 < len(many)
    for shapes in (few, many):
        assert all(rows <= columns for rows, columns in shapes)
        for pair in zip(lengths[:-1], lengths[1:], strict=True):
            assert any(rows >= min(pair) and columns >= max(pair) for rows, columns in shapes)
    assert dtw.length_classes(np.array([1, 8, 9, dtw.MAX_SEGMENT_FRAMES])).tolist() == [0, 0, 1, len(counts) - 1]


def test_no_pairs_are_no_distances():
    nothing = np.zeros(0, np.int64)
    made, back = dtw.pair_distances(dense(), nothing, nothing, nothing, nothing)
    assert made.shape == back.shape == (0,)


def test_other_mistakes_are_told():
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="distance"):
        dtw.pair_distances(dense(), one, one + 1, one, one, "kl")
    with pytest.raises(ValueError, match="not all pairs"):
        dtw.pair_distances(dense(), one, one + 9, one, one, shapes=((8, 8),))
