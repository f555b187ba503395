"""Eight simulated devices compute what one computes: the loop, its checkpoints, and the real learners.

The number of devices is fixed when JAX starts, so everything here runs in processes of its own.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.training.loop import train
from tests.multi_device.eight_devices import MESHES
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner, losses

ROOT = Path(__file__).parents[2]


def run_on_eight(module, *arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_a_run_on_eight_devices_goes_on_on_one_and_equals_it(tmp_path):
    train(TinyLearner(), TinyFeed(), tmp_path / "one", OPTIONS)
    term = ("--signal", int(signal.SIGTERM), "--at_batch", 23)
    run_on_eight("tests.training.tiny_run", tmp_path / "eight", *term, "--devices", 2, 2, 2)
    train(TinyLearner(), TinyFeed(), tmp_path / "eight", OPTIONS)
    one, eight = losses(tmp_path / "one"), losses(tmp_path / "eight")
    assert [line[:2] for line in one] == [line[:2] for line in eight]
    np.testing.assert_allclose([line[2] for line in one], [line[2] for line in eight], rtol=1e-5)


@pytest.fixture(scope="module")
def results():
    return json.loads(run_on_eight("tests.multi_device.eight_devices"))


def cases():
    return [(learner, mesh) for learner, meshes in MESHES.items() for mesh in meshes]


@pytest.mark.parametrize(("learner", "mesh"), cases())
def test_a_learner_computes_the_same_on_every_mesh(results, learner, mesh):
    # Dropout, masks, noise and augmentation included; the codec's discriminators, the start of its codebooks by
    # k-means, their averages and the revival of dead codes; k-means from its statistics to the restarts.
    one, eight = results[learner]["one"]["metrics"], results[learner][mesh]["metrics"]
    for step_one, step_eight in zip(one, eight, strict=True):
        assert step_one.keys() == step_eight.keys()
        for name, value in step_one.items():
            assert step_eight[name] == pytest.approx(value, rel=5e-5, abs=1e-5), name
    assert results[learner][mesh]["params"] < 1e-4
    assert results[learner][mesh]["collections"] < 1e-5


def test_a_device_holds_its_part_of_the_parameters(results):
    held = {mesh: results["stage"][mesh]["held"] for mesh in MESHES["stage"]}
    assert held["data"] == 1.0
    assert max(held["fsdp"], held["tensor"]) < 0.2
    assert held["mixed"] < 0.3
    # Convolutions are split by fsdp alone.
    assert results["codec"]["mixed"]["held"] < 0.51 and results["classifier"]["mixed"]["held"] < 0.55
    assert results["w2v_bert"]["mixed"]["held"] < 0.3 and results["kmeans"]["mixed"]["held"] < 0.3


@pytest.mark.parametrize("mesh", ["tensor", "mixed"])
def test_sampling_over_a_mesh_draws_the_same_ids(results, mesh):
    assert results["sampled"][mesh] == results["sampled"]["one"]
    assert len({tuple(row) for row in results["sampled"]["one"]}) == 4


def test_a_step_of_the_loop_moves_nothing_between_host_and_devices(results):
    assert results["guarded"] == 3
