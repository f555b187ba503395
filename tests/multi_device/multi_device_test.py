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

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.mesh import MeshSizes, make_mesh
from audiolm_jax.training.loop import train
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner, losses

ROOT = Path(__file__).parents[2]


def run_on_eight(module, *arguments):
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
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


@pytest.mark.parametrize("mesh", ["fsdp", "mixed"])
def test_a_stage_has_the_same_losses_on_every_mesh(results, mesh):
    np.testing.assert_allclose(results[f"stage/{mesh}"][0], results["stage/one"][0], rtol=2e-5)


def test_codebooks_learn_from_the_global_batch(results):
    # k-means start, EMA and the revival of dead codes; with local sums every device would have other codebooks.
    np.testing.assert_allclose(results["codebooks/data"], results["codebooks/one"], atol=1e-4)


def test_fsdp_splits_the_parameters(results):
    assert results["stage/one"][1] == 1.0
    assert results["stage/fsdp"][1] < 0.3
    assert results["stage/mixed"][1] < 0.5


@pytest.mark.parametrize("sizes", [MeshSizes(-1, -1, 1), MeshSizes(0, 1, 1), MeshSizes(7, 1, 1), MeshSizes(-1, 3, 1)])
def test_sizes_that_do_not_fit_name_the_macros(sizes):
    with pytest.raises(UserError, match="mesh sizes data="):
        make_mesh(sizes, devices=[object()] * 8)
