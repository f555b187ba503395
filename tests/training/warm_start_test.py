"""Resume, INIT_FROM and CONTINUE_FROM are three things."""

import dataclasses
import os

import jax
import numpy as np
import optax
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.training.loop import RunOptions, train
from audiolm_jax.training.optimization.muon import muon
from audiolm_jax.training.optimization.optimizers import adam
from audiolm_jax.training.saved.checkpoints import Checkpoints, load_params
from audiolm_jax.training.saved.warm_start import continue_from, init_from
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner

AT_ONCE = RunOptions(steps=0)
# A learning rate that is seen in the first update.
NEW_SCHEDULE = TinyLearner(optimizer=adam(3e-2, 2, 50, "cosine"))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(work directory, last state) of the run that others start from."""
    workdir = tmp_path_factory.mktemp("first")
    state = train(TinyLearner(), TinyFeed(), workdir, dataclasses.replace(OPTIONS, steps=10))
    return workdir, jax.device_get(state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def counts(opt_state):
    """(count of Adam's moments, count of the schedule)."""
    _, moments, schedule = opt_state
    assert isinstance(moments, optax.ScaleByAdamState) and isinstance(schedule, optax.ScaleByScheduleState)
    return int(moments.count), int(schedule.count)


def test_init_from_takes_the_parameters_alone(first, tmp_path):
    workdir, before = first
    fresh = train(TinyLearner(), TinyFeed(), tmp_path / "fresh", AT_ONCE)
    state = train(NEW_SCHEDULE, TinyFeed(), tmp_path / "run", AT_ONCE, warm_start=init_from(str(workdir)))
    assert int(state.step) == 0
    assert_equal(state.params, before.params)
    assert_equal(state.collections, fresh.collections)
    assert counts(state.opt_state) == (0, 0) and not np.any(state.opt_state[1].mu["first"]["kernel"])


def test_continue_from_takes_the_moments_and_collections_under_a_new_schedule(first, tmp_path):
    workdir, before = first
    state = train(NEW_SCHEDULE, TinyFeed(), tmp_path / "run", AT_ONCE, warm_start=continue_from(str(workdir)))
    assert int(state.step) == 0
    assert_equal(state.params, before.params)
    assert_equal(state.collections, before.collections)
    assert_equal(state.opt_state[1], before.opt_state[1])
    assert counts(state.opt_state) == (10, 0)  # moments are corrected as old ones, the rate is that of step 0


def test_what_a_run_began_with_stays_with_its_checkpoints_and_a_resumed_run_ignores_it(first, tmp_path):
    workdir, _ = first
    start = continue_from(str(workdir))
    short = dataclasses.replace(OPTIONS, steps=4)
    once = train(NEW_SCHEDULE, TinyFeed(), tmp_path, short, warm_start=start)
    assert load_params(tmp_path)[1]["origin"] == {"macro": "CONTINUE_FROM", "workdir": str(workdir), "step": 10}
    again = train(NEW_SCHEDULE, TinyFeed(), tmp_path, short, warm_start=start)
    assert_equal(once, again)
    train(NEW_SCHEDULE, TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=6), warm_start=start)
    meta = load_params(tmp_path)[1]
    assert meta["step"] == 6 and meta["origin"]["step"] == 10
    # What the runs before had heard stays in the weights, so it is handed on.
    second, third, one = tmp_path / "second", tmp_path / "third", dataclasses.replace(OPTIONS, steps=1)
    train(NEW_SCHEDULE, TinyFeed(), second, one, warm_start=init_from(str(tmp_path)), meta={"splits": ["some"]})
    train(NEW_SCHEDULE, TinyFeed(), third, one, warm_start=init_from(str(second)))
    origin = load_params(third)[1]["origin"]
    assert origin["splits"] == ["some"] and origin["origin"]["workdir"] == str(tmp_path)
    assert origin["origin"]["origin"]["workdir"] == str(workdir)


def test_values_are_read_to_where_the_new_run_has_them(first):
    workdir, before = first
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind="unpinned_host")
    state = jax.device_put(jax.tree.map(np.zeros_like, before), device)
    loaded, _ = continue_from(str(workdir)).apply(state)
    assert loaded.params["first"]["kernel"].sharding == device
    assert_equal(loaded.params, before.params)


@pytest.mark.parametrize("start", [init_from, continue_from])
def test_another_model_is_refused_by_name(first, tmp_path, start):
    with pytest.raises(UserError, match=r"_FROM .*'params.first.kernel' is \[16, 16\] there and \[16, 8\] here"):
        train(TinyLearner(width=8), TinyFeed(), tmp_path, AT_ONCE, warm_start=start(str(first[0])))


def test_training_goes_on_with_the_same_tokens_only(first, tmp_path):
    meta = {"fingerprints": {"codec": "aa", "semantic": "bb"}}
    with pytest.raises(UserError, match="CONTINUE_FROM .* other tokenizers"):
        train(TinyLearner(), TinyFeed(), tmp_path / "a", AT_ONCE, warm_start=continue_from(str(first[0])), meta=meta)
    train(TinyLearner(), TinyFeed(), tmp_path / "b", AT_ONCE, warm_start=init_from(str(first[0])), meta=meta)


def test_another_optimizer_can_only_take_the_parameters(first, tmp_path):
    learner = TinyLearner(optimizer=muon(1e-2, 5, 100, matrices=lambda params: jax.tree.map(lambda _: None, params)))
    with pytest.raises(UserError, match="CONTINUE_FROM .*'opt_state.* is missing there .*INIT_FROM takes"):
        train(learner, TinyFeed(), tmp_path / "a", AT_ONCE, warm_start=continue_from(str(first[0])))
    train(learner, TinyFeed(), tmp_path / "b", AT_ONCE, warm_start=init_from(str(first[0])))


def test_a_directory_without_a_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        train(TinyLearner(), TinyFeed(), tmp_path, AT_ONCE, warm_start=init_from(str(tmp_path / "nothing")))


def test_the_other_run_is_only_read(first, tmp_path):
    workdir, _ = first
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    checkpoints = Checkpoints(tmp_path)
    train(TinyLearner(), TinyFeed(), tmp_path / "run", AT_ONCE, warm_start=continue_from(str(workdir)))
    checkpoints.close()
    assert before == {path: os.stat(path).st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


@pytest.mark.parametrize("start", [init_from, continue_from])
def test_a_bundle_is_said_to_be_one_before_anything_is_written(tmp_path, start):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="_FROM: no checkpoint in .*bundle: .* a bundle, .*give the work") as error:
        train(TinyLearner(), TinyFeed(), tmp_path / "run", AT_ONCE, warm_start=start(str(bundle)))
    assert "train there first" not in str(error.value) and not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="a bundle"):
        load_params(bundle)  # what every other command that wants a work directory reads
