"""Convolutions that see as much of the future as of the past, with a group norm behind them.

Same calls as in `stream`, for arrays [B, T, C] that are whole and full: a row has no end of its own, and there are no
windows.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.stream import REFLECT, REPLICATE, WHOLE, ZERO, Cut

_NUMPY_MODES = {ZERO: "constant", REFLECT: "reflect", REPLICATE: "edge"}
_NORM_EPSILON = 1e-5
_KERNEL_AXES = (None, "conv_in", "conv_out")


def normalized(module: nn.Module, x: jax.Array) -> jax.Array:
    """x [B, T, C] with mean 0 and variance 1 in every row, then scale and shift [C]: a group norm of one group."""
    axes = ("conv_out",)
    scale = module.param("scale", nn.with_logical_partitioning(nn.initializers.ones, axes), x.shape[-1:])
    shift = module.param("shift", nn.with_logical_partitioning(nn.initializers.zeros, axes), x.shape[-1:])
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    # From the differences and not from the squares, which would leave few digits where the mean is large.
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    factor = scale * jax.lax.rsqrt(variance + _NORM_EPSILON)
    return x * factor + (shift - mean * factor)


class CentredConv(nn.Module):
    """Convolution [B, T, C_in] -> [B, T / S, C_out]; kernel [K, C_in, C_out], bias [C_out]; T is a multiple of S.

    Of an odd number of padding steps the left edge has one more.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    pad_mode: str = ZERO
    has_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: None = None, cut: Cut = WHOLE) -> jax.Array:
        _refuse_parts(num_steps, cut)
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), _KERNEL_AXES),
            (self.kernel_size, x.shape[-1], self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        pad = (self.kernel_size - 1) * self.dilation + 1 - self.stride
        right = pad // 2
        if x.shape[1] <= pad - right and self.pad_mode == REFLECT:
            raise UserError(f"{x.shape[1]} steps are too few to be reflected by {pad - right}; use longer chunks")
        x = jnp.pad(x, ((0, 0), (pad - right, right), (0, 0)), _NUMPY_MODES[self.pad_mode])
        x = jax.lax.conv_general_dilated(
            x, kernel, (self.stride,), "VALID", rhs_dilation=(self.dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )
        x = x + bias
        return normalized(self, x) if self.has_norm else x


class CentredUpConv(nn.Module):
    """Transposed convolution of kernel 2 S and stride S, [B, T, C_in] -> [B, T * S, C_out]; kernel as in `UpConv`.

    The norm is of all (T + 1) * S steps that have something of x in them; S of them are cut off at the edges after it.
    """

    features: int
    stride: int
    has_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        _refuse_parts(None, cut)
        batch, steps, width = x.shape
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), _KERNEL_AXES),
            (2, width, self.stride * self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        x = jax.lax.conv_general_dilated(x, kernel, (1,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC"))
        x = x.reshape(batch, (steps + 1) * self.stride, self.features) + bias
        x = normalized(self, x) if self.has_norm else x
        left = self.stride - self.stride // 2
        return x[:, left : left + steps * self.stride]


def _refuse_parts(num_steps: None, cut: Cut) -> None:
    if num_steps is not None or cut.is_window:
        raise ValueError("what sees the future takes whole rows only")
