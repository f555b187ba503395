"""Distances of frames: right, rounded as Libri-light's evaluator rounds, and the same wherever frames meet."""

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx.frame_distances import CONSTANTS, _SumOrder, between, dims_first, prepared, unit_frames


def distances(frames, distance):
    """Of all frames to all, float32[T, T]."""
    turned = dims_first(frames)[None]
    return np.asarray(jax.jit(between, static_argnums=3)(turned, turned, CONSTANTS, distance))[0]


def dense(num_dims, num_frames=50):
    return unit_frames(np.random.default_rng(num_dims).normal(size=(num_frames, num_dims)).astype(np.float32))


@pytest.mark.parametrize("num_dims", [1, 6, 7, 8, 39, 200])
def test_angles_and_lengths_are_right(num_dims):
    frames = dense(num_dims)
    exact = frames.astype(np.float64)
    angles = np.arccos(np.clip(exact @ exact.T, -1, 1)) / np.pi
    # At 0 and 1 the angle is the root of a rounding error: 2e-4 for one of 1e-7.
    np.testing.assert_allclose(distances(frames, "cosine"), angles, atol=3e-4)
    inner = (angles > 0.01) & (angles < 0.99)
    np.testing.assert_allclose(distances(frames, "cosine")[inner], angles[inner], atol=2e-6)
    lengths = np.sqrt(((exact[:, None] - exact[None]) ** 2).sum(-1))
    np.testing.assert_allclose(distances(frames, "euclidian"), lengths, atol=1e-6)


def test_opposite_and_silent_frames():
    frames = unit_frames(np.array([[1, 2], [-1, -2], [2, -1], [0, 0]], np.float32))
    made = distances(frames, "cosine")
    np.testing.assert_allclose(made[0], [0, 1, 0.5, 1], atol=3e-4)
    np.testing.assert_array_equal(made[3], [1, 1, 1, 0])
    np.testing.assert_allclose(distances(frames, "euclidian")[3], [2e12, 2e12, 2e12, 0])


# (x * y).view(1, 1, D).sum(dim=2) of torch 2.13; the last three differ from NumPy's sum or its dot product.
TORCH_SUMS = {
    9: "0x1.59f8a80000000p-1",
    40: "0x1.8aa7ca0000000p-2",
    81: "0x1.fba5180000000p+0",
    145: "0x1.ddfa740000000p+1",
    769: "0x1.5a01f20000000p+4",
}


@pytest.mark.parametrize("num_dims", TORCH_SUMS)
def test_sums_are_those_of_torch_to_the_last_bit(num_dims):
    x, y = (np.random.default_rng(num_dims).random((2, num_dims)) - 0.3).astype(np.float32)
    order = _SumOrder.of(num_dims)
    assert sorted(order.dims) == list(range(num_dims))
    assert float(order.sum([x[dim] * y[dim] for dim in order.dims])).hex() == TORCH_SUMS[num_dims]


@pytest.mark.parametrize("num_dims", [3, 9, 40, 145, 600])
def test_compiled_sums_are_those_of_the_order_with_rounded_products(num_dims):
    # Squared differences, because what is done to their sum, the root, rounds the same everywhere.
    frames = np.random.default_rng(num_dims).normal(size=(20, num_dims)).astype(np.float32)
    order = _SumOrder.of(num_dims)
    terms = [np.square(frames[:, None, dim] - frames[None, :, dim]) for dim in order.dims]
    np.testing.assert_array_equal(distances(frames, "euclidian"), np.sqrt(order.sum(terms)))


def test_the_arccosine_is_the_nearest_float32_nearly_always():
    # A frame and (1, 0) have the first number as product.
    x = np.concatenate([np.linspace(-1, 1, 5000), 1 - np.logspace(-7, -1, 500)]).astype(np.float32)
    rows, column = np.stack([x, np.zeros_like(x)])[None], np.array([[[1], [0]]], np.float32)
    # What users run: compiled without optimisation it is another one more often.
    compiled = jax.jit(between, static_argnums=3, compiler_options={"xla_backend_optimization_level": 3})
    made = np.asarray(compiled(rows, column, CONSTANTS, "cosine"))
    nearest = np.arccos(x.astype(np.float64)).astype(np.float32) / np.float32(np.pi)
    assert (made[0, :, 0] == nearest).mean() > 0.97
    np.testing.assert_allclose(made[0, :, 0], nearest, rtol=3e-7)


def test_a_distance_does_not_depend_on_where_frames_stand():
    frames = dense(39)
    made = distances(frames, "cosine")
    np.testing.assert_array_equal(made, made.T)
    for first, count in ((0, 7), (13, 24), (49, 1)):
        part = slice(first, first + count)
        np.testing.assert_array_equal(distances(frames[part], "cosine"), made[part, part])


def test_unit_frames_keep_the_precision_of_the_features():
    features = np.random.default_rng(0).normal(size=(50, 9))
    unit = unit_frames(features)
    exact = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(unit[:, :9], exact)
    np.testing.assert_array_equal(unit[:, 9], np.float32(1e-12))
    assert unit.dtype == np.float32 and unit_frames(features[:0]).shape == (0, 10)


def test_another_distance_is_refused():
    with pytest.raises(ValueError, match="manhattan"):
        between(np.zeros((1, 2, 1)), np.zeros((1, 2, 1)), CONSTANTS, "manhattan")


def test_identity_is_the_angle_between_vectors_with_a_single_one():
    ids = np.random.default_rng(3).integers(0, 5, (12, 1)).astype(np.float32)
    one_hot = unit_frames(np.eye(5, dtype=np.float32)[ids[:, 0].astype(int)])
    frames = dims_first(prepared(ids, "identity"))[None]
    found = np.asarray(between(frames, frames, CONSTANTS, "identity"))
    vectors = dims_first(one_hot)[None]
    np.testing.assert_allclose(found, between(vectors, vectors, CONSTANTS, "cosine"), atol=1e-7)
    for wrong in (np.zeros((3, 2), np.float32), np.float32([[0.5]])):
        with pytest.raises(UserError, match="whole numbers"):
            prepared(wrong, "identity")
