"""Nothing that a training heard is called held out, in every kind of corpus, by any command."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile

from audiolm_jax import cli
from audiolm_jax.audio import read_audio
from audiolm_jax.bundle import Bundle, export_bundle
from audiolm_jax.bundle.training_splits import splits_by_part, splits_of_run, with_splits
from audiolm_jax.data.corpora.corpora import CORPUS_KINDS, open_corpus
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.heldout import NOTHING, REFUSED, REPRODUCED, UNKNOWN, UNSEEN, heldout_claim
from audiolm_jax.evaluation.recordings import DataSettings
from audiolm_jax.evaluation.report.report import make_report
from audiolm_jax.evaluation.report.report_settings import QUICK, ReportSettings
from audiolm_jax.files.plain_json import to_plain
from audiolm_jax.training import experiment
from tests.data.tiny_corpora import describe, write_libri_light, write_recording
from tests.tiny_system import tiny_system, tiny_tokenizers

PARTS = ("codec", "w2v-BERT", "semantic stage", "coarse stage", "fine stage")
SMALL = dataclasses.replace(
    QUICK, token_recordings=2, codec_clips=1, prompts=2, min_seconds=0.2, max_seconds=4.0, page_clips=1
)
HELDOUT = 2


def noise(seconds: float, seed: int, rate_hz: int = 16_000) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(size=round(seconds * rate_hz))
    return np.clip(3000 * samples, -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Libri-Light, MAESTRO and plain folders in their layouts, with recordings on both sides of every split."""
    libri_light = write_libri_light(tmp_path_factory.mktemp("corpora") / "unlab")
    for number in range(24):
        part, speaker = ("small", "medium", "large")[number % 3], 200 + number // 2
        key = f"{part}/{speaker}/book_librivox_64kb_mp3/chapter_{number:02d}_64kb"
        write_recording(libri_light / f"{key}.flac", noise(0.9, number))
        (libri_light / f"{key}.json").write_text(json.dumps(describe(key, [[0.0, 0.8]])))
    maestro = libri_light.parent / "maestro-v3.0.0"
    rows = []
    for number in range(24):
        split = ("train", "train", "train", "validation", "test", "train")[number % 6]
        year = 2004 + number % 5
        name = f"{year}/MIDI-Unprocessed_{number:02d}_R1_{year}.wav"
        rows.append((f"Composer {number % 4}", f"Sonata {number}", split, year, name, 0.5))
        write_recording(maestro / name, noise(0.5, number, 44_100), 44_100)
    with (maestro / "maestro-v3.0.0.csv").open("w", newline="") as file:
        names = ("canonical_composer", "canonical_title", "split", "year", "audio_filename", "duration")
        csv.writer(file).writerows([names, *rows])
    folder = libri_light.parent / "speech"
    for number in range(16):
        write_recording(folder / f"s{number // 2}" / f"{number}.wav", noise(0.6, number))
    return {**dict.fromkeys(CORPUS_KINDS, libri_light), "maestro": maestro, "folder": folder, "music": folder}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def data_of(roots, kind, cache, **changes) -> DataSettings:
    settings = DataSettings((str(roots[kind]),), kind, HELDOUT, segment_seconds=1.0, corpus_cache=cache)
    return dataclasses.replace(settings, **changes)


def trained(bundle: Bundle, *corpora, parts=PARTS) -> Bundle:
    """The bundle as if it had been trained on corpora."""
    splits = to_plain([corpus.split for corpus in corpora])
    return dataclasses.replace(bundle, provenance=with_splits(bundle.provenance, dict.fromkeys(parts, splits)))


@pytest.fixture(scope="module")
def system():
    return tiny_system(tiny_tokenizers())


@pytest.mark.parametrize("kind", CORPUS_KINDS)
def test_no_recording_of_a_training_is_called_held_out(roots, cache, kind):
    """The training is built by the command's own experiment, the recordings as every evaluation takes them."""
    macros = [f"CORPUS={kind}", f"CORPUS_CACHE={cache}", "SEGMENT_SECONDS=1.0", f"HELDOUT_SPEAKERS={HELDOUT}"]
    (corpus,) = experiment.load("codec_small", macros, str(roots[kind]))[0].feed.corpora
    heard = {utterance.key for utterance in corpus.train}
    recordings = data_of(roots, kind, cache).recordings()
    heldout = {recording.key for recording in recordings if recording.heldout}
    assert heard and heldout and not heard & heldout
    assert heldout == {utterance.key for utterance in corpus.heldout}
    assert len(recordings) == len(heard | heldout)
    assert {recording.key for recording in recordings if not recording.has_speaker} == (
        {recording.key for recording in recordings} if kind in ("maestro", "music") else set()
    )
    if kind == "music":
        # Pieces are named as speakers are, so that the same folder read whole has the same split.
        claim = heldout_claim(trained(tiny_tokenizers(), corpus), data_of(roots, kind, cache, corpus="folder"))
        assert claim.state != REFUSED
    elif kind != "folder":
        # A plain folder would take years or parts for speakers. That is noticed, also where by luck it does no harm.
        try:
            claim = heldout_claim(trained(tiny_tokenizers(), corpus), data_of(roots, kind, cache, corpus="folder"))
        except UserError as error:
            assert "was trained on" in str(error) and f"corpus {kind}" in str(error)
        else:
            assert claim.state == REFUSED and f"corpus {kind}" in claim.reason and kind in ("unlab-600", "unlab-6k")


def test_segments_are_read_as_they_were_cut(roots, cache):
    recordings = data_of(roots, "unlab-600", cache).recordings()
    recording = next(one for one in recordings if one.key.endswith("01_baum_sea_fairies_64kb_0000"))
    (start, stop), *_ = recording.ranges
    whole = soundfile.read(recording.path, dtype="float32")[0]
    length = sum(last - first for first, last in recording.ranges)
    sound = recording.read()
    assert len(sound.samples) == length < len(whole) and recording.speaker == "100"
    np.testing.assert_array_equal(sound.samples[: stop - start], whole[start:stop])


def test_the_split_of_a_training_is_known_again(system, roots, cache, tmp_path):
    bundle = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    assert heldout_claim(bundle, data_of(roots, "folder", cache)).state == REPRODUCED
    # More recordings of speakers that were there change nothing, on either side.
    copy = shutil.copytree(roots["folder"], tmp_path / "speech")
    for number in range(8):
        write_recording(copy / f"s{number}" / "new.wav", noise(0.6, number))
    assert heldout_claim(bundle, DataSettings((str(copy),), heldout_speakers=HELDOUT)).state == REPRODUCED
    # So many more speakers that others are held out.
    for number in range(8, 40):
        write_recording(copy / f"late{number}" / "new.wav", noise(0.6, number))
    with pytest.raises(UserError, match="was trained on|can be called held out"):
        heldout_claim(bundle, DataSettings((str(copy),), heldout_speakers=HELDOUT)).required()


def test_another_split_of_the_same_recordings_is_refused(system, roots, cache):
    bundle = trained(system, open_corpus("folder", roots["folder"], 1))
    with pytest.raises(UserError) as error:
        heldout_claim(bundle, data_of(roots, "folder", cache))
    line = str(error.value)
    assert "the codec was trained on s" in line and "--heldout_speakers 2" in line and "heldout_speakers 1" in line
    assert "\n" not in line
    # Of one part alone as well: the fine stage held other speakers out than the rest.
    mixed = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    mixed = trained(mixed, open_corpus("folder", roots["folder"], HELDOUT, seed=3), parts=("fine stage",))
    with pytest.raises(UserError, match="the fine stage was trained on"):
        heldout_claim(mixed, data_of(roots, "folder", cache))


def test_recordings_of_another_corpus_need_a_word_of_the_user(system, roots, cache, tmp_path):
    bundle = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    shutil.copytree(roots["folder"], tmp_path / "x" / "elsewhere")
    data = DataSettings((str(tmp_path),), heldout_speakers=HELDOUT)
    claim = heldout_claim(bundle, data)
    assert claim.state == REFUSED and "--unseen" in claim.reason
    with pytest.raises(UserError, match="nothing in it can be called held out"):
        claim.required()
    assert heldout_claim(bundle, dataclasses.replace(data, unseen=True)).state == UNSEEN


def test_nothing_that_was_trained_on_is_unseen(system, roots, cache):
    bundle = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    with pytest.raises(UserError, match="the codec was trained on .* and 11 more recordings of .* --unseen would call"):
        heldout_claim(bundle, data_of(roots, "folder", cache, unseen=True))


def test_a_part_that_was_trained_on_something_else_takes_nothing_away(system, roots, cache):
    """The codec on music, the stages on speech: speech that the stages held out was heard by neither."""
    bundle = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    music = open_corpus("maestro", roots["maestro"], cache_dir=cache)
    assert heldout_claim(trained(bundle, music, parts=("codec",)), data_of(roots, "folder", cache)).state == REPRODUCED
    both = trained(system, music, open_corpus("folder", roots["folder"], HELDOUT))
    folders = data_of(roots, "folder", cache)
    assert heldout_claim(both, folders).state == REPRODUCED
    assert heldout_claim(both, data_of(roots, "maestro", cache)).state == REPRODUCED


def test_what_is_not_recorded_is_not_known(system, roots, cache):
    data = data_of(roots, "folder", cache)
    claim = heldout_claim(system, data)
    assert claim.state == UNKNOWN and "not recorded with the bundle" in claim.notes[0]
    corpus = open_corpus("folder", roots["folder"], HELDOUT)
    partly = trained(system, corpus, parts=("codec", "w2v-BERT", "semantic stage"))
    assert heldout_claim(partly, data).reason.endswith("not recorded with the coarse stage, the fine stage")
    # Also without a record of some parts, what others tell counts.
    with pytest.raises(UserError, match="the codec was trained on"):
        heldout_claim(partly, dataclasses.replace(data, split_seed=4))


def test_none_held_out_claims_nothing(system, roots, cache):
    data = data_of(roots, "folder", cache, heldout_speakers=0)
    assert heldout_claim(trained(system, open_corpus("folder", roots["folder"])), data).state == NOTHING
    assert not any(recording.heldout for recording in data.recordings())
    assert all(recording.heldout for recording in dataclasses.replace(data, unseen=True).recordings())


def test_the_shipped_bundle_does_not_record_its_split(roots, cache):
    claim = heldout_claim(Bundle.load("small"), data_of(roots, "folder", cache))
    assert claim.state == UNKNOWN and len(claim.notes) == 1


def test_parts_of_one_training_corpus_share_an_entry(roots):
    one, other = (to_plain([open_corpus("folder", roots["folder"], count).split]) for count in (1, 2))
    provenance = with_splits({"data": ["x"]}, {"codec": one, "k-means": one, "fine stage": other, "w2v-BERT": None})
    assert [entry["parts"] for entry in provenance["splits"]] == [["codec", "k-means"], ["fine stage"], ["w2v-BERT"]]
    again = with_splits(provenance, {"fine stage": one, "codec": None})
    assert [entry["parts"] for entry in again["splits"]] == [["k-means", "fine stage"], ["w2v-BERT", "codec"]]
    found = splits_by_part(json.loads(json.dumps(again)), "x")
    assert {part for part, splits in found.items() if splits is None} == {"w2v-BERT", "codec"}
    assert found["k-means"] == found["fine stage"] and again["data"] == ["x"]
    for damaged in (7, {}, [7], [{}], [{"parts": 7, "splits": one}], [{"parts": ["codec"], "splits": [{}]}]):
        with pytest.raises(UserError, match="damaged or of another version"):
            splits_by_part({"splits": damaged}, "x")


def test_what_a_run_began_with_counts_too(system, roots, cache):
    """A codec that held the right speakers out, and took its first values from one that did not."""
    first, second = (to_plain([open_corpus("folder", roots["folder"], HELDOUT, seed).split]) for seed in (3, 0))
    meta = {"splits": second, "origin": {"workdir": "a", "splits": first, "origin": {"workdir": "b"}}}
    found = splits_of_run("codec", meta)
    assert found == {"codec": second, "codec's origin": first, "codec's origin's origin": None}
    bundle = trained(system, open_corpus("folder", roots["folder"], HELDOUT))
    bundle = dataclasses.replace(bundle, provenance=with_splits(bundle.provenance, found))
    data = data_of(roots, "folder", cache)
    with pytest.raises(UserError, match="the codec's origin was trained on"):
        heldout_claim(bundle, data)
    # Trained anew, from nothing, or from a run that held the same speakers out.
    anew = with_splits(bundle.provenance, splits_of_run("codec", {"splits": second}))
    assert heldout_claim(dataclasses.replace(bundle, provenance=anew), data).state == REPRODUCED
    of_same = with_splits(anew, splits_of_run("codec", {"splits": second, "origin": {"splits": second}}))
    assert heldout_claim(dataclasses.replace(bundle, provenance=of_same), data).state == REPRODUCED
    unknown = with_splits(anew, splits_of_run("codec", {"splits": second, "origin": {"workdir": "a"}}))
    claim = heldout_claim(dataclasses.replace(bundle, provenance=unknown), data)
    assert claim.state == UNKNOWN and claim.reason.endswith("with the codec's origin")


@pytest.fixture(scope="module")
def pianist(system, roots, cache, tmp_path_factory):
    """A bundle on disk that was trained on MAESTRO."""
    exported = export_bundle(tiny_tokenizers(), tmp_path_factory.mktemp("bundles") / "tokenizers")
    music = open_corpus("maestro", roots["maestro"], cache_dir=cache)
    return export_bundle(trained(tiny_system(exported), music), exported.path.parent / "pianist")


def audiolm(capsys, *arguments):
    """Exit code, figures, and what was said on stderr."""
    code = cli.main([*map(str, arguments), "--json", "-"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 and out else None, err


COMMANDS = (
    ("codec",),
    ("perplexity",),
    ("samples", "--output", "{out}", "--kinds", "original", "--min_seconds", "0.2"),
    ("samples", "--output", "{out}", "--kinds", "original", "--min_seconds", "0.2", "--split", "train"),
    ("wer", "--output", "{out}"),
    ("ladder", "--output", "{out}"),
    ("all", "--output", "{out}", "--quick"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:1] + command[5:]))
def test_every_command_refuses_to_call_trained_music_held_out(pianist, roots, tmp_path, capsys, monkeypatch, command):
    monkeypatch.setattr("audiolm_jax.evaluation.words.asr.load_recogniser", lambda name: None)
    arguments = [part.format(out=tmp_path / "out") for part in command]
    code, _, err = audiolm(capsys, "eval", *arguments, "--bundle", pianist.path, "--data", roots["maestro"])
    assert code == 2 and len(err.splitlines()) == 1
    assert "was trained on" in err and "corpus maestro" in err and not (tmp_path / "out").exists()


def test_the_kind_of_the_training_gives_its_own_split(pianist, roots, cache, tmp_path, capsys):
    flags = ("--bundle", pianist.path, "--data", roots["maestro"], "--corpus", "maestro", "--corpus_cache", cache)
    code, figures, _ = audiolm(capsys, "eval", "perplexity", *flags)
    assert code == 0 and figures["counts"]["recordings"] == 4
    assert figures["settings"]["heldout"] == "reproduced" and figures["settings"]["corpus"] == "maestro"
    made = ("--output", tmp_path, "--kinds", "original,reconstruction", "--min_seconds", "0.2")
    code, figures, err = audiolm(capsys, "eval", "samples", *flags, *made)
    assert code == 0 and figures["original"] == figures["reconstruction"] == 4
    validation = {path.relative_to(tmp_path / "original").as_posix() for path in tmp_path.glob("original/*/*")}
    assert len(validation) == 4 and all(int(name.split("_")[1]) % 6 == 3 for name in validation)
    (path,) = tmp_path.glob("original/*/*_03_R1_*")
    assert read_audio(path).seconds == pytest.approx(0.5, abs=0.01)
    cut = ("--output", tmp_path / "cut", "--kinds", "original", "--min_seconds", "0.2", "--segment_seconds", "0.25")
    code, figures, _ = audiolm(capsys, "eval", "samples", *flags, *cut)
    assert code == 0 and figures["original"] == 8


def test_a_report_on_another_corpus_has_a_line_in_place_of_held_out_figures(pianist, roots, tmp_path):
    wanted = ReportSettings(
        DataSettings((str(roots["folder"]),)), tmp_path, SMALL, only=("codec", "perplexity", "samples")
    )
    report, code = make_report(dataclasses.replace(pianist, language_models={}), wanted)
    gaps = {gap.name: gap.reason for gap in report.not_measured}
    assert set(gaps) == {"codec", "perplexity"} and code == 1
    assert all("nothing in it can be called held out" in reason for reason in gaps.values())
    samples = report.measurements["samples"]
    assert samples.counts["prompts_of_speakers_heard_in_training"] == samples.counts["prompts"]
    assert any("can be called held out" in note for note in samples.notes)
    page = (tmp_path / "report.html").read_text()
    assert "not held out" in page and "held out of all training" not in page
    assert "the split is not that of its training" in page
    assert "Held out: none: the split is not that of its training." in (tmp_path / "report.md").read_text()
    with pytest.raises(UserError, match="nothing in it can be called held out"):
        make_report(pianist, wanted, merge=True)


def test_a_report_says_that_the_split_is_reproduced(pianist, roots, cache, tmp_path):
    wanted = ReportSettings(
        DataSettings((str(roots["maestro"]),), "maestro", corpus_cache=cache), tmp_path, SMALL,
        only=("perplexity", "samples"),
    )  # fmt: skip
    report, code = make_report(dataclasses.replace(pianist, language_models={}), wanted)
    assert code == 0, report.not_measured
    assert report.measurements["perplexity"].settings["heldout"] == "reproduced"
    assert report.measurements["samples"].counts["prompts_of_speakers_heard_in_training"] == 0
    assert "held out of all training" in (tmp_path / "report.html").read_text()
