"""`audiolm check` as a user runs it: each in a process of its own, because the number of devices is fixed once."""

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
    code = f"import sys; {hide}from audiolm_jax import cli; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "check", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_without_libtpu_cpu_devices_stand_for_the_chips():
    done = run("semantic_small", "--topology", "v5e:2x4", "--json", "-", *TINY, hide_libtpu=True)
    assert done.returncode == 0, done.stderr
    assert "libtpu is not installed" in done.stderr and "estimates" in done.stderr
    report = json.loads(done.stdout)
    assert report["simulated"] and report["num_chips"] == 8 and report["fits"]
    assert report["mesh"] == {"data": 4, "fsdp": 2, "tensor": 1}
    train, evaluate, prefill, token = report["steps"]
    assert [step["name"] for step in report["steps"]] == ["train", "eval", "prefill", "token"]
    forward = train["flops"]["forward"]
    assert forward == pytest.approx(evaluate["flops"]["model"], rel=0.01)
    assert train["flops"]["model"] == pytest.approx(3 * forward + train["flops"]["other"], rel=0.01)
    peak = report["chip"]["peak_flops"]
    assert train["least_seconds"] == pytest.approx(train["flops"]["hardware"] / (8 * peak))
    # XLA counts what one chip does, and of that the body of a loop once; elementwise work too.
    assert 0 < evaluate["compiler"]["flops"] < evaluate["flops"]["hardware"]
    assert evaluate["compiler"]["accessed_bytes"] > 0
    assert train["collectives"]["all-reduce"]["count"] > 0
    assert train["memory"]["total"] == train["needed_bytes"]
    assert prefill["num_chips"] == token["num_chips"] == 1 and not token["collectives"]
    assert report["versions"]["jax"]


def test_what_does_not_fit_is_an_error_that_names_arrays_and_macro():
    done = run(
        "semantic_small", "--topology", "v5e:2x2", *TINY, "--set=BATCH_SIZE=65536", "--set=REMAT=none", hide_libtpu=True
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "does not fit v5e:2x2: the train step needs about" in last and "15.75 GiB" in last
    assert "largest:" in last and "REMAT=full" in last and "BATCH_SIZE" in last
    assert "Traceback" not in done.stderr


def test_the_train_step_may_be_compiled_alone():
    done = run("semantic_small", "--topology", "cpu:2", "--train_only", "--json", "-", *TINY)
    assert done.returncode == 0, done.stderr
    assert [step["name"] for step in json.loads(done.stdout)["steps"]] == ["train"]


def test_a_batch_that_does_not_divide_is_told_in_one_line():
    done = run("semantic_small", "--topology", "cpu:4", "--set=BATCH_SIZE=6")
    assert done.returncode == 2 and "change BATCH_SIZE" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not libtpu_is_installed(), reason="libtpu is not installed")
def test_the_tpu_compiler_compiles_a_small_stage():
    done = run("semantic_small", "--topology", "v4:2x2x2", *TINY)
    assert done.returncode == 0, done.stderr
    # Lines of progress, and nothing else: the compiler's own warnings stay off the screen.
    assert all(line.startswith(("compiling the", "the ")) for line in done.stderr.splitlines()), done.stderr
    assert "SIMULATED" not in done.stdout and "least ms" in done.stdout and "all-reduce" in done.stdout
