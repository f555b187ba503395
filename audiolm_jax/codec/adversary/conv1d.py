"""The layer that discriminators of the waveform and of spectra are made of, and what every discriminator returns."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.codec.adversary.grouped_convolution import grouped_conv

LEAKY_SLOPE = 0.2

# Keeps the variance of activations through a leaky ReLU.
KERNEL_INIT = nn.initializers.variance_scaling(2.0 / (1.0 + LEAKY_SLOPE**2), "fan_in", "truncated_normal")

# Logits of one discriminator, and the outputs of its inner layers.
Judgement = tuple[jax.Array, list[jax.Array]]


def activation(x: jax.Array) -> jax.Array:
    """Leaky ReLU; the papers do not name the STFT discriminator's activation, MelGAN's wave discriminator has this."""
    return jnp.where(x > 0, x, LEAKY_SLOPE * x)


class Conv1D(nn.Module):
    """Centred convolution over time, [B, T, C_in] -> [B, ceil(T / stride), C_out], in groups of `group_channels`."""

    features: int
    kernel_size: int
    stride: int = 1
    group_channels: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(KERNEL_INIT, (None, "conv_in", "conv_out")),
            (self.kernel_size, self.group_channels or x.shape[-1], self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        return grouped_conv(x, kernel.astype(x.dtype), self.stride) + bias.astype(x.dtype)
