"""Shape and place of every array of every experiment's state, on two meshes of sixteen devices that need not exist.

They are kept in tests/golden/shardings, one file for each experiment in gin/exp, and for those that are meant to be run
with a setting, so that a change of a shape, a name or a rule shows what it does to all of them. After a change that is
meant:

    python -m tests.parallel.golden_shardings
"""

import json
import math
from pathlib import Path

import jax
from jax.sharding import AbstractMesh, AxisType

from audiolm_jax.parallel.mesh import MESH_AXES
from audiolm_jax.training.program import make_program
from tests.gin.gin_files_test import EXPERIMENTS, load

# Experiments, with the settings that docs/training.md names for other chips and depths.
STAGES = ("semantic", "coarse", "fine")
NAMES = sorted(
    [*EXPERIMENTS, *(f"{stage}_librilight_paper {setting}" for stage in STAGES
                     for setting in ("NUM_LAYERS=24", "REMAT=none"))]
)  # fmt: skip
FOLDER = Path(__file__).parents[1] / "golden" / "shardings"
DEVICES = 16
MESHES = {"fsdp=16": (1, 16, 1), "data=2 fsdp=4 tensor=2": (2, 4, 2)}


def program_of(name, shape):
    """The program of an experiment; where its batch is not for sixteen devices, with a batch of sixteen."""
    name, *settings = name.split()
    experiment = load(name, *settings)[0]
    if experiment.feed.batch_shapes()[next(iter(experiment.feed.batch_shapes()))].shape[0] % DEVICES:
        experiment = load(name, *settings, f"BATCH_SIZE={DEVICES}")[0]
    mesh = AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(shape))
    feed = experiment.feed
    return make_program(experiment.learner, feed.batch_shapes(), feed.eval_batch_shapes(), mesh, seed=0)


def split(leaf):
    """What each axis is split over: "-" for nothing, "tensor+fsdp" for both."""
    spec = tuple(leaf.sharding.spec) + (None,) * (leaf.ndim - len(leaf.sharding.spec))
    return ",".join("+".join(jax.tree.leaves(axes)) or "-" for axes in spec) or "-"


def describe(name):
    """What is kept of an experiment: a line for every leaf, its type and shape and the splits on the meshes in turn."""
    leaves, held = {}, {}
    for mesh, shape in MESHES.items():
        state = jax.tree_util.tree_flatten_with_path(program_of(name, shape).state)[0]
        for path, leaf in state:
            path = jax.tree_util.keystr(path, simple=True, separator="/")
            leaves.setdefault(path, [f"{leaf.dtype}{list(leaf.shape)}"]).append(split(leaf))
        held[mesh] = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for _, leaf in state)
    total = sum(leaf.size * leaf.dtype.itemsize for _, leaf in state)
    lines = {path: " | ".join(parts) for path, parts in leaves.items()}
    return {"bytes": total, "bytes_on_a_device": held, "leaves": lines}


def describe_all():
    """Experiment to description; one that equals an earlier one only says so."""
    described, first = {}, {}
    for name in NAMES:
        text = json.dumps(full := describe(name))
        described[name] = {"same_as": first[text]} if text in first else full
        first.setdefault(text, name)
    return described


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, description in describe_all().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    main()
