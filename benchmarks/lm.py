#!/usr/bin/env python3
"""Tokens per second of training and generation of the three stages, untrained, on whatever device JAX finds.

    python benchmarks/lm.py [train] [generate] [--json FILE|-] [--bfloat16] [--rounds 3]

Sizes: 512 wide, 6 layers, 8 heads, feed-forward 2048, 1024 semantic and acoustic codes, 4 coarse and 8 fine levels, no
dropout. Training: batch 4, one full step with AdamW; semantic 512 tokens; coarse 75 semantic and 600 coarse; fine 200
coarse and 400 fine; prefix and target count. Generation: batch 1, sampled at temperature 1, only new tokens count;
semantic 175 after 75; coarse 600 after 75 semantic; fine 400 after 200 coarse.

One JSON object per figure: {"figure", "tokens_per_s", "seconds", "compute_dtype"}; `seconds` is the median of the
rounds, after one round that compiles. `--bfloat16` adds a line of each with bfloat16 compute.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import optax

from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.sampling import SamplingSettings, row_keys
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.stages import Stage, coarse_stage, fine_stage, semantic_stage

BATCH_SIZE = 4
# Name: stage, prefix and target tokens of a training sequence, prompt and new tokens of a generation.
WORKLOADS = {
    "semantic": (semantic_stage(crop_seconds=20.44), 0, 512, 75, 175),
    "coarse": (coarse_stage(crop_seconds=3), 75, 600, 75, 600),
    "fine": (fine_stage(crop_seconds=1), 200, 400, 200, 400),
}


def sizes(compute_dtype: str) -> TransformerConfig:
    """The Transformer that is timed."""
    return TransformerConfig(
        num_layers=6, num_heads=8, embed_dim=512, mlp_dim=2048, dropout=0.0, compute_dtype=compute_dtype
    )


def random_ids(stage: Stage, num_rows: int, prefix_tokens: int, target_tokens: int) -> np.ndarray:
    """Sequences int32[B, S] of random codes in the order of the stage."""
    rng = np.random.default_rng(0)
    parts = []
    for part, num_tokens in zip(stage.streams, (prefix_tokens, target_tokens)[-len(stage.streams) :], strict=True):
        codes = rng.integers(0, 1024, (num_rows, num_tokens // part.num_levels, part.num_levels))
        parts.append(stage.layout.encode_frames(part.stream, codes, part.first_level))
    return np.concatenate(parts, axis=1)


def training_step(name: str, compute_dtype: str) -> tuple[Callable[[], None], int]:
    """One optimizer step of a stage, and the tokens it reads."""
    stage, prefix_tokens, target_tokens, _, _ = WORKLOADS[name]
    learner = StageLearner(stage, sizes(compute_dtype), optax.adamw(1e-4))
    ids = random_ids(stage, BATCH_SIZE, prefix_tokens, target_tokens)
    weights = np.zeros(ids.shape, np.float32)
    weights[:, prefix_tokens:] = 1
    batch = {"ids": ids, "loss_weights": weights}
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    train_step = jax.jit(learner.train_step, donate_argnums=0)
    holder = [state]

    def step():
        holder[0], metrics = train_step(holder[0], batch, jax.random.key(1))
        jax.block_until_ready((holder[0], metrics))

    return step, ids.size


def generation(name: str, compute_dtype: str) -> tuple[Callable[[], None], int]:
    """One continuation of a stage, and the tokens it draws."""
    stage, _, _, prompt_tokens, new_tokens = WORKLOADS[name]
    model = StageModel(stage, sizes(compute_dtype))
    decoder = StageDecoder(model, jax.jit(model.init)(jax.random.key(0)))
    # The semantic stage has no prefix: its prompt is the beginning of its target.
    prompt = random_ids(stage, 1, prompt_tokens, prompt_tokens if stage.prefix is None else 0)[0]
    keys = row_keys(0, [0], 1)

    def generate():
        made = decoder.generate([prompt], [new_tokens], keys, SamplingSettings())
        assert made.lengths.tolist() == [new_tokens]

    return generate, new_tokens


def median_seconds(run: Callable[[], None], rounds: int) -> float:
    """Of `rounds` runs, after one that compiles."""
    run()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="train, generate, or a figure's whole name; all by default")
    parser.add_argument("--json", default="-", metavar="FILE|-", help="where the lines go")
    parser.add_argument("--bfloat16", action="store_true", help="also with bfloat16 compute")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each figure")
    args = parser.parse_args()
    names = [f"{kind}_{stage}" for kind in ("train", "generate") for stage in WORKLOADS]
    chosen = [name for name in names if not args.which or name in args.which or name.split("_")[0] in args.which]
    if not chosen:
        parser.error(f"nothing to time in {args.which}; figures are {', '.join(names)}")
    out = sys.stdout if args.json == "-" else open(args.json, "w")
    for name in chosen:
        kind, stage = name.split("_")
        for compute_dtype in ("float32", "bfloat16") if args.bfloat16 else ("float32",):
            run, num_tokens = (training_step if kind == "train" else generation)(stage, compute_dtype)
            seconds = median_seconds(run, args.rounds)
            figure = {
                "figure": name,
                "tokens_per_s": round(num_tokens / seconds, 1),
                "seconds": round(seconds, 4),
                "compute_dtype": compute_dtype,
                "tokens": num_tokens,
            }
            print(json.dumps(figure), file=out, flush=True)
            del run


if __name__ == "__main__":
    main()
