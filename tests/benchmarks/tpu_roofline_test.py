"""`benchmarks/tpu_roofline.py` as it is run: in a process of its own, because the number of devices is fixed once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiolm_jax.parallel.topology import libtpu_is_installed

ROOT = Path(__file__).parents[2]
TINY = [
    f"--set={setting}"
    for setting in (
        "NUM_LAYERS=2", "NUM_HEADS=2", "EMBED_DIM=128", "MLP_DIM=256", "UNROLL=False", "CROP_SECONDS=4.0",
        "MESH_DATA=-1", "MESH_FSDP=2",
    )
]  # fmt: skip


def run(*arguments, hide_libtpu=False):
    hide = "sys.modules['libtpu'] = None; " if hide_libtpu else ""
    code = (
        f"import runpy, sys; {hide}sys.argv[0] = 'benchmarks/tpu_roofline.py'; sys.path.insert(0, 'benchmarks'); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_a_simulated_slice_has_times_that_go_with_what_was_traced(tmp_path):
    made = tmp_path / "made.json"
    done = run("semantic_small", "--topology", "v5e:2x4", "--json", str(made), *TINY, hide_libtpu=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(made.read_text())
    assert report["simulated"] and report["fits"]
    train, evaluate, _, token = report["steps"]
    # What the chips execute together is what the traced function has: nothing is computed twice.
    assert 8 * evaluate["roofline"]["flops"] == pytest.approx(evaluate["flops"]["hardware"], rel=0.05)
    assert train["roofline"]["sent"]["all-reduce"]["payload_bytes"] > 4 * report["num_parameters"] / 2
    assert 0 < train["roofline"]["mfu"] < 1 and not token["roofline"]["sent"]
    assert train["roofline"]["times"]["step_seconds"] >= train["roofline"]["times"]["ideal_seconds"]
    assert train["roofline"]["temporaries"][0]["bytes"] > 0
    assert "| train |" in done.stdout and "| MFU |" in done.stdout


def test_devices_without_published_rates_are_told_in_one_line():
    done = run("semantic_small", "--topology", "cpu:2", *TINY)
    assert done.returncode == 2 and "name a TPU topology" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not libtpu_is_installed(), reason="libtpu is not installed")
def test_the_tpu_compilers_program_is_read():
    done = run("semantic_small", "--topology", "v4:2x2x2", "--train_only", *TINY)
    assert done.returncode == 0, done.stderr
    assert "| MFU |" in done.stdout and "| train | all-reduce |" in done.stdout
