#!/usr/bin/env python3
"""Times the codec at the paper's size: 10 s of audio at 16 kHz, batch 1, 12 levels, encoding and decoding.

    python benchmarks/codec.py [--json -|FILE]
    python benchmarks/codec.py --train [--beside CHECKOUT] [--experiment codec_small] [--json -|FILE]

Prints one line per direction. `rtf` is seconds of audio per second; each is the median of several runs after warm-up.
A line with compute_dtype "bfloat16" follows where bfloat16 is faster on this machine.

With --train: how many seconds of audio an experiment trains on per second, without and with discriminators, and how
long the compiler takes; beside another checkout of the code, for example its first version:

    git worktree add /tmp/first 7f5eb5c && python benchmarks/codec.py --train --beside /tmp/first
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import codec_training
import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig

AUDIO_SECONDS = 10
WARM_UP_RUNS = 2
TIMED_RUNS = 7


def random_params(config: SoundStreamConfig, rng: jax.Array):
    """Untrained weights: speed does not depend on their values."""
    encoder_rng, decoder_rng, codebook_rng = jax.random.split(rng, 3)
    samples = jnp.zeros((1, config.hop_samples))
    latents = jnp.zeros((1, 1, config.embed_dim))
    return nn.unbox({
        "encoder": jax.jit(Encoder(config).init)(encoder_rng, samples)["params"],
        "decoder": jax.jit(Decoder(config).init)(decoder_rng, latents)["params"],
        "codebooks": jax.random.normal(
            codebook_rng, (config.num_quantizers, config.codebook_size, config.embed_dim)
        ),
    })


def median_seconds(run) -> float:
    """Median wall time of `run`, whose result is waited for."""
    for _ in range(WARM_UP_RUNS):
        jax.block_until_ready(run())
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(compute_dtype: str) -> dict[str, dict]:
    """The figures of one compute dtype, by name."""
    config = SoundStreamConfig(compute_dtype=compute_dtype)
    codec = SoundStream(config)
    params = random_params(config, jax.random.key(0))
    samples = 0.1 * jax.random.normal(jax.random.key(1), (1, AUDIO_SECONDS * config.sample_rate_hz))
    tokens = codec.encode(params, samples)
    figures = {}
    for name, run in (
        ("codec_encode_10s", lambda: codec.encode(params, samples)),
        ("codec_decode_10s", lambda: codec.decode(params, tokens)),
    ):
        seconds = median_seconds(run)
        figures[name] = {
            "figure": name,
            "seconds": round(seconds, 4),
            "rtf": round(AUDIO_SECONDS / seconds, 2),
            "compute_dtype": compute_dtype,
        }
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="-|FILE", help="write the figures as JSON lines to a file, or to - (stdout)")
    parser.add_argument("--train", action="store_true", help="time training steps in place of encoding and decoding")
    parser.add_argument("--beside", metavar="CHECKOUT", type=Path, help="another version of the code, for --train")
    parser.add_argument("--experiment", default="codec_small", metavar="EXP", help="for --train")
    parser.add_argument("--set", action="append", default=[], metavar="MACRO=VALUE", help="for --train; of both")
    arguments = parser.parse_args()
    if arguments.train:
        return train(arguments)
    figures = measure("float32")
    lines = list(figures.values())
    lines += [line for name, line in measure("bfloat16").items() if line["rtf"] > figures[name]["rtf"]]
    if arguments.json is None:
        for line in lines:
            print(f"{line['figure']}  {line['seconds']:.3f} s  {line['rtf']:.1f} x real time  {line['compute_dtype']}")
        return
    write_lines(lines, arguments.json)


def train(arguments):
    """Prints the figures of this checkout and of the one beside it, and the ratios."""
    here = Path(__file__).resolve().parents[1]
    lines = codec_training.beside(here, arguments.experiment, arguments.set)
    if arguments.beside:
        others = codec_training.beside(arguments.beside.resolve(), arguments.experiment, arguments.set)
        for line, other in zip(lines, others, strict=True):
            line["beside_audio_seconds_per_s"] = other["audio_seconds_per_s"]
            line["times_as_fast"] = round(line["audio_seconds_per_s"] / other["audio_seconds_per_s"], 2)
    if arguments.json is not None:
        return write_lines(lines, arguments.json)
    for line in lines:
        beside = f"  {line['times_as_fast']:.2f} times the other's" if arguments.beside else ""
        print(f"{line['figure']}  {line['seconds']:.3f} s a step  {line['audio_seconds_per_s']:.1f} s of audio per s"
              f"{beside}  compiled in {line['compile_seconds']:.0f} s")
    print(f"with discriminators a step takes {lines[1]['seconds'] / lines[0]['seconds']:.2f} times as long")


def write_lines(lines, target):
    """JSON lines to a file, or to stdout for -."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text)


if __name__ == "__main__":
    main()
