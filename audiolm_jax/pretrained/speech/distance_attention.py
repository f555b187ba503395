"""Self-attention that knows how far frames are from one another, in the ways of the w2v-BERT 2.0 family."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.semantic.network.conformer import LayerNorm, Linear

RELATIVE_KEY, RELATIVE, ROTARY, NO_POSITION = "relative_key", "relative", "rotary", "none"
POSITIONS = (RELATIVE_KEY, RELATIVE, ROTARY, NO_POSITION)
# Attention score of a frame that may not be seen; finite, so that a row without any valid frame stays finite.
_HIDDEN_SCORE = -1e9


def position_arrays(position: str, num_frames: int, dim: int, num_heads: int, rotary_base: float) -> np.ndarray | None:
    """What attention of T frames needs of their positions.

    Args:
        position: RELATIVE_KEY, RELATIVE, ROTARY or NO_POSITION.
        num_frames: T.
        dim: width D of the frames.
        num_heads: attention heads.
        rotary_base: of the wavelengths of ROTARY.

    Returns:
        Of RELATIVE, sinusoids float32[2 T - 1, D] of the distances 1 - T to T - 1 from query to key; of ROTARY,
        cosines and sines float32[2, T, D / heads]; else None.
    """
    # Angles are float32 because the reference's are: far positions turn by the same rounded angle.
    if position == RELATIVE:
        slower = np.exp(np.arange(0, dim, 2) * (-math.log(10000.0) / dim)).astype(np.float32)
        # The reference counts distances from the key to the query.
        angles = np.arange(num_frames - 1, -num_frames, -1, dtype=np.float32)[:, None] * slower
        return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), dim)
    if position == ROTARY:
        width = dim // num_heads
        slower = (rotary_base ** (-np.arange(0, width, 2) / width)).astype(np.float32)
        angles = np.arange(num_frames, dtype=np.float32)[:, None] * slower
        angles = np.concatenate([angles, angles], axis=-1)
        return np.stack([np.cos(angles), np.sin(angles)])
    return None


class SelfAttention(nn.Module):
    """Layer norm and attention of all frames to those that may be seen. [B, T, D] -> [B, T, D].

    Args of the call:
        x: [B, T, D].
        valid: bool [B or 1, T], False where a frame is not to be seen; None if all are.
        positions: of `position_arrays`.
    """

    num_heads: int
    position: str
    past_frames: int
    future_frames: int
    norm_epsilon: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x, valid, positions):
        dim, heads, dtype = x.shape[-1], self.num_heads, self.compute_dtype
        width = dim // heads
        y = LayerNorm(self.norm_epsilon, name="norm")(x)

        def project(name, frames):
            projected = Linear(dim, ("embed", "heads"), dtype, name=name)(frames)
            return projected.reshape(*frames.shape[:2], heads, width).swapaxes(1, 2)  # [B, H, T, K]

        # The reference turns the frames themselves, before their projection.
        turned = _turned(y, heads, positions) if self.position == ROTARY else y
        query, key, value = project("query", turned) * width**-0.5, project("key", turned), project("value", y)
        bias = None
        if self.position == RELATIVE_KEY:
            past, future = self.past_frames, self.future_frames
            init = nn.with_logical_partitioning(nn.initializers.normal(1.0), (None, "head_dim"))
            vectors = self.param("distances", init, (past + 1 + future, width), jnp.float32).astype(dtype)
            bias = _by_key(query @ vectors.T, past, future)
        elif self.position == RELATIVE:
            init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("heads", "head_dim"))
            to_content = self.param("content_bias", init, (heads, width), jnp.float32)
            to_distance = self.param("distance_bias", init, (heads, width), jnp.float32)
            init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "heads"))
            kernel = self.param("distance_kernel", init, (dim, dim), jnp.float32)
            vectors = (positions.astype(dtype) @ kernel.astype(dtype)).reshape(len(positions), heads, width)
            towards = query + (to_distance * width**-0.5).astype(dtype)[:, None]
            last = x.shape[1] - 1
            bias = _by_key(jnp.einsum("bhtk,rhk->bhtr", towards, vectors), last, last)
            query = query + (to_content * width**-0.5).astype(dtype)[:, None]
        scores = jnp.einsum("bhtk,bhsk->bhts", query, key)
        if bias is not None:
            scores = scores + bias
        scores = scores.astype(jnp.float32)
        if valid is not None:
            scores = jnp.where(valid[:, None, None, :], scores, _HIDDEN_SCORE)
        weights = jax.nn.softmax(scores, axis=-1).astype(dtype)
        mixed = jnp.einsum("bhts,bhsk->bhtk", weights, value).swapaxes(1, 2).reshape(x.shape)
        return Linear(dim, ("heads", "embed"), dtype, name="mix")(mixed)


def _turned(y: jax.Array, heads: int, positions: np.ndarray) -> jax.Array:
    """Frames [B, T, D], of which every head's part is turned by angles that grow with time."""
    parts = y.reshape(*y.shape[:2], heads, -1)
    first, second = jnp.split(parts, 2, axis=-1)
    cosines, sines = positions[:, :, None]
    return (parts * cosines + jnp.concatenate([-second, first], axis=-1) * sines).reshape(y.shape).astype(y.dtype)


def _by_key(scores: jax.Array, past: int, future: int) -> jax.Array:
    """Scores of every query by distance, those of -past to future, as scores by key.

    Args:
        scores: [B, H, T, past + 1 + future].
        past, future: distances beyond them count as they do.

    Returns:
        [B, H, T, T].
    """

    def picked(scores):
        place = jnp.arange(scores.shape[2])
        index = jnp.clip(place[None] - place[:, None], -past, future) + past
        return jnp.take_along_axis(scores, index[None, None], axis=-1, mode="promise_in_bounds")

    # A CPU and a GPU pick numbers at the speed of memory, a TPU only moves blocks well.
    return jax.lax.platform_dependent(scores, tpu=lambda scores: _shifted(scores, past, future), default=picked)


def _shifted(scores: jax.Array, past: int, future: int) -> jax.Array:
    """`_by_key` without picking: every row is moved by its place.

    With a score for each distance from 1 - T to T - 1, that of query t and key s stands at t, s - t + T - 1. If rows
    are 2 T long, that is s + T - 1 behind the start of row t of rows one shorter.
    """
    *lead, count, _ = scores.shape
    parts = [scores[..., max(past - count + 1, 0) : past + 1 + min(future, count - 1)]]
    if count - 1 > past:
        parts.insert(0, jnp.broadcast_to(scores[..., :1], (*lead, count, count - 1 - past)))
    # One more column than there are distances makes the rows 2 T long; nothing reads it.
    behind = max(count - 1 - future, 0) + 1
    parts.append(jnp.broadcast_to(scores[..., -1:], (*lead, count, behind)))
    flat = jnp.concatenate(parts, axis=-1).reshape(*lead, count * 2 * count)
    flat = flat[..., count - 1 : count - 1 + count * (2 * count - 1)]
    return flat.reshape(*lead, count, 2 * count - 1)[..., :count]
