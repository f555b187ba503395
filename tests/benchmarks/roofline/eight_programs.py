"""Small programs with known communication, compiled for eight simulated devices: run in a process of its own."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from audiolm_jax.check import collectives as in_text
from audiolm_jax.check.flops import count_flops
from benchmarks.roofline.collectives import collectives
from benchmarks.roofline.hlo import parse_program
from benchmarks.roofline.work import program_work

LAYERS, WIDTH = 5, 64


def figures(function, *args):
    text = jax.jit(function).lower(*args).compile().as_text()
    program = parse_program(text)
    found = [
        {
            "kind": each.kind,
            "bytes": each.bytes,
            "size": each.group_size,
            "groups": each.groups.tolist(),
            "times": each.times,
            "sent": each.sent_bytes([place // 4 for place in range(8)]),
        }
        for each in collectives(program, 8)
    ]
    return {
        "collectives": found,
        "in_text": {kind: dataclasses.asdict(each) for kind, each in in_text.collectives(text).items()},
        "flops": sum(each.times * each.flops for each in program_work(program, {})),
        "traced_flops": count_flops(jax.make_jaxpr(function)(*args)).hardware,
    }


def main() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def placed(spec, *sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=NamedSharding(mesh, spec))

    def per_device(function, in_specs, out_specs):
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def looped(weights, x):
        return lax.scan(lambda x, weight: (jnp.tanh(per_layer(x, weight)), None), x, weights)[0]

    # A row of the kernel on each device: one all-reduce of the output in every layer.
    per_layer = per_device(
        lambda x, weight: lax.psum(x @ weight, "tensor"), (P("data", "tensor"), P("tensor", None)), P("data", None)
    )
    row = placed(P("data"), 16, 128)
    results = {
        "mean": figures(lambda x: x.sum(0), placed(P("data"), 16, 1024)),
        "loop": figures(looped, placed(P(None, "tensor"), LAYERS, WIDTH, WIDTH), placed(P("data"), 16, WIDTH)),
        "gather": figures(per_device(lambda x: lax.all_gather(x, "data"), P("data"), P()), row),
        "scatter": figures(
            per_device(lambda x: lax.psum_scatter(x, "data", tiled=True), P(None, "tensor"), P("data", "tensor")),
            placed(P(None, "tensor"), 16, 128),
        ),
        "shift": figures(
            per_device(lambda x: lax.ppermute(x, "data", [(0, 1), (1, 0)]), P("data"), P("data")), row
        ),
        "swap": figures(
            per_device(lambda x: lax.all_to_all(x, "tensor", 1, 0, tiled=True), P("tensor"), P(None, "tensor")),
            placed(P("tensor"), 16, 128),
        ),
        "alone": figures(jnp.matmul, *[jax.ShapeDtypeStruct((8, 8), jnp.float32)] * 2),
    }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
