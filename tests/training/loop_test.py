"""The loop on a learner of a few hundred parameters: resumed equals straight, and every way a run can end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.examination import Examination
from audiolm_jax.training.logging import read_metrics, trained_seconds
from audiolm_jax.training.loop import Clip, RunOptions, train
from audiolm_jax.training.saved.checkpoints import load_params
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner, losses

ROOT = Path(__file__).parents[2]


def run_tiny(workdir, *arguments, devices=1):
    """Trains in a process of its own; returns its exit code."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-m", "tests.training.tiny_run", str(workdir), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300).returncode


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A work directory of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("straight")
    train(TinyLearner(), TinyFeed(), workdir, OPTIONS)
    return workdir


def assert_same_run(workdir, other):
    assert losses(workdir) == losses(other)
    arrays, meta = load_params(workdir)
    other_arrays, other_meta = load_params(other)
    assert meta["step"] == other_meta["step"] == OPTIONS.steps
    assert meta["cursor"] == other_meta["cursor"]
    jax.tree.map(np.testing.assert_array_equal, arrays, other_arrays)


def test_a_killed_run_resumes_to_the_same_losses_and_parameters(straight, tmp_path):
    # A kill loses at most the steps since the last checkpoint; here from within batch 23, with a checkpoint every 7.
    assert run_tiny(tmp_path, "--signal", int(signal.SIGKILL), "--at_batch", 23) == -signal.SIGKILL
    assert not (tmp_path / "done").exists()
    assert run_tiny(tmp_path) == 0
    assert_same_run(tmp_path, straight)
    assert (tmp_path / "done").exists()


def test_sigterm_saves_and_ends_in_order(straight, tmp_path):
    train(TinyLearner(), TinyFeed(int(signal.SIGTERM), 23), tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == 24
    assert not (tmp_path / "done").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert_same_run(tmp_path, straight)


def test_a_signal_before_the_first_step_ends_before_one_is_compiled(straight, tmp_path, caplog):
    class Uncompiled(TinyLearner):
        def train_step(self, state, batch, rng):
            raise AssertionError("it is compiled")

    with caplog.at_level("WARNING"):
        train(Uncompiled(), TinyFeed(int(signal.SIGTERM), 0), tmp_path, OPTIONS)
    assert "tiny: SIGTERM before the first step" in caplog.text
    assert not (tmp_path / "done").exists() and not list((tmp_path / "checkpoints").iterdir())
    train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert_same_run(tmp_path, straight)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(straight, tmp_path, caplog):
    train(TinyLearner(), TinyFeed(int(signal.SIGTERM), 23), tmp_path, OPTIONS)
    for path in (tmp_path / "checkpoints" / "24").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])
    with caplog.at_level("WARNING"):
        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert "24 is damaged" in caplog.text
    assert (tmp_path / "checkpoints_damaged" / "24").is_dir()
    assert_same_run(tmp_path, straight)


def test_missing_files_in_the_newest_checkpoint_are_damage_too(straight, tmp_path):
    train(TinyLearner(), TinyFeed(int(signal.SIGTERM), 23), tmp_path, OPTIONS)
    (tmp_path / "checkpoints" / "24" / "state" / "manifest.ocdbt").unlink()
    (tmp_path / "checkpoints" / "24" / "state" / "_METADATA").unlink()
    train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert_same_run(tmp_path, straight)


def test_when_no_checkpoint_can_be_read_the_run_does_not_begin_anew(tmp_path):
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=3))
    for path in (tmp_path / "checkpoints").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the checkpoints"):
        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)


def test_a_checkpoint_of_another_model_is_refused_and_kept(tmp_path):
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=3))
    with pytest.raises(UserError, match=r"is of another model: .*first.*16, 16.*16, 24"):
        train(TinyLearner(width=24), TinyFeed(), tmp_path, OPTIONS)
    assert (tmp_path / "checkpoints" / "3").is_dir()


def test_nan_stops_with_the_step_and_its_examples_and_keeps_the_last_good_checkpoint(tmp_path):
    feed = TinyFeed()
    with pytest.raises(UserError, match="loss is nan at step 16.*examples are named in .*nan_step_16.json"):
        train(TinyLearner(nan_at_step=16), feed, tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == 14
    report = json.loads((tmp_path / "nan_step_16.json").read_text())
    assert report["step"] == 16 and report["metrics"]["loss"] == "nan"
    assert report["examples"] == [f"noise 15/{row}" for row in range(8)]
    batch, _ = next(feed.batches(report["cursor"]))  # the batch can be made again from the report
    array = report["arrays_of_process_0"]["samples"]
    assert array == {"shape": [8, 16], "min": batch["samples"].min(), "max": batch["samples"].max(),
                     "rows_not_finite": []}


def test_a_broken_example_is_found_by_its_row(tmp_path):
    class BrokenFeed(TinyFeed):
        def batches(self, cursor, rows=None):
            for batch, after in super().batches(cursor, rows):
                if after["index"] == 9:
                    batch["samples"][5, 3] = np.nan
                yield batch, after

    with pytest.raises(UserError, match="loss is nan at step 9"):
        train(TinyLearner(), BrokenFeed(), tmp_path, OPTIONS)
    report = json.loads((tmp_path / "nan_step_9.json").read_text())
    assert report["arrays_of_process_0"]["samples"]["rows_not_finite"] == [5]
    assert report["examples"][5] == "noise 8/5"


def test_nan_in_the_last_step_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="loss is nan at step 3"):
        train(TinyLearner(nan_at_step=3), TinyFeed(), tmp_path, RunOptions(steps=3, log_every_steps=0))
    with pytest.raises(UserError, match="no checkpoint"):
        load_params(tmp_path)


def test_a_finished_run_ends_at_once_and_a_longer_one_goes_on(tmp_path):
    short = dataclasses.replace(OPTIONS, steps=4)
    train(TinyLearner(), TinyFeed(), tmp_path, short)
    lines = read_metrics(tmp_path)
    state = train(TinyLearner(), TinyFeed(), tmp_path, short)
    assert int(state.step) == 4 and read_metrics(tmp_path) == lines and (tmp_path / "done").exists()
    state = train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=6))
    assert int(state.step) == 6


def test_a_signal_in_the_last_step_leaves_the_last_evaluation_to_the_next_start(straight, tmp_path):
    train(TinyLearner(), TinyFeed(int(signal.SIGTERM), OPTIONS.steps - 1), tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == OPTIONS.steps
    assert not (tmp_path / "done").exists()
    train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert_same_run(tmp_path, straight)
    assert (tmp_path / "done").exists()


def test_means_between_two_log_lines_survive_a_stop_between_them(tmp_path):
    options = dataclasses.replace(OPTIONS, log_every_steps=5)
    train(TinyLearner(), TinyFeed(), tmp_path / "straight", options)
    for at_batch in (12, 22, 23):
        train(TinyLearner(), TinyFeed(int(signal.SIGTERM), at_batch), tmp_path / "stopped", options)
    train(TinyLearner(), TinyFeed(), tmp_path / "stopped", options)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")


def test_a_signal_cuts_an_evaluation_short_and_the_next_start_makes_it(straight, tmp_path):
    evaluated = []

    class StoppedFeed(TinyFeed):
        def eval_batches(self, rows=None):
            for batch in super().eval_batches(rows):
                evaluated.append(batch)
                if len(evaluated) == 3:  # the first batch of the second evaluation
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    train(TinyLearner(), StoppedFeed(), tmp_path, OPTIONS)
    assert len(evaluated) == 3 and load_params(tmp_path)[1]["step"] == 20
    assert [line["step"] for line in read_metrics(tmp_path) if line["split"] == "eval"] == [10]
    train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert_same_run(tmp_path, straight)


def test_the_time_of_a_save_is_logged(straight):
    seconds = [line["checkpoint_seconds"] for line in read_metrics(straight) if "checkpoint_seconds" in line]
    assert len(seconds) >= 4 and min(seconds) > 0


def test_a_resumed_run_goes_on_counting_the_seconds_that_it_trained(tmp_path):
    class Slow(TinyFeed):
        def batches(self, cursor, rows=None):
            for batch in super().batches(cursor, rows):
                time.sleep(0.05)
                yield batch

    train(TinyLearner(), Slow(int(signal.SIGTERM), 23), tmp_path, OPTIONS)
    kept = load_params(tmp_path)[1]["seconds"]
    time.sleep(1.0)  # a pause
    train(TinyLearner(), Slow(), tmp_path, OPTIONS)
    seconds = trained_seconds(read_metrics(tmp_path))
    assert all("seconds" in line for line in read_metrics(tmp_path) if line["split"] == "train")
    before = max(passed for step, passed in seconds.items() if step <= 24)
    assert 23 * 0.05 <= before <= kept <= min(passed for step, passed in seconds.items() if step > 24)
    assert list(seconds.values()) == sorted(seconds.values())
    assert load_params(tmp_path)[1]["seconds"] == seconds[OPTIONS.steps] >= OPTIONS.steps * 0.05


def test_the_held_out_loss_counts_no_padding(straight):
    # 11 held-out rows in batches of 8: the mean is over 11 rows.
    learner, feed = TinyLearner(), TinyFeed()
    arrays, _ = load_params(straight)
    rows = [learner._loss(arrays["params"], batch, 1.0)[: int(batch["example_weights"].sum())]
            for batch in feed.eval_batches()]
    last = [line for line in read_metrics(straight) if line["split"] == "eval"][-1]
    assert last["step"] == OPTIONS.steps
    np.testing.assert_allclose(last["loss"], np.concatenate(rows).mean(), rtol=1e-5)
    assert sum(map(len, rows)) == feed.num_eval


def test_clips_are_written_from_the_state_at_their_step(tmp_path):
    steps = []

    def sampler(learner, feed, state, rng):
        steps.append(int(state.step))
        return [Clip("noise", np.asarray(jax.random.uniform(rng, (1600,))), 16_000)]

    options = dataclasses.replace(OPTIONS, steps=5, sample_every_steps=2)
    train(TinyLearner(), TinyFeed(), tmp_path, options, sampler=sampler)
    assert steps == [2, 4, 5]


def test_a_batch_that_does_not_fit_the_mesh_names_what_to_change(tmp_path):
    with pytest.raises(UserError, match="MESH_DATA"):
        from audiolm_jax.parallel.mesh import MeshSizes

        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS, MeshSizes(data=3, fsdp=1, tensor=1))


def test_a_directory_that_cannot_be_made_gives_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="change --workdir"):
        train(TinyLearner(), TinyFeed(), tmp_path / "file" / "run", OPTIONS)


def test_the_last_examination_is_kept_with_every_checkpoint(tmp_path, capsys):
    asked = []

    def examiner(learner, feed, state):
        asked.append((learner.name, int(state.step)))
        if state.step < 20:
            return None  # nothing to judge yet
        return Examination(int(state.step), {"visqol": 2.5, "usage/level_01": 0.5}, ("it hums",), int(state.step) == 30)

    def kept(workdir):
        return Examination.of_meta(load_params(workdir)[1], str(workdir))

    options = dataclasses.replace(OPTIONS, eval_every_steps=10, checkpoint_every_steps=7)
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(options, steps=14), examiner=examiner)
    assert kept(tmp_path) is None
    train(TinyLearner(), TinyFeed(int(signal.SIGTERM), 23), tmp_path, options, examiner=examiner)
    assert load_params(tmp_path)[1]["step"] == 24
    assert kept(tmp_path) == Examination(20, {"visqol": 2.5, "usage/level_01": 0.5}, ("it hums",), False)
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(options, steps=28), examiner=None)
    assert kept(tmp_path).step == 20
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(options, steps=30), examiner=examiner)
    assert (kept(tmp_path).step, kept(tmp_path).passed) == (30, True)
    assert asked == [("tiny", step) for step in (10, 14, 20, 30)]
    lines = [line for line in read_metrics(tmp_path) if line["split"] == "exam"]
    figures = [(line["step"], line["passed"], line["usage/level_01"]) for line in lines]
    assert figures == [(20, 0.0, 0.5), (30, 1.0, 0.5)]
    said = capsys.readouterr().out
    assert "tiny step 20: examination not passed: visqol 2.5\n  fault: it hums" in said
