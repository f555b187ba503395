"""The parts of encoders that read a waveform by convolutions and then attend: HuBERT, wav2vec 2.0 and their kin.

Arrays are [B, T, D]. A row may end before its array does: `valid` bool [B, T] then says which steps are its own, and
none of them depends on what stands behind the end. `valid` None means that every row fills its array, and no mask is
computed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.semantic.network.conformer import LayerNorm, Linear

# Of norms of the convolutions and of the batch norm; published configurations cannot change it.
CONV_NORM_EPSILON = 1e-5
# Added to the attention score of a frame that may not be seen; finite, so a row without any valid frame stays finite.
_HIDDEN_SCORE = -1e9


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function of x, exactly. By erf, which takes half the time of erfc on CPU."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5))


def masked(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """x [B, T, D] with zeros where not valid."""
    return x if valid is None else jnp.where(valid[..., None], x, 0.0)


def _vector(module: nn.Module, name: str, initializer, width: int, axis: str) -> jax.Array:
    """A parameter float32[width]."""
    return module.param(name, nn.with_logical_partitioning(initializer, (axis,)), (width,), jnp.float32)


class RowNorm(nn.Module):
    """Every channel to mean 0 and variance 1 over the valid steps of its own row: a group norm of one channel a group.

    Computed in float32, [B, T, C] -> [B, T, C] in the input's dtype.
    """

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        width = x.shape[-1]
        scale = _vector(self, "scale", nn.initializers.ones, width, "conv_out")
        bias = _vector(self, "bias", nn.initializers.zeros, width, "conv_out")
        y = x.astype(jnp.float32)
        count = x.shape[1] if valid is None else jnp.maximum(jnp.sum(valid, axis=1), 1)[:, None, None]
        mean = jnp.sum(masked(y, valid), axis=1, keepdims=True) / count
        variance = jnp.sum(masked(jnp.square(y - mean), valid), axis=1, keepdims=True) / count
        gain = scale * jax.lax.rsqrt(variance + CONV_NORM_EPSILON)
        return ((y - mean) * gain + bias).astype(x.dtype)


class WaveConv(nn.Module):
    """Strided convolution without padding, norm and GELU: [B, T, C_in] -> [B, (T - K) // S + 1, C_out].

    Attributes:
        norm: "row" for `RowNorm`, "layer" for a layer norm over the channels, "" for none.
    """

    features: int
    kernel_size: int
    stride: int
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        """`valid` is of the steps that come out."""
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.he_normal(), (None, "conv_in", "conv_out")),
            (self.kernel_size, x.shape[-1], self.features),
            jnp.float32,
        ).astype(x.dtype)
        y = jax.lax.conv_general_dilated(x, kernel, (self.stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
        if self.use_bias:
            y = y + _vector(self, "bias", nn.initializers.zeros, self.features, "conv_out").astype(x.dtype)
        if self.norm == "row":
            y = RowNorm(name="norm")(y, valid)
        elif self.norm == "layer":
            y = LayerNorm(CONV_NORM_EPSILON, name="norm")(y)
        return gelu(y)


class StoredBatchNorm(nn.Module):
    """Batch norm by stored statistics, [B, T, D] -> [B, T, D]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        scale = _vector(self, "scale", nn.initializers.ones, width, "embed")
        bias = _vector(self, "bias", nn.initializers.zeros, width, "embed")
        mean = _vector(self, "mean", nn.initializers.zeros, width, "embed")
        variance = _vector(self, "variance", nn.initializers.ones, width, "embed")
        gain = scale * jax.lax.rsqrt(variance + CONV_NORM_EPSILON)
        return ((x.astype(jnp.float32) - mean) * gain + bias).astype(x.dtype)


class PositionConv(nn.Module):
    """What the frames around a frame say of its position, [B, T, D] -> [B, T, D]: a wide grouped convolution and GELU.

    Attributes:
        kernel_frames: frames that are seen; of an even number one more in the past than in the future.
        groups: of channels that do not see one another.
        batch_norm: whether its input is normalised by stored statistics.
    """

    kernel_frames: int
    groups: int
    batch_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        width = x.shape[-1]
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.he_normal(), (None, "conv_in", "conv_out")),
            (self.kernel_frames, width // self.groups, width),
            jnp.float32,
        ).astype(x.dtype)
        bias = _vector(self, "bias", nn.initializers.zeros, width, "conv_out").astype(x.dtype)
        if self.batch_norm:
            # What is behind the end is zero for the convolution, and not what the norm makes of zero.
            x = masked(StoredBatchNorm(name="batch_norm")(x), valid)
        before = self.kernel_frames // 2
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (1,),
            ((before, self.kernel_frames - 1 - before),),
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        return gelu(y + bias)


def _mixed(head: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
    """What one head [T, K] mixes of its values: of (query, key, value, what is added to the scores [T] or None)."""
    query, key, value, hidden = head
    scores = (query @ key.T).astype(jnp.float32)
    if hidden is not None:
        scores = scores + hidden
    return jax.nn.softmax(scores, axis=-1).astype(value.dtype) @ value


class SelfAttention(nn.Module):
    """Attention of all frames to all valid frames, [B, T, D] -> [B, T, D]; the softmax is float32."""

    num_heads: int
    compute_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        batch, steps, width = x.shape
        heads, head_dim = self.num_heads, width // self.num_heads

        def projected(name: str) -> jax.Array:
            y = Linear(width, ("embed", "heads"), self.compute_dtype, name=name)(x)
            return y.reshape(batch, steps, heads, head_dim).swapaxes(1, 2).reshape(batch * heads, steps, head_dim)

        query, key, value = projected("query") * head_dim**-0.5, projected("key"), projected("value")
        hidden = None if valid is None else jnp.repeat(jnp.where(valid, 0.0, _HIDDEN_SCORE), heads, axis=0)
        # One head after the other on CPU, whose caches hold the scores of one head but not of all.
        mixed = jax.lax.platform_dependent(
            (query, key, value, hidden), cpu=lambda each: jax.lax.map(_mixed, each), default=jax.vmap(_mixed)
        )
        mixed = mixed.reshape(batch, heads, steps, head_dim).swapaxes(1, 2).reshape(batch, steps, width)
        return Linear(width, ("heads", "embed"), self.compute_dtype, name="out")(mixed)


class Block(nn.Module):
    """Self-attention and a feed-forward module, each beside a residual path.

    Attributes:
        norm_first: whether the norms stand before the two modules, inside of the residual paths, or behind the sums.
    """

    num_heads: int
    mlp_dim: int
    norm_first: bool
    norm_epsilon: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, None]:
        """[B, T, D] -> [B, T, D] and nothing, the form of a scan."""
        attention_norm = LayerNorm(self.norm_epsilon, name="attention_norm")
        mlp_norm = LayerNorm(self.norm_epsilon, name="mlp_norm")
        attention = SelfAttention(self.num_heads, self.compute_dtype, name="attention")
        widen = Linear(self.mlp_dim, ("embed", "mlp"), self.compute_dtype, name="widen")
        narrow = Linear(x.shape[-1], ("mlp", "embed"), self.compute_dtype, name="narrow")
        if self.norm_first:
            x = x + attention(attention_norm(x), valid)
            return x + narrow(gelu(widen(mlp_norm(x)))), None
        x = attention_norm(x + attention(x, valid))
        return mlp_norm(x + narrow(gelu(widen(x)))), None
