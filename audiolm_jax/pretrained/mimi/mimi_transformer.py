"""The transformer of Mimi: causal, each step sees a window of the past; what it needs of the past can be carried on.

A step of L layers sees L windows back, 80 s in the published model, so windows of a recording cannot bring their past
along. Instead every layer keeps the keys and values of its last `window_steps` steps in the collection "stream".
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.pretrained.stream import STREAM, WHOLE, Cut

# Score of what may not be seen; finite, so that a query that sees nothing (behind the end) stays finite.
_HIDDEN_SCORE = -1e9


class LayerNorm(nn.Module):
    """Layer norm over the last axis, [..., D] -> [..., D]."""

    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1:]
        scale = self.param("scale", nn.with_logical_partitioning(nn.initializers.ones, ("embed",)), width)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("embed",)), width)
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon) * scale + bias


class Linear(nn.Module):
    """A matrix on the last axis, [..., D_in] -> [..., D_out]; `axes` names both sides."""

    features: int
    axes: tuple[str, str]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), self.axes)
        return x @ self.param("kernel", init, (x.shape[-1], self.features))


def turns(positions: jax.Array, head_dim: int, base: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine [T, head_dim / 2] of the angles by which positions int32[T] turn queries and keys."""
    speeds = 1.0 / np.float32(base) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    angles = positions.astype(jnp.float32)[:, None] * speeds
    return jnp.cos(angles), jnp.sin(angles)


def turned(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x [B, T, H, D] with the first half of every head as one coordinate and the second as the other, turned."""
    first, second = jnp.split(x, 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class SlidingAttention(nn.Module):
    """Attention of every step to itself and the `window_steps - 1` before it, [B, T, D] -> [B, T, D].

    Long arrays are taken in blocks of a window, each of which sees itself and the block before: memory and work grow
    with T, not with its square.
    """

    num_heads: int
    head_dim: int
    window_steps: int

    @nn.compact
    def __call__(self, x: jax.Array, angles: tuple[jax.Array, jax.Array], start: jax.Array, cut: Cut) -> jax.Array:
        """Attends.

        Args:
            x: [B, T, D].
            angles: of `turns` at the positions of x.
            start: int32[], position of the first step of x in its recording.
            cut: see `stream`.
        """
        batch, steps, width = x.shape
        inner = self.num_heads * self.head_dim

        def heads(name):
            return Linear(inner, ("embed", "heads"), name=name)(x).reshape(batch, steps, self.num_heads, self.head_dim)

        query = turned(heads("query"), *angles) * self.head_dim**-0.5
        key, value = turned(heads("key"), *angles), heads("value")
        past = 0 if not cut.is_window and steps <= self.window_steps else self.window_steps
        if past:
            key, value = self._after_past(key, "keys", cut), self._after_past(value, "values", cut)
        block = min(steps, self.window_steps)
        query, key, value = (_whole_blocks(each, block, before) for each, before in
                             ((query, 0), (key, past), (value, past)))  # fmt: skip
        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key)
        weights = nn.softmax(jnp.where(_seen(start, scores.shape[1], block, past), scores, _HIDDEN_SCORE), axis=-1)
        mixed = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, value).reshape(batch, -1, inner)[:, :steps]
        return Linear(width, ("heads", "embed"), name="out")(mixed)

    def _after_past(self, x: jax.Array, name: str, cut: Cut) -> jax.Array:
        """x [B, T, H, D] behind the window before it; before the first step zeros, which are not seen."""
        shape = (x.shape[0], self.window_steps, *x.shape[2:])
        if not cut.is_window:
            return jnp.concatenate([jnp.zeros(shape, x.dtype), x], axis=1)
        past = self.variable(STREAM, name, jnp.zeros, shape, x.dtype)
        joined = jnp.concatenate([past.value, x], axis=1)
        past.value = joined[:, -self.window_steps :]
        return joined


def _whole_blocks(x: jax.Array, block: int, before: int) -> jax.Array:
    """x [B, before + T, H, D] as [B, blocks of T, before + block, H, D]: each block with the `before` steps before it.

    `before` is 0, or with more than one block their length.
    """
    batch, steps, *rest = x.shape
    x = jnp.pad(x, ((0, 0), (0, -(steps - before) % block), (0, 0), (0, 0)))
    if x.shape[1] == before + block:
        return x[:, None]
    x = x.reshape(batch, -1, block, *rest)
    return jnp.concatenate([x[:, :-1], x[:, 1:]], axis=2) if before else x


def _seen(start: jax.Array, num_blocks: int, block: int, past: int) -> jax.Array:
    """Which keys a query sees, bool[num_blocks, 1, block, past + block]."""
    query = jnp.arange(block)[:, None]
    key = jnp.arange(past + block) - past
    if not past:
        return (key <= query)[None, None]
    in_window = (key <= query) & (key > query - past)
    exists = start + jnp.arange(num_blocks)[:, None] * block + key >= 0
    return (in_window & exists[:, None])[:, None]


class Layer(nn.Module):
    """Attention and feed-forward, each normed before, scaled after and added. [B, T, D] -> [B, T, D]."""

    num_heads: int
    head_dim: int
    mlp_dim: int
    window_steps: int
    norm_epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, angles: tuple[jax.Array, jax.Array], start: jax.Array, cut: Cut) -> jax.Array:
        width = x.shape[-1]

        def scaled(y, name):
            init = nn.with_logical_partitioning(nn.initializers.constant(0.01), ("embed",))
            return y * self.param(name, init, (width,))

        y = LayerNorm(self.norm_epsilon, name="attention_norm")(x)
        y = SlidingAttention(self.num_heads, self.head_dim, self.window_steps, name="attention")(y, angles, start, cut)
        x = x + scaled(y, "attention_scale")
        y = Linear(self.mlp_dim, ("embed", "mlp"), name="widen")(LayerNorm(self.norm_epsilon, name="mlp_norm")(x))
        y = Linear(width, ("mlp", "embed"), name="narrow")(nn.gelu(y, approximate=False))
        return x + scaled(y, "mlp_scale")


class Transformer(nn.Module):
    """The layers, [B, T, D] -> [B, T, D].

    Each has parameters of its own: XLA on CPU would copy slices of stacked ones at every call.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    window_steps: int
    norm_epsilon: float
    rope_base: float

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        start = jnp.zeros((), jnp.int32)
        if cut.is_window:
            position = self.variable(STREAM, "position", jnp.zeros, (), jnp.int32)
            start = jnp.where(cut.is_first, 0, position.value)
            position.value = start + x.shape[1]
        angles = turns(start + jnp.arange(x.shape[1]), self.head_dim, self.rope_base)
        for index in range(self.num_layers):
            x = Layer(
                self.num_heads,
                self.head_dim,
                self.mlp_dim,
                self.window_steps,
                self.norm_epsilon,
                name=f"layer{index}",
            )(x, angles, start, cut)
        return x
