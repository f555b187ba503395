#!/usr/bin/env python3
"""Times the codec at the paper's size: 10 s of audio at 16 kHz, batch 1, 12 levels, encoding and decoding.

    python benchmarks/codec.py [--json -|FILE]

Prints one line per direction. `rtf` is seconds of audio per second; each is the median of several runs after warm-up.
A line with compute_dtype "bfloat16" follows where bfloat16 is faster on this machine.
"""

import argparse
import json
import statistics
import sys
import time

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
    arguments = parser.parse_args()
    figures = measure("float32")
    lines = list(figures.values())
    lines += [line for name, line in measure("bfloat16").items() if line["rtf"] > figures[name]["rtf"]]
    if arguments.json is None:
        for line in lines:
            print(f"{line['figure']}  {line['seconds']:.3f} s  {line['rtf']:.1f} x real time  {line['compute_dtype']}")
        return
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if arguments.json == "-":
        sys.stdout.write(text)
    else:
        with open(arguments.json, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
