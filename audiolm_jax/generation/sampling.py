"""Drawing a token from logits, with filters that compose in one order and randomness that depends on no neighbour.

Order: illegal ids are masked; then the logits are divided by the temperature; then top-k; then top-p, on the
distribution that top-k left. What remains is drawn from by Gumbel-max in float32. A temperature of 0 takes the most
likely legal id, whatever the filters say.

The key of a draw is a chain of fold_in: seed, sample index, stage, position in the stage's target. So a token depends
neither on the other rows of its batch, nor on how the sequence was cut into windows or chunks.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from audiolm_jax.errors import UserError

# Infinite, unlike what attention masks with: divided by the greatest temperature it is still never drawn.
NEVER = -jnp.inf

# Smaller and greater temperatures draw as these do, and neither they nor their reciprocals leave float32.
_LEAST_TEMPERATURE, _GREATEST_TEMPERATURE = 1e-37, 1e37
# A smaller share draws as this does; as a zero in float32 it would leave not even the most likely id.
_LEAST_SHARE = 1e-37


class TracedSettings(NamedTuple):
    """`SamplingSettings` as arguments of a compiled program, which then serves every value of them.

    Attributes:
        inverse_temperature: float32[], what logits are multiplied by; infinite for the most likely id.
        top_k: int32[].
        top_p: float32[].
    """

    inverse_temperature: Any
    top_k: Any
    top_p: Any


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """How to draw.

    Attributes:
        temperature: logits are divided by it; 0 for the most likely id.
        top_k: only the k most likely ids (and ties with the last of them) may be drawn; 0 for all.
        top_p: only the fewest most likely ids whose probabilities reach p (and ties) may be drawn; 1 for all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature must be 0 or more, got {self.temperature}")
        if isinstance(self.top_k, bool) or int(self.top_k) != self.top_k or self.top_k < 0:
            raise UserError(f"top_k is a number of ids, 0 for all of them, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must lie in 0 < top_p <= 1, got {self.top_p}")

    def traced(self) -> TracedSettings:
        """These settings as `sample` takes them."""
        inverse = np.float32(np.inf)
        if self.temperature > 0:
            # The reciprocal is taken here, once and rounded once: with a constant divisor XLA does the same.
            inverse = np.float32(1) / np.float32(np.clip(self.temperature, _LEAST_TEMPERATURE, _GREATEST_TEMPERATURE))
        top_k = np.int32(min(self.top_k, np.iinfo(np.int32).max))
        return TracedSettings(inverse, top_k, np.float32(max(self.top_p, _LEAST_SHARE)))


def row_keys(seed: int, sample_indices: np.ndarray, stage_number: int) -> jax.Array:
    """One key per row: int[B] sample indices (a sample may own several rows) to keys [B]."""
    root = jax.random.key(seed)
    return jax.vmap(lambda sample: jax.random.fold_in(jax.random.fold_in(root, sample), stage_number))(
        jnp.asarray(sample_indices, jnp.uint32)
    )


def filtered_logits(logits: jax.Array, legal: jax.Array, settings: TracedSettings) -> jax.Array:
    """Logits of the distribution that is drawn from.

    Args:
        logits: float[B, N].
        legal: bool[B, N] or bool[N].
        settings: of a temperature above 0.

    Returns:
        float32[B, N], 0 for the most likely legal id of each row, minus infinity where nothing may be drawn.
    """
    logits = jnp.where(legal, logits.astype(jnp.float32), NEVER)
    # Seen from the most likely one, which therefore stays 0 whatever it is divided by: a tiny temperature would make
    # all logits infinite, and a huge one brings a finite mask into their reach.
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    logits = jnp.where(legal, logits * settings.inverse_temperature, NEVER)
    some_of_all = (settings.top_k > 0) & (settings.top_k < logits.shape[-1])
    return lax.cond(
        some_of_all | (settings.top_p < 1), _most_likely_ones, lambda logits, *_: logits, logits, *settings[1:]
    )


def _most_likely_ones(logits: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
    """Logits float32[B, N] after top-k and then top-p."""
    size = logits.shape[-1]
    descending = -jnp.sort(-logits, axis=-1)
    last = jnp.where(top_k > 0, jnp.minimum(top_k, size), size) - 1
    least_of_k = lax.dynamic_index_in_dim(descending, last, axis=-1)
    descending = jnp.where(descending >= least_of_k, descending, NEVER)
    shares = jax.nn.softmax(descending, axis=-1)
    # Kept while the ids before it have not reached p, so the most likely one always is.
    kept = (jnp.cumsum(shares, axis=-1) - shares < top_p) | (top_p >= 1)
    least_of_p = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= jnp.maximum(least_of_k, least_of_p), logits, NEVER)


def sample(
    logits: jax.Array, legal: jax.Array, keys: jax.Array, positions: jax.Array, settings: TracedSettings
) -> jax.Array:
    """Draws one index per row.

    Args:
        logits: float[B, N].
        legal: bool[B, N] or bool[N], at least one of each row true.
        keys: [B] keys of `row_keys`.
        positions: int32[B], position in the stage's target, folded into the keys.
        settings: how to draw.

    Returns:
        int32[B] in 0 .. N - 1, always a legal index.
    """

    def likeliest():
        return jnp.argmax(jnp.where(legal, logits.astype(jnp.float32), NEVER), axis=-1)

    def drawn():
        step_keys = jax.vmap(jax.random.fold_in)(keys, positions)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:], jnp.float32))(step_keys)
        return jnp.argmax(filtered_logits(logits, legal, settings) + noise, axis=-1)

    return lax.cond(jnp.isinf(settings.inverse_temperature), likeliest, drawn).astype(jnp.int32)
