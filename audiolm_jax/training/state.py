"""The state of a training run, and the sums that its metrics are made of."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class TrainState:
    """Everything a learner changes while it trains; a pytree of plain arrays.

    Attributes:
      step: int32[], how many updates have been applied.
      params: what gradients flow to (and weights that only EMA touches, where a learner keeps them here).
      opt_state: the optimizer's state; for a learner with two optimizers, a dict of both.
      collections: what is neither: EMA sums and counts of codebooks, running statistics. `{}` if none.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    collections: Any

    @classmethod
    def create(cls, params, opt_state, collections=None) -> "TrainState":
        """A state at step 0."""
        collections = {} if collections is None else collections
        return cls(step=jnp.zeros((), jnp.int32), params=params, opt_state=opt_state, collections=collections)


@flax.struct.dataclass
class Metric:
    """A weighted sum. Sums over batches (and hosts) of `total` and of `weight` give the exact overall mean."""

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, value) -> "Metric":
        """A scalar with weight one: a loss that is already a mean, a norm, a rate."""
        return cls(total=jnp.asarray(value, jnp.float32), weight=jnp.ones((), jnp.float32))

    @classmethod
    def mean(cls, values, weights=None) -> "Metric":
        """The mean of `values`, with `weights` of the same shape if some count less (padding: 0)."""
        values = jnp.asarray(values, jnp.float32)
        weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights, jnp.float32)
        return cls(total=jnp.sum(values * weights), weight=jnp.sum(weights))

    def __add__(self, other: "Metric") -> "Metric":
        return Metric(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> float:
        """total / weight on the host; NaN when nothing was counted."""
        total, weight = np.float64(self.total), np.float64(self.weight)
        return float(total / weight) if weight != 0 else float("nan")


Metrics = dict[str, Metric]
