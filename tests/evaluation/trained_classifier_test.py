"""Classifiers on whole recordings, the speaker and detector measurements, and how bundles carry them."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, resample, write_audio
from audiolm_jax.bundle import Bundle, describe_in_words, export_bundle
from audiolm_jax.bundle.workdirs import add_classifiers, with_classifiers
from audiolm_jax.classifier.network import ClipClassifier, ClipClassifierConfig, log_mel
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording, find_recordings
from audiolm_jax.evaluation.voice import detector, speaker
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
from audiolm_jax.training import experiment
from tests import tiny_system
from tests.classifier.two_voices import CONFIG, RATE_HZ, voice, write_folder

MACROS = ["CHANNELS=(4,8,8)", "CLIP_SECONDS=0.25", "STEPS=40", "BATCH_SIZE=8", "WARMUP_STEPS=5", "EVAL_EVERY=0",
          "MUON_LEARNING_RATE=1e-2"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("voices"))


@pytest.fixture(scope="module")
def workdir(folder, tmp_path_factory):
    """A detector that `audiolm train` trained."""
    workdir = tmp_path_factory.mktemp("work") / "detector"
    assert experiment.train("detector", workdir, MACROS, str(folder)) == 0
    return workdir


@pytest.fixture(scope="module")
def trained(workdir):
    return TrainedClassifier.load(workdir)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return export_bundle(tiny_system.tiny_tokenizers(), tmp_path_factory.mktemp("bundles") / "system")


def of_class(folder, name):
    return [
        Recording(f"{r.path.parent.name}/{r.path.stem}", r.path.parent.name, r.path)
        for r in find_recordings([folder / name], 0)
    ]


def as_figures(measurement):
    return json.loads(json.dumps(measurement.to_json()))


def test_a_run_can_be_loaded_without_its_data_and_knows_what_it_did_not_hear(trained):
    assert trained.config == CONFIG
    assert trained.steps == 40
    assert sorted(key.split("/")[0] for key in trained.heldout_keys) == ["continuation", "reconstruction"]


def test_a_run_goes_on_only_with_the_classes_it_began_with(workdir, tmp_path):
    write_folder(tmp_path / "data", recordings=2)
    (tmp_path / "data" / "continuation").rename(tmp_path / "data" / "other")
    copy = shutil.copytree(workdir, tmp_path / "run")
    with pytest.raises(UserError, match="other classes"):
        experiment.train("detector", copy, [*MACROS, "STEPS=41", "RESUME=force"], str(tmp_path / "data"))


def test_the_opinion_is_the_mean_over_windows_whatever_their_number(trained):
    waveform = Waveform(voice("continuation", 7, 10.3), RATE_HZ)  # 41 windows, more than go through at once
    opinion = trained.opinion(waveform)
    assert opinion.num_windows == 41
    variables = jax.tree.map(jnp.asarray, trained.variables)
    clips = jnp.stack([waveform.samples[start : start + 4000] for start in range(0, 41 * 4000, 4000)])
    logits, _ = ClipClassifier(CONFIG).apply(variables, log_mel(CONFIG, clips), deterministic=True)
    mean = np.mean(jax.nn.log_softmax(logits), axis=0)
    np.testing.assert_allclose(opinion.log_probabilities, mean - np.log(np.sum(np.exp(mean))), atol=1e-4)
    assert np.exp(opinion.log_probabilities).sum() == pytest.approx(1)


def test_short_recordings_and_other_rates_are_understood(trained):
    short = trained.opinion(Waveform(voice("continuation", 7, 0.1), RATE_HZ))
    assert short.num_windows == 1 and not short.resampled
    waveform = Waveform(voice("continuation", 7, 1.0), RATE_HZ)
    other = trained.opinion(resample(waveform, 24000))
    assert other.resampled
    np.testing.assert_allclose(
        np.exp(other.log_probabilities), np.exp(trained.opinion(waveform).log_probabilities), atol=0.1
    )


def test_the_detector_tells_the_classes_apart_in_any_order(trained, folder):
    real, generated = of_class(folder, "reconstruction"), of_class(folder, "continuation")
    measured = detector.measure(trained, real, generated)
    assert measured.figures["balanced_accuracy"] == 1.0 and measured.figures["area_under_curve"] == 1.0
    assert measured.intervals["balanced_accuracy"] == (1.0, 1.0)
    assert measured.counts["real"] == measured.counts["generated"] == 4
    # 1 - 0.05^(1/4): no error among four speakers does not say much.
    assert any("with 4 speakers" in note and "52.7%" in note for note in measured.notes)
    again = detector.measure(trained, real[::-1], generated[2:] + generated[:2])
    assert as_figures(again) == as_figures(measured)
    swapped = detector.measure(trained, generated, real)
    assert swapped.figures["balanced_accuracy"] == 0.0 and swapped.figures["area_under_curve"] == 0.0


def test_balanced_accuracy_weighs_both_sides_alike(trained, folder):
    real, generated = of_class(folder, "reconstruction"), of_class(folder, "continuation")
    # One of five "generated" recordings sounds real: 4/5 on that side, and 1 on the other.
    mixed = [*generated, Recording("s9/9", "s9", real[0].path)]
    figures = detector.measure(trained, real, mixed).figures
    assert figures["accuracy_generated"] == 0.8 and figures["accuracy_real"] == 1.0
    assert figures["balanced_accuracy"] == pytest.approx(0.9)
    assert figures["area_under_curve"] == pytest.approx((4 * 4 + 3 * 0.5 + 0.5) / 20, abs=0.1)
    with pytest.raises(UserError, match="both kinds"):
        detector.measure(trained, real, [])


def test_probabilities_of_files(trained, folder, tmp_path):
    path = tmp_path / "slow.wav"
    write_audio(path, resample(Waveform(voice("continuation", 7, 1.0), RATE_HZ), 8000))
    paths = [str(folder / "reconstruction/s0/0.wav"), str(folder / "continuation/s0/0.wav"), str(path)]
    first, second, _ = detector.probabilities(trained, paths)
    assert first < 0.5 < second
    measured = detector.measure_files(trained, paths)
    assert list(measured.figures) == paths and measured.figures[paths[1]] == second
    assert measured.notes == ("1 of 3 recordings were resampled to 16000 Hz",)


def test_a_speaker_classifier_is_no_detector(trained, folder):
    config = ClipClassifierConfig(("ls1", "ls2"), CONFIG.channels, clip_seconds=0.25)
    other = TrainedClassifier(config, trained.variables)
    with pytest.raises(UserError, match="ls1, ls2"):
        detector.probabilities(other, [folder / "continuation/s0/0.wav"])


def test_speaker_accuracy_counts_what_was_made_for_its_source(trained, folder):
    """The two classes stand for two speakers."""

    def recording(key, name, number, index=None):
        path = folder / name / f"s{number}" / f"{number}.wav"
        return Recording(key, key.split("/")[0], path).sample(path, index)

    names = CONFIG.class_names
    original = [recording(f"{name}/s{n}/{n}", name, n) for name in names for n in range(4)]
    original.append(recording("stranger/1", names[0], 0))
    # Of three continuations of each of two prompts, one is in the other voice.
    drawn = [recording(f"{name}/s0/0", name if index else names[0], 0, index) for name in names for index in range(3)]
    measured = speaker.measure(trained, {"original": original, "continuation": drawn})
    figures = measured.figures
    assert figures["accuracy_original"] == 1.0 and measured.counts["accuracy_original"] == 8
    assert figures["accuracy_continuation"] == pytest.approx(5 / 6)
    assert figures["heldout_accuracy_original"] == 1.0 and measured.counts["heldout_accuracy_original"] == 2
    assert "heldout_accuracy_continuation" not in figures
    assert figures["chance"] == 0.5
    assert any("1 speakers are no classes" in note for note in measured.notes)
    assert figures["similarity_same_speaker"] > figures["similarity_different_speakers"]
    assert figures["similarity_continuation"] < 1
    again = speaker.measure(trained, {"continuation": drawn[::-1], "original": original[::-1]})
    assert again.to_json()["intervals"] == measured.to_json()["intervals"]
    assert {name: again.figures[name] for name in figures} == figures


def test_a_hash_in_a_file_name_is_part_of_it(trained, folder):
    """"take#2" is no sample of "take", whether there is such a recording or not."""
    first, second = (folder / name / "s0" / "0.wav" for name in CONFIG.class_names)
    originals = [Recording("v/take#2", "v", first), Recording("v/other#0", "v", second)]
    made = [recording.sample(recording.path) for recording in originals]
    drawn = [recording.sample(recording.path, index) for recording in originals for index in (0, 1)]
    measured = speaker.measure(None, {"original": originals, "reconstruction": made, "acoustic": drawn}, 0, trained)
    assert measured.counts["similarity_reconstruction"] == 2 and measured.counts["similarity_acoustic"] == 4
    assert measured.figures["similarity_reconstruction"] == pytest.approx(1)
    assert measured.figures["similarity_acoustic"] == pytest.approx(1)


def test_similarity_of_pairs(trained, folder, tmp_path):
    same = speaker.compare(trained, folder / "continuation", folder / "continuation")
    assert same.figures["similarity"] == pytest.approx(1.0) and same.counts["pairs"] == 4
    different = speaker.compare(trained, folder / "continuation", folder / "reconstruction")
    assert different.figures["similarity"] < 0.9
    with pytest.raises(UserError, match="no classifier|speaker classifier"):
        speaker.measure(None, {"original": of_class(folder, "continuation")})


def test_a_bundle_carries_classifiers_and_stays_what_it_was(system, workdir, trained, tmp_path):
    made = add_classifiers(tmp_path / "with", system.path, {"detector": workdir})
    assert made.codec_fingerprint == system.codec_fingerprint
    carried = TrainedClassifier.from_bundle(made, "detector")
    assert carried.config == trained.config and carried.steps == 40
    waveform = Waveform(voice("continuation", 7, 1.0), RATE_HZ)
    np.testing.assert_allclose(  # the weights are rounded to half precision
        carried.opinion(waveform).log_probabilities, trained.opinion(waveform).log_probabilities, atol=0.05
    )
    assert "detector" in describe_in_words(made) and "detector" in (made.path / "MODEL_CARD.md").read_text()
    assert "# detector" in made.config_gin
    again = add_classifiers(made.path, made.path, {"detector": workdir}, overwrite=True)
    assert again.config_gin == made.config_gin
    without = json.loads((system.path / "manifest.json").read_text())
    del without["classifiers"]
    old = shutil.copytree(system.path, tmp_path / "old")
    (old / "manifest.json").write_text(json.dumps(without))
    assert Bundle.load(old).classifiers == {}
    with pytest.raises(UserError, match="carries no detector"):
        TrainedClassifier.from_bundle(system, "detector")


def test_a_classifier_of_another_system_is_refused(system, workdir, tmp_path):
    other = export_bundle(tiny_system.tiny_tokenizers(seed=5), tmp_path / "other")
    stranger = with_classifiers(system, {"detector": workdir})
    mixed = dataclasses.replace(other, classifiers=stranger.classifiers)
    with pytest.raises(UserError, match="classifier 'detector' was made for a system with codec"):
        export_bundle(mixed, tmp_path / "mixed")
    add_classifiers(tmp_path / "x", system.path, {"speaker": workdir})
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    manifest["classifiers"]["mood"] = manifest["classifiers"].pop("speaker")
    (tmp_path / "x" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="'mood' is unknown"):
        Bundle.load(tmp_path / "x")


def test_the_commands(system, workdir, folder, tmp_path, capsys):
    assert cli.main(["bundle", str(tmp_path / "out"), "--system", str(system.path), "--detector", str(workdir)]) == 0
    path = str(folder / "continuation/s0/0.wav")
    assert cli.main(["eval", "detector", path, "--bundle", str(tmp_path / "out"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[path] > 0.5
    assert cli.main(["eval", "detector", path, "--bundle", str(system.path)]) == 2
    assert "carries no detector" in capsys.readouterr().err
    for arguments, message in (
        (["eval", "detector"], "give files"),
        (["eval", "detector", str(tmp_path / "no.wav"), "--bundle", str(tmp_path / "out")], "does not exist"),
        (["eval", "speaker", "--data", str(folder)], "--classifier"),
        (["bundle", str(tmp_path / "n"), "--system", str(system.path)], "--detector"),
        (["bundle", str(tmp_path / "n"), "--system", str(system.path), "--detector", str(tmp_path)], "no checkpoint"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    folders = [str(folder / "continuation"), str(folder / "reconstruction")]
    command = ["eval", "speaker", "--classifier", str(workdir), "--reference", folders[0], "--compare", folders[1]]
    assert cli.main([*command, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]["pairs"] == 4

