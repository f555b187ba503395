"""Real processes over loopback compute what one process computes, stop together, and end together.

Every process has simulated devices of its own; collectives between processes go through gloo.
"""

import os
import re

import numpy as np
import pytest

from audiolm_jax.training.examination import Examination
from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.saved.checkpoints import load_params
from tests.data.tiny_records import write_folder
from tests.multi_host.job import run_job
from tests.multi_host.worker import run
from tests.training.tiny_run import losses

# Gloo writes its greeting piece by piece, and those of two threads can come interleaved.
GLOO_PIECES = re.compile(
    r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :|\s"
)
GLOO_NUMBERS = 3  # in a greeting, of one digit each
WORKER, JOINER = "tests.multi_host.worker", "tests.multi_host.joiner"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Work directories of one process, of a job of two and of a job of four; `resumed` went through all of them."""
    folder = tmp_path_factory.mktemp("jobs")
    write_folder(folder / "tokens", {"a": 6, "b": 1, "c": 2, "d": 3})
    term = ("--event", "term", "--at_batch", 25)
    jobs = {
        "one": run_job(1, 1, WORKER, folder, "tiny_one=tiny/1,1,1/40", "stage_one=stage/1,1,1/10",
                       "codebooks_one=codebooks/1,1,1/20", "resumed=tiny/1,1,1/10"),
        "two": run_job(2, 2, WORKER, folder, "tiny_data=tiny/4,1,1/40", "tiny_tensor=tiny/1,1,4/40",
                       "stage_mixed=stage/1,2,2/10", "codebooks_mixed=codebooks/2,2,1/20", "resumed=tiny/2,1,2/20"),
        "four": run_job(4, 1, WORKER, folder, "resumed=tiny/2,2,1/30", *term),
    }
    for name, ended in jobs.items():
        assert [process.code for process in ended] == [0] * len(ended), f"{name}: {[p.errors[-2000:] for p in ended]}"
    (folder / "jobs").mkdir()
    for name, ended in jobs.items():
        for index, process in enumerate(ended):
            (folder / "jobs" / f"{name}{index}").write_text(process.output + process.errors)
    run(folder, "resumed=tiny/1,1,1/40")
    return folder


@pytest.mark.parametrize("name", ["tiny_data", "tiny_tensor"])
def test_every_mesh_over_processes_has_the_losses_of_one_device(folder, name):
    assert_same_losses(folder, name, "tiny_one", rtol=1e-5)


def test_a_stage_with_dropout_learns_alike_from_a_token_feed(folder):
    assert_same_losses(folder, "stage_mixed", "stage_one", rtol=2e-5)


def test_codebooks_learn_alike(folder):
    assert_same_losses(folder, "codebooks_mixed", "codebooks_one", rtol=1e-4)


def test_process_0_examines_the_whole_model_and_every_checkpoint_has_the_verdict(folder):
    for name in ("codebooks_one", "codebooks_mixed"):
        exams = {line["step"]: line["loss"] for line in read_metrics(folder / name) if line["split"] == "exam"}
        assert list(exams) == [10, 20]
        found = Examination.of_meta(load_params(folder / name)[1], name)
        assert found == Examination(20, {"loss": exams[20]}, ("no sound",), False)


@pytest.mark.skipif("AUDIOLM_LONG_TESTS" not in os.environ, reason="compiles for minutes; set AUDIOLM_LONG_TESTS=1")
def test_a_codec_with_discriminators_learns_alike(tmp_path):
    for processes, devices, text in ((1, 1, "one=codec/1,1,1/2"), (2, 2, "mixed=codec/2,2,1/2")):
        assert {process.code for process in run_job(processes, devices, WORKER, tmp_path, text)} == {0}
    assert_same_losses(tmp_path, "mixed", "one", rtol=1e-4)


def test_a_run_goes_on_with_another_number_of_processes(folder):
    # One process to step 10, two to 20, four to about 26, where SIGTERM of one of them stops all, and one to the end.
    assert_same_losses(folder, "resumed", "tiny_one", rtol=1e-5)
    said = (folder / "jobs" / "four0").read_text()
    assert "SIGTERM on process 3" in said and "saved" in said
    assert "resuming at step 20" in said


def test_only_process_0_writes(folder):
    for name, index in (("two", 1), ("four", 1), ("four", 2), ("four", 3)):
        said = (folder / "jobs" / f"{name}{index}").read_text()
        left, greetings = GLOO_PIECES.sub("", said), said.count("[Gloo] Rank")
        assert re.fullmatch(rf"\d{{{GLOO_NUMBERS * greetings}}}", left), said
    # Each step stands once in the figures, and each start of process 0 has made one file of plots.
    lines = losses(folder / "resumed")
    assert len(lines) == len({line[:2] for line in lines}) == 40 + 4
    assert len(list((folder / "resumed" / "tensorboard").iterdir())) == 4


def assert_same_losses(folder, name, reference, rtol):
    found, expected = losses(folder / name), losses(folder / reference)
    assert found and [line[:2] for line in found] == [line[:2] for line in expected]
    np.testing.assert_allclose([line[2] for line in found], [line[2] for line in expected], rtol=rtol)


def test_a_mistake_on_one_process_ends_all_with_its_line(tmp_path):
    first, second = run_job(2, 1, WORKER, tmp_path, "run=tiny/2,1,1/40", "--event", "unreadable", "--at_batch", 9)
    assert [first.code, second.code] == [2, 2]
    assert "shard 7 is gone; bring the file back" in second.errors.splitlines()
    assert "process 1 has stopped: shard 7 is gone; bring the file back" in first.errors.splitlines()
    assert "Traceback" not in first.errors + second.errors


def test_a_killed_process_ends_the_others(tmp_path):
    first, second = run_job(2, 1, WORKER, tmp_path, "run=tiny/2,1,1/40", "--event", "kill", "--at_batch", 9)
    assert [first.code, second.code] == [1, -9]
    assert "process 0: another process of the job is gone" in first.errors and "Traceback" not in first.errors


def test_processes_talk_and_leave_in_order():
    for process in run_job(2, 1, JOINER):
        assert process.code == 0 and "greetings from 0 True" in process.output


def test_processes_that_do_not_find_each_other_say_so():
    (alone,) = run_job(1, 1, JOINER, counts=[2], AUDIOLM_START_TIMEOUT_SECONDS=3)
    assert alone.code == 1 and "process 0 of 2" in alone.errors and "waited 3 s" in alone.errors
    first, second = run_job(2, 1, JOINER, counts=[2, 3])
    assert [first.code, second.code] == [2, 2]
    assert "process 1 was told of 3 processes, process 0 of 2" in second.errors
