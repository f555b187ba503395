"""Causal layers of published codecs that can go on where they stopped, with edges as the reference pads them.

A recording is given whole, or in windows one after the other. In windows each layer keeps what it needs of the past in
the linen collection "stream", so that a window costs no context and the windows together give what the whole gives.
All arrays are [B, T, C]. A row may end before its array does: `num_steps` int32[B] says where, and what stands behind
is never heard. None means that every row fills its array.

`Cut` says where in its recording an array stands; a whole recording is Cut(), the default.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

ZERO, REFLECT, REPLICATE = "zero", "reflect", "replicate"
STREAM = "stream"


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where an array stands in its recording.

    Attributes:
        is_window: whether it is one of several windows; layers then keep their past in the collection "stream", and
            the length of the array is a multiple of the hop and longer than any layer's padding.
        is_first: bool[], may be traced; whether nothing was before it.
    """

    is_window: bool = False
    is_first: Any = True


WHOLE = Cut()


def ends(num_steps: jax.Array | None, stride: int) -> jax.Array | None:
    """Steps of every row after a layer of this stride."""
    return None if num_steps is None else -(-num_steps // stride)


def carried(module: nn.Module, x: jax.Array, edge: jax.Array, cut: Cut, name: str = "past") -> jax.Array:
    """x [B, T, C] with the `edge` [B, P, C] or, in a later window, the P steps before it in front of it."""
    steps = edge.shape[1]
    if not cut.is_window or steps == 0:
        return jnp.concatenate([edge, x], axis=1)
    past = module.variable(STREAM, name, jnp.zeros_like, edge)
    joined = jnp.concatenate([jnp.where(cut.is_first, edge, past.value), x], axis=1)
    past.value = joined[:, -steps:]
    return joined


def left_edge(x: jax.Array, steps: int, mode: str, num_steps: jax.Array | None = None) -> jax.Array:
    """What stands before the first step of x: [B, steps, C]."""
    if mode == REPLICATE:
        return jnp.repeat(x[:, :1], steps, axis=1)
    if mode == REFLECT:
        head = x[:, 1 : steps + 1]
        if num_steps is not None:
            head = jnp.where((jnp.arange(1, head.shape[1] + 1) < num_steps[:, None])[..., None], head, 0)
        # Of a row that is too short to be reflected, the reference reflects zeros behind it.
        return jnp.pad(head, ((0, 0), (0, steps - head.shape[1]), (0, 0)))[:, ::-1]
    return jnp.zeros((x.shape[0], steps, x.shape[2]), x.dtype)


def fill_last_frame(
    x: jax.Array, num_steps: jax.Array | None, stride: int, pad: int, mode: str, cut: Cut = WHOLE
) -> jax.Array:
    """x with its steps up to a multiple of the stride, padded as the reference does behind the end of every row.

    Args:
        x: [B, pad + T, C], T steps and what stands before them.
        num_steps: int32[B], at most T, or None.
        stride: of the layer.
        pad: steps that the layer pads on the left, at least `stride - 1` when reflecting. A recording of no more than
            these is filled with zeros then.
        mode: ZERO, REFLECT or REPLICATE.
        cut: where the T steps stand in their recording.
    """
    batch, length, _ = x.shape
    length -= pad
    missing = -length % stride
    if stride == 1 or (num_steps is None and missing == 0):
        return x
    if num_steps is None and mode == REPLICATE:
        return jnp.concatenate([x, jnp.repeat(x[:, -1:], missing, axis=1)], axis=1)
    if num_steps is None and mode == REFLECT and length > pad:
        return jnp.concatenate([x, x[:, -1 - missing : -1][:, ::-1]], axis=1)
    x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
    if num_steps is None:
        return x
    if mode == ZERO:
        return jnp.where((jnp.arange(x.shape[1]) - pad < num_steps[:, None])[..., None], x, 0)
    # Only the frame that holds the end matters: its `stride` steps are read and written, not the whole array.
    start = pad + jnp.clip(num_steps // stride * stride, 0, length + missing - stride)
    places = start[:, None] + jnp.arange(stride)
    last = pad + num_steps[:, None] - 1
    behind = places - last
    source = jnp.broadcast_to(last, places.shape) if mode == REPLICATE else last - behind
    filled = jnp.take_along_axis(x, jnp.clip(source, 0, x.shape[1] - 1)[..., None], axis=1)
    if mode == REFLECT:
        # In a later window the recording is longer than any padding, whatever is left of it here.
        is_long = (num_steps > pad) | ~jnp.asarray(cut.is_first)
        filled = jnp.where(is_long[:, None, None], filled, 0)
    here = jnp.take_along_axis(x, places[..., None], axis=1)
    filled = jnp.where((behind <= 0)[..., None], here, filled)
    return jax.vmap(lambda row, part, at: jax.lax.dynamic_update_slice(row, part, (at, 0)))(x, filled, start)


class Conv(nn.Module):
    """Causal convolution [B, T, C_in] -> [B, ceil(T / S), C_out]; kernel [K, C_in / groups, C_out], bias [C_out].

    With stride S the kernel is 2 S or at least S; S steps then are one of a convolution of stride 1, which XLA runs at
    the speed of a matrix product.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    pad_mode: str = ZERO

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        width = x.shape[-1]
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), (None, "conv_in", "conv_out")),
            (self.kernel_size, width, self.features),
        ).astype(x.dtype)
        pad = (self.kernel_size - 1) * self.dilation + 1 - self.stride
        x = carried(self, x, left_edge(x, pad, self.pad_mode, num_steps), cut)
        x = fill_last_frame(x, num_steps, self.stride, pad, self.pad_mode, cut)
        y = _convolved(x, kernel, self.stride, self.dilation)
        if not self.use_bias:
            return y
        bias = nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",))
        return y + self.param("bias", bias, (self.features,)).astype(x.dtype)


def _convolved(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    """The convolution without padding."""
    size, width, features = kernel.shape
    if stride > 1 and size % stride == 0 and x.shape[1] % stride == 0:
        x = x.reshape(x.shape[0], -1, stride * width)
        kernel, stride = kernel.reshape(size // stride, stride * width, features), 1
    elif width == 1 and stride == 1:
        # A waveform: shifted copies side by side and one product, faster on CPU than a convolution of one channel.
        steps = x.shape[1] - (size - 1) * dilation
        taps = [x[:, tap * dilation : tap * dilation + steps, 0] for tap in range(size)]
        return jnp.stack(taps, axis=-1) @ kernel[:, 0]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), "VALID", rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
    )


class UpConv(nn.Module):
    """Causal transposed convolution of kernel 2 S and stride S, [B, T, C_in] -> [B, T * S, C_out].

    As a convolution of kernel 2 to S * C_out channels and a reshape; see `weight_map.folded_transposed`.
    """

    features: int
    stride: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        batch, steps, width = x.shape
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), (None, "conv_in", "conv_out")),
            (2, width, self.stride * self.features),
        ).astype(x.dtype)
        x = carried(self, x, left_edge(x, 1, ZERO), cut)
        y = _convolved(x, kernel, 1, 1).reshape(batch, steps * self.stride, self.features)
        if not self.use_bias:
            return y
        bias = nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",))
        return y + self.param("bias", bias, (self.features,)).astype(x.dtype)


def start_state(network: nn.Module, params: Any, *inputs: Any) -> Any:
    """What `network(*inputs, cut)` keeps in the collection "stream", all zeros.

    With it the first window of a recording runs the same program as the others. Inputs may be shapes.
    """

    def state(params, *inputs):
        return network.apply({"params": params}, *inputs, Cut(is_window=True), mutable=[STREAM])[1][STREAM]

    shapes = jax.eval_shape(state, params, *inputs)
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
