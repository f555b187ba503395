"""A training from seqio: the batches of the Grain feed, exact where there is an index, and told where there is none."""

import collections
import itertools
import json
import os
import signal
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

from audiolm_jax import cli  # noqa: E402
from audiolm_jax.bundle.workdirs import mean_run_frames  # noqa: E402
from audiolm_jax.data.feed.feed import TokenFeed  # noqa: E402
from audiolm_jax.data.seqio.example_source import IndexedSource  # noqa: E402
from audiolm_jax.data.seqio.feed import SeqioFeed  # noqa: E402
from audiolm_jax.errors import UserError  # noqa: E402
from audiolm_jax.training import experiment  # noqa: E402
from audiolm_jax.training.logging import read_metrics  # noqa: E402
from audiolm_jax.training.saved.checkpoints import load_params  # noqa: E402
from tests.data.tiny_records import STAGES, write_folder  # noqa: E402

COARSE = STAGES[1]
IDS = seqio.Feature(seqio.PassThroughVocabulary(COARSE.layout.vocab_size), add_eos=False)
FEATURES = {"prefix": IDS, "targets": IDS}
# A coarse stage of the tiny records, of a few thousand parameters.
SETTINGS = [
    "SEMANTIC_VOCAB=16", "CODEBOOK_SIZE=8", "NUM_COARSE_QUANTIZERS=2", "CROP_SECONDS=0.4", "NUM_LAYERS=1",
    "NUM_HEADS=2", "EMBED_DIM=16", "MLP_DIM=32", "STEPS=6", "WARMUP_STEPS=2", "EVAL_EVERY=3", "LOG_EVERY=1",
    "MAX_EVAL_EXAMPLES=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Their names are not in the order in which they are given."""
    root = tmp_path_factory.mktemp("tokens")
    for name, speakers, seed in (("zeta", "aaaaaabccddd", 0), ("alpha", "xxyyzz", 50)):
        (root / name).mkdir()
        write_folder(root / name, collections.Counter(speakers), seed)
    return str(root / "zeta"), str(root / "alpha")


@pytest.fixture(scope="module")
def module(folders, tmp_path_factory):
    """A user's file, which registers a Mixture of the two folders."""
    path = tmp_path_factory.mktemp("user") / "my_mixtures.py"
    path.write_text(textwrap.dedent(f"""
        import seqio

        from audiolm_jax.data.seqio.tasks import register_tasks
        from audiolm_jax.tokens.stages import coarse_stage

        stage = coarse_stage(semantic_vocab=16, codebook_size=8, num_coarse_quantizers=2, crop_seconds=0.4)
        folders = {{"zeta": {folders[0]!r}, "alpha": {folders[1]!r}}}
        zeta, alpha = register_tasks(folders, [stage], name="my")["coarse"].tasks
        seqio.MixtureRegistry.add("my_mixture", [(zeta, 3), (alpha, 1)])
    """))
    return str(path)


def like(folders=(), stage=COARSE, batch_size=8, **settings):
    return TokenFeed(folders, stage, batch_size, **settings)


def take(feed, count, cursor=None, rows=None):
    return list(itertools.islice(feed.batches(cursor or feed.initial_cursor(), rows), count))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("rows", [None, range(4, 8), (1, 2, 6)])
def test_batches_are_those_of_the_feed_from_any_example_on_and_for_any_host(folders, rows):
    for stage in STAGES if rows is None else (COARSE,):
        grain = like(folders, stage, seed=3, weights=(3.0, 1.0), max_eval_examples=11)
        feed = SeqioFeed(grain, f"audiolm_{stage.name}")
        assert feed.batch_shapes() == grain.batch_shapes() and feed.eval_batch_shapes() == grain.eval_batch_shapes()
        for cursor in (feed.initial_cursor(), {"examples": 8 * 130}):
            for (ours, after), (theirs, expected) in zip(
                take(feed, 3, cursor, rows), take(grain, 3, cursor, rows), strict=True
            ):
                assert_same(ours, theirs)
                assert after == expected
        for ours, theirs in zip(feed.eval_batches(rows), grain.eval_batches(rows), strict=True):
            assert_same(ours, theirs)
        names = zip(feed.example_names({"examples": 8}), grain.example_names({"examples": 8}), strict=True)
        assert all(ours.partition(": ")[2] == theirs for ours, theirs in names)


def test_a_stage_learns_the_same_from_a_users_mixture_through_a_stop(folders, module, tmp_path, monkeypatch):
    """Same rates, same parameters to the bit; what the checkpoint knows of tokenizers and splits is the same too."""
    assert experiment.train("coarse_small", tmp_path / "grain", [*SETTINGS, "MIXTURE=(3,1)"], folders) == 0

    def stopping(self, cursor, rows=None, real=SeqioFeed.batches):
        for batch, after in real(self, cursor, rows):
            if after["examples"] == 3 * 4:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch, after

    def train_from_seqio():
        settings = [*SETTINGS, "SEQIO_MIXTURE=my_mixture"]
        assert experiment.train("coarse_small_seqio", tmp_path / "seqio", settings, modules=module) == 0

    with monkeypatch.context() as patch:
        patch.setattr(SeqioFeed, "batches", stopping)
        train_from_seqio()
    assert not (tmp_path / "seqio" / "done").exists() and load_params(tmp_path / "seqio")[1]["step"] == 3
    train_from_seqio()
    (arrays, meta), (expected, grain_meta) = (load_params(tmp_path / name) for name in ("seqio", "grain"))
    assert meta["step"] == grain_meta["step"] == 6 and meta["cursor"] == grain_meta["cursor"] == {"examples": 24}
    jax.tree.map(np.testing.assert_array_equal, arrays["params"], expected["params"])
    assert meta["fingerprints"] == grain_meta["fingerprints"] == {"codec": "bb", "semantic": "aa"}
    held_out = [
        [line["loss"] for line in read_metrics(tmp_path / name) if line["split"] == "eval"]
        for name in ("seqio", "grain")
    ]
    assert held_out[0] == held_out[1] and len(held_out[0]) == 2
    # What is built again from the work directory imports the user's file by itself, for a bundle.
    again = [experiment.load(tmp_path / name / "config.gin")[0].feed for name in ("seqio", "grain")]
    assert again[0].modules == (module,) and again[0].splits == again[1].splits
    assert mean_run_frames(again[0]) == mean_run_frames(again[1]) > 1


class Numbers:
    """Examples with an index: one id of their source, and one that goes round in a circle of seven."""

    specs = {"prefix": tf.TensorSpec((None,), tf.int32), "targets": tf.TensorSpec((None,), tf.int32)}

    def __init__(self, prefix):
        self.prefix = prefix

    def num_examples(self, split):
        return None if split == "train" else 5

    def example(self, split, ordinal):
        return {"prefix": np.full(1, self.prefix, np.int32), "targets": np.full(1, ordinal % 7 + 2, np.int32)}

    def name(self, ordinal):
        return f"number {ordinal}"


def registered(name, source, *preprocessors, **settings):
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name, source=source, preprocessors=preprocessors, output_features=FEATURES,
        **{"shuffle_buffer_size": None, **settings},
    )  # fmt: skip
    return name


def numbered(count, prefix=9):
    """A source without an index, which begins each pass with the id 2."""

    def dataset(split, shuffle_files):
        ids = tf.data.Dataset.range(count if split == "train" else 5).map(lambda n: tf.cast(n, tf.int32)[None] + 2)
        return ids.map(lambda ids: {"prefix": tf.fill([1], prefix), "targets": ids})

    return seqio.FunctionDataSource(dataset, splits=("train", "validation"))


def pairs(batch):
    """(prefix, target) of each row."""
    return [tuple(int(each) for each in row[:2]) for row in batch["ids"]]


def test_an_indexed_source_of_a_user_is_exact_while_its_preprocessors_make_one_example_of_one():
    def doubled(dataset):
        return dataset.map(lambda example: example | {"targets": tf.concat([example["targets"]] * 2, 0)})

    def every_other(dataset):
        return dataset.filter(lambda example: example["targets"][0] % 2 == 0)

    exact = SeqioFeed(like(), registered("exact_task", IndexedSource(Numbers(3)), doubled))
    assert exact.mixed.has_index == (True,)
    straight = take(exact, 3)
    assert_same(take(exact, 1, straight[1][1])[0][0], straight[2][0])
    assert exact.example_names({"examples": 16}) == [f"exact_task: number {n}" for n in range(16, 24)]
    assert exact.tokenizers is None and exact.splits == [None] and mean_run_frames(exact) == 0
    dropping = SeqioFeed(like(), registered("dropping_task", IndexedSource(Numbers(3)), every_other))
    assert dropping.mixed.has_index == (False,)
    assert dropping.example_names({"examples": 0})[0] == "dropping_task: an example without index"
    assert sum(batch["example_weights"].sum() for batch in dropping.eval_batches()) == 3


def test_a_mixture_draws_by_its_rates_and_goes_on_where_there_is_an_index(capsys):
    """Mixtures within Mixtures too; a Task of rate 0 is not drawn."""
    indexed = registered("indexed_part", IndexedSource(Numbers(3)))
    files = registered("streamed_part", numbered(40))
    unused = registered("unused_part", numbered(40, prefix=11))
    seqio.MixtureRegistry.add("inner", [(files, 1.0), (unused, 0.0)])
    seqio.MixtureRegistry.add("outer", [("inner", 1.0), (indexed, lambda _: 3.0)])
    feed = SeqioFeed(like(), "outer")
    assert [task.name for task in feed.mixed.tasks] == [indexed, files] and feed.mixed.has_index == (True, False)
    drawn = [pair for batch, _ in take(feed, 128) for pair in pairs(batch)]
    assert sum(prefix == 3 for prefix, _ in drawn) == 768 and {prefix for prefix, _ in drawn} == {3, 9}
    streamed = [target for prefix, target in drawn if prefix == 9]
    assert streamed[:43] == [n % 40 + 2 for n in range(43)]
    assert "no index" not in capsys.readouterr().err
    again = [pair for batch, _ in take(feed, 16, {"examples": 8 * 64}) for pair in pairs(batch)]
    told = capsys.readouterr().err
    assert told.count("seqio: streamed_part: no index, so read on from the start of a pass after 512 examples") == 1
    assert [pair for pair in again if pair[0] == 3] == [pair for pair in drawn[512:640] if pair[0] == 3]
    assert [target for prefix, target in again if prefix == 9][:5] == [2, 3, 4, 5, 6]


def test_hosts_share_what_has_no_index_by_shards():
    name = registered("shared_task", numbered(16))
    whole = {pair for batch, _ in take(SeqioFeed(like(), name), 2) for pair in pairs(batch)}
    parts = [
        [pair for batch, _ in take(SeqioFeed(like(), name), 2, rows=rows) for pair in pairs(batch)]
        for rows in (range(0, 4), range(4, 8))
    ]
    assert len(whole) == 16 and not set(parts[0]) & set(parts[1]) and {*parts[0], *parts[1]} == whole
    # Rows that are no neighbours are no shard: such a host takes its rows out of the whole.
    ((batch, _),) = take(SeqioFeed(like(), name), 1)
    ((part, _),) = take(SeqioFeed(like(), name), 1, rows=(1, 2, 6))
    assert_same(part, {key: array[[1, 2, 6]] for key, array in batch.items()})
    for rows in (range(0, 4), (1, 2, 6)):
        (some,) = SeqioFeed(like(max_eval_examples=5), name).eval_batches(rows)
        assert [bool(weight) for weight in some["example_weights"]] == [row < 5 for row in rows]


def test_shuffling_is_the_tasks_and_another_one_after_a_stop():
    feed = SeqioFeed(like(), registered("shuffled_task", numbered(64), shuffle_buffer_size=64))
    first, same, later = (
        [pair for batch, _ in take(feed, 4, {"examples": start}) for pair in pairs(batch)] for start in (0, 0, 8)
    )
    assert first == same != later and first != sorted(first)


def write_cache(folder, name, counts):
    """The files that seqio reads a cached Task from: two shards a split, what is in them, and how many there are."""
    directory = folder / seqio.get_task_dir_from_name(name)
    directory.mkdir()
    for split, count in counts.items():
        for shard in range(2):
            path = f"{seqio.get_cached_tfrecord_prefix(str(directory), split)}-{shard:05d}-of-00002"
            with tf.io.TFRecordWriter(path) as writer:
                for number in range(shard, count, 2):
                    ids = {"prefix": 9, "targets": number + 2}
                    lists = {key: tf.train.Int64List(value=[value]) for key, value in ids.items()}
                    feature = {key: tf.train.Feature(int64_list=values) for key, values in lists.items()}
                    writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        features = {key: {"shape": [None], "dtype": "int32"} for key in FEATURES}
        info = {"num_shards": 2, "features": features, "seqio_version": "0.0.20"}
        for name_of, values in ((seqio.get_cached_info_path, info), (seqio.get_cached_stats_path, {"examples": count})):
            Path(name_of(str(directory), split)).write_text(json.dumps(values))
    (directory / "COMPLETED").touch()


def test_tasks_are_read_from_their_caches(tmp_path):
    cache = seqio.CacheDatasetPlaceholder(required=True)
    name = registered("cached_task", numbered(3), failing, cache)  # whose first preprocessor is never called
    with pytest.raises(UserError, match="cached_task is read from its cache only; give --set SEQIO_CACHE=DIR"):
        take(SeqioFeed(like(), name), 1)
    with pytest.raises(UserError, match="no cache of the seqio Task cached_task; write it with seqio_cache_tasks"):
        take(SeqioFeed(like(), name, cache_dirs=(str(tmp_path),)), 1)
    write_cache(tmp_path, name, {"train": 24, "validation": 5})
    feed = SeqioFeed(like(), name, cache_dirs=(str(tmp_path),))
    assert {pair for batch, _ in take(feed, 3) for pair in pairs(batch)} == {(9, n + 2) for n in range(24)}
    parts = [take(feed, 1, rows=rows)[0][0] for rows in (range(0, 4), range(4, 8))]
    assert {target % 2 for _, target in pairs(parts[0])} == {0} and {target % 2 for _, target in pairs(parts[1])} == {1}
    assert feed.mixed.has_index == (False,)
    assert sum(batch["example_weights"].sum() for batch in feed.eval_batches()) == 5
    plain = registered("plain_task", numbered(24))
    with pytest.raises(UserError, match="no Task of the seqio Mixture plain_task can be cached"):
        take(SeqioFeed(like(), plain, cache_dirs=(str(tmp_path),)), 1)


def failing(dataset):
    raise KeyError("semantic")


def late(dataset):
    return dataset.map(lambda example: example | {"targets": tf.repeat(example["targets"], 999)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "nothing_of_this_name", "there is no seqio Task or Mixture nothing_of_this_name; .*give --module"),
        (lambda: registered("failing_task", numbered(9), failing), "failing_task cannot be read .'semantic'.; see"),
        (
            lambda: registered(
                "typed_task",
                numbered(9),
                lambda dataset: dataset.map(lambda e: {n: tf.cast(v, tf.int64) for n, v in e.items()}),
            ),
            "typed_task cannot be read .*incorrect type.*int64",
        ),
        (lambda: registered("long_task", numbered(9), late), "long_task cannot be read on: .Feature .*targets.* has"),
        (lambda: registered("empty_task", numbered(0)), "empty_task gives no .more. training examples"),
    ],
)
def test_what_cannot_be_read_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        take(SeqioFeed(like(), make()), 1)
    assert "\n" not in str(caught.value)


def test_an_error_of_a_source_keeps_its_line(tmp_path):
    folder = str(write_folder(tmp_path, {"a": 20, "b": 10, "c": 2}))
    feed = SeqioFeed(like((folder,)), "audiolm_coarse")
    (task,) = feed.mixed.tasks
    task.source.examples.source._train  # noqa: B018 - the folder is looked at, its shards are not open yet
    for path in tmp_path.glob("train*.array_record"):
        path.unlink()
    with pytest.raises(UserError, match="train-0000.* is gone; bring the file back and start again") as caught:
        take(feed, 3)
    assert "\n" not in str(caught.value)


def test_mistakes_on_the_command_line_are_one_line(folders, module, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    seqio_mixture = ["--set", "SEQIO_MIXTURE=my_mixture"]
    for args, message in (
        (["--module", module, "--data", "x"], "--module is given, but nothing is read from seqio; give --set SEQIO_MI"),
        (["--set", "SEQIO_CACHE=x", "--data", "x"], "SEQIO_CACHE is given, but nothing is read from seqio"),
        ([*seqio_mixture, "--module", str(tmp_path / "none.py")], "none.py; give --module a Python file"),
        ([*seqio_mixture, "--module", str(broken)], "broken.py cannot be imported (ZeroDivisionError: division by"),
        ([*seqio_mixture, "--module", "no_such_module"], "No module named 'no_such_module'"),
        ([*seqio_mixture, "--module", module, "--data", folders[0]], "my_mixture reads nothing of --data; leave"),
        ([*seqio_mixture, "--set", "MIXTURE=(3,1)", "--module", module], "2 weights for 0 folders of data"),
    ):
        settings = [each for setting in SETTINGS for each in ("--set", setting)]
        assert cli.main(["train", "coarse_small", "--workdir", str(tmp_path / "work"), *settings, *args]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert message in told[-1], told
        assert not (tmp_path / "work").exists()
