"""Every script answers --help with what it does and all of its variables, and does nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(
    path.name for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch") and os.access(path, os.X_OK)
)
# What a script may be told by the programs around it, and not by a user.
NOT_OURS = re.compile(r"SLURM_|AUDIOLM_")


@pytest.fixture
def answer(tmp_path):
    """Runs a script of a copy of the folder, among programs that write down that they were called."""
    shutil.copytree(LAUNCH, tmp_path / "repository" / "launch")
    (tmp_path / "stubs").mkdir()
    for name in ("python", "python3", "python3.11", "pip", "gcloud", "kubectl", "sbatch", "srun"):
        stub = tmp_path / "stubs" / name
        stub.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/calls\n")
        stub.chmod(0o755)

    def run(script, *arguments, **variables):
        environment = {"PATH": f"{tmp_path}/stubs:{os.environ['PATH']}", "HOME": str(tmp_path), **variables}
        command = [tmp_path / "repository" / "launch" / script, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        made = {path.name for path in (tmp_path / "repository").iterdir()} - {"launch"}
        return done, made, (tmp_path / "calls").exists()

    return run


def test_there_are_scripts():
    assert len(SCRIPTS) == 9


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["more", "--help"]])
def test_help_is_answered_and_nothing_is_done(answer, script, arguments):
    done, made, called = answer(script, *arguments)
    assert done.returncode == 0 and done.stderr == "" and not made and not called
    first = (LAUNCH / script).read_text().splitlines()[1].removeprefix("# ")
    assert done.stdout.startswith(first) and f"launch/{script}" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_every_variable_that_is_read(answer, script):
    text = (LAUNCH / script).read_text()
    read = {*re.findall(r"\$\{([A-Z][A-Z0-9_]+):?[-+?]", text), *re.findall(r"\b([A-Z][A-Z0-9_]+)=\S* \./", text)}
    if "make_environment" in text or "find_python" in text:
        read.add("PYTHON")
    done, _, _ = answer(script, "--help")
    assert done.stdout.count("\n  ") > 1
    for name in sorted(name for name in read if not NOT_OURS.match(name)):
        assert f"\n  {name}=" in done.stdout, name


def test_the_small_training_lists_its_steps_and_macros_with_their_values(answer):
    done, _, _ = answer("train_small.sh", "--help", CODEC_STEPS="7", ENCODER_1_SET="BATCH_SIZE=2 SEED=3")
    for line in ("CODEC_STEPS=7", "ENCODER_1_SET='BATCH_SIZE=2 SEED=3'", "FINE_STEPS=", "KMEANS_SET=", "LICENCE='not"):
        assert f"\n  {line}" in done.stdout
