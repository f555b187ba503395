"""Feeds: resumed = straight, any number of hosts gives the same global batches, no example lost."""

import itertools
import pickle
import threading

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.data.corpora import sample_cache
from audiolm_jax.data.corpora.corpora import FolderCorpus, open_corpus
from audiolm_jax.data.corpora.voice_activity import num_samples_of
from audiolm_jax.data.feed import record_shards
from audiolm_jax.data.feed.feed import AudioFeed, TokenFeed
from audiolm_jax.data.feed.record_shards import RecordShards
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.manifest import read_manifest
from tests.data.tiny_corpora import flac_announcing, ramp, write_libri_light, write_maestro, write_recording
from tests.data.tiny_records import SIZES, STAGES, write_folder


@pytest.fixture(scope="module")
def corpus_dirs(tmp_path_factory):
    """Two corpora of ramps: sample n of a file holds its place and its file, so that crops tell where they are from."""
    roots = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for number, root in enumerate(roots):
        for speaker in range(5):
            for take in range(1 + 2 * (speaker == 0)):
                (root / f"s{speaker}").mkdir(exist_ok=True)
                samples = (number + 1) * 0.1 + np.arange(600 if take else 90) / 32768 + speaker / 64
                write_audio(root / f"s{speaker}" / f"{take}.wav", Waveform(samples.astype(np.float32), 16_000))
    return roots


@pytest.fixture(scope="module")
def token_dirs(tmp_path_factory):
    roots = [tmp_path_factory.mktemp(name) for name in ("tokens_a", "tokens_b")]
    write_folder(roots[0], {"a": 6, "b": 1, "c": 2, "d": 3}, seed=0)
    write_folder(roots[1], {"x": 2, "y": 2, "z": 2}, seed=50)
    return tuple(map(str, roots))


def audio_feed(corpus_dirs, **settings):
    corpora = tuple(FolderCorpus(root, heldout_speakers=1) for root in corpus_dirs)
    return AudioFeed(corpora, 16_000, crop_samples=200, batch_size=8, **settings)


def token_feed(token_dirs, stage=STAGES[1], **settings):
    return TokenFeed(token_dirs, stage, batch_size=8, **settings)


def take(feed, count, cursor=None, rows=None):
    return list(itertools.islice(feed.batches(cursor or feed.initial_cursor(), rows), count))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.fixture(params=["audio", "tokens"])
def make_feed(request, corpus_dirs, token_dirs):
    if request.param == "audio":
        return lambda **settings: audio_feed(corpus_dirs, gain_db=(-6.0, 6.0), **settings)
    return lambda **settings: token_feed(token_dirs, **settings)


def test_resumed_equals_straight(make_feed):
    straight = take(make_feed(), 6)
    assert [cursor for _, cursor in straight] == [{"examples": 8 * (n + 1)} for n in range(6)]
    resumed = take(make_feed(num_threads=1), 4, straight[1][1])
    for (ours, cursor), (theirs, expected) in zip(resumed, straight[2:], strict=True):
        assert cursor == expected
        assert_same(ours, theirs)


def rows_of(host, hosts, batch_size=8):
    return range(host * batch_size // hosts, (host + 1) * batch_size // hosts)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_give_the_batches_of_one(make_feed, hosts):
    whole = take(make_feed(), 3)
    parts = [take(make_feed(), 3, rows=rows_of(host, hosts)) for host in range(hosts)]
    # Then the run goes on with another number of hosts, from the cursor of any of them.
    later = take(make_feed(), 1, parts[1][2][1])
    assert_same(later[0][0], take(make_feed(), 4)[3][0])
    for step, (batch, cursor) in enumerate(whole):
        assert all(part[step][1] == cursor for part in parts)
        assert_same({name: np.concatenate([part[step][0][name] for part in parts]) for name in batch}, batch)
    evaluations = [list(make_feed().eval_batches(rows_of(host, hosts))) for host in range(hosts)]
    for step, batch in enumerate(make_feed().eval_batches()):
        assert_same({name: np.concatenate([part[step][name] for part in evaluations]) for name in batch}, batch)
    assert len({len(part) for part in evaluations}) == 1


def test_a_run_goes_on_with_another_number_of_hosts(make_feed):
    straight = [batch for batch, _ in take(make_feed(), 4)]
    cursor = make_feed().initial_cursor()
    for step, hosts in enumerate((1, 2, 4, 1)):
        parts = [take(make_feed(), 1, cursor, rows_of(host, hosts))[0] for host in range(hosts)]
        together = {name: np.concatenate([part[name] for part, _ in parts]) for name in straight[step]}
        assert_same(together, straight[step])
        cursor = parts[-1][1]


def test_a_host_that_can_read_nothing_evaluates_as_often_as_the_others(make_feed, monkeypatch):
    feed = make_feed()
    count = len(list(feed.eval_batches(range(4))))
    monkeypatch.setattr(type(feed), "heldout_example", lambda self, index: None)
    blank = list(feed.eval_batches(range(4)))
    assert len(blank) == count > 0
    assert not any(array.any() for batch in blank for array in batch.values())


def test_examples_have_names(make_feed, corpus_dirs, token_dirs):
    names = make_feed().example_names({"examples": 16})
    assert len(names) == 8 and all(name.startswith(tuple(map(str, (*corpus_dirs, *token_dirs)))) for name in names)


def test_worker_processes_give_the_batches_of_threads(make_feed):
    expected = take(make_feed(), 3)
    for (ours, cursor), (theirs, after) in zip(take(make_feed(num_workers=2), 3), expected, strict=True):
        assert_same(ours, theirs)
        assert cursor == after


def test_a_worker_process_gets_the_list_and_the_decision_but_no_decoded_recordings(corpus_dirs):
    feed = audio_feed(corpus_dirs)
    expected = take(feed, 1)
    copy = pickle.loads(pickle.dumps(feed))
    assert feed._cache._samples and "_cache" not in copy.__dict__
    assert copy.__dict__["_reads_crops"] is False and "listing" in copy.corpora[0].__dict__
    assert_same(take(copy, 1)[0][0], expected[0][0])


def test_heldout_batches_are_read_ahead(make_feed, monkeypatch):
    feed, threads = make_feed(), set()
    real = type(feed).heldout_example
    assert len(list(feed.eval_batches())) > 0
    monkeypatch.setattr(
        type(feed), "heldout_example", lambda self, index: threads.add(threading.get_ident()) or real(self, index)
    )
    assert len(list(feed.eval_batches())) > 0
    assert threads and threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "is gone; bring the file back and start again"),
        (lambda path: path.write_bytes(path.read_bytes()[:60_000]), "is damaged or another one: it holds 0 records"),
        (lambda path: path.write_bytes(path.read_bytes()[:70] + b"\xff" * 8000), "cannot read record|is damaged"),
    ],
)
def test_a_shard_that_breaks_while_it_trains_is_named_in_one_line(tmp_path, damage, told):
    write_folder(tmp_path, {"a": 20, "b": 10, "c": 2})
    feed = TokenFeed((str(tmp_path),), STAGES[1], batch_size=8)
    assert feed.source.num_training_records == 30
    batches = feed.batches(feed.initial_cursor())
    feed.source._train  # noqa: B018 - the folder is looked at, its shards are not open yet
    for path in tmp_path.glob("train*.array_record"):
        damage(path)
    with pytest.raises(UserError, match=told) as raised:
        list(itertools.islice(batches, 10))
    assert "train-0000" in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_that_lacks_a_shard_is_refused_at_the_start(tmp_path):
    write_folder(tmp_path, {"a": 20, "b": 10, "c": 2})
    (tmp_path / "train-00001-of-00002.array_record").unlink()
    with pytest.raises(UserError, match="lacks train-00001-of-00002.array_record; copy the folder"):
        token_feed((str(tmp_path),)).example(0)


def test_few_shards_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(record_shards, "_MAX_OPEN_SHARDS", 1)
    write_folder(tmp_path, {"a": 20, "b": 10, "c": 2})
    shards = RecordShards(tmp_path, read_manifest(tmp_path).shards_of("train"))
    keys = [record.key for record in shards]
    assert [shards[index].key for index in (0, 29, 0)] == [keys[0], keys[29], keys[0]] and len(set(keys)) == 30
    assert len(shards._readers) == 1
    with pytest.raises(IndexError):
        shards[30]


def test_a_host_may_hold_rows_that_are_no_neighbours(make_feed):
    rows = (1, 2, 6)
    (whole, _), (part, _) = take(make_feed(), 1)[0], take(make_feed(), 1, rows=rows)[0]
    assert_same(part, {name: array[list(rows)] for name, array in whole.items()})


def test_batch_shapes_are_those_of_the_batches(make_feed):
    feed = make_feed()
    pairs = (take(feed, 1)[0][0], feed.batch_shapes()), (next(feed.eval_batches()), feed.eval_batch_shapes())
    for batch, shapes in pairs:
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
            name: (shape.shape, shape.dtype) for name, shape in shapes.items()
        }


def test_rows_outside_the_batch_raise(make_feed):
    with pytest.raises(ValueError, match="not of a global batch"):
        take(make_feed(), 1, rows=range(6, 9))


def test_audio_crops_are_what_the_files_hold(corpus_dirs):
    feed = audio_feed(corpus_dirs, weights=(1.0, 1.0))
    sources = set()
    for batch, _ in take(feed, 12):
        assert batch["samples"].shape == (8, 200) and batch["samples"].dtype == np.float32
        assert batch["num_samples"].dtype == np.int32
        for samples, length in zip(batch["samples"], batch["num_samples"], strict=True):
            np.testing.assert_allclose(np.diff(samples[:length]), 1 / 32768, atol=1e-7)
            assert length in (90, 200) and not samples[length:].any()
            sources.add(samples[0] < 0.175)
    assert sources == {True, False}


@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.2), (5, 3, 2)])
def test_a_long_draw_holds_every_folder_by_its_weight(corpus_dirs, token_dirs, weights):
    """Whatever the number of speakers in each, and whatever the weights sum to."""
    audio = audio_feed([*corpus_dirs, corpus_dirs[0]], weights=weights)
    tokens = token_feed((*token_dirs, token_dirs[0]), weights=weights)
    for order in (audio.order, tokens.source.order):
        drawn = np.bincount([order.slot(index)[0] for index in range(10 * 1024)], minlength=3)
        np.testing.assert_allclose(drawn / drawn.sum(), (0.5, 0.3, 0.2), atol=1 / 1024)
        # Any stretch of training is mixed, not only the whole of it.
        some = np.bincount([order.slot(index)[0] for index in range(300, 500)], minlength=3)
        np.testing.assert_allclose(some / 200, (0.5, 0.3, 0.2), atol=0.1)
    # And the recordings that are read are those of the drawn folders: the second one is 0.1 louder.
    second = [audio.example(index)["samples"][0] > 0.175 for index in range(400)]
    assert np.mean(second) == pytest.approx(0.3, abs=0.06)


def test_hours_weigh_folders_by_their_sound_and_not_by_their_speakers(tmp_path, token_dirs, capsys):
    """Three hours for one in sound, one for four in speakers; a recording that nobody can read has no length."""
    for speaker, num_samples in (("long/a/x.wav", 36_000), ("short/a/x.wav", 8_000), ("short/b/y.wav", 4_000)):
        write_recording(tmp_path / speaker, ramp(num_samples))
    for speaker in "cd":
        (tmp_path / "short" / speaker).mkdir()
        (tmp_path / "short" / speaker / "z.wav").write_text("no audio")
    corpora = tuple(FolderCorpus(tmp_path / name, heldout_speakers=0) for name in ("long", "short"))
    assert AudioFeed(corpora, 16_000, 200, 8, weights="hours").order.shares == (768.0, 256.0)
    assert AudioFeed(corpora, 16_000, 200, 8).order.shares[0] < 256
    copy = pickle.loads(pickle.dumps(AudioFeed(corpora, 16_000, 200, 8, weights="hours")))
    assert copy.__dict__["_shares"] == (2.25, 0.75), "a worker reads no headers again"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.wav").write_text("no audio")
    unreadable = (*corpora, FolderCorpus(tmp_path / "none", heldout_speakers=0))
    with pytest.raises(UserError, match="holds no recording to train on that can be read; leave it out"):
        AudioFeed(unreadable, 16_000, 200, 8, weights="hours").order  # noqa: B018
    assert "lengths of recordings" not in capsys.readouterr().err, "no bar where nobody looks"

    order = token_feed(token_dirs, weights="hours").source.order
    seconds = [
        sum(record.num_samples for record in RecordShards(folder, read_manifest(folder).shards_of("train"))) / 16_000
        for folder in token_dirs
    ]
    assert order.shares == tuple(float(round(1024 * each / sum(seconds))) for each in seconds)
    assert order.shares != token_feed(token_dirs).source.order.shares


def test_the_list_of_a_corpus_tells_its_seconds_where_it_knows_them(tmp_path):
    root = write_libri_light(tmp_path / "unlab")
    corpus = open_corpus("libri_light", root, 1, cache_dir=tmp_path, segment_seconds=1.0)
    for part in (corpus.train, corpus.heldout, corpus.train[1:3]):
        assert len(part) and part.seconds == sum(num_samples_of(u.ranges) for u in part) / 16_000
        cache = sample_cache.SampleCache(8_000, 0)
        assert cache.seconds(part) == part.seconds
    maestro = open_corpus("maestro", write_maestro(tmp_path / "maestro"), cache_dir=tmp_path)
    assert maestro.train.seconds is None and sample_cache.SampleCache(16_000, 0).seconds(maestro.train) == 0.75


def test_weights_that_are_not_one_for_each_folder_are_refused(corpus_dirs, token_dirs):
    for make in (lambda weights: audio_feed(corpus_dirs, weights=weights),
                 lambda weights: token_feed(token_dirs, weights=weights)):  # fmt: skip
        with pytest.raises(UserError, match="^3 weights for 2 folders of data; give one for each --data"):
            make((1.0, 1.0, 1.0))
        with pytest.raises(UserError, match="each must be above 0"):
            make((1.0, -1.0))


def test_gain_never_clips(corpus_dirs):
    plain, loud = (take(audio_feed(corpus_dirs, gain_db=gain), 4) for gain in (None, (18.0, 40.0)))
    for (quiet, _), (batch, _) in zip(plain, loud, strict=True):
        peaks = np.abs(batch["samples"]).max(axis=1)
        assert np.all(peaks <= 0.991) and np.all(peaks > 0.9)
        ratio = batch["samples"][:, :90] / quiet["samples"][:, :90]
        np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(90), rtol=1e-5)


def test_audio_evaluation_holds_every_heldout_recording_once(corpus_dirs):
    feed = audio_feed(corpus_dirs)
    batches = list(feed.eval_batches())
    total = sum(len(corpus.heldout) for corpus in feed.corpora)
    weights = np.concatenate([batch["example_weights"] for batch in batches])
    assert weights.sum() == total and len(weights) == 8 * len(batches)
    assert not np.concatenate([batch["samples"] for batch in batches])[weights == 0].any()


def test_without_cache_the_batches_are_the_same(corpus_dirs):
    for (ours, _), (theirs, _) in zip(
        take(audio_feed(corpus_dirs), 3), take(audio_feed(corpus_dirs, cache_bytes=0), 3), strict=True
    ):
        assert_same(ours, theirs)


@pytest.mark.parametrize("kind", ["folder", "maestro"])
def test_corpora_larger_than_the_cache_are_read_crop_by_crop(tmp_path, monkeypatch, kind):
    """At other rates than the feed's too, and where the list of the corpus knows nothing of the rates."""
    root = write_maestro(tmp_path / "corpus")  # a folder of WAV files as well
    corpus = open_corpus(kind, root, heldout_speakers=1, cache_dir=tmp_path / "index")
    decoded = []
    real = sample_cache.read_utterance
    monkeypatch.setattr(
        sample_cache, "read_utterance", lambda part, hz: decoded.append(num_samples_of(part.ranges)) or real(part, hz)
    )
    whole, crops = (AudioFeed((corpus,), 16_000, 800, 4, cache_bytes=n) for n in (1 << 30, 1 << 10))
    batches = take(whole, 4)
    decoded.clear()
    for (ours, _), (theirs, _) in zip(take(crops, 4), batches, strict=True):
        np.testing.assert_array_equal(ours["num_samples"], theirs["num_samples"])
        assert np.abs(ours["samples"] - theirs["samples"]).max() <= 1 / 32768
    # 800 samples at 16 kHz are 2400 at 48 kHz; with the resampler's margins well below the 12,000 of the shortest file.
    assert len(decoded) >= 16 and 0 < min(decoded) and max(decoded) < 6_000


def test_unreadable_recordings_are_told_and_replaced(corpus_dirs, tmp_path, capsys):
    for name, data in (("a/x.wav", b""), ("b/x.wav", (corpus_dirs[0] / "s1" / "0.wav").read_bytes())):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    settings = {"heldout_speakers": 0}
    feed = AudioFeed((FolderCorpus(tmp_path, **settings),), 16_000, 50, 4)
    first = take(feed, 3)
    assert all(batch["samples"].any(axis=1).all() for batch, _ in first)
    assert capsys.readouterr().err.count("left out:") == 1
    (tmp_path / "b" / "x.wav").write_bytes(b"")
    feed = AudioFeed((FolderCorpus(tmp_path, **settings),), 16_000, 50, 4)
    with pytest.raises(UserError, match="could not be read"):
        feed.example(0)


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0])
def test_damaged_files_leave_out_themselves_alone(tmp_path, capsys, cache_bytes):
    for number, speaker in enumerate("abc"):
        write_recording(tmp_path / speaker / "good.wav", ramp(16_000, number))
    for speaker, num_samples in (("a", 2**36 - 1), ("b", 2**31), ("x", 2**36 - 1)):
        (tmp_path / speaker).mkdir(exist_ok=True)
        (tmp_path / speaker / "huge.flac").write_bytes(flac_announcing(num_samples))
    (tmp_path / "b/text.wav").write_text("this is not audio")
    feed = AudioFeed((FolderCorpus(tmp_path, heldout_speakers=0),), 16_000, 16_000, 4, cache_bytes=cache_bytes)
    for batch, _ in take(feed, 8):
        assert list(batch["num_samples"]) == [16_000] * 4 and batch["samples"].any(axis=1).all()
    told = capsys.readouterr().err.splitlines()
    assert told and all(line.startswith("left out: ") for line in told)
    assert sorted({line.split()[2].removeprefix(f"{tmp_path}/") for line in told}) == [
        "a/huge.flac", "b/huge.flac", "b/text.wav", "x/huge.flac"
    ]  # fmt: skip


def test_token_feed_gives_the_stage_schema(token_dirs):
    for stage in STAGES:
        feed = token_feed(token_dirs, stage)
        batch, _ = take(feed, 1)[0]
        assert batch["ids"].shape == batch["loss_weights"].shape == (8, stage.sequence_length)
        assert batch["ids"].dtype == np.int32 and batch["loss_weights"].dtype == np.float32
        assert batch["ids"].max() < stage.layout.vocab_size
        targets = stage.layout.decode(batch["ids"][batch["loss_weights"] > 0])
        assert not np.any(batch["ids"][batch["loss_weights"] > 0] == 0)
        assert targets.level.min() >= 0
        evaluation = list(feed.eval_batches())
        assert sum(b["example_weights"].sum() for b in evaluation) == feed.num_eval_examples
        few = token_feed(token_dirs, stage, max_eval_examples=3)
        assert sum(b["example_weights"].sum() for b in few.eval_batches()) == 3


def test_token_feed_refuses_what_does_not_fit(token_dirs, tmp_path):
    import dataclasses

    other = write_folder(tmp_path / "other", {"p": 2, "q": 2}, sizes=dataclasses.replace(SIZES, codec_fingerprint="cc"))
    with pytest.raises(UserError, match="different tokenizers"):
        token_feed((token_dirs[0], str(other))).example(0)
    with pytest.raises(UserError, match="holds no token records; give a folder that `audiolm tokenize` wrote"):
        token_feed((str(tmp_path),)).example(0)
    wrong = dataclasses.replace(STAGES[0], layout=dataclasses.replace(STAGES[0].layout, semantic_vocab=99))
    with pytest.raises(UserError, match="semantic_vocab = 99"):
        token_feed(token_dirs, wrong).example(0)
    with pytest.raises(UserError, match="at least one folder"):
        token_feed(()).example(0)
