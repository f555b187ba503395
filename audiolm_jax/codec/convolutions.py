"""Causal 1-D convolutions in the forms whose gradients XLA computes at matrix-product speed on every backend."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_AXES = (None, "conv_in", "conv_out")


def pad_past(x: jax.Array, steps: int) -> jax.Array:
    """x [B, T, C] with `steps` zero frames before it: the only padding a causal convolution needs."""
    return jnp.pad(x, ((0, 0), (steps, 0), (0, 0)))


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


class DownConv(nn.Module):
    """Causal convolution of kernel 2S and stride S, [B, T, C_in] -> [B, T / S, C_out]; T is a multiple of S.

    With S frames folded into channels it is a convolution of kernel 2 and stride 1.
    """

    features: int
    stride: int
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, steps, channels = x.shape
        folded = x.reshape(batch, steps // self.stride, self.stride * channels)
        return CausalConv(self.features, kernel_size=2, kernel_init=self.kernel_init, name="folded")(folded)


class UpConv(nn.Module):
    """Causal transposed convolution of kernel 2S and stride S, [B, T, C_in] -> [B, T * S, C_out].

    Computed as a convolution of kernel 2 to S * C_out channels and a reshape: the same function as the transposed
    form, with a gradient that is a matrix product.
    """

    features: int
    stride: int
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, steps, _ = x.shape
        folded = CausalConv(self.stride * self.features, kernel_size=2, kernel_init=self.kernel_init, name="folded")(x)
        return folded.reshape(batch, steps * self.stride, self.features)
