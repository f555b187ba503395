#!/usr/bin/env python3
"""Times the published models beside PyTorch's implementation, in one run: encode, decode and features of 10 s of audio.

    pip install torch transformers
    python benchmarks/pretrained.py [--only encodec] [--rounds 5] [--json FILE]

Random weights of the published sizes, batch 1, float32, all cores for either; front ends included. Rounds alternate
between the two, and each figure is the median. One JSON object for each model and direction: {"model", "what",
"seconds", "reference_seconds", "times_faster"}.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from audiolm_jax.pretrained.kind import CODEC  # noqa: E402
from tests.pretrained import parity  # noqa: E402

AUDIO_SECONDS = 10
MODELS = (
    ("hubert", "facebook/hubert-base-ls960"),
    ("hubert", "facebook/hubert-large-ll60k"),
    ("wav2vec2-bert", "facebook/w2v-bert-2.0"),
    ("encodec", "facebook/encodec_24khz"),
    ("dac", "descript/dac_16khz"),
    ("mimi", "kyutai/mimi"),
)


def pairs_of(kind, ours, params, reference, model, extractor) -> dict:
    """What is timed, by name: (ours, the reference's)."""
    wave = parity.speechlike(AUDIO_SECONDS, ours.sample_rate_hz, 5)
    if kind.part != CODEC:
        layer = ours.num_layers
        return {
            "features": (lambda: np.asarray(ours.features(params, wave[None], None, layer)),
                         lambda: reference.features(model, extractor, wave)),
        }  # fmt: skip
    tokens = np.asarray(reference.encode(model, extractor, wave), np.int32)
    return {
        "encode": (lambda: np.asarray(ours.encode(params, wave[None])),
                   lambda: reference.encode(model, extractor, wave)),
        "decode": (lambda: np.asarray(ours.decode(params, tokens[None])), lambda: reference.decode(model, tokens)),
    }  # fmt: skip


def seconds(function) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="models with it in their name")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of ours and the reference's (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the lines to a file")
    args = parser.parse_args()
    lines = []
    for name, size in MODELS:
        if args.only not in f"{name} {size}":
            continue
        kind, reference = parity.kind_and_reference(name)
        model, extractor = reference.published()[size]()
        with tempfile.TemporaryDirectory() as folder:
            parity.save_reference(model, extractor, Path(folder))
            ours, params, _ = parity.load(kind, Path(folder))
        params = jax.device_put(params)
        for what, both in pairs_of(kind, ours, params, reference, model, extractor).items():
            for function in both:  # compiles ours, warms theirs
                function()
            times = [[seconds(function) for function in both] for _ in range(args.rounds)]
            mine, theirs = (statistics.median(each) for each in zip(*times, strict=True))
            line = {"model": size, "what": what, "seconds": round(mine, 3), "reference_seconds": round(theirs, 3),
                    "times_faster": round(theirs / mine, 2)}  # fmt: skip
            lines.append(json.dumps(line))
            print(lines[-1], flush=True)
    if args.json:
        args.json.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
