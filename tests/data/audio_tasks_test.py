"""seqio gives the crops of the audio feed, and reads what TFDS has prepared, on any number of hosts."""

import itertools

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")
tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("apache_beam")

from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402

from audiolm_jax.data.corpora.corpora import FolderCorpus, LibriLightCorpus, MaestroCorpus  # noqa: E402
from audiolm_jax.data.feed.feed import AudioFeed  # noqa: E402
from audiolm_jax.data.seqio.audio_tasks import (  # noqa: E402
    audio_dataset,
    register_feed_tasks,
    register_tfds_task,
)
from audiolm_jax.data.seqio.feed import SeqioFeed  # noqa: E402
from audiolm_jax.data.seqio.tfds_corpus import (  # noqa: E402
    tfds_libri_light,
    tfds_libri_speech,
    tfds_maestro,
)
from audiolm_jax.errors import UserError  # noqa: E402
from tests.data.tiny_corpora import RATE_HZ, ramp, write_libri_light, write_maestro, write_recording  # noqa: E402

CROP = 5000


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A folder with a file that cannot be read on either side, Libri-Light, MAESTRO."""
    root = tmp_path_factory.mktemp("corpora")
    for number in range(8):
        write_recording(root / "folder" / f"s{number}" / "x.wav", ramp(3000 + 1000 * number, number))
        (root / "folder" / f"s{number}" / "broken.wav").write_text("no audio")
    write_libri_light(root / "unlab")
    write_maestro(root / "maestro")
    return (
        FolderCorpus(root / "folder", heldout_speakers=2),
        LibriLightCorpus(root / "unlab", heldout_speakers=1, segment_seconds=1.0, cache_dir=root / "cache"),
        MaestroCorpus(root / "maestro"),
    )


def feed_of(corpora, **settings):
    settings = {"seed": 3, "weights": (2.0, 1.0, 1.0), "gain_db": (-6.0, 6.0), **settings}
    return AudioFeed(corpora, RATE_HZ, CROP, batch_size=4, **settings)


def take(name, count, split="train", **settings):
    dataset = audio_dataset(name, CROP, split, **settings)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_mixture_is_its_feed(corpora):
    feed = feed_of(corpora)
    tasks = register_feed_tasks(feed, ("folder", "libri_light", "maestro"), "audio_test")
    assert tasks == ("audio_test_folder", "audio_test_libri_light", "audio_test_maestro")
    for index, example in enumerate(take("audio_test", 60)):
        assert_same(example, feed.example(index))
    num_heldout = sum(len(corpus.heldout) for corpus in corpora)
    readable = [example for n in range(num_heldout) if (example := feed.heldout_example(n)) is not None]
    found = take("audio_test", 100, "validation")
    assert len(found) == len(readable) == num_heldout - 2
    for ours, theirs in zip(found, readable, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("rows", [None, (0, 1), (2, 3), (0, 3)])
def test_a_training_from_a_mixture_has_the_batches_of_its_feed(corpora, rows, capsys):
    """The folders of --data are registered by the names of their folders; what cannot be read counts nowhere."""
    like = feed_of(corpora)
    feed = SeqioFeed(like, "audiolm_audio")
    for cursor in (feed.initial_cursor(), {"examples": 4 * 300}):
        pairs = zip(like.batches(cursor, rows), feed.batches(cursor, rows), strict=False)
        for (theirs, after), (ours, cursor) in itertools.islice(pairs, 10):
            assert_same(ours, theirs)
            assert cursor == after
    theirs, ours = (list(each.eval_batches(rows)) for each in (like, feed))
    assert len(theirs) == len(ours)
    weights = [sum(batch["example_weights"].sum() for batch in each) for each in (theirs, ours)]
    assert weights[0] == weights[1] > 0
    assert feed.example_names({"examples": 8})[0].split(": ")[1] == like.example_names({"examples": 8})[0]
    assert (feed.splits, feed.corpora) == (like.splits, list(corpora))
    assert (feed.crop_samples, feed.sample_rate_hz) == (CROP, RATE_HZ)
    assert "no index" not in capsys.readouterr().err


def test_a_task_alone_knows_speaker_and_key(corpora):
    feed = feed_of(corpora[1:2], weights=None)
    (task,) = register_feed_tasks(feed, ("libri_light",), "alone_test")
    dataset = seqio.get_mixture_or_task(task).get_dataset({"samples": CROP}, "train", shuffle=False)
    for index, example in enumerate(itertools.islice(dataset.as_numpy_iterator(), 20)):
        utterance, expected = feed.drawn_example(index)
        assert (example["speaker"].decode(), example["key"].decode()) == (utterance.speaker, utterance.key)
        np.testing.assert_array_equal(example["samples"], expected["samples"][: expected["num_samples"]])


def test_hosts_share_the_examples_of_a_task(corpora):
    task = register_feed_tasks(feed_of(corpora), ("a", "b", "c"), "hosts_test")[1]
    whole = take(task, 12)
    for host in range(3):
        part = take(task, 4, shard_info=seqio.ShardInfo(index=host, num_shards=3))
        for ours, theirs in zip(part, whole[host::3], strict=True):
            assert_same(ours, theirs)


def test_crops_read_alone_are_those_of_the_whole_segments(corpora):
    whole, alone = feed_of(corpora, weights=None), feed_of(corpora, weights=None, cache_bytes=1000)
    lengths = set()
    for index in range(40):
        assert_same(alone.example(index), whole.example(index))
        lengths.add(int(whole.example(index)["num_samples"]))
    assert CROP in lengths and len(lengths) > 1
    assert alone._reads_crops and not whole._reads_crops
    assert not any(key.endswith("_0000") and "unlab" in key for key in alone._cache._samples)


def test_shuffling_and_wrong_names_are_refused(corpora):
    feed = feed_of(corpora)
    task = register_feed_tasks(feed, ("a", "b", "c"), "refusing_test")[0]
    with pytest.raises(ValueError, match="shuffle"):
        seqio.get_mixture_or_task(task).get_dataset({"samples": CROP}, "train", shuffle=True)
    with pytest.raises(UserError, match="3 corpora, but the names are a, b"):
        register_feed_tasks(feed, ("a", "b"))


@pytest.fixture(scope="module")
def prepared_dir(corpora, tmp_path_factory):
    """TFDS's own LibriSpeech with its own features and splits but a few recordings, and our builders' datasets."""
    data_dir = tmp_path_factory.mktemp("prepared")
    builder = tfds.builder("librispeech", data_dir=data_dir)
    splits = ("train_clean100", "train_clean360", "train_other500", "dev_clean", "dev_other", "test_clean")
    splits += ("test_other",)

    def examples_of(speaker):
        for chapter in range(3):
            key = f"{speaker}-{chapter}-0000"
            speech = ramp(2000 + 3000 * chapter, speaker)
            ids = {"speaker_id": speaker, "chapter_id": chapter, "id": key}
            yield key, {"speech": speech, "text": "NORTHANGER ABBEY", **ids}

    builder._split_generators = lambda dl_manager: {name: examples_of(n + 1) for n, name in enumerate(splits)}
    builder.download_and_prepare()
    for name, manual_dir in (("audiolm_libri_light/unlab-600", corpora[1].root), ("audiolm_maestro", corpora[2].root)):
        config = tfds.download.DownloadConfig(manual_dir=manual_dir, beam_runner=FnApiRunner())
        tfds.builder(name, data_dir=data_dir).download_and_prepare(download_config=config)
    return str(data_dir)


def task_examples(name, count, split="train", **settings):
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset({"samples": CROP}, split, shuffle=False, trim_output_features=False, **settings)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def test_libri_speech_is_read_from_tfds_own_dataset(prepared_dir, capsys):
    register_tfds_task("prepared_libri_speech", tfds_libri_speech(prepared_dir), RATE_HZ, CROP, seed=5)
    passes = task_examples("prepared_libri_speech", 27)
    keys = [example["key"].decode() for example in passes]
    assert keys[:9] == keys[9:18] and len(set(keys[:9])) == 9
    for example in passes:
        speaker, chapter, _ = map(int, example["key"].decode().split("-"))
        whole = ramp(2000 + 3000 * chapter, speaker).astype(np.float32) / 32768
        samples = example["samples"]
        assert example["speaker"].decode() == str(speaker) and len(samples) == min(CROP, len(whole))
        starts = np.flatnonzero(whole == samples[0])
        assert any(np.array_equal(whole[start : start + len(samples)], samples) for start in starts)
    # A training that begins there again after a stop has other crops, and says where it begins.
    feed = SeqioFeed(AudioFeed((), RATE_HZ, CROP, batch_size=9, seed=5), "prepared_libri_speech")
    straight = [batch for batch, _ in itertools.islice(feed.batches(feed.initial_cursor()), 2)]
    assert "no index" not in capsys.readouterr().err
    again = next(feed.batches({"examples": 9}))[0]
    assert "prepared_libri_speech: no index, so read on from the start of a pass after 9" in capsys.readouterr().err
    np.testing.assert_array_equal(straight[0]["num_samples"], again["num_samples"])
    assert not any(np.array_equal(batch["samples"], again["samples"]) for batch in straight)
    # Another pass has other crops.
    firsts = [[example["samples"][0] for example in passes[n : n + 9]] for n in (0, 9, 18)]
    assert firsts[0] != firsts[1] != firsts[2]
    heldout = task_examples("prepared_libri_speech", 99, "validation")
    speakers = [{example["speaker"] for example in side} for side in (passes, heldout)]
    assert len(heldout) == 3 and not speakers[0] & speakers[1]


def test_hosts_share_a_prepared_dataset(prepared_dir):
    register_tfds_task("prepared_shared", tfds_libri_speech(prepared_dir), RATE_HZ, CROP, seed=5)
    whole = {example["key"]: example["samples"] for example in task_examples("prepared_shared", 9)}
    found = {}
    for host in range(2):
        shard = seqio.ShardInfo(index=host, num_shards=2)
        dataset = seqio.get_mixture_or_task("prepared_shared").source.get_dataset("train", False, None, shard)
        keys = [example["key"] for example in itertools.islice(dataset.as_numpy_iterator(), 9)]
        num_mine = len(set(keys))
        assert keys[0] == keys[num_mine]
        found |= {e["key"]: e["samples"] for e in itertools.islice(dataset.as_numpy_iterator(), num_mine)}
    assert found.keys() == whole.keys()
    for key, samples in found.items():
        np.testing.assert_array_equal(samples, whole[key])


def test_all_corpora_are_one_mixture(prepared_dir):
    shares = {"mixed_libri_light": 2.0, "mixed_maestro": 1.0, "mixed_libri_speech": 1.0}
    corpora = (tfds_libri_light(prepared_dir, "unlab-600"), tfds_maestro(prepared_dir))
    for name, corpus in zip(shares, (*corpora, tfds_libri_speech(prepared_dir)), strict=True):
        register_tfds_task(name, corpus, RATE_HZ, CROP, gain_db=(-6.0, 6.0))
    if "mixed" not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add("mixed", list(shares.items()))
    found = take("mixed", 40)
    assert all(example["samples"].shape == (CROP,) and 0 < example["num_samples"] <= CROP for example in found)
    again = take("mixed", 40)
    for ours, theirs in zip(found, again, strict=True):
        assert_same(ours, theirs)
    sizes = [len(task_examples(name, 99, "validation")) for name in shares]
    like = AudioFeed((), RATE_HZ, CROP, batch_size=4, seed=1)
    feed = SeqioFeed(like, "mixed")
    assert min(sizes) > 0 and sum(batch["example_weights"].sum() for batch in feed.eval_batches()) == sum(sizes)
    assert feed.splits == [None] * 3 and feed.corpora == []
    batch, after = next(feed.batches(feed.initial_cursor()))
    assert after == {"examples": 4} and batch["samples"].shape == (4, CROP) and batch["num_samples"].min() > 0


def test_another_rate_is_resampled(prepared_dir):
    register_tfds_task("prepared_slow", tfds_maestro(prepared_dir), 8_000, CROP)
    assert [len(e["samples"]) for e in task_examples("prepared_slow", 3)] == [2000] * 3


def test_mistakes_with_prepared_datasets_are_user_errors(prepared_dir, tmp_path):
    register_tfds_task("missing_test", tfds_libri_speech(str(tmp_path)), RATE_HZ, CROP)
    command = "python -m audiolm_jax.data.seqio.prepare_tfds librispeech"
    with pytest.raises(UserError, match=f"no prepared librispeech; run {command}"):
        task_examples("missing_test", 1)
    register_tfds_task("split_test", tfds_libri_speech(prepared_dir, heldout="dev"), RATE_HZ, CROP)
    with pytest.raises(UserError, match="has the splits .*dev_clean.*; got dev"):
        task_examples("split_test", 1, "validation")
