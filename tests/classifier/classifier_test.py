"""The clip classifier: shapes, batch normalisation, what it learns, and which clips it is fed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.classifier.augmentation import Augmentation, change_log_mel, change_samples
from audiolm_jax.classifier.feed import ClipFeed, LabelledFolders, windows
from audiolm_jax.classifier.learner import ClipClassifierLearner
from audiolm_jax.classifier.network import ClipClassifier, ClipClassifierConfig, clip_outputs, log_mel
from audiolm_jax.errors import UserError
from audiolm_jax.training.optimization.optimizers import adam
from tests.classifier.two_voices import CONFIG, RATE_HZ, voice, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("voices"))


def feed_of(folder, **changes):
    return ClipFeed(LabelledFolders((str(folder),)), RATE_HZ, CONFIG.clip_seconds, batch_size=8, **changes)


@pytest.fixture(scope="module")
def trained(folder):
    """A learner, its state after 40 updates, and the metrics of the last."""
    learner = ClipClassifierLearner(CONFIG, adam(1e-2, 5, 40, "cosine"))
    feed = feed_of(folder)
    batches = feed.batches(feed.initial_cursor())
    state = learner.init(jax.random.key(0), next(batches)[0])
    step = jax.jit(learner.train_step)
    for number in range(40):
        state, metrics = step(state, next(batches)[0], jax.random.key(number))
    return learner, state, metrics


def test_the_papers_network_has_a_hundred_frames_and_its_number_of_weights():
    config = ClipClassifierConfig(tuple(f"s{number}" for number in range(291)))
    assert log_mel(config, jnp.zeros((2, 16000))).shape == (2, 100, 64)
    shapes = jax.eval_shape(
        lambda: ClipClassifier(config).init(jax.random.key(0), jnp.zeros((1, 100, 64)), deterministic=True)["params"]
    )
    kernels = 0
    for narrow, wide in zip((1, *config.channels), config.channels, strict=False):
        kernels += 3 * narrow * wide + 3 * wide * wide + 4 * wide  # two kernels, two biases, scale and bias of the norm
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == kernels + 512 * 291 + 291


def test_a_configuration_survives_json_and_refuses_what_cannot_be():
    assert ClipClassifierConfig.from_plain(CONFIG.to_plain()) == CONFIG
    with pytest.raises(UserError, match="differ in 'depth'"):
        ClipClassifierConfig.from_plain({**CONFIG.to_plain(), "depth": 3})
    with pytest.raises(UserError, match="two classes"):
        ClipClassifierConfig(("alone",))
    with pytest.raises(UserError, match="halve 5 frames"):
        ClipClassifierConfig(("a", "b"), clip_seconds=0.05)


def test_it_learns_two_voices_and_counts_recordings_by_all_their_windows(folder, trained):
    learner, state, metrics = trained
    assert metrics["accuracy"].value == 1.0
    (batch,) = feed_of(folder).eval_batches()
    assert batch["example_weights"].sum() == 2
    held_out = jax.jit(learner.eval_step)(state, batch)
    assert held_out["accuracy"].value == 1.0 and held_out["accuracy"].weight == 2
    assert held_out["window_accuracy"].weight == batch["window_weights"].sum()


def test_rows_and_windows_without_weight_change_nothing(folder, trained):
    learner, state, _ = trained
    (batch,) = feed_of(folder).eval_batches()
    spoilt = {name: np.array(value) for name, value in batch.items()}
    spoilt["samples"][spoilt["window_weights"] == 0] = 1.0
    spoilt["labels"][spoilt["example_weights"] == 0] = 1
    before, after = (jax.jit(learner.eval_step)(state, each) for each in (batch, spoilt))
    assert {name: metric.value for name, metric in before.items()} == {name: m.value for name, m in after.items()}


def test_statistics_run_in_training_only_and_a_row_does_not_depend_on_others(trained):
    learner, state, _ = trained
    batch = {
        "samples": np.stack([voice("reconstruction", seed, CONFIG.clip_seconds) for seed in range(4)]),
        "labels": np.ones(4, np.int32),
    }
    after, _ = jax.jit(learner.train_step)(state, batch, jax.random.key(0))
    before = jax.tree.leaves(state.collections)
    moved = [not np.array_equal(*pair) for pair in zip(before, jax.tree.leaves(after.collections), strict=True)]
    assert all(moved) and after.step == state.step + 1
    variables = {"params": state.params, **state.collections}
    alone = clip_outputs(CONFIG, variables, batch["samples"][:1])
    together = clip_outputs(CONFIG, variables, batch["samples"])
    for one, all_rows in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], all_rows[0], atol=1e-5)
    np.testing.assert_allclose(np.exp(together[0]).sum(axis=1), 1, atol=1e-5)


def test_batches_are_functions_of_the_index_and_balanced(folder):
    feed = feed_of(folder)
    batches = feed.batches(feed.initial_cursor())
    (_, cursor), (second, _) = next(batches), next(batches)
    again, _ = next(feed.batches(cursor))
    for name in second:
        np.testing.assert_array_equal(second[name], again[name])
    assert np.bincount(second["labels"]).tolist() == [4, 4]


def test_clips_avoid_pauses_and_short_recordings_are_repeated(tmp_path):
    loud = voice("reconstruction", 0, 0.5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        samples = np.concatenate([np.zeros(8000, np.float32), loud])
        write_audio(tmp_path / name / "pause.wav", Waveform(samples, RATE_HZ))
    feed = feed_of(tmp_path)
    power = [float(np.mean(np.square(feed.example(index)["samples"]))) for index in range(40)]
    assert min(power) > 1e-5  # a third of all places are silent
    short = voice("reconstruction", 0, 0.1)
    repeated = windows(short, 4000, 1000)
    assert repeated.shape == (1, 4000)
    np.testing.assert_array_equal(repeated[0, 1600:3200], short)
    assert windows(np.arange(6500, dtype=np.float32), 4000, 1000)[:, 0].tolist() == [0, 1000, 2000]


def test_a_tenth_of_a_class_is_held_out_unless_it_has_one_recording(tmp_path):
    for key in [*(f"many/{number}" for number in range(20)), "few/0", "few/1", "one/0"]:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / f"{key}.wav").touch()
    recordings = LabelledFolders((str(tmp_path),))
    assert recordings.class_names == ("few", "many", "one")
    assert sorted(utterance.speaker for utterance in recordings.heldout) == ["few", "many", "many"]
    assert {u.key for u in recordings.train}.isdisjoint(u.key for u in recordings.heldout)
    assert LabelledFolders((str(tmp_path),), seed=1).heldout != recordings.heldout


def test_what_was_made_from_one_speaker_is_held_out_together(folder):
    recordings = LabelledFolders((str(folder),), heldout_share=0.25, heldout_level=1)
    assert len(recordings.heldout) == 2
    assert len({utterance.key.split("/")[1] for utterance in recordings.heldout}) == 1
    twice = LabelledFolders((str(folder / "continuation"), str(folder / "reconstruction")))
    assert all(u.key.startswith(("continuation/", "reconstruction/")) for u in twice.utterances)


def test_augmentation_is_off_by_default_and_bounded():
    samples = jnp.asarray(voice("reconstruction", 0, 0.25))[None]
    mel = log_mel(CONFIG, samples)
    key = jax.random.key(0)
    np.testing.assert_array_equal(change_samples(samples, key, Augmentation()), samples)
    np.testing.assert_array_equal(change_log_mel(mel, key, Augmentation(), 2.0), mel)
    louder = change_samples(samples, key, Augmentation(gain_db=6.0)) / samples
    assert np.ptp(louder) < 1e-3 and 0.5 <= float(louder[0, 0]) <= 2.0
    masked = change_log_mel(mel, key, Augmentation(masked_mels=64), 2.0)
    whole = np.all(np.asarray(masked) == float(jnp.mean(mel)), axis=1)[0]
    assert 0 < whole.sum() <= 64 and np.all(np.diff(np.flatnonzero(whole)) == 1)
    for field in ("tilt_db", "jitter_db", "patch_db", "blur"):
        changed = change_log_mel(mel, key, dataclasses.replace(Augmentation(), **{field: 1.0}), 2.0)
        assert 0 < float(jnp.max(jnp.abs(changed - mel))) < 5.0
    with pytest.raises(UserError, match="negative"):
        Augmentation(jitter_db=-1.0)
