"""Strided grouped 1-D convolution whose gradient is two batched matrix products.

XLA on CPU runs the forward pass of a grouped convolution at a fair speed, but the two convolutions of its gradient tens
of times slower than the arithmetic would take. The forward pass is left to XLA, and the gradient is written out over
patches: the patches of all groups are one batched matrix, so the gradient of the kernel is patches^T @ dy, and that of
the input is dy @ kernel^T with overlapping patches added up.
"""

import functools

import jax
import jax.numpy as jnp

from audiolm_jax.parallel.rows import by_rows


def _extent(steps: int, kernel_size: int, stride: int) -> tuple[int, int, int, int]:
    """Frames out, hops that a patch spans, and zero frames before and after the input, for ceil(steps / stride) out."""
    steps_out = -(-steps // stride)
    hops = -(-kernel_size // stride)
    before = (kernel_size - 1) // 2
    after = (steps_out + hops - 1) * stride - steps - before
    return steps_out, hops, before, after


def _fold_groups(x: jax.Array, groups: int) -> jax.Array:
    """x [B, T, G * I] as [G, B, T, I]."""
    batch, steps, channels = x.shape
    return x.reshape(batch, steps, groups, channels // groups).transpose(2, 0, 1, 3)


def _unfold_groups(x: jax.Array) -> jax.Array:
    """x [G, B, T, I] as [B, T, G * I]."""
    groups, batch, steps, width = x.shape
    return x.transpose(1, 2, 0, 3).reshape(batch, steps, groups * width)


def _patches(x: jax.Array, kernel_size: int, stride: int, groups: int) -> jax.Array:
    """Patches [G, B * T_out, hops * stride * I] of x [B, T, G * I]: `hops` shifted copies of x folded by the stride."""
    steps_out, hops, before, after = _extent(x.shape[1], kernel_size, stride)
    folded = _fold_groups(x, groups)
    folded = jnp.pad(folded, ((0, 0), (0, 0), (before, max(after, 0)), (0, 0)))
    folded = folded[:, :, : (steps_out + hops - 1) * stride].reshape(groups, x.shape[0], steps_out + hops - 1, -1)
    shifted = [folded[:, :, hop : hop + steps_out] for hop in range(hops)]
    return jnp.concatenate(shifted, axis=-1).reshape(groups, x.shape[0] * steps_out, -1)


def _add_patches(patches: jax.Array, shape: tuple[int, int, int], kernel_size: int, stride: int, groups: int):
    """Transpose of `_patches`: overlapping patches added up into [B, T, G * I] of the given shape."""
    batch, steps, channels = shape
    steps_out, hops, before, after = _extent(steps, kernel_size, stride)
    split = patches.reshape(groups, batch, steps_out, hops, stride * (channels // groups))
    shifted = [
        jnp.pad(split[:, :, :, hop], ((0, 0), (0, 0), (hop, hops - 1 - hop), (0, 0))) for hop in range(hops)
    ]
    folded = functools.reduce(jnp.add, shifted).reshape(groups, batch, -1, channels // groups)
    folded = jnp.pad(folded, ((0, 0), (0, 0), (0, max(-after, 0)), (0, 0)))
    return _unfold_groups(folded[:, :, before : before + steps])


def _kernel_matrices(kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """kernel [K, I, G * O] as matrices [G, hops * stride * I, O], zeros after the kernel's end."""
    kernel_size, width_in, channels_out = kernel.shape
    kernel = jnp.pad(kernel, ((0, -kernel_size % stride), (0, 0), (0, 0)))
    kernel = kernel.reshape(-1, width_in, groups, channels_out // groups).transpose(2, 0, 1, 3)
    return kernel.reshape(groups, -1, channels_out // groups)


def _kernel_from_matrices(matrices: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Inverse of `_kernel_matrices` for a kernel of the given shape."""
    kernel_size, width_in, channels_out = shape
    groups, _, width_out = matrices.shape
    kernel = matrices.reshape(groups, -1, width_in, width_out).transpose(1, 2, 0, 3)
    return kernel.reshape(-1, width_in, channels_out)[:kernel_size]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Strided convolution in groups, centred, zero padded.

    Args:
        x: [B, T, C_in].
        kernel: [K, C_in / groups, C_out], which implies the number of groups; K is odd.
        stride: frames between outputs.

    Returns:
        [B, ceil(T / stride), C_out]; output frame t is centred on input frame t * stride.
    """
    steps_out, _, before, _ = _extent(x.shape[1], kernel.shape[0], stride)
    after = (steps_out - 1) * stride + kernel.shape[0] - x.shape[1] - before
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride,),
        padding=[(before, after)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1] // kernel.shape[1],
    )
    return by_rows(convolve, x, kernel)


def _forward(x, kernel, stride):
    return grouped_conv(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    kernel_size, width_in, _ = kernel.shape
    groups = x.shape[-1] // width_in
    dy = _fold_groups(gradient, groups)
    dy = dy.reshape(groups, -1, dy.shape[-1])  # [G, B * T_out, O]
    patches = _patches(x, kernel_size, stride, groups)
    kernel_gradient = jnp.einsum("gmk,gmo->gko", patches, dy)
    patch_gradient = jnp.einsum("gmo,gko->gmk", dy, _kernel_matrices(kernel, stride, groups))
    return (
        _add_patches(patch_gradient, x.shape, kernel_size, stride, groups),
        _kernel_from_matrices(kernel_gradient, kernel.shape),
    )


grouped_conv.defvjp(_forward, _backward)
