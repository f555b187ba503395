"""Attention kernels give on eight simulated devices what attention gives on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def differences():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "tests.multi_device.sharded_attention"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


# The share of the output that a device holds: of rows and heads, of heads, all.
@pytest.mark.parametrize(("mesh", "share"), [("mixed", 1 / 8), ("tensor", 1 / 8), ("whole", 1)])
@pytest.mark.parametrize("attention", ["pallas_tpu", "pallas_gpu"])
def test_kernels_are_the_same_on_every_mesh(differences, attention, mesh, share):
    difference, held = differences[f"{attention}/{mesh}"]
    assert difference < 5e-5
    assert held == share
