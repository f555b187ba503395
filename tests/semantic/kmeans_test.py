"""k-means and running statistics."""

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.semantic import kmeans


def blobs(rng, centres, per_centre, spread=0.05):
    points = centres[rng.integers(0, len(centres), per_centre * len(centres))]
    return (points + spread * rng.standard_normal(points.shape)).astype(np.float32)


def all_valid(points):
    return np.ones(len(points), bool)


def test_statistics_equal_numpy_for_any_split():
    rng = np.random.default_rng(0)
    frames = (rng.standard_normal((1000, 6)) * [1, 10, 100, 0.1, 1, 1] + [0, 5, -300, 70, 0, 1]).astype(np.float32)
    statistics = kmeans.Statistics.empty(6)
    for part in np.split(frames, [1, 100, 130, 700]):
        padded = np.concatenate([part, np.full((3, 6), 1e6, np.float32)])
        valid = np.arange(len(padded)) < len(part)
        statistics = kmeans.add_frames(statistics, padded, valid)
    assert statistics.count == 1000
    np.testing.assert_allclose(statistics.mean, frames.astype(np.float64).mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics.std, frames.astype(np.float64).std(0), rtol=1e-3)


def test_start_draws_distinct_valid_points_and_covers_far_clusters():
    rng = np.random.default_rng(1)
    centres = 10 * rng.standard_normal((12, 4))
    points = blobs(rng, centres, 40)
    valid = np.arange(len(points)) % 3 > 0
    found = kmeans.start(jax.random.key(0), points, valid, 12).centroids
    assert all((np.abs(points[valid] - centroid).sum(1) == 0).any() for centroid in np.asarray(found))
    nearest = np.linalg.norm(np.asarray(found)[:, None] - centres, axis=2).argmin(1)
    assert len(set(nearest.tolist())) >= 11


def test_mini_batches_recover_known_clusters():
    rng = np.random.default_rng(2)
    centres = 5 * rng.standard_normal((10, 3))
    update = jax.jit(kmeans.update)
    first = blobs(rng, centres, 20)
    clusters = kmeans.start(jax.random.key(0), first, all_valid(first), 10)
    for index in range(30):
        points = blobs(rng, centres, 10)
        clusters, inertia, used = update(clusters, points, all_valid(points))
        if index % 10 == 9:
            clusters, _ = kmeans.restart_empty(jax.random.key(index), clusters, points, all_valid(points))
    distance = np.linalg.norm(np.asarray(clusters.centroids)[:, None] - centres, axis=2)
    assert distance.min(axis=0).max() < 0.2
    np.testing.assert_allclose(inertia, 3 * 0.05**2, rtol=0.5)
    assert used == 1.0


def test_counts_are_running_means_without_decay():
    rng = np.random.default_rng(3)
    points = rng.standard_normal((90, 2)).astype(np.float32)
    clusters = kmeans.Clusters.empty(1, 2)
    for part in np.split(points, 3):
        clusters, _, _ = kmeans.update(clusters, part, all_valid(part))
    np.testing.assert_allclose(clusters.centroids[0], points.mean(0), atol=1e-6)
    assert clusters.counts[0] == 90


def test_padding_moves_nothing():
    points = np.random.default_rng(4).standard_normal((20, 2)).astype(np.float32)
    padded = np.concatenate([points, np.full((5, 2), 99, np.float32)])
    clusters = kmeans.start(jax.random.key(0), points, all_valid(points), 3)
    expected = kmeans.update(clusters, points, all_valid(points))
    found = kmeans.update(clusters, padded, np.arange(25) < 20)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), expected, found)


def test_empty_clusters_restart_at_frames_and_forget_their_counts():
    rng = np.random.default_rng(5)
    centres = 5 * rng.standard_normal((4, 2))
    points = blobs(rng, centres, 30)
    far_away = jnp.full((3, 2), 1e3)
    start = jnp.concatenate([jnp.asarray(points[:1]), far_away])
    clusters = kmeans.Clusters.empty(4, 2).replace(centroids=start, counts=jnp.full(4, 1000.0))
    clusters, _, used = kmeans.update(clusters, points, all_valid(points))
    assert used == 0.25
    clusters, restarted = kmeans.restart_empty(jax.random.key(0), clusters, points, all_valid(points))
    assert restarted == 3
    assert clusters.counts[1:].tolist() == [0, 0, 0] and clusters.counts[0] > 1000
    assert np.abs(np.asarray(clusters.centroids)).max() < 100
    for _ in range(5):
        clusters, inertia, used = kmeans.update(clusters, points, all_valid(points))
    assert used == 1.0 and inertia < 5.0


def test_more_clusters_than_frames_is_finite():
    points = np.random.default_rng(6).standard_normal((5, 2)).astype(np.float32)
    clusters = kmeans.start(jax.random.key(0), points, all_valid(points), 9)
    clusters, _, _ = kmeans.update(clusters, points, all_valid(points))
    clusters, _ = kmeans.restart_empty(jax.random.key(1), clusters, points, all_valid(points))
    assert np.isfinite(np.asarray(clusters.centroids)).all()


def test_assign_is_the_nearest():
    rng = np.random.default_rng(7)
    points, centroids = rng.standard_normal((50, 6)), rng.standard_normal((7, 6))
    expected = np.linalg.norm(points[:, None] - centroids, axis=2).argmin(1)
    np.testing.assert_array_equal(kmeans.assign(jnp.asarray(points), jnp.asarray(centroids)), expected)


def test_assign_takes_the_first_of_those_that_are_equally_near():
    # Small whole numbers, so that distances are exact and many of them are the same.
    rng = np.random.default_rng(8)
    points, centroids = (rng.integers(-1, 2, (size, 3)).astype(np.float32) for size in (200, 40))
    squared = np.square(points[:, None] - centroids).sum(-1)
    assert (np.count_nonzero(squared == squared.min(1, keepdims=True), axis=1) > 1).any()
    np.testing.assert_array_equal(kmeans.assign(jnp.asarray(points), jnp.asarray(centroids)), squared.argmin(1))
