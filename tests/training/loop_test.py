"""The loop on a learner of a few hundred parameters: resumed equals straight, and every way a run can end."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.checkpoints import load_params
from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.loop import Clip, RunOptions, train
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner, losses

ROOT = Path(__file__).parents[2]


def run_tiny(workdir, *arguments, devices=1):
    """Trains in a process of its own; returns its exit code."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
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


def test_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match="loss is nan at step 16"):
        train(TinyLearner(nan_at_step=16), TinyFeed(), tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == 14


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


def test_a_new_run_may_start_from_the_parameters_of_another(straight, tmp_path):
    options = RunOptions(steps=0)
    state = train(TinyLearner(), TinyFeed(), tmp_path, options, init_from_workdir=str(straight))
    jax.tree.map(np.testing.assert_array_equal, state.params, load_params(straight)[0]["params"])
    assert int(state.step) == 0
    with pytest.raises(UserError, match="INIT_FROM.*first.kernel"):
        train(TinyLearner(width=8), TinyFeed(), tmp_path / "other", options, init_from_workdir=str(straight))


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
