"""The attention of training: which implementation runs, and how it is placed on the mesh.

All compute the same function of q, k, v and the bias of the distance (see `lm.attention`):

    xla         `attention.causal_attention`: plain XLA; fastest on CPU; on accelerators its programs are long and its
                temporaries an eighth of a layer's scores
    pallas_tpu  kernels of `flash_tpu`: memory linear in S
    pallas_gpu  kernels of `flash_gpu`: likewise

A kernel is opaque to the partitioner, so that it is run per device under `jax.shard_map`: rows of the batch and heads
are split as the table of logical axes says, and no device needs anything of another but the sum of the gradient of
the bias.

The kernels' results are named (`SAVED_NAMES`): a policy of `jax.checkpoint` that keeps these names does not run
attention a second time in the backward pass.
"""

import functools
import math
from collections.abc import Callable
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from audiolm_jax.lm.attention import causal_attention

SAVED_NAMES = ("attention_mixed", "attention_log_sum")
PLATFORMS = {"pallas_tpu": ("tpu",), "pallas_gpu": ("gpu", "cuda", "rocm")}


def compiled_platform() -> str:
    """The platform that the code being traced is compiled for.

    The mesh in context knows it, also when it is that of a topology that is not at hand; without a mesh it is JAX's
    default.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def chosen_implementation(attention: str) -> str:
    """`TransformerConfig.attention` with "auto" resolved for the platform that is compiled for."""
    if attention != "auto":
        return attention
    platform = compiled_platform()
    return next((name for name, platforms in PLATFORMS.items() if platform in platforms), "xla")


def distance_attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, attention: str) -> jax.Array:
    """softmax(q k^T + bias) v over the past and the present.

    Args:
        q, k, v: [B, H, S, K] in the compute dtype; q is already scaled.
        bias: float32[H, D], the bias of every distance; its last entry also that of all further distances.
        attention: one of `config.ATTENTIONS`. A kernel of another platform than the one compiled for is interpreted:
            exact, and very slow.

    Returns:
        [B, H, S, K] in the compute dtype; the softmax is float32.
    """
    chosen = chosen_implementation(attention)
    batch, heads, length, _ = q.shape
    if chosen == "xla":
        further = jnp.broadcast_to(bias[:, -1:], (heads, max(0, length - bias.shape[1])))
        return causal_attention(q, k, v, jnp.concatenate([bias[:, :length], further], axis=1))
    interpret = compiled_platform() not in PLATFORMS[chosen]
    flat = (x.transpose(0, 2, 1, 3).reshape(batch, length, -1) for x in (q, k, v))
    mixed = _kernel_attention(*flat, bias, chosen, interpret)
    return mixed.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _kernel_attention(q, k, v, bias, chosen: str, interpret: bool):
    """`distance_attention` of q, k, v [B, S, H * K] with the kernels `chosen`."""
    return _forward(q, k, v, bias, chosen, interpret)[0]


def _kernels(chosen: str) -> ModuleType:
    # Imported where they run: Pallas takes long to import, and not every build of JAX has both halves of it.
    if chosen == "pallas_tpu":
        from audiolm_jax.lm import flash_tpu

        return flash_tpu
    from audiolm_jax.lm import flash_gpu

    return flash_gpu


def _forward(q, k, v, bias, chosen, interpret):
    rows, heads = _mesh_axes(q.shape[0], bias.shape[0])
    flat, per_head = PartitionSpec(rows, None, heads), PartitionSpec(rows, heads, None)
    run = functools.partial(_kernels(chosen).forward, interpret=interpret)
    run = _per_device(run, (flat, flat, flat, PartitionSpec(heads, None)), (flat, per_head))
    out, log_sum = run(q, k, v, bias)
    return tuple(checkpoint_name(x, name) for x, name in zip((out, log_sum), SAVED_NAMES, strict=True))


def _kernel_attention_fwd(q, k, v, bias, chosen, interpret):
    out, log_sum = _forward(q, k, v, bias, chosen, interpret)
    return out, (q, k, v, bias, out, log_sum)


def _kernel_attention_bwd(chosen, interpret, residuals, d_out):
    q, _, _, bias, _, _ = residuals
    rows, heads = _mesh_axes(q.shape[0], bias.shape[0])
    flat, per_head, per_bias = PartitionSpec(rows, None, heads), PartitionSpec(rows, heads, None), PartitionSpec(heads)

    def run(*arguments):
        *d_qkv, d_bias = _kernels(chosen).backward(*arguments, interpret=interpret)
        return *d_qkv, jax.lax.psum(d_bias, rows) if rows else d_bias

    run = _per_device(run, (flat, flat, flat, per_bias, flat, per_head, flat), (flat, flat, flat, per_bias))
    return run(*residuals, d_out)


_kernel_attention.defvjp(_kernel_attention_fwd, _kernel_attention_bwd)


def _divided_mesh() -> AbstractMesh | None:
    """The mesh in context, if there is anything to divide among its devices that is not divided already."""
    mesh = jax.sharding.get_abstract_mesh()
    manual = any(kind == AxisType.Manual for kind in mesh.axis_types)
    return None if mesh.empty or mesh.size == 1 or manual else mesh


def _per_device(run: Callable, in_specs: tuple, out_specs: tuple) -> Callable:
    """`run` on every device's part of its arguments; `run` itself where there is nothing to divide."""
    mesh = _divided_mesh()
    if mesh is None:
        return run
    return jax.shard_map(run, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _mesh_axes(rows: int, heads: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Mesh axes that split the rows of the batch and the heads; none where they do not divide.

    The kernel then runs on every device of such an axis with the same arguments.
    """
    mesh = _divided_mesh()
    if mesh is None or not nn.get_logical_axis_rules():
        return (), ()
    found = []
    for size, entry in zip((rows, heads), nn.logical_to_mesh_axes(("act_batch", "act_heads")), strict=True):
        axes = (entry,) if isinstance(entry, str) else tuple(entry or ())
        devices = math.prod(mesh.shape[axis] for axis in axes)
        found.append(axes if size % devices == 0 else ())
    return tuple(found)
