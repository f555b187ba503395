"""The report of all metrics: what is chosen, what is planned, and the whole of it on systems of random weights."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile

from audiolm_jax.bundle import Bundle, export_bundle
from audiolm_jax.bundle.bundle import BundledClassifier
from audiolm_jax.classifier.network import ClipClassifier, ClipClassifierConfig
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language import perplexity
from audiolm_jax.evaluation.recordings import DataSettings, Recording, find_recordings
from audiolm_jax.evaluation.report.report import make_report, manifest_metrics, page_clips
from audiolm_jax.evaluation.report.report_material import Material, choose_prompts
from audiolm_jax.evaluation.report.report_metrics import METRICS, plan
from audiolm_jax.evaluation.report.report_plan import NotMeasured, Step
from audiolm_jax.evaluation.report.report_settings import FULL, QUICK, ReportSettings
from audiolm_jax.evaluation.sound import codec_fidelity, codec_words
from audiolm_jax.evaluation.voice.report_classifier import why_no_classifier
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.stages import coarse_stage
from tests.evaluation import fake_opus
from tests.evaluation.zerospeech_files import LEXICAL_COLUMNS, lexical_trials, rows_of, write_gold
from tests.tiny_system import TRANSFORMER, random_like, tiny_system, tiny_tokenizers

SMALL = dataclasses.replace(
    QUICK, token_recordings=2, codec_clips=1, prompts=2, min_seconds=0.5, max_seconds=4.0, page_clips=1
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    return export_bundle(tiny_tokenizers(), tmp_path_factory.mktemp("bundles") / "tokenizers")


@pytest.fixture(scope="module")
def system(tokenizers, tmp_path_factory):
    return export_bundle(tiny_system(tokenizers), tmp_path_factory.mktemp("bundles") / "system")


def write_noise(path, seconds: float, rate_hz: int = 16_000, channels: int = 1, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.1 * np.random.default_rng(seed).normal(size=(round(seconds * rate_hz), channels))
    soundfile.write(path, sound, rate_hz)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Four speakers with two recordings each at 44.1 kHz in stereo; what one of them says is known."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(4):
        for number in range(2):
            write_noise(root / f"s{speaker}" / f"{number}.wav", 3.2, 44_100, 2, seed=10 * speaker + number)
    (root / "s0" / "0.txt").write_text("some words\n")
    return root


def settings(speech, output, unseen=False, corpus="folder", **changes) -> ReportSettings:
    data = DataSettings((str(speech),), corpus, heldout_speakers=1, unseen=unseen)
    return ReportSettings(data, output, changes.pop("extent", SMALL), **changes)


def names(entries, kind) -> list[str]:
    return [entry.name for entry in entries if isinstance(entry, kind)]


def test_quick_is_less_than_the_papers_protocol_and_has_its_lengths():
    assert (FULL.num_samples, FULL.min_seconds, FULL.max_seconds, FULL.prompt_seconds, FULL.seconds) == (3, 4, 10, 3, 7)
    assert (FULL.abx_group_size, FULL.abx_x_across) == (10, 5) and FULL.zerospeech_pairs is None
    for name in ("min_seconds", "max_seconds", "prompt_seconds", "seconds"):
        assert getattr(QUICK, name) == getattr(FULL, name)
    assert QUICK.codec_clips <= FULL.codec_clips and QUICK.num_samples <= FULL.num_samples and QUICK.prompts


@pytest.fixture
def four_seconds(tmp_path):
    """Makes recordings that all have the length of the protocol."""
    write_noise(tmp_path / "noise.wav", 5.0, 1_000)

    def make(speaker, number, text=None, heldout=False):
        return Recording(f"{speaker}/{number}", speaker, tmp_path / "noise.wav", text, heldout)

    return make


def test_prompts_are_held_out_where_that_is_possible(four_seconds):
    heldout = [four_seconds(f"h{n}", 0, "words", True) for n in range(5)]
    seen = [four_seconds(f"s{n}", 0, "words") for n in range(9)]
    chosen = choose_prompts(seen + heldout, QUICK)
    assert list(chosen.recordings) == heldout and not chosen.notes
    assert choose_prompts(heldout[::-1] + seen[::-1], QUICK) == chosen
    assert len(choose_prompts(heldout + seen, dataclasses.replace(QUICK, prompts=3)).recordings) == 3


def test_without_transcripts_of_held_out_speakers_others_join_them(four_seconds):
    heldout = [four_seconds(f"h{n}", 0, None, True) for n in range(9)]
    seen = [four_seconds(f"s{n}", 0, "words") for n in range(20)]
    chosen = choose_prompts(heldout + seen, QUICK)
    assert len(chosen.recordings) == QUICK.prompts == 12
    assert sum(r.heldout for r in chosen.recordings) == sum(bool(r.text) for r in chosen.recordings) == 6
    assert "6 of 12 prompts are transcribed recordings that are not held out" in chosen.notes[0]
    everything = choose_prompts(heldout + seen, dataclasses.replace(FULL, seen_prompts=7))
    assert len(everything.recordings) == 9 + 7


def test_too_few_held_out_prompts_are_joined_by_others(four_seconds):
    seen = [four_seconds("s", n) for n in range(9)]
    chosen = choose_prompts([four_seconds("h", 0, "words", True), *seen], QUICK)
    assert len(chosen.recordings) == 4 and "only 1 held-out" in chosen.notes[0]
    assert len(choose_prompts(seen, QUICK).recordings) == 4
    assert choose_prompts([], QUICK).recordings == ()


def test_recordings_of_other_lengths_are_no_prompts(tmp_path):
    for name, seconds in (("short", 0.05), ("long", 11.0)):
        write_noise(tmp_path / "s" / f"{name}.wav", seconds, 8_000)
    recordings = find_recordings([tmp_path], heldout_speakers=0)
    assert choose_prompts(recordings, QUICK).recordings == ()


def test_excerpts_of_long_recordings_are_prompts_where_none_is_shorter(tmp_path):
    for piece in "abcdefgh":
        write_noise(tmp_path / piece / "take.wav", 31.0, 8_000)
    recordings = find_recordings([tmp_path], heldout_speakers=2)
    chosen = choose_prompts(recordings, QUICK)
    assert [r.heldout for r in chosen.recordings] == [True, True] and len({r.speaker for r in chosen.recordings}) == 2
    assert "prompts are excerpts of 2 longer ones" in chosen.notes[0]
    assert choose_prompts(recordings[::-1], QUICK) == chosen
    for prompt in chosen.recordings:
        ((start, stop),) = prompt.ranges
        assert prompt.key == prompt.source_key == f"{prompt.speaker}/take@{start / 8_000:.2f}"
        assert stop - start == 80_000 and 0 <= start <= 31 * 8_000 - 80_000
        assert prompt.read().seconds == QUICK.max_seconds
    # Of segments too, within them; and nothing is cut where something fits.
    segment = dataclasses.replace(next(r for r in recordings if r.heldout), ranges=((800, 100_800),))
    (part,) = choose_prompts([segment], QUICK).recordings
    assert 800 <= part.ranges[0][0] and part.ranges[0][1] <= 100_800
    write_noise(tmp_path / "short.wav", 5.0, 8_000)
    short = Recording("short", "short", tmp_path / "short.wav")
    assert choose_prompts([short, segment], QUICK).recordings == (short,)


def test_the_plan_says_what_is_missing_and_how_to_supply_it(system, speech, tmp_path):
    entries = plan(Material(system, settings(speech, tmp_path)))
    missing = {entry.name: entry for entry in entries if isinstance(entry, NotMeasured)}
    assert set(missing) == {"abx", "swuggy", "sblimp", "words", "detector"}
    assert "--item" in missing["abx"].remedy and "--detector" in missing["detector"].remedy
    steps = names(entries, Step)
    assert steps[:3] == ["perplexity", "codec", "samples"]
    assert {"codec_words", "wer", "speaker_classifier", "speaker"} <= set(steps)
    assert {entry.metric for entry in entries} <= {metric.name for metric in METRICS}


def test_one_speaker_without_words_and_short_recordings(system, tmp_path):
    write_noise(tmp_path / "data" / "s" / "a.wav", 0.3)
    write_noise(tmp_path / "data" / "s" / "b.wav", 0.3)
    entries = plan(Material(system, settings(tmp_path / "data", tmp_path)))
    reasons = {entry.name: entry.reason for entry in entries if isinstance(entry, NotMeasured)}
    assert "0.5 to 4 s" in reasons["samples"] and "transcript" in reasons["wer"] and "one speaker" in reasons["speaker"]
    assert names(entries, Step)[:2] == ["perplexity", "codec"]


def without_fine_stage(tokenizers):
    """A system whose coarse stage predicts all levels of the codec."""
    whole = tiny_system(tokenizers)
    stage = coarse_stage(semantic_vocab=16, codebook_size=16, num_coarse_quantizers=4, crop_seconds=2)
    params = random_like(np.random.default_rng(0), lambda: StageModel(stage, TRANSFORMER).init(jax.random.key(0)))
    models = {
        "semantic": whole.language_models["semantic"],
        "coarse": dataclasses.replace(whole.language_models["coarse"], stage=stage, params=params),
    }
    return dataclasses.replace(whole, language_models=models)


def test_a_bundle_without_a_fine_stage_generates_all_the_same(tokenizers, speech, tmp_path):
    bundle = without_fine_stage(tokenizers)
    few = dataclasses.replace(SMALL, prompts=1, prompt_seconds=0.8, seconds=2.0)
    wanted = settings(speech, tmp_path, extent=few, only=("samples", "fad"))
    material = Material(bundle, wanted)
    assert material.kinds == ("original", "reconstruction", "acoustic", "continuation")
    everything = plan(Material(bundle, settings(speech, tmp_path)))
    assert {"wer", "speaker", "ladder", "fad_log_mel"} <= set(names(everything, Step))
    report, code = make_report(bundle, wanted)
    assert code == 0, report.not_measured
    samples = report.measurements["samples"]
    assert samples.figures == {"original": 1, "reconstruction": 1, "acoustic": 1, "continuation": 1}
    assert "the bundle has no fine stage, so there are no samples fine" in samples.notes
    assert report.measurements["fad_log_mel"].figures["fad_acoustic"] > 0
    # With tokenizers alone nothing is generated, and the reason names what is missing.
    only_codec = Material(tokenizers, settings(speech, tmp_path))
    assert only_codec.kinds == ("original", "reconstruction")
    reasons = {entry.name: entry.reason for entry in plan(only_codec) if isinstance(entry, NotMeasured)}
    assert "detector" in reasons


def test_without_speakers_no_classifier_is_trained(tokenizers, system, tmp_path):
    """Files that lie in the root are in no speaker's folder: each would be a class of its own."""
    for number in range(5):
        write_noise(tmp_path / "flat" / f"{number}.wav", 1.0, seed=number)
    entries = plan(Material(system, settings(tmp_path / "flat", tmp_path)))
    assert not {"speaker_classifier", "speaker"} & set(names(entries, Step)) and "ladder" in names(entries, Step)
    (gap,) = [entry for entry in entries if entry.metric == "speaker"]
    assert gap.name == "speaker" and "in no speakers' folders" in gap.reason and "--classifier" in gap.remedy
    # A few that do change nothing; most of them do.
    for number in range(6):
        write_noise(tmp_path / "flat" / "s" / f"{number}.wav", 1.0, seed=number)
    assert "one speaker" in why_no_classifier(Material(system, settings(tmp_path / "flat", tmp_path)))
    write_noise(tmp_path / "flat" / "t" / "0.wav", 1.0)
    material = Material(system, settings(tmp_path / "flat", tmp_path))
    assert why_no_classifier(material) == ""
    assert why_no_classifier(Material(system, settings(tmp_path / "flat", tmp_path, corpus="libri_light")))


def test_similarity_is_measured_where_accuracy_is_not(tokenizers, tmp_path):
    for number in range(3):
        write_noise(tmp_path / "flat" / f"{number}.wav", 1.2, seed=number)
    config = ClipClassifierConfig(("a", "b"), channels=(2, 4))
    variables = random_like(
        np.random.default_rng(0),
        lambda: ClipClassifier(config).init(jax.random.key(0), np.zeros((1, 100, 64), np.float32), deterministic=True),
    )
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    network = BundledClassifier(config, variables, tokenizers.codec_fingerprint)
    bundle = dataclasses.replace(tokenizers, classifiers={"speaker": network})
    report, code = make_report(bundle, settings(tmp_path / "flat", tmp_path / "out", only=("speaker",), unseen=True))
    assert [gap.name for gap in report.not_measured] == ["speaker_classifier"] and code == 1
    measured = report.measurements["speaker"]
    figures = measured.figures
    assert -1 <= figures["similarity_reconstruction"] <= 1 and "accuracy_reconstruction" not in figures
    assert figures["similarity_different_speakers"] is None  # who speaks is not known
    assert any("accuracy is left out" in note for note in measured.notes)


def test_speakers_of_one_recording_are_counted(system, speech, tmp_path):
    for number in range(2):
        write_noise(tmp_path / "data" / f"s{number}" / "a.wav", 1.0, seed=number)
    write_noise(tmp_path / "data" / "s0" / "b.wav", 1.0, seed=7)
    entries = plan(Material(system, settings(tmp_path / "data", tmp_path)))
    (step,) = [entry for entry in entries if entry.name == "speaker_classifier"]
    assert step.what == "trained on 2 speakers, 1 of them with a single recording"


def test_a_hash_in_a_file_name_is_part_of_it(tokenizers, tmp_path):
    for name in ("take", "take#0", "take#2"):
        write_noise(tmp_path / "data" / "s" / f"{name}.wav", 1.0, seed=len(name))
    extent = dataclasses.replace(SMALL, prompts=3, page_clips=3)
    wanted = settings(tmp_path / "data", tmp_path / "out", only=("samples",), extent=extent, unseen=True)
    material = Material(tokenizers, wanted)
    by_name = {clips.heading: [clip.title for _, clip in clips.rungs] for clips in page_clips(material)}
    assert by_name == {
        key: [f"{key}, original", f"{key}, reconstruction"] for key in ("s/take", "s/take#0", "s/take#2")
    }


def test_a_recogniser_is_named_by_its_folder_and_known_by_its_files(system, speech, tmp_path):
    """Wherever the folder lies its name is shown; another model in it is heard anew."""
    for package in ("jiwer", "faster_whisper"):
        pytest.importorskip(package)

    def entries():
        material = Material(system, settings(speech, tmp_path / "out", asr=str(tmp_path / "whisper-base")))
        return {entry.name: entry for entry in plan(material)}

    missing = entries()
    assert isinstance(missing["wer"], Step)  # that there is no such folder is told when it is to listen
    (tmp_path / "whisper-base").mkdir()
    (tmp_path / "whisper-base" / "model.bin").write_bytes(b"weights")
    first = entries()
    for name in ("codec_words", "wer"):
        assert first[name].what.endswith(" whisper-base") and str(tmp_path) not in first[name].what
    (tmp_path / "whisper-base" / "model.bin").write_bytes(b"other weights")
    others = entries()
    for name in ("codec_words", "wer", "ladder"):
        assert entries()[name].key == others[name].key != first[name].key != missing[name].key
    assert others["codec"].key == first["codec"].key


def test_words_of_codecs_are_measured_and_kept(tokenizers, speech, tmp_path, monkeypatch):
    for package in ("jiwer", "pocketsphinx"):
        pytest.importorskip(package)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(codec_words, "visqol_is_installed", lambda: False)
    # Of one speaker two words are known; PocketSphinx hears no speech in noise.
    wanted = settings(speech, tmp_path, only=("codec_words",))
    report, code = make_report(tokenizers, wanted)
    assert code == 0 and list(report.measurements) == ["codec_words"], report.not_measured
    measured = report.measurements["codec_words"]
    assert measured.counts["recordings"] == 1 and measured.counts["words"] == 2
    assert {"wer_original", "cer_original", "wer_codec_0.8kbps", "cer_codec_0.8kbps"} == set(measured.figures)
    assert len(list((tmp_path / "codec_words").rglob("*.wav"))) == 2
    assert "codec at 0.8 kbps" in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(codec_words, "measure", None)
    assert make_report(tokenizers, wanted)[0].made == report.made
    # With opus-tools there is more to hear.
    monkeypatch.setenv("PATH", str(fake_opus.write(tmp_path / "bin")))
    (with_opus,) = [entry for entry in plan(Material(tokenizers, wanted)) if entry.name == "codec_words"]
    assert with_opus.key != report.made[0].key and "Opus" in with_opus.what


def test_only_brings_what_it_needs(system, speech, tmp_path):
    only = settings(speech, tmp_path, only=("speaker",))
    assert [e.name for e in plan(Material(system, only))] == ["samples", "speaker_classifier", "speaker"]
    assert only.asked_for == {"speaker"}
    ladder = plan(Material(system, settings(speech, tmp_path, only=("ladder",))))
    assert [e.name for e in ladder] == ["samples", "speaker_classifier", "ladder"]


def test_keys_depend_on_what_figures_depend_on(system, tokenizers, speech, tmp_path):
    def keys(bundle, **changes):
        entries = plan(Material(bundle, settings(speech, tmp_path, **changes)))
        return {entry.name: entry.key for entry in entries if isinstance(entry, Step)}

    first = keys(system)
    assert keys(system) == first
    other_seed = keys(system, seed=1)
    assert all(other_seed[name] != key for name, key in first.items())
    other_bundle = keys(tokenizers)
    assert other_bundle["codec"] == first["codec"] and other_bundle["perplexity"] != first["perplexity"]
    fewer = keys(system, extent=dataclasses.replace(SMALL, codec_clips=3))
    assert fewer["codec"] != first["codec"] and fewer["perplexity"] == first["perplexity"]


def test_abx_and_zerospeech_are_measured_where_their_files_are_given(system, tmp_path):
    data = tmp_path / "data"
    rows = ["#file onset offset phone prev next speaker"]
    for number in range(4):
        write_noise(data / f"s{number % 2}" / f"u{number}.wav", 1.0, seed=number)
        rows += [f"u{number} 0.0 0.3 a x y s{number % 2}", f"u{number} 0.4 0.8 b x y s{number % 2}"]
    (tmp_path / "a.item").write_text("\n".join(rows) + "\n")
    trials = lexical_trials(0, num_pairs=3)
    write_gold(tmp_path / "lexical" / "gold.csv", LEXICAL_COLUMNS, rows_of(trials, 0))
    for number, row in enumerate(row for trial in trials for row in trial):
        write_noise(tmp_path / "lexical" / f"{row['filename']}.wav", 0.4, seed=number)
    wanted = settings(
        data, tmp_path / "out", only=("abx", "swuggy"), item=tmp_path / "a.item", swuggy=tmp_path / "lexical",
        extent=dataclasses.replace(SMALL, zerospeech_pairs=2),
    )  # fmt: skip
    report, code = make_report(system, wanted)
    assert code == 0, report.not_measured
    assert list(report.measurements) == ["abx_centroids", "abx_semantic", "abx_codec_0.8kbps", "swuggy"]
    assert report.measurements["swuggy"].counts["pairs"] == 2
    assert 0 <= report.measurements["abx_codec_0.8kbps"].figures["within"] <= 1
    assert wanted.asked_for == {"abx", "swuggy"}


def test_mistakes_in_the_settings_are_told(tmp_path):
    with pytest.raises(UserError, match="--data"):
        ReportSettings(DataSettings(()), tmp_path)
    with pytest.raises(UserError, match="--only names mos"):
        ReportSettings(DataSettings(("a",)), tmp_path, only=("mos",))
    (tmp_path / "x.item").write_text("")
    with pytest.raises(UserError, match="give --data once"):
        ReportSettings(DataSettings(("a", "b")), tmp_path, item=tmp_path / "x.item")


def test_figures_of_codec_and_stages_go_into_the_bundle(tokenizers, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(codec_fidelity, "visqol_is_installed", lambda: False)
    bundle = export_bundle(tiny_system(tokenizers), tmp_path / "bundle")
    wanted = settings(speech, tmp_path / "report", only=("codec", "perplexity"))
    report, code = make_report(bundle, wanted, merge=True)
    assert code == 0 and list(report.measurements) == ["perplexity", "codec"]
    metrics = Bundle.load(bundle.path).metrics
    assert metrics["codec_si_sdr_db"] == report.measurements["codec"].figures["si_sdr_db"]
    assert len(metrics["codec_code_usage"]) == 4 and not any(name.startswith("codec_visqol") for name in metrics)
    for stage in ("semantic", "coarse", "fine"):
        assert {"heldout_nats_per_token", "unigram_nats_per_token", "share_of_unigram"} <= set(metrics[stage])
    assert metrics["heldout"] == {
        "codec_clips": 1, "speakers": 1, "recordings": 2, "seconds": 6.4, "split": "unknown"
    }  # fmt: skip
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "codec_si_sdr_db" in card and "by a split that not all of its trainings recorded" in card

    # A second run measures nothing, and its report holds the same.
    def measured_again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(perplexity, "measure", measured_again)
    monkeypatch.setattr(codec_fidelity, "measure", measured_again)
    again, code = make_report(Bundle.load(bundle.path), wanted)
    assert code == 0 and again.made == report.made
    assert manifest_metrics(again.measurements) == manifest_metrics(report.measurements)


def test_a_report_of_tokenizers_can_be_heard(tokenizers, speech, tmp_path):
    report, code = make_report(tokenizers, settings(speech, tmp_path, only=("samples", "detector")))
    assert list(report.measurements) == ["samples"] and code == 1  # a detector was asked for, and there is none
    samples = report.measurements["samples"]
    assert samples.figures == {"original": 2, "reconstruction": 2}
    assert samples.counts["prompts_of_speakers_heard_in_training"] == 1
    text = (tmp_path / "report.html").read_text()
    assert text.count("<audio") == 2 and "Codec alone" in text
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["bundle"]["fingerprints"]["codec"] == tokenizers.codec_fingerprint
    assert plain["not_measured"][0]["name"] == "detector" and plain["machine"]["cpus"] >= 1
    assert plain["settings"]["extent"]["name"] == "quick" and plain["measurements"]["samples"]["made"]["key"]
    assert "the bundle carries no detector" in (tmp_path / "report.md").read_text()
