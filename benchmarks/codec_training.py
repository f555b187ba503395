"""How fast an experiment trains a codec: seconds of audio trained per second, without and with discriminators.

Run in the folder of a checkout, so that another version of the code can be timed beside this one:

    python benchmarks/codec.py --train [--beside CHECKOUT] [--experiment codec_small]

A step is timed as the loop runs it, on noise, after one that compiles. This file is executed in a process of its own
for each checkout and uses only what every version of the package has.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

TIMED_STEPS = 7
# Neither phase of a checkout may begin at this step or after it.
LATE = 10**6


def beside(checkout: Path, experiment: str, overrides: list[str]) -> list[dict]:
    """The figures of a checkout, measured by this file in a process whose folder and package are the checkout's.

    Raises:
        SystemExit: the measurement failed; what it printed has the reason.
    """
    command = [sys.executable, str(Path(__file__).resolve()), str(checkout), experiment, *overrides]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: the measurement failed")
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(experiment: str, overrides: list[str]) -> list[dict]:
    """One figure for each phase: without discriminators and with them, through the quantizer both."""
    import jax
    import numpy as np

    from audiolm_jax.parallel.mesh import MeshSizes, global_batch, make_mesh, mesh_context
    from audiolm_jax.training.experiment import load
    from audiolm_jax.training.program import make_program

    figures = []
    for name, first_step in (("without", LATE), ("with", 0)):
        changes = [f"DISCRIMINATOR_START_STEP={first_step}", "QUANTIZER_START_STEP=0", *overrides]
        built, _ = load(experiment, changes, data="nowhere")
        mesh = make_mesh(MeshSizes())
        shapes = built.feed.batch_shapes()
        program = make_program(built.learner, shapes, built.feed.eval_batch_shapes(), mesh, seed=0)
        noise = np.random.default_rng(0).normal(scale=0.1, size=shapes["samples"].shape).astype(np.float32)
        rows = {"samples": noise, "num_samples": np.full(len(noise), noise.shape[1], np.int32)}
        seconds = []
        with mesh_context(mesh):
            batch = global_batch({name: rows[name] for name in shapes}, mesh, program.batch_size)
            state = program.init(batch)
            phase = (program.phase(0),) if hasattr(program, "phase") else ()
            for _ in range(TIMED_STEPS + 1):
                began = time.perf_counter()
                state, metrics = program.train_step(state, batch, *phase)
                jax.block_until_ready((state, metrics))
                seconds.append(time.perf_counter() - began)
        compilation, step = seconds[0], statistics.median(seconds[1:])
        audio = noise.size / built.feed.sample_rate_hz
        figures.append({
            "figure": f"codec_train_{name}_discriminators",
            "seconds": round(step, 4),
            "audio_seconds_per_s": round(audio / step, 2),
            "compile_seconds": round(compilation - step, 1),
        })
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.checkout)
    for figure in measure(arguments.experiment, arguments.overrides):
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
