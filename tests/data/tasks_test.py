"""seqio gives the examples of the Grain feed, on any number of hosts, and never trims."""

import itertools

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")

from audiolm_jax.data.feed.feed import TokenFeed  # noqa: E402
from audiolm_jax.data.seqio.tasks import (  # noqa: E402
    StageFeatureConverter,
    register_tasks,
    stage_dataset,
    task_feature_lengths_of,
)
from audiolm_jax.errors import UserError  # noqa: E402
from tests.data.tiny_records import STAGES, write_folder  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    roots = [tmp_path_factory.mktemp(name) for name in ("tokens_a", "tokens_b")]
    write_folder(roots[0], {"a": 6, "b": 1, "c": 2, "d": 3}, seed=0)
    write_folder(roots[1], {"x": 2, "y": 2, "z": 2}, seed=50)
    return {"first": str(roots[0]), "second": str(roots[1])}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_seqio_equals_grain(folders, stage):
    names = register_tasks(folders, STAGES, seed=3, weights=(2.0, 1.0))
    feed = TokenFeed(
        tuple(folders.values()), stage, batch_size=4, seed=3, weights=(2.0, 1.0)
    )
    dataset = stage_dataset(names[stage.name].mixture, stage)
    batches = dataset.batch(4).take(12).as_numpy_iterator()
    for ours, (theirs, _) in zip(batches, feed.batches(feed.initial_cursor()), strict=False):
        assert_same(ours, theirs)

    heldout = list(stage_dataset(names[stage.name].mixture, stage, "validation").as_numpy_iterator())
    assert len(heldout) == feed.num_eval_examples
    for index, example in enumerate(heldout):
        assert_same(example, feed.heldout_example(index))


def test_shares_are_the_weights_and_must_be_one_for_each_folder(folders):
    mixture = register_tasks(folders, [STAGES[0]], weights=(3, 1), name="shares")[STAGES[0].name].mixture
    rates = [rate for _, rate in sorted(seqio.MixtureRegistry.get(mixture)._task_to_rate.items())]
    assert rates == [768.0, 256.0]
    with pytest.raises(UserError, match="3 weights for 2 folders of data"):
        register_tasks(folders, [STAGES[0]], weights=(3, 1, 1), name="wrong")


def test_the_order_of_folders_is_that_in_which_they_are_named(folders):
    """seqio sorts the Tasks of a Mixture by name; which folder is drawn, and held-out examples, must not follow."""
    stage = STAGES[1]
    named = {"z_first": folders["first"], "a_second": folders["second"]}
    mixture = register_tasks(named, [stage], weights=(3, 1), name="sorting")[stage.name].mixture
    feed = TokenFeed(tuple(named.values()), stage, batch_size=1, weights=(3, 1))
    for index, example in enumerate(stage_dataset(mixture, stage).take(40).as_numpy_iterator()):
        assert_same(example, feed.example(index))
    for index, example in enumerate(stage_dataset(mixture, stage, "validation").as_numpy_iterator()):
        assert_same(example, feed.heldout_example(index))


def test_a_task_alone_equals_a_feed_of_its_folder(folders):
    stage = STAGES[1]
    names = register_tasks({"first": folders["first"]}, [stage], name="alone")[stage.name]
    feed = TokenFeed((folders["first"],), stage, batch_size=1)
    for index, example in enumerate(stage_dataset(names.tasks[0], stage).take(20).as_numpy_iterator()):
        assert_same(example, feed.example(index))


def test_hosts_share_the_examples_of_a_task(folders):
    stage = STAGES[2]
    task = register_tasks(folders, [stage])[stage.name].tasks[0]
    whole = list(stage_dataset(task, stage).take(12).as_numpy_iterator())
    for host in range(3):
        shard = seqio.ShardInfo(index=host, num_shards=3)
        part = list(stage_dataset(task, stage, shard_info=shard).take(4).as_numpy_iterator())
        for ours, theirs in zip(part, whole[host::3], strict=True):
            assert_same(ours, theirs)


def test_registering_is_explicit_and_idempotent(folders):
    before = set(seqio.TaskRegistry.names())
    first = register_tasks(folders, STAGES, name="again")
    task = seqio.TaskRegistry.get(first["fine"].tasks[0])
    assert register_tasks(folders, STAGES, name="again") == first
    assert seqio.TaskRegistry.get(first["fine"].tasks[0]) is task
    assert register_tasks(folders, STAGES, name="again", seed=9) == first
    assert seqio.TaskRegistry.get(first["fine"].tasks[0]) is not task
    assert len(set(seqio.TaskRegistry.names()) - before) == 6


def test_seqio_may_neither_shuffle_nor_trim(folders):
    stage = STAGES[0]
    name = register_tasks(folders, [stage])[stage.name].tasks[0]
    with pytest.raises(ValueError, match="shuffle"):
        seqio.get_dataset(name, task_feature_lengths_of(stage), StageFeatureConverter(stage), shuffle=True)
    with pytest.raises(ValueError, match="needs lengths"):
        seqio.get_dataset(name, {"prefix": 0, "targets": 5}, StageFeatureConverter(stage))


def test_over_long_examples_raise(folders):
    import tensorflow as tf

    stage = STAGES[0]
    too_long = np.full(stage.max_target_length + 1, 2, np.int32)
    dataset = tf.data.Dataset.from_tensors({"prefix": np.zeros(0, np.int32), "targets": too_long})
    converted = StageFeatureConverter(stage)(dataset, task_feature_lengths_of(stage))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(itertools.islice(converted.as_numpy_iterator(), 1))
