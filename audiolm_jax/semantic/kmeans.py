"""k-means over streamed features, and the running statistics that standardise them.

Everything is a pure function over a small state of arrays: sums run over the whole batch axis, so under jit with a
sharded batch they are global, and a saved state continues exactly where it was.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from audiolm_jax.nearest import first_of_the_best, nearest


@flax.struct.dataclass
class Statistics:
    """Count, mean and sum of squared deviations of every dimension of the frames seen so far."""

    count: jax.Array  # float32[]
    mean: jax.Array  # float32[D]
    squares: jax.Array  # float32[D]

    @classmethod
    def empty(cls, dim: int) -> "Statistics":
        return cls(count=jnp.zeros(()), mean=jnp.zeros(dim), squares=jnp.zeros(dim))

    @property
    def std(self) -> jax.Array:
        """Standard deviation, float32[D]; never below 1e-5, so a constant dimension standardises to zero."""
        return jnp.maximum(jnp.sqrt(self.squares / jnp.maximum(self.count, 1.0)), 1e-5)


def add_frames(statistics: Statistics, features: jax.Array, valid: jax.Array) -> Statistics:
    """Statistics of all frames before and these, by Chan's formula: the same for any split, stable in float32.

    Args:
        statistics: so far.
        features: [N, D].
        valid: bool [N]; the others do not count.
    """
    features = features.astype(jnp.float32)
    weights = valid.astype(jnp.float32)
    added = jnp.sum(weights)
    mean = weights @ features / jnp.maximum(added, 1.0)
    squares = weights @ jnp.square(features - mean)
    count = statistics.count + added
    share = added / jnp.maximum(count, 1.0)
    delta = mean - statistics.mean
    return Statistics(
        count=count,
        mean=statistics.mean + delta * share,
        squares=statistics.squares + squares + jnp.square(delta) * statistics.count * share,
    )


@flax.struct.dataclass
class Clusters:
    """Centroids and how many frames each stands for."""

    centroids: jax.Array  # float32[K, D]
    counts: jax.Array  # float32[K], frames that formed the centroid, decayed
    recent: jax.Array  # float32[K], frames since the last look for empty clusters

    @classmethod
    def empty(cls, num_clusters: int, dim: int) -> "Clusters":
        return cls(
            centroids=jnp.zeros((num_clusters, dim)), counts=jnp.zeros(num_clusters), recent=jnp.zeros(num_clusters)
        )


def squared_distances(features: jax.Array, centroids: jax.Array) -> jax.Array:
    """[N, K] squared Euclidean distances of [N, D] to [K, D], up to a constant per frame: |c|^2 - 2 x.c."""
    # Where a mesh splits the centroids, they are gathered: they are far smaller than what they are compared with.
    centroids = nn.with_logical_constraint(centroids, (None, None))
    products = jnp.matmul(features, centroids.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.square(centroids), axis=1) - 2.0 * products


def assign(features: jax.Array, centroids: jax.Array) -> jax.Array:
    """Nearest centroid of every frame: [N, D], [K, D] -> int32[N]. The lower index wins a tie."""
    return nearest(features.astype(jnp.float32), nn.with_logical_constraint(centroids, (None, None)))


def start(rng: jax.Array, features: jax.Array, valid: jax.Array, num_clusters: int) -> Clusters:
    """k-means++ (Arthur and Vassilvitskii 2007): each next centroid is a frame drawn by its squared distance.

    Args:
        rng: key.
        features: [N, D]; with N below `num_clusters` some centroids coincide and the restarts part them later.
        valid: bool [N]; the others are never drawn.
        num_clusters: K.
    """
    features, valid = jnp.asarray(features, jnp.float32), jnp.asarray(valid)
    uniform = jax.random.uniform(rng, (num_clusters,))

    def draw(weights, value):
        cumulative = jnp.cumsum(weights)
        index = jnp.searchsorted(cumulative, value * cumulative[-1], side="right")
        # A sum of one row, which devices that share the rows do each for its own; to index them, XLA would gather all.
        drawn = jnp.arange(features.shape[0]) == jnp.minimum(index, features.shape[0] - 1)
        return jnp.sum(jnp.where(drawn[:, None], features, 0.0), axis=0)

    def add(k, carry):
        centroids, least = carry
        # When every frame already is a centroid, all distances are zero and the draw is among the valid frames.
        weights = jnp.where(jnp.sum(least) > 0, least, valid.astype(jnp.float32))
        centroid = draw(weights, uniform[k])
        distance = jnp.sum(jnp.square(features - centroid), axis=1)
        return centroids.at[k].set(centroid), jnp.minimum(least, jnp.where(valid, distance, 0.0))

    far = jnp.where(valid, jnp.inf, 0.0)
    first = draw(valid.astype(jnp.float32), uniform[0])
    least = jnp.minimum(far, jnp.sum(jnp.square(features - first), axis=1))
    centroids = jnp.zeros((num_clusters, features.shape[1])).at[0].set(first)
    centroids, _ = jax.lax.fori_loop(1, num_clusters, add, (centroids, least))
    return Clusters.empty(num_clusters, features.shape[1]).replace(centroids=centroids)


def update(
    clusters: Clusters, features: jax.Array, valid: jax.Array, decay: float = 1.0
) -> tuple[Clusters, jax.Array, jax.Array]:
    """One mini-batch: every centroid moves towards the mean of its frames, by its share in all frames it has seen.

    Args:
        clusters: so far.
        features: [N, D], standardised.
        valid: bool [N].
        decay: multiplies the counts first. 1 is the mini-batch k-means of Sculley (2010); a little less lets old
            frames fade, which settles nearer to the optimum after a rough start; 0 is one iteration of Lloyd on [N].

    Returns:
        (clusters, mean squared distance of the valid frames to their centroid before the update, share of the clusters
        that got a frame).
    """
    features = features.astype(jnp.float32)
    weights = valid.astype(jnp.float32)
    scores = squared_distances(features, clusters.centroids)
    ids = first_of_the_best(-scores)
    squared = jnp.min(scores, axis=1) + jnp.sum(jnp.square(features), axis=1)
    member = jax.nn.one_hot(ids, clusters.centroids.shape[0], dtype=jnp.float32) * weights[:, None]  # [N, K]
    added = jnp.sum(member, axis=0)
    means = jnp.matmul(member.T, features, precision=jax.lax.Precision.HIGHEST) / jnp.maximum(added, 1.0)[:, None]
    counts = clusters.counts * decay + added
    rate = added / jnp.maximum(counts, 1e-6)
    centroids = clusters.centroids + rate[:, None] * (means - clusters.centroids)
    inertia = jnp.sum(jnp.maximum(squared, 0.0) * weights) / jnp.maximum(jnp.sum(weights), 1.0)
    moved = Clusters(centroids=centroids, counts=counts, recent=clusters.recent + added)
    return moved, inertia, jnp.mean(added > 0)


def fit(rng: jax.Array, features: jax.Array, valid: jax.Array, num_clusters: int, iterations: int) -> Clusters:
    """k-means of frames that are all at hand: k-means++, then iterations of Lloyd. Arguments as those of `start`."""
    clusters = start(rng, features, valid, num_clusters)
    return jax.lax.fori_loop(
        0, iterations, lambda _, clusters: update(clusters, features, valid, decay=0.0)[0], clusters
    )


def restart_empty(
    rng: jax.Array, clusters: Clusters, features: jax.Array, valid: jax.Array, share: float = 0.02
) -> tuple[Clusters, jax.Array]:
    """Give clusters without frames a new place: a frame of this batch, drawn by its squared distance.

    A cluster is empty when, since the last call, it got less than `share` of what equal clusters would get. Its count
    goes back to zero together with the new centroid, otherwise old frames would hold it where it was.

    Args:
        rng: key.
        clusters: with the counts since the last call in `recent`.
        features: [N, D], standardised; at most N clusters can be restarted.
        valid: bool [N].
        share: of the frames of an average cluster.

    Returns:
        (clusters with `recent` set to zero, number of restarted clusters).
    """
    features = features.astype(jnp.float32)
    num_clusters, num_frames = clusters.centroids.shape[0], features.shape[0]
    empty = clusters.recent < share * jnp.mean(clusters.recent)
    squared = jnp.min(squared_distances(features, clusters.centroids), axis=1) + jnp.sum(jnp.square(features), axis=1)
    # Largest log weight plus Gumbel noise: draws without replacement, in proportion to the squared distance.
    lottery = jnp.log(jnp.maximum(squared, 1e-12)) + jax.random.gumbel(rng, (num_frames,))
    drawn = jax.lax.top_k(jnp.where(valid, lottery, -jnp.inf), min(num_clusters, num_frames))[1]
    rank = jnp.cumsum(empty) - 1  # the n-th empty cluster takes the n-th drawn frame
    restarted = empty & (rank < jnp.minimum(drawn.shape[0], jnp.sum(valid)))
    place = features[drawn[jnp.clip(rank, 0, drawn.shape[0] - 1)]]
    result = Clusters(
        centroids=jnp.where(restarted[:, None], place, clusters.centroids),
        counts=jnp.where(restarted, 0.0, clusters.counts),
        recent=jnp.zeros_like(clusters.recent),
    )
    return result, jnp.sum(restarted)
