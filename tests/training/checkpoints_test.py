"""What can happen to the files of a checkpoint, and what a run makes of it."""

import dataclasses
import errno
import json
import os
import shutil

import jax
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.loop import train
from audiolm_jax.training.saved import checksums
from audiolm_jax.training.saved.checkpoints import Checkpoints, load_params, newest_whole
from audiolm_jax.training.state import TrainState
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner


def state_at(step):
    params = {"layer": {"kernel": np.random.default_rng(step).normal(size=(64, 64)).astype(np.float32)}}
    return jax.device_put(TrainState(np.int32(step), params, {"mu": params["layer"]}, {}))


def restore(workdir):
    """(step, state, meta) of what a new process would go on from."""
    checkpoints = Checkpoints(workdir)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
                            state_at(0))
    state, meta = checkpoints.restore(abstract)
    checkpoints.close()
    return int(state.step), state, meta


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 3 and 5."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir)
    for step in (1, 3, 5):
        checkpoints.save(state_at(step), {"cursor": {"examples": 8 * step}})
    checkpoints.wait()
    assert checkpoints.take_save_seconds() > 0 and checkpoints.take_save_seconds() is None
    checkpoints.close()
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def test_the_newest_is_restored_and_two_are_kept(workdir):
    step, state, meta = restore(workdir)
    assert step == 5 and meta["cursor"] == {"examples": 40}
    jax.tree.map(np.testing.assert_array_equal, state, state_at(5))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "5"]
    assert checksums.damage(workdir / "checkpoints" / "5") is None


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def other_bytes_of_the_same_length(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "one bit of the arrays": lambda folder: other_bytes_of_the_same_length(largest(folder)),
    "truncated arrays": lambda folder: os.truncate(largest(folder), 1000),
    "no arrays": lambda folder: largest(folder).unlink(),
    "no manifest": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "no tree": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "an empty tree": lambda folder: (folder / "state" / "_METADATA").write_bytes(b""),
    "an empty meta": lambda folder: (folder / "meta" / "metadata").write_bytes(b""),
    "no meta": lambda folder: shutil.rmtree(folder / "meta"),
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "empty checksums": lambda folder: (folder / checksums.CHECKSUMS_FILE).write_bytes(b""),
    "checksums of another shape": lambda folder: (folder / checksums.CHECKSUMS_FILE).write_text("[1, 2]"),
    "an empty folder": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "half deleted": lambda folder: [shutil.rmtree(folder / "state" / "d"), (folder / "checksums.json").unlink()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(workdir, kind, caplog):
    DAMAGE[kind](workdir / "checkpoints" / "5")
    with caplog.at_level("WARNING"):
        step, state, _ = restore(workdir)
    assert step == 3 and "5 is damaged" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, state, state_at(3))
    assert (workdir / "checkpoints_damaged" / "5").is_dir()


def test_what_orbax_writes_for_itself_is_not_needed(workdir):
    # Its step metadata and commit files say when and by what a checkpoint was written; the arrays are whole without.
    (workdir / "checkpoints" / "5" / "_CHECKPOINT_METADATA").unlink()
    (workdir / "checkpoints" / "5" / "commit_success.txt").unlink()
    assert restore(workdir)[0] == 5


def test_a_checkpoint_without_checksums_is_read_as_it_is(workdir):
    (workdir / "checkpoints" / "5" / checksums.CHECKSUMS_FILE).unlink()
    assert restore(workdir)[0] == 5


def test_what_a_kill_leaves_of_an_unfinished_save_is_cleared_away(workdir):
    folder = workdir / "checkpoints"
    shutil.copytree(folder / "5", folder / "7.orbax-checkpoint-tmp")
    assert newest_whole(workdir) == 5
    assert restore(workdir)[0] == 5
    assert sorted(path.name for path in folder.iterdir()) == ["3", "5"]


def test_when_none_is_whole_nothing_is_thrown_away(workdir):
    for step in ("3", "5"):
        os.truncate(largest(workdir / "checkpoints" / step), 10)
    with pytest.raises(UserError, match="none of the checkpoints"):
        restore(workdir)
    assert (workdir / "checkpoints" / "5").is_dir()


def test_parameters_are_taken_from_the_newest_whole_checkpoint(workdir, caplog):
    os.truncate(largest(workdir / "checkpoints" / "5"), 1000)
    arrays, meta = load_params(workdir)
    assert meta["step"] == 3 and "5 is damaged" in caplog.text
    np.testing.assert_array_equal(arrays["params"]["layer"]["kernel"], state_at(3).params["layer"]["kernel"])
    (workdir / "checkpoints" / "5" / checksums.CHECKSUMS_FILE).unlink()
    with pytest.raises(UserError, match="5 cannot be read"):
        load_params(workdir, 5)


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    saves = []

    def full(folder):
        saves.append(folder)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return write(folder)

    write = checksums.write_checksums
    monkeypatch.setattr(checksums, "write_checksums", full)
    with pytest.raises(UserError, match=r"cannot save step 21 to .*No space left on device; .* step 14 is whole"):
        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == 14 and not (tmp_path / "done").exists()
    state = train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert int(state.step) == OPTIONS.steps


def test_figures_that_cannot_be_written_end_the_run_in_one_line(tmp_path):
    train(TinyLearner(), TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=3))
    shutil.rmtree(tmp_path / "tensorboard")
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="cannot write .*tensorboard.*goes on from the last checkpoint"):
        train(TinyLearner(), TinyFeed(), tmp_path, OPTIONS)
    assert load_params(tmp_path)[1]["step"] == 3


def test_meta_is_json_and_says_what_it_was_made_with(saved):
    meta = json.loads((saved / "checkpoints" / "5" / "meta" / "metadata").read_text())
    assert meta["step"] == 5 and meta["schema_version"] == 1 and meta["versions"]["jax"] == jax.__version__
