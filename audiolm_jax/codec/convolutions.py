"""Causal 1-D convolutions in the forms whose gradients XLA computes at matrix-product speed on every backend."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_AXES = (None, "conv_in", "conv_out")


def pad_past(x: jax.Array, steps: int) -> jax.Array:
    """x [B, T, C] with `steps` zero frames before it: the only padding a causal convolution needs."""
    return jnp.pad(x, ((0, 0), (steps, 0), (0, 0)))


def down_scaled(scale: float) -> Callable:
    """Fan-in initialiser, `scale` times smaller in amplitude."""
    return nn.initializers.variance_scaling(scale * scale, "fan_in", "truncated_normal")


class CausalConv(nn.Module):
    """Convolution over time that sees the present and the past, [B, T, C_in] -> [B, T, C_out]."""

    features: int
    kernel_size: int
    dilation: int = 1
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(self.kernel_init, KERNEL_AXES),
            (self.kernel_size, x.shape[-1], self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        if self.kernel_size == 1:
            return x @ kernel[0] + bias
        steps = x.shape[1]
        x = pad_past(x, (self.kernel_size - 1) * self.dilation)
        if x.shape[-1] == 1:
            # A waveform: shifted copies side by side and one product, faster on CPU than a convolution of one channel.
            taps = [x[:, tap * self.dilation : tap * self.dilation + steps, 0] for tap in range(self.kernel_size)]
            return jnp.stack(taps, axis=-1) @ kernel[:, 0] + bias
        y = jax.lax.conv_general_dilated(
            x, kernel, (1,), "VALID", rhs_dilation=(self.dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y + bias


class DepthwiseConv(nn.Module):
    """Causal convolution of every channel on its own, [B, T, C] -> [B, T, C].

    A sum of shifted copies, which XLA fuses into one pass; its gradient of a grouped convolution is far slower on CPU.
    """

    kernel_size: int
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.kernel_size**-0.5)
        kernel = self.param(
            "kernel", nn.with_logical_partitioning(init, (None, "conv_out")), (self.kernel_size, x.shape[-1])
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (x.shape[-1],))
        kernel, bias, steps = kernel.astype(x.dtype), bias.astype(x.dtype), x.shape[1]
        padded = pad_past(x, (self.kernel_size - 1) * self.dilation)
        for tap in range(self.kernel_size):
            bias += padded[:, tap * self.dilation : tap * self.dilation + steps] * kernel[tap]
        return bias


class DownConv(nn.Module):
    """Causal convolution of kernel S * `overlap` and stride S, [B, T, C_in] -> [B, T / S, C_out]; S divides T.

    With S frames folded into channels it is a convolution of kernel `overlap` and stride 1.
    """

    features: int
    stride: int
    overlap: int = 2
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, steps, channels = x.shape
        folded = x.reshape(batch, steps // self.stride, self.stride * channels)
        return CausalConv(self.features, self.overlap, kernel_init=self.kernel_init, name="folded")(folded)


class UpConv(nn.Module):
    """Causal transposed convolution of kernel S * `overlap` and stride S, [B, T, C_in] -> [B, T * S, C_out].

    Computed as a convolution of kernel `overlap` to S * C_out channels and a reshape: the same function as the
    transposed form, with a gradient that is a matrix product.
    """

    features: int
    stride: int
    overlap: int = 2
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, steps, _ = x.shape
        width = self.stride * self.features
        folded = CausalConv(width, self.overlap, kernel_init=self.kernel_init, name="folded")(x)
        return folded.reshape(batch, steps * self.stride, self.features)
