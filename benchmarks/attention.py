#!/usr/bin/env python3
"""Milliseconds of attention with a bias of the distance, forward and backward, on whatever device JAX finds.

    python benchmarks/attention.py [--batch_size 16] [--length 2304] [--heads 16] [--head_dim 64]
                                   [--compute_dtype bfloat16] [--rounds 5] [--json FILE|-]

Compared, with the same values:

    reference   the definition, scores and bias laid out in full
    fast        what training runs on this device (see audiolm_jax.lm.flash_attention): a kernel on TPU and GPU, and XLA
                with causal blocks on CPU
    xla         on TPU and GPU, what runs on CPU
    jax_fused   on GPU jax.nn.dot_product_attention with cuDNN (bfloat16), on TPU JAX's own Pallas flash attention; both
                are given the bias as an array [H, S, S] or larger

A kernel is never interpreted here: interpretation is for tests, and its time says nothing. What does not fit into the
device's memory is left out, with a line on stderr. The defaults are the paper's coarse stage on one of 16 chips.

One JSON object per figure: {"figure", "ms", "times_reference", "bytes", "device"}; `ms` is the median of the rounds
after one that compiles, `times_reference` how often it fits into the reference's time, and `bytes` what the compiled
program needs beside its arguments and results.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from audiolm_jax.lm.attention import distance_bias, reference_attention
from audiolm_jax.lm.flash_attention import chosen_implementation, compiled_platform, distance_attention

Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
RELATIVE_BUCKETS, RELATIVE_MAX_DISTANCE = 32, 128


def every_distance(bias: jax.Array, length: int) -> jax.Array:
    """float32[H, D], whose last entry is that of all further distances, to float32[H, length]."""
    further = jnp.broadcast_to(bias[:, -1:], (bias.shape[0], max(0, length - bias.shape[1])))
    return jnp.concatenate([bias[:, :length], further], axis=1)


def square(bias: jax.Array, length: int) -> jax.Array:
    """The bias of every query and key, [1, H, S, S]; that of the future is of no account."""
    distance = jnp.clip(jnp.arange(length)[:, None] - jnp.arange(length)[None, :], 0, bias.shape[1] - 1)
    return bias[None, :, distance]


def reference(q, k, v, bias):
    """The definition."""
    return reference_attention(q, k, v, every_distance(bias, q.shape[2]))


def cudnn(q, k, v, bias):
    """cuDNN's fused attention."""
    rows = [x.transpose(0, 2, 1, 3) for x in (q, k, v)]
    laid_out = square(bias, q.shape[2]).astype(q.dtype)
    mixed = jax.nn.dot_product_attention(*rows, bias=laid_out, scale=1.0, is_causal=True, implementation="cudnn")
    return mixed.transpose(0, 2, 1, 3)


def jax_tpu_flash(q, k, v, bias):
    """JAX's Pallas flash attention; it wants the bias of every row of the batch."""
    from jax.experimental.pallas.ops.tpu.flash_attention import flash_attention

    laid_out = jnp.broadcast_to(square(bias, q.shape[2]), (*q.shape[:3], q.shape[2]))
    return flash_attention(q, k, v, ab=laid_out, causal=True)


def attentions() -> dict[str, Attention]:
    """What is compared on this device."""
    found = {"reference": reference, "fast": functools.partial(distance_attention, attention="auto")}
    if chosen_implementation("auto") == "xla":
        return found
    fused = jax_tpu_flash if compiled_platform() == "tpu" else cudnn
    return {**found, "xla": functools.partial(distance_attention, attention="xla"), "jax_fused": fused}


def both_passes(attention: Attention) -> Callable:
    """(q, k, v, bias, d_out) to the output and the four gradients."""

    def run(q, k, v, bias, d_out):
        out, transposed = jax.vjp(attention, q, k, v, bias)
        return out, *transposed(d_out)

    return run


def median_ms(compiled: Callable, arguments: tuple, rounds: int) -> float:
    """Of `rounds` runs, after one that is not counted."""
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds)


def inputs(args: argparse.Namespace) -> tuple[jax.Array, ...]:
    """q, k, v, the bias of every near distance, and the gradient of the output."""
    keys = jax.random.split(jax.random.key(0), 5)
    shape = (args.batch_size, args.heads, args.length, args.head_dim)
    q, k, v, d_out = (jax.random.normal(key, shape, jnp.dtype(args.compute_dtype)) for key in keys[:4])
    table = jax.random.normal(keys[4], (RELATIVE_BUCKETS, args.heads))
    distances = min(args.length, RELATIVE_MAX_DISTANCE + 1)
    bias = distance_bias(table, distances, RELATIVE_BUCKETS, RELATIVE_MAX_DISTANCE)
    return q * args.head_dim**-0.5, k, v, bias, d_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16, help="rows on this device")
    parser.add_argument("--length", type=int, default=2304, help="tokens of a row")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--head_dim", type=int, default=64)
    parser.add_argument("--compute_dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each figure")
    parser.add_argument("--json", default="-", metavar="FILE|-", help="where the lines go")
    args = parser.parse_args()
    arguments = inputs(args)
    out = sys.stdout if args.json == "-" else open(args.json, "w")
    for direction in ("forward", "forward_backward"):
        reference_ms = None
        for name, attention in attentions().items():
            run, given = (attention, arguments[:4]) if direction == "forward" else (both_passes(attention), arguments)
            try:
                compiled = jax.jit(run).lower(*given).compile()
                ms = median_ms(compiled, given, args.rounds)
            except jax.errors.JaxRuntimeError as error:
                print(f"{direction}_{name} left out: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            reference_ms = ms if name == "reference" else reference_ms
            memory = compiled.memory_analysis()
            figure = {
                "figure": f"{direction}_{name}",
                "ms": round(ms, 3),
                "times_reference": round(reference_ms / ms, 2) if reference_ms else None,
                "bytes": memory.temp_size_in_bytes if memory else None,
                "device": jax.devices()[0].device_kind,
            }
            print(json.dumps(figure), file=out, flush=True)


if __name__ == "__main__":
    main()
