"""The ladder on recordings that are made worse by known amounts, and where it says that most is lost."""

import dataclasses
import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated import ladder, ladder_columns, samples
from audiolm_jax.evaluation.generated.ladder import RUNGS, largest_loss, verdict
from audiolm_jax.evaluation.generated.ladder_columns import Column
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.sound import frechet
from tests.evaluation.speechlike import RATE_HZ, noisy, speechlike
from tests.tiny_system import tiny_tokenizers

# Signal-to-noise ratio of each kind: the fine stage loses most.
SNR_DB = {"original": 80, "reconstruction": 40, "fine": 3, "acoustic": 2, "continuation": 1}


@dataclasses.dataclass(frozen=True)
class Loudness:
    """Hears "yes yes" in loud recordings and "no yes" in others."""

    name: str = "loudness"
    version: str = "1"
    sample_rate_hz: int = RATE_HZ
    max_seconds: float | None = None
    one_core: bool = True

    def transcribe(self, samples):
        return "yes yes" if np.std(samples) > 0.05 else "no yes"


@pytest.fixture(scope="module")
def by_kind(tmp_path_factory):
    """Three recordings of three speakers, with two acoustic generations and continuations of each."""
    folder, made = tmp_path_factory.mktemp("kinds"), {}
    for kind, snr_db in SNR_DB.items():
        made[kind] = []
        for number in range(3):
            for index in range(2 if kind in ("acoustic", "continuation") else 1):
                path = folder / kind / f"s{number}" / f"a-{index}.wav"
                samples = noisy(speechlike(3 + number / 2, seed=number), snr_db, seed=10 * number + index)
                # What is generated from semantic tokens alone is quieter here, which the recogniser hears.
                scale = 0.1 if kind == "acoustic" else 0.5
                write_audio(path, Waveform(scale * samples, RATE_HZ))
                drawn = index if kind in ("fine", "acoustic", "continuation") else None
                made[kind].append(Recording(f"s{number}/a", f"s{number}", path, "yes yes").sample(path, drawn))
    return made


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frechet, "RESAMPLES", 10)
        yield


@pytest.fixture(scope="module")
def measured(by_kind):
    pytest.importorskip("jiwer")
    return ladder.measure(by_kind, bundle=tiny_tokenizers(), asr=Loudness())


def test_figures_of_every_rung(measured):
    figures = measured.figures
    assert [row["rung"] for row in measured.details["rungs"]] == list(SNR_DB)
    assert figures["original_wer"] == figures["reconstruction_wer"] == figures["fine_wer"] == 0
    assert figures["acoustic_wer"] == 0.5 and figures["continuation_wer"] is None
    assert "words are new" in measured.details["undefined"]["continuation_wer"]
    # Noise of 40 and 3 dB below the sound, within a decibel: SI-SDR is the signal-to-noise ratio.
    assert abs(figures["reconstruction_si_sdr_db"] - 40) < 1 and abs(figures["fine_si_sdr_db"] - 3) < 1
    assert figures["acoustic_si_sdr_db"] is None and "anew" in measured.details["undefined"]["acoustic_si_sdr_db"]
    assert 0 < figures["reconstruction_fad"] < figures["fine_fad"] and figures["continuation_fad"] > 0
    assert "original_fad" not in figures
    assert figures["fine_flatness"] > 1.3 * figures["original_flatness"]
    assert abs(figures["fine_level_dbfs"] - figures["acoustic_level_dbfs"] - 20 * np.log10(5)) < 0.5
    assert 110 < figures["original_median_f0_hz"] < 170
    assert set(measured.intervals) >= {"acoustic_wer", "fine_fad", "original_level_dbfs"}
    assert measured.counts == {
        "speakers": 3, "recordings_original": 3, "recordings_reconstruction": 3, "recordings_fine": 3,
        "recordings_acoustic": 6, "recordings_continuation": 6,
    }  # fmt: skip
    assert any("carries no speaker network" in note for note in measured.notes)
    json.dumps(measured.to_json(), allow_nan=False)


def test_it_says_which_part_fails(measured):
    by_measure = {loss["measure"]: loss for loss in measured.details["losses"]}
    assert by_measure["wer"]["worse"] == "acoustic" and by_measure["wer"]["share"] == 1
    assert by_measure["fad"]["part"] == "the fine stage"
    assert measured.notes[0].startswith("most is lost at ")
    assert "at the coarse stage (or what semantic tokens leave out) by word errors (fine 0" in measured.notes[0]


def test_the_order_of_recordings_changes_nothing(by_kind, measured, monkeypatch):
    monkeypatch.setattr(ladder_columns, "visqol_is_installed", lambda: False)  # the slowest measure
    turned = {kind: recordings[::-1] for kind, recordings in reversed(by_kind.items())}
    again = ladder.measure(turned, bundle=tiny_tokenizers(), asr=Loudness())
    for now, before in ((again.figures, measured.figures), (again.intervals, measured.intervals)):
        assert now == {name: value for name, value in before.items() if not name.endswith("visqol")}
    assert [row["rung"] for row in again.details["rungs"]] == [row["rung"] for row in measured.details["rungs"]]


def test_what_is_missing_is_left_out_with_a_note(by_kind, monkeypatch):
    monkeypatch.setattr(ladder_columns, "visqol_is_installed", lambda: False)
    silent = {
        kind: [dataclasses.replace(one, text=None) for one in by_kind[kind]] for kind in ("original", "reconstruction")
    }
    found = ladder.measure(silent, bundle=tiny_tokenizers())
    assert not [name for name in found.figures if "wer" in name or "visqol" in name or "similarity" in name]
    notes = " | ".join(found.notes)
    for said in ("no recording has a transcript", "visqol-python is not installed", "no speaker network",
                 "no recordings of kind fine, acoustic, continuation"):  # fmt: skip
        assert said in notes
    with pytest.raises(UserError, match="originals and at least one other kind"):
        ladder.measure({"original": by_kind["original"]}, bundle=tiny_tokenizers())


def test_visqol_hears_the_noise(measured):
    pytest.importorskip("visqol")
    assert measured.figures["reconstruction_visqol"] > measured.figures["fine_visqol"] + 0.5
    assert measured.figures["continuation_visqol"] is None


def test_a_hash_in_a_file_name_is_part_of_it(by_kind):
    """The original "s0/a#7" is no eighth sample, and the distance to it is taken."""
    source = dataclasses.replace(by_kind["original"][0], key="s0/a#7", source_key="s0/a#7")
    kinds = {
        "original": [source],
        "reconstruction": [source.sample(by_kind["reconstruction"][0].path)],
        "fine": [source.sample(by_kind["fine"][0].path, 0)],
    }
    found = ladder_columns.sound_distance(kinds, 0)
    assert found.columns and set(found.columns[0].values) == {"reconstruction", "fine"}, found.notes
    pairs = {column.name: column for column in ladder_columns.distances(kinds, 0).columns}
    assert set(pairs["si_sdr_db"].values) >= {"reconstruction", "fine"}
    assert abs(pairs["si_sdr_db"].values["reconstruction"] - 40) < 1


def column(better, values, **changes):
    return Column("thing", "the thing", better, values, **changes)


def test_losses():
    values = {"original": 0.9, "reconstruction": 0.85, "fine": 0.8, "acoustic": 0.3, "continuation": 0.2}
    falling = column("high", values)
    loss = largest_loss(falling, RUNGS)
    assert (loss.better, loss.worse, loss.clear) == ("fine", "acoustic", None)
    assert loss.share == pytest.approx(0.5 / 0.7)
    # Where a loss is no failure the rung is passed over, and its part shares the blame.
    voice = dataclasses.replace(falling, expected={"acoustic": "drawn anew"})
    loss = largest_loss(voice, RUNGS)
    assert (loss.better, loss.worse) == ("fine", "continuation")
    assert loss.part == "the coarse stage (or what semantic tokens leave out) and the semantic stage"
    # A gain is not a loss, and what never gets worse has none.
    rising = column("low", {"original": 0.5, "reconstruction": 0.4, "fine": 0.45, "acoustic": None})
    assert largest_loss(rising, RUNGS).part == "the fine stage" and largest_loss(rising, RUNGS).share == 1
    assert largest_loss(column("high", rising.values), RUNGS).part == "the codec"
    assert largest_loss(column("low", {"original": 0.5, "reconstruction": 0.4}), RUNGS) is None
    assert largest_loss(column(None, falling.values), RUNGS) is None
    # What the original has by definition opens the chain.
    distance = column("low", {"reconstruction": 0.4, "fine": 0.5}, of_original=0.0)
    assert largest_loss(distance, RUNGS).part == "the codec"
    assert verdict([]) == "by no measure is anything lost from one rung to the next"


@pytest.mark.parametrize(("later", "clear"), [((0.4, 0.6), True), ((0.25, 0.6), False)])
def test_a_loss_within_the_intervals_is_called_so(later, clear):
    values = {"reconstruction": 0.2, "fine": 0.5}
    loss = largest_loss(column("low", values, intervals={"reconstruction": (0.1, 0.3), "fine": later}), RUNGS)
    assert loss.clear is clear
    assert ("within the intervals" in verdict([loss])) is not clear


def test_the_command(by_kind, tmp_path, monkeypatch, capsys):
    asked = {}

    def make(bundle, recordings, output, settings):
        asked.update(keys=[one.key for one in recordings], output=output, settings=settings)
        return samples.Samples(by_kind, {kind: {"s3/a": "it cannot be read"} for kind in by_kind})

    monkeypatch.setattr(samples, "make_samples", make)
    monkeypatch.setattr(ladder_columns, "visqol_is_installed", lambda: False)
    for kind in by_kind:  # no recogniser is needed where nothing is transcribed
        monkeypatch.setitem(by_kind, kind, [dataclasses.replace(one, text=None) for one in by_kind[kind]])
    export_bundle(tiny_tokenizers(), tmp_path / "system")
    data = by_kind["original"][0].path.parents[1]
    arguments = ["--data", str(data), "--unseen", "--min_seconds", "2", "--seed", "5"]
    arguments += ["--bundle", str(tmp_path / "system"), "--output", str(tmp_path / "out"), "--num_samples", "2"]
    with pytest.MonkeyPatch.context() as told:  # where words are known, the recogniser is looked for first
        told.setattr("audiolm_jax.evaluation.recordings.read_transcripts", lambda *_: {"s1/a-0": "yes"})
        assert cli.main(["eval", "ladder", *arguments, "--asr", "nobody"]) == 2 and not asked
    assert "there is no recogniser 'nobody'" in capsys.readouterr().err
    assert cli.main(["eval", "ladder", *arguments, "--json", "-"]) == 0
    assert sorted(asked["keys"]) == ["s0/a-0", "s1/a-0", "s2/a-0"] and asked["output"] == str(tmp_path / "out")
    assert asked["settings"] == samples.SampleSettings(num_samples=2, seed=5)
    printed = json.loads(capsys.readouterr().out)
    assert printed["fine_fad"] > printed["reconstruction_fad"] and len(printed["details"]["rungs"]) == 5
    assert any(note.endswith("it cannot be read") for note in printed["notes"])
