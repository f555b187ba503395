"""What one device computes and what eight do, for every learner: a script for a process of eight simulated devices.

    python -m tests.multi_device.eight_devices [LEARNER ...]
"""

import contextlib
import dataclasses
import json
import sys
import tempfile

import jax
import numpy as np

from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.sampling import SamplingSettings, row_keys
from audiolm_jax.parallel.mesh import MeshSizes, global_batch, make_mesh, mesh_context
from audiolm_jax.training import loop
from audiolm_jax.training.program import make_program
from tests.multi_device.tiny_learners import LEARNERS, ROWS
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner

DATA, FSDP, TENSOR, MIXED = MeshSizes(8, 1, 1), MeshSizes(1, 8, 1), MeshSizes(1, 1, 8), MeshSizes(2, 2, 2)
MESHES = {
    "stage": {"data": DATA, "fsdp": FSDP, "tensor": TENSOR, "mixed": MIXED},
    "unrolled": {"mixed": MIXED},
    "codec": {"mixed": MIXED},
    "w2v_bert": {"mixed": MIXED},
    "clusters": {"mixed": MIXED},
    "kmeans": {"mixed": MIXED},
    "classifier": {"mixed": MIXED},
}
STEPS = 4


def program_of(learner, batch, mesh):
    shapes = {name: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for name, rows in batch.items()}
    return make_program(learner, shapes, shapes, mesh, seed=0)


def run(learner, batch, sizes, devices, first_state=None):
    """The state at step 0 (made there, if not given), metrics of a few steps, the last state, and the share of the
    parameters' bytes that one device holds."""
    mesh = make_mesh(sizes, devices)
    program = program_of(learner, batch, mesh)
    metrics = []
    with mesh_context(mesh):
        placed = global_batch(batch, mesh, ROWS)
        if first_state is None:
            state = program.init(placed)
            first_state = jax.device_get(state)
        else:
            state = jax.device_put(first_state, jax.tree.map(lambda leaf: leaf.sharding, program.state))
        leaves = jax.tree.leaves(state.params)
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
        for step in range(STEPS):
            if count := program.start_batches(step):
                state = program.start(state, [placed] * count)
            with jax.transfer_guard("disallow"):
                state, step_metrics = program.train_step(state, placed, program.phase(step))
            metrics.append({name: metric.value for name, metric in step_metrics.items() if metric.weight > 0})
    return first_state, metrics, jax.device_get(state), held


def deviation(tree, reference):
    """Largest difference of any array of a tree, relative to the largest value of that array."""
    differences = jax.tree.map(
        lambda one, other: float(np.max(np.abs(one - other)) / max(np.max(np.abs(other)), 1e-3)),
        jax.tree.map(np.float64, tree),
        jax.tree.map(np.float64, reference),
    )
    return max(jax.tree.leaves(differences), default=0.0)


def compare(name):
    """Results of one learner on one device and on its meshes of eight, from the state that the first mesh makes."""
    learner, batch = LEARNERS[name]()
    states, results, start = {}, {}, None
    for mesh, sizes in MESHES[name].items():
        made, metrics, states[mesh], held = run(learner, batch, sizes, jax.devices())
        results[mesh] = {"metrics": metrics, "held": held}
        start = made if start is None else start
    _, metrics, reference, _ = run(learner, batch, MeshSizes(1, 1, 1), jax.devices()[:1], start)
    for mesh, state in states.items():
        results[mesh]["params"] = deviation(state.params, reference.params)
        results[mesh]["collections"] = deviation(state.collections, reference.collections)
    return {"one": {"metrics": metrics}, **results}


def sampled_ids():
    """Ids drawn on one device, and with heads and continuations over the meshes of eight."""
    learner, batch = LEARNERS["stage"]()
    model = learner.model
    params = jax.tree.map(lambda value: value * 2, jax.jit(model.init)(jax.random.key(0)))
    prompts = [row[: 8 + 2 * number] for number, row in enumerate(batch["ids"][:4])]
    keys = row_keys(0, np.arange(4), 1)

    def drawn(params):
        decoder = StageDecoder(model, params)
        return decoder.generate(prompts, np.full(4, 12), keys, SamplingSettings(1.0)).ids.tolist()

    results = {"one": drawn(params)}
    for name, sizes in {"tensor": TENSOR, "mixed": MIXED}.items():
        mesh = make_mesh(sizes)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, program_of(learner, batch, mesh).state.params)
        with mesh_context(mesh):
            results[name] = drawn(jax.device_put(params, shardings))
    return results


def guarded_run():
    """Trains a small learner whose steps may move nothing between host and devices; the number of its last step."""

    def guarded_program(*arguments):
        program = make_program(*arguments)

        def train_step(state, batch, phase):
            with jax.transfer_guard("disallow"):
                return program.train_step(state, batch, phase)

        return dataclasses.replace(program, train_step=train_step)

    loop.make_program = guarded_program
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stdout(sys.stderr):
        state = loop.train(TinyLearner(), TinyFeed(), workdir, dataclasses.replace(OPTIONS, steps=3), MIXED)
    return int(state.step)


def main(names) -> None:
    results = {name: compare(name) for name in names or LEARNERS}
    if not names:
        results |= {"sampled": sampled_ids(), "guarded": guarded_run()}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
