"""Temperatures of a tiny untrained system: what decides, what is kept, and what a bundle generates with."""

import dataclasses
import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import Bundle, export_bundle, with_temperature
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated import stage_trial, temperatures
from audiolm_jax.evaluation.generated.stage_trial import SpokenTokens, StageTrial, spoken_tokens, true_prompts
from audiolm_jax.evaluation.generated.temperatures import TemperatureSettings, measure
from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.generation.pipeline import default_temperature
from tests.evaluation.speechlike import RATE_HZ, speechlike
from tests.tiny_system import tiny_system, tiny_tokenizers

SETTINGS = TemperatureSettings(grid=(0.5, 1.0), prompt_seconds=0.8, seconds=1.2, max_recordings=3, seed=5)


@pytest.fixture(scope="module")
def bundle():
    return tiny_system(tiny_tokenizers())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six speakers with a recording each, one of them too short to be continued; a second one of the first."""
    folder = tmp_path_factory.mktemp("speech")
    for number in range(6):
        seconds = 1.5 if number == 5 else 2.4
        write_audio(folder / f"s{number}" / "a.wav", Waveform(0.3 * speechlike(seconds, seed=number), RATE_HZ))
    write_audio(folder / "s0" / "b.wav", Waveform(0.3 * speechlike(3.0, seed=9), RATE_HZ))
    return folder


@pytest.fixture(scope="module")
def recordings(folder):
    return find_recordings([folder], heldout_speakers=0)


@pytest.fixture
def without_visqol(monkeypatch):
    monkeypatch.setattr(temperatures, "visqol_is_installed", lambda: False)
    monkeypatch.setattr(stage_trial, "visqol_is_installed", lambda: False)


class Curves:
    """Stands for the trial of a system whose figures are known."""

    def __init__(self, *_):
        self.asked = []

    def fine(self, prompts, temperature):
        self.asked.append(("fine", temperature))
        return {"log_mel_distance": temperature, "visqol": 4 - abs(temperature - 0.6)}

    def coarse(self, prompts, temperature, fine_temperature):
        self.asked.append(("coarse", temperature, fine_temperature))
        return {"log_mel_distance": 1.0, "visqol": temperature, "words_changed": abs(temperature - 0.8)}

    def semantic(self, prompts, temperature, speech):
        self.asked.append(("semantic", temperature))
        return {"surprise_gap": abs(temperature - 0.9), "nats_per_token": 4.0, "true_nats_per_token": 4.0}


@pytest.fixture
def curves(monkeypatch, bundle, recordings):
    """A system with known figures; nothing is drawn."""
    known = Curves()
    monkeypatch.setattr(temperatures, "StageTrial", lambda *_: known)
    return known


def test_each_stage_gets_the_temperature_that_its_figure_wants(curves, bundle, recordings, tmp_path):
    settings = dataclasses.replace(SETTINGS, grid=(0.9, 0.6, 0.8, 0.7, 0.6))
    measured = measure(bundle, recordings, tmp_path, settings)
    assert measured.figures["temperature"] == [0.9, 0.8, 0.6]
    # The coarse stage is heard with the fine one at its own.
    assert {each[2] for each in curves.asked if each[0] == "coarse"} == {0.6}
    assert measured.figures["fine_visqol_at_0.7"] == pytest.approx(3.9)
    assert measured.figures["coarse_words_changed_at_0.8"] == 0
    assert measured.figures["semantic_surprise_gap_at_0.6"] == pytest.approx(0.3)
    assert len(measured.details["tried"]) == 12 and measured.counts == {"recordings": 3, "speakers": 3}


def test_what_was_tried_is_kept_and_more_can_be_tried(curves, bundle, recordings, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(curves, "semantic", stop)
        measure(bundle, recordings, tmp_path, SETTINGS)
    assert curves.asked == [("fine", 0.5), ("fine", 1.0), ("coarse", 0.5, 0.5), ("coarse", 1.0, 0.5)]
    curves.asked.clear()
    first = measure(bundle, recordings, tmp_path, SETTINGS)
    assert curves.asked == [("semantic", 0.5), ("semantic", 1.0)]
    assert first.figures["temperature"] == [1.0, 1.0, 0.5]
    curves.asked.clear()
    measure(bundle, recordings, tmp_path, dataclasses.replace(SETTINGS, grid=(0.5, 0.6, 1.0)))
    # A better fine temperature was found, so the coarse one is tried anew with it.
    assert ("fine", 0.6) in curves.asked and ("fine", 0.5) not in curves.asked
    assert ("coarse", 0.5, 0.6) in curves.asked and ("semantic", 0.5) not in curves.asked


@pytest.mark.parametrize("change, named", [({"seed": 6}, "seed"), ({"max_recordings": 2}, "max_recordings")])
def test_another_folder_is_asked_for_where_the_settings_are_others(
    curves, bundle, recordings, tmp_path, change, named
):
    measure(bundle, recordings, tmp_path, SETTINGS)
    with pytest.raises(UserError, match=f"other {named}; choose another --output"):
        measure(bundle, recordings, tmp_path, dataclasses.replace(SETTINGS, **change))
    (tmp_path / temperatures.FILE_NAME).write_text("[]")
    with pytest.raises(UserError, match="cannot be read; choose another --output"):
        measure(bundle, recordings, tmp_path, SETTINGS)


def test_mistakes_are_told(curves, bundle, recordings, tmp_path):
    with pytest.raises(UserError, match="no held-out recording has 9 s of sound"):
        measure(bundle, recordings, tmp_path, dataclasses.replace(SETTINGS, seconds=8.2))
    with pytest.raises(UserError, match="has no semantic and no coarse stage"):
        measure(dataclasses.replace(bundle, language_models={}), recordings, tmp_path, SETTINGS)
    for change in ({"grid": ()}, {"grid": (-1.0,)}, {"seconds": 0.5}, {"max_recordings": 0}):
        with pytest.raises(UserError, match="must be|at least"):
            dataclasses.replace(SETTINGS, **change)


def test_figures_of_what_is_drawn(bundle, recordings, without_visqol):
    prompts = true_prompts(bundle, recordings, 0.8, 1.2, 3)
    assert {len(prompt.samples) for prompt in prompts} == {2 * RATE_HZ}
    assert {(len(prompt.semantic), len(prompt.acoustic)) for prompt in prompts} == {(50, 100)}
    speech = spoken_tokens(bundle, recordings)
    assert [spoken.speaker for spoken in speech].count("s0") == 2 and len(speech) == 7
    trial = StageTrial(bundle, 0.8, 0)
    for figures in (trial.fine(prompts, 1.0), trial.coarse(prompts, 1.0, 1.0)):
        assert set(figures) == {"log_mel_distance"} and figures["log_mel_distance"] > 0.1
    found = trial.semantic(prompts, 1.0, speech)
    assert found["surprise_gap"] == pytest.approx(abs(found["nats_per_token"] - found["true_nats_per_token"]))
    # The likeliest tokens of an untrained stage are one token again and again, which true speech hardly has.
    assert trial.semantic(prompts, 0.0, speech)["nats_per_token"] != pytest.approx(found["nats_per_token"], abs=1e-3)
    assert trial.fine(prompts, 1.0) == trial.fine(prompts, 1.0)
    # What a speaker says says nothing of how surprising the same speaker is.
    own = [SpokenTokens(prompt.recording.speaker, prompt.semantic) for prompt in prompts[:1]]
    assert trial.semantic(prompts[:1], 1.0, [*speech, *own]) == trial.semantic(prompts[:1], 1.0, speech)
    with pytest.raises(UserError, match="no speaker beside s"):
        trial.semantic(prompts[:1], 1.0, own)


def test_without_a_fine_stage_the_coarse_one_is_heard_alone(curves, bundle, recordings, tmp_path):
    models = {name: lm for name, lm in bundle.language_models.items() if name != "fine"}
    measured = measure(
        dataclasses.replace(bundle, language_models=models), recordings, tmp_path, SETTINGS
    )
    assert measured.figures["temperature"] == [1.0, 1.0, 0.6]  # the paper's for the stage that is not there
    assert {each[2] for each in curves.asked if each[0] == "coarse"} == {None}


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    """The system in a folder of its own, its stages trained on the tokens of its exported tokenizers."""
    folder = tmp_path_factory.mktemp("bundles")
    tokenizers = export_bundle(tiny_tokenizers(), folder / "tokenizers", "float32")
    return export_bundle(tiny_system(tokenizers), folder / "system", "float32")


def test_a_bundle_generates_with_its_own_temperatures(exported):
    assert default_temperature(exported) == (0.6, 0.8, 0.6)
    with_temperature(exported.path, [0.7, 0.9, 0.25])
    assert default_temperature(Bundle.load(exported.path)) == (0.7, 0.9, 0.25)
    card = (exported.path / "MODEL_CARD.md").read_text()
    assert "Temperatures of the semantic, coarse and fine stage: 0.7 0.9 0.25" in card


def test_the_command_chooses_and_merges(curves, exported, folder, tmp_path, capsys):
    arguments = ["eval", "temperatures", "--bundle", str(exported.path), "--data", str(folder), "--unseen", "--grid",
                 "0.5,1", "--prompt_seconds", "0.8", "--seconds", "1.2", "--max_recordings", "3", "--output",
                 str(tmp_path / "out")]  # fmt: skip
    before = default_temperature(Bundle.load(exported.path))
    assert cli.main([*arguments, "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["temperature"] == [1.0, 1.0, 0.5] and figures["settings"]["heldout"] == "unseen"
    assert default_temperature(Bundle.load(exported.path)) == before
    assert cli.main([*arguments, "--merge"]) == 0
    assert "temperature: [1.0, 1.0, 0.5]" in capsys.readouterr().out
    assert default_temperature(Bundle.load(exported.path)) == (1.0, 1.0, 0.5)
    with pytest.raises(SystemExit):
        cli.main([*arguments[:-2], "--output", str(tmp_path / "new"), "--grid", "0.5,warm"])
    assert "--grid" in capsys.readouterr().err


def test_silence_is_not_continued(bundle, tmp_path):
    sound = 0.3 * speechlike(2.4, seed=1)
    sound[round(0.8 * RATE_HZ) :] = 0
    write_audio(tmp_path / "a" / "half.wav", Waveform(sound, RATE_HZ))
    write_audio(tmp_path / "b" / "whole.wav", Waveform(0.3 * speechlike(2.4, seed=2), RATE_HZ))
    prompts = true_prompts(bundle, find_recordings([tmp_path], 0, unseen=True), 0.8, 1.2, 5)
    assert [prompt.recording.key for prompt in prompts] == ["b/whole"]
    assert np.ptp(prompts[0].samples) > 0
