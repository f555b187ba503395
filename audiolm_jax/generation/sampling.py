"""Drawing a token from logits, with filters that compose in one order and randomness that depends on no neighbour.

Order: illegal ids are masked; then the logits are divided by the temperature; then top-k; then top-p, on the
distribution that top-k left. What remains is drawn from by Gumbel-max in float32. A temperature of 0 takes the most
likely legal id, whatever the filters say.

The key of a draw is a chain of fold_in: seed, sample index, stage, position in the stage's target. So a token depends
neither on the other rows of its batch, nor on how the sequence was cut into windows or chunks.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.errors import UserError

# Infinite, unlike what attention masks with: divided by the greatest temperature it is still never drawn.
NEVER = -jnp.inf

# Smaller and greater temperatures draw as these do, and neither they nor their reciprocals leave float32.
_LEAST_TEMPERATURE, _GREATEST_TEMPERATURE = 1e-37, 1e37


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


def row_keys(seed: int, sample_indices: np.ndarray, stage_number: int) -> jax.Array:
    """One key per row: int[B] sample indices (a sample may own several rows) to keys [B]."""
    root = jax.random.key(seed)
    return jax.vmap(lambda sample: jax.random.fold_in(jax.random.fold_in(root, sample), stage_number))(
        jnp.asarray(sample_indices, jnp.uint32)
    )


def filtered_logits(logits: jax.Array, legal: jax.Array, settings: SamplingSettings) -> jax.Array:
    """Logits of the distribution that is drawn from.

    Args:
        logits: float[B, N].
        legal: bool[B, N] or bool[N].
        settings: `temperature` must be above 0.

    Returns:
        float32[B, N], 0 for the most likely legal id of each row, minus infinity where nothing may be drawn.
    """
    logits = jnp.where(legal, logits.astype(jnp.float32), NEVER)
    # Seen from the most likely one, which therefore stays 0 whatever it is divided by: a tiny temperature would make
    # all logits infinite, and a huge one brings a finite mask into their reach.
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    logits /= float(np.clip(settings.temperature, _LEAST_TEMPERATURE, _GREATEST_TEMPERATURE))
    logits = jnp.where(legal, logits, NEVER)
    size = logits.shape[-1]
    if 0 < settings.top_k < size:
        least = jax.lax.top_k(logits, settings.top_k)[0][:, -1:]
        logits = jnp.where(logits >= least, logits, NEVER)
    if settings.top_p < 1:
        descending = -jnp.sort(-logits, axis=-1)
        shares = jax.nn.softmax(descending, axis=-1)
        # Kept while the ids before it have not reached p, so the most likely one always is.
        kept = jnp.cumsum(shares, axis=-1) - shares < settings.top_p
        least = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits >= least, logits, NEVER)
    return logits


def sample(
    logits: jax.Array, legal: jax.Array, keys: jax.Array, positions: jax.Array, settings: SamplingSettings
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
    if settings.temperature == 0:
        return jnp.argmax(jnp.where(legal, logits.astype(jnp.float32), -jnp.inf), axis=-1).astype(jnp.int32)
    logits = filtered_logits(logits, legal, settings)
    step_keys = jax.vmap(jax.random.fold_in)(keys, positions)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:], jnp.float32))(step_keys)
    return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)
