"""Attention kernels on meshes of eight simulated devices and on one; prints the greatest differences."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from audiolm_jax.lm.flash_attention import distance_attention
from audiolm_jax.parallel.mesh import MeshSizes, make_mesh, mesh_context

# Of the last, neither rows nor heads divide.
MESHES = {
    "mixed": (MeshSizes(2, 2, 2), 4, 4),
    "tensor": (MeshSizes(1, 1, 8), 2, 8),
    "whole": (MeshSizes(2, 2, 2), 3, 3),
}


def results(attention, arguments, d_out):
    """Output and gradients."""

    # An interpreted kernel is a long program of little work.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(*arguments):
        out, transposed = jax.vjp(lambda *x: distance_attention(*x, attention), *arguments)
        return out, *transposed(d_out)

    return run(*arguments)


def difference(attention, sizes, rows, heads):
    """Greatest difference of any result on the mesh to plain attention on one device, and the devices of the output."""
    key = jax.random.key(0)
    shape = (rows, heads, 24, 8)
    *arguments, d_out = (jax.random.normal(jax.random.fold_in(key, i), shape) for i in range(4))
    arguments.append(jax.random.normal(key, (heads, 7)))
    wanted = results("xla", arguments, d_out)
    mesh = make_mesh(sizes)
    whole = NamedSharding(mesh, PartitionSpec())
    with mesh_context(mesh):
        got = results(attention, jax.device_put(arguments, whole), jax.device_put(d_out, whole))
    part = got[0].addressable_shards[0].data.size / got[0].size
    return max(float(jnp.abs(jnp.asarray(jax.device_get(a)) - b).max()) for a, b in zip(got, wanted, strict=True)), part


def main() -> None:
    cases = {f"{attention}/{name}": (attention, *case) for attention in ("pallas_tpu", "pallas_gpu")
             for name, case in MESHES.items()}
    json.dump({name: difference(*case) for name, case in cases.items()}, sys.stdout)


if __name__ == "__main__":
    main()
