"""The conformer block of w2v-BERT: half feed-forward, self-attention, convolution, half feed-forward.

Every operation that looks along time takes the mask of valid frames, so a frame's output depends on the valid frames of
its own row and on nothing else: a padded row gives what it gives alone. That is why the convolution module has a layer
norm where the original conformer has a batch norm.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Added to the attention score of a frame that may not be seen; finite, so a row without any valid frame stays finite.
_HIDDEN_SCORE = -1e9


def _partitioned(init, *axes):
    """An initialiser that writes its logical axes beside the parameter."""
    return nn.with_logical_partitioning(init, axes)


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed in float32. [..., D] -> [..., D], in the input's dtype."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        scale = self.param("scale", _partitioned(nn.initializers.ones, "embed"), (width,), jnp.float32)
        bias = self.param("bias", _partitioned(nn.initializers.zeros, "embed"), (width,), jnp.float32)
        y = x.astype(jnp.float32)
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * scale + bias).astype(x.dtype)


class Linear(nn.Module):
    """A matrix and a bias on the last axis, `axes` naming both sides. [..., in] -> [..., out] in `compute_dtype`."""

    features: int
    axes: tuple[str | None, str | None]
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        kernel_init = _partitioned(nn.initializers.lecun_normal(), *self.axes)
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", _partitioned(nn.initializers.zeros, self.axes[1]), (self.features,), jnp.float32)
        return x.astype(self.compute_dtype) @ kernel.astype(self.compute_dtype) + bias.astype(self.compute_dtype)


class FeedForward(nn.Module):
    """Layer norm, widen, swish, narrow. [B, T, D] -> [B, T, D]."""

    mlp_dim: int
    dropout: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x, deterministic: bool):
        y = LayerNorm(name="norm")(x)
        y = nn.swish(Linear(self.mlp_dim, ("embed", "mlp"), self.compute_dtype, name="widen")(y))
        y = Linear(x.shape[-1], ("mlp", "embed"), self.compute_dtype, name="narrow")(y)
        return nn.Dropout(self.dropout)(y, deterministic=deterministic)


class SelfAttention(nn.Module):
    """Layer norm and attention of valid frames to valid frames, without position bias. [B, T, D] -> [B, T, D].

    Position reaches the model through the convolution modules, as in the w2v-BERT XL family.
    """

    num_heads: int
    dropout: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x, valid, deterministic: bool):
        width = x.shape[-1]
        head_dim = width // self.num_heads
        y = LayerNorm(name="norm")(x).astype(self.compute_dtype)

        def project(name):
            init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2))
            kernel_init = _partitioned(init, "embed", "heads", "head_dim")
            kernel = self.param(f"{name}_kernel", kernel_init, (width, self.num_heads, head_dim), jnp.float32)
            bias_init = _partitioned(nn.initializers.zeros, "heads", "head_dim")
            bias = self.param(f"{name}_bias", bias_init, (self.num_heads, head_dim), jnp.float32)
            projected = jnp.einsum("btd,dhk->bhtk", y, kernel.astype(self.compute_dtype))
            return projected + bias.astype(self.compute_dtype)[:, None, :]  # [B, H, T, K]

        query, key, value = project("query"), project("key"), project("value")
        scores = jnp.einsum("bhtk,bhsk->bhts", query * head_dim**-0.5, key).astype(jnp.float32)
        scores = scores + jnp.where(valid, 0.0, _HIDDEN_SCORE)[:, None, None, :]
        weights = jax.nn.softmax(scores, axis=-1).astype(self.compute_dtype)
        mixed = jnp.einsum("bhts,bhsk->bthk", weights, value)

        out_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1), out_axis=2)
        kernel_init = _partitioned(out_init, "heads", "head_dim", "embed")
        kernel = self.param("out_kernel", kernel_init, (self.num_heads, head_dim, width), jnp.float32)
        bias = self.param("out_bias", _partitioned(nn.initializers.zeros, "embed"), (width,), jnp.float32)
        out = jnp.einsum("bthk,hkd->btd", mixed, kernel.astype(self.compute_dtype)) + bias.astype(self.compute_dtype)
        return nn.Dropout(self.dropout)(out, deterministic=deterministic)


class ConvolutionModule(nn.Module):
    """Layer norm, gated widening, depthwise convolution over time, layer norm, swish, mixing. [B, T, D] -> [B, T, D].

    The depthwise convolution is a sum of shifted products: with a kernel of 5 that is cheap everywhere, and its
    gradient avoids the grouped-convolution gradient, which XLA runs very slowly on CPU.
    """

    kernel_frames: int
    dropout: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x, valid, deterministic: bool):
        width, num_frames = x.shape[-1], x.shape[1]
        y = Linear(2 * width, ("embed", "mlp"), self.compute_dtype, name="gate")(LayerNorm(name="norm")(x))
        y = y[..., :width] * nn.sigmoid(y[..., width:])
        y = y * valid[..., None].astype(y.dtype)  # what lies outside the row must look like the zeros beyond its ends
        init = _partitioned(nn.initializers.normal(self.kernel_frames**-0.5), None, "embed")
        kernel = self.param("depthwise_kernel", init, (self.kernel_frames, width), jnp.float32)
        bias = self.param("depthwise_bias", _partitioned(nn.initializers.zeros, "embed"), (width,), jnp.float32)
        before = (self.kernel_frames - 1) // 2
        padded = jnp.pad(y, ((0, 0), (before, self.kernel_frames - 1 - before), (0, 0)))
        kernel = kernel.astype(self.compute_dtype)
        y = sum(padded[:, tap : tap + num_frames] * kernel[tap] for tap in range(self.kernel_frames))
        y = nn.swish(LayerNorm(name="conv_norm")(y + bias.astype(self.compute_dtype)))
        y = Linear(width, ("mlp", "embed"), self.compute_dtype, name="mix")(y)
        return nn.Dropout(self.dropout)(y, deterministic=deterministic)


class ConformerBlock(nn.Module):
    """One conformer block (Gulati et al. 2020, section 2; the only kind of layer in w2v-BERT).

    Args of the call:
        x: [B, T, D].
        valid: bool [B, T], False where a frame is padding.
        deterministic: True turns dropout off.

    Returns:
        [B, T, D]. Frames that are not valid hold finite values without meaning.
    """

    num_heads: int
    mlp_dim: int
    conv_kernel_frames: int
    dropout: float
    compute_dtype: str

    @nn.compact
    def __call__(self, x, valid, deterministic: bool):
        feed_forward = (self.mlp_dim, self.dropout, self.compute_dtype)
        x = x + 0.5 * FeedForward(*feed_forward, name="first_feed_forward")(x, deterministic)
        x = x + SelfAttention(self.num_heads, self.dropout, self.compute_dtype, name="attention")(
            x, valid, deterministic
        )
        x = x + ConvolutionModule(self.conv_kernel_frames, self.dropout, self.compute_dtype, name="convolution")(
            x, valid, deterministic
        )
        x = x + 0.5 * FeedForward(*feed_forward, name="second_feed_forward")(x, deterministic)
        return LayerNorm(name="norm")(x)


class _ScannedBlock(nn.Module):
    """`ConformerBlock` in the carry-and-output form of a scan."""

    block: tuple
    deterministic: bool

    @nn.compact
    def __call__(self, x, valid):
        return ConformerBlock(*self.block, name="block")(x, valid, self.deterministic), None


class ConformerStack(nn.Module):
    """`num_layers` conformer blocks whose parameters are stacked along a leading `layers` axis.

    Because they are stacked, the first n layers of trained parameters are `leaf[:n]` of every leaf. With `remat` the
    backward pass keeps the input of every block only and computes the rest again; values do not change.

    Args of the call, and result: as `ConformerBlock`.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    conv_kernel_frames: int
    dropout: float
    compute_dtype: str
    scan_unroll: int = 1
    remat: bool = False

    @nn.compact
    def __call__(self, x, valid, deterministic: bool):
        if self.num_layers == 0:
            return x
        scanned = nn.scan(
            # Within a scan the compiler cannot merge the second computation with the first anyway.
            nn.remat(_ScannedBlock, prevent_cse=False) if self.remat else _ScannedBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.num_layers,
            unroll=min(self.scan_unroll, self.num_layers),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        block = (self.num_heads, self.mlp_dim, self.conv_kernel_frames, self.dropout, self.compute_dtype)
        return scanned(block, deterministic, name="layers")(x.astype(self.compute_dtype), valid)[0]
