#!/usr/bin/env python3
"""Times the published models beside PyTorch's implementation, in one run: encode, decode and features of 10 s of audio.

    pip install torch transformers
    python benchmarks/pretrained.py [--only encodec] [--rounds 5] [--write docs/tokenizers.md]

Random weights of the published sizes, batch 1, float32, all cores for either; front ends included. Rounds alternate
between the two, and each figure is the median. One JSON object for each model and direction: {"model", "what",
"seconds", "reference_seconds", "times_faster", "gflop", "gflop_per_s"}; `gflop` counts the products of our program.
First comes a plain product of matrices, which tells how much arithmetic the machine can do in a second. `--write` puts
a table between the two markers of a Markdown file.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from markdown_table import check_markers, write_table  # noqa: E402

from audiolm_jax.check.flops import count_flops  # noqa: E402
from audiolm_jax.pretrained.kind import CODEC  # noqa: E402
from tests.pretrained import parity  # noqa: E402

AUDIO_SECONDS = 10
MATRIX = 3072
NAME = Path(__file__).name
MODELS = (
    ("hubert", "facebook/hubert-base-ls960"),
    ("hubert", "facebook/hubert-large-ll60k"),
    ("wav2vec2-bert", "facebook/w2v-bert-2.0"),
    ("encodec", "facebook/encodec_24khz"),
    ("dac", "descript/dac_16khz"),
    ("mimi", "kyutai/mimi"),
)


def pairs_of(kind, ours, params, reference, model, extractor) -> dict:
    """What is timed, by name: (our function, its arguments, the reference's function)."""
    wave = parity.speechlike(AUDIO_SECONDS, ours.sample_rate_hz, 5)
    if kind.part != CODEC:
        features = functools.partial(ours.features, layer=ours.num_layers)
        return {"features": (features, (params, wave[None]), lambda: reference.features(model, extractor, wave))}
    tokens = np.asarray(reference.encode(model, extractor, wave), np.int32)
    return {
        "encode": (ours.encode, (params, wave[None]), lambda: reference.encode(model, extractor, wave)),
        "decode": (ours.decode, (params, tokens[None]), lambda: reference.decode(model, tokens)),
    }


def matrix_product() -> tuple:
    """A plain product, as one of `pairs_of`."""
    matrix = np.random.default_rng(0).normal(size=(MATRIX, MATRIX)).astype(np.float32)
    theirs = torch.from_numpy(matrix)
    return jax.jit(jnp.matmul), (jax.device_put(matrix),) * 2, lambda: theirs @ theirs


def measured(model: str, what: str, function, arguments, theirs, rounds: int) -> dict:
    """One line of figures."""
    both = (lambda: jax.block_until_ready(function(*arguments))), theirs
    for each in both:  # compiles ours, warms theirs
        each()
    times = [[seconds(each) for each in both] for _ in range(rounds)]
    mine, reference = (statistics.median(each) for each in zip(*times, strict=True))
    gflop = count_flops(jax.make_jaxpr(function)(*arguments)).other / 1e9
    return {
        "model": model,
        "what": what,
        "seconds": round(mine, 3),
        "reference_seconds": round(reference, 3),
        "times_faster": round(reference / mine, 2),
        "gflop": round(gflop, 1),
        "gflop_per_s": round(gflop / mine),
    }


def table(lines: list[dict]) -> str:
    """The figures in Markdown."""
    head = ("model", "", "seconds", "PyTorch's", "times as fast", "GFLOP", "GFLOP/s")
    rows = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * 5]
    rows += ["| " + " | ".join(map(str, line.values())) + " |" for line in lines]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch", "transformers"))
    return "\n".join(rows) + f"\n\n{os.cpu_count()} CPU cores; {versions}.\n"


def seconds(function) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="models with it in their name")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of ours and the reference's (default 5)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the two markers")
    args = parser.parse_args()
    if args.write:
        check_markers(args.write, NAME)
    lines = [measured(f"product of {MATRIX} x {MATRIX}", "", *matrix_product(), args.rounds)]
    print(json.dumps(lines[-1]), flush=True)
    for name, size in MODELS:
        if args.only not in f"{name} {size}":
            continue
        kind, reference = parity.kind_and_reference(name)
        model, extractor = reference.published()[size]()
        with tempfile.TemporaryDirectory() as folder:
            parity.save_reference(model, extractor, Path(folder))
            ours, params, _ = parity.load(kind, Path(folder))
        params = jax.device_put(params)
        for what, pair in pairs_of(kind, ours, params, reference, model, extractor).items():
            lines.append(measured(size, what, *pair, args.rounds))
            print(json.dumps(lines[-1]), flush=True)
    if args.write:
        write_table(args.write, NAME, table(lines))


if __name__ == "__main__":
    main()
