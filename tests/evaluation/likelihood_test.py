"""Scores of recordings by a semantic stage: against the model one token at a time, resumed, and in any batch."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language import likelihood
from audiolm_jax.evaluation.language.likelihood import (
    longest_window,
    score_folder,
    score_records,
    sequence_log_likelihoods,
)
from audiolm_jax.evaluation.language.scores import ScoredRecording, ScoreFile, read_scores
from audiolm_jax.evaluation.language.token_records import tokenize
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.alignment import collapse
from audiolm_jax.tokens.stages import semantic_stage
from tests.tiny_system import TRANSFORMER, random_like, tiny_system, tiny_tokenizers

STEMS = [f"u{number}" for number in range(7)]


@pytest.fixture(scope="module")
def bundle():
    """A system whose model is far from uniform."""
    system = tiny_system(tiny_tokenizers())
    semantic = system.language_models["semantic"]
    params = jax.tree.map(lambda leaf: 5 * leaf, semantic.params)
    models = system.language_models | {"semantic": dataclasses.replace(semantic, params=params)}
    return dataclasses.replace(system, language_models=models)


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    """Seven recordings of different lengths, one at another rate, two that are the same."""
    folder = tmp_path_factory.mktemp("wavs")
    rng = np.random.default_rng(0)
    for number, stem in enumerate(STEMS[:-1]):
        rate_hz = 22_050 if number == 3 else 16_000
        samples = rng.normal(size=(1 + number) * rate_hz // 3) * np.repeat(rng.uniform(0, 0.3, (1 + number) * 40), 200)[
            : (1 + number) * rate_hz // 3
        ]
        write_audio(folder / "below" / f"{stem}.wav", Waveform(samples.astype(np.float32), rate_hz))
    (folder / f"{STEMS[-1]}.wav").write_bytes((folder / "below" / f"{STEMS[0]}.wav").read_bytes())
    return folder


def one_by_one(language_model, ids):
    """log p of ids, each from logits over the legal ids after those before it, as the model is defined."""
    legal = np.asarray(language_model.stage.allowed(0, True))
    embedding = np.asarray(language_model.params["embedding"], np.float64)
    total = 0.0
    for position, token in enumerate(ids):
        inputs = np.zeros((1, 10), np.int32)
        inputs[0, 1 : position + 1] = ids[:position]
        hidden = network_output(language_model.model.network, language_model.params, inputs)[0, position]
        logits = np.where(legal, embedding @ np.asarray(hidden, np.float64), -np.inf)
        total += logits[token] - np.logaddexp.reduce(logits)
    return total


@functools.partial(jax.jit, static_argnums=0)
def network_output(network, params, inputs):
    return network.apply({"params": params}, inputs, deterministic=True)


def test_log_likelihood_is_the_sum_over_tokens_without_end_of_sequence(bundle):
    language_model = bundle.language_models["semantic"]
    sequences = [np.array([3, 5, 3, 0, 15]), np.array([7])]
    found = sequence_log_likelihoods(language_model, sequences)
    for sequence, value in zip(sequences, found, strict=True):
        ids = language_model.stage.layout.encode("semantic", 0, sequence)
        assert value == pytest.approx(one_by_one(language_model, ids), rel=1e-5)
    assert found[0] != pytest.approx(5 * found[1], rel=1e-2)


def test_long_sequences_are_scored_in_windows_each_token_once(bundle):
    stage = dataclasses.replace(semantic_stage(semantic_vocab=16, crop_seconds=0.4))
    assert longest_window(stage) == 10
    language_model = dataclasses.replace(bundle.language_models["semantic"], stage=stage)
    tokens = np.random.default_rng(0).integers(0, 16, 23)
    ids = stage.layout.encode("semantic", 0, tokens)
    # Windows 0-9, 5-14, 10-19 and 13-22; of the later ones only what is new counts.
    expected = one_by_one(language_model, ids[:10])
    for start, new in ((5, 5), (10, 5), (13, 3)):
        window = ids[start : start + 10]
        expected += one_by_one(language_model, window) - one_by_one(language_model, window[: 10 - new])
    assert sequence_log_likelihoods(language_model, [tokens])[0] == pytest.approx(expected, rel=1e-5)


def test_scores_do_not_depend_on_the_batch(bundle):
    language_model = bundle.language_models["semantic"]
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, 16, length) for length in (1, 2, 90, 33, 32, 31, 250, 5)]
    alone = [sequence_log_likelihoods(language_model, [sequence], batch_size=1)[0] for sequence in sequences]
    for batch_size in (2, 16):
        np.testing.assert_allclose(sequence_log_likelihoods(language_model, sequences, batch_size), alone, rtol=1e-5)
        backwards = sequence_log_likelihoods(language_model, sequences[::-1], batch_size)[::-1]
        np.testing.assert_allclose(backwards, alone, rtol=1e-5)


def test_a_folder_is_tokenized_collapsed_and_scored(bundle, wavs):
    scores = score_folder(bundle, wavs, STEMS)
    language_model = bundle.language_models["semantic"]
    for stem in STEMS:
        path = next(wavs.rglob(f"{stem}.wav"))
        samples = read_audio(path, 16_000).samples
        tokens = collapse(bundle.semantic.tokenize(bundle.semantic_params, samples[None])[0])[0]
        expected = sequence_log_likelihoods(language_model, [tokens])[0]
        assert scores.raw[stem] == pytest.approx(expected, rel=1e-5)
        assert scores.main[stem] == scores.raw[stem] / len(tokens)
    assert scores.raw[STEMS[0]] == scores.raw[STEMS[-1]]  # the same sound: a tie to the last bit
    assert scores.notes == ("1 of 7 recordings were resampled to 16000 Hz",)
    assert scores.settings["repeats_collapsed"] is True and scores.settings["window_tokens"] == 100
    assert score_folder(bundle, wavs, STEMS[::-1], batch_size=2).main == pytest.approx(scores.main, rel=1e-5)


def test_without_collapse_repeats_count(bundle, wavs):
    semantic = bundle.language_models["semantic"]
    stage = dataclasses.replace(semantic.stage, collapse_repeats=False)
    models = {"semantic": dataclasses.replace(semantic, stage=stage)}
    scores = score_folder(dataclasses.replace(bundle, language_models=models), wavs, STEMS[:1])
    assert scores.settings["repeats_collapsed"] is False
    frames = -(-16_000 // 3 // 640)
    assert scores.raw[STEMS[0]] / scores.main[STEMS[0]] == pytest.approx(frames)


def test_token_records_give_the_same_scores(bundle, wavs):
    records = [
        tokenize(bundle, Recording(f"some/{path.stem}", "x", path), read_audio(path)) for path in wavs.rglob("*.wav")
    ]
    from_folder = score_folder(bundle, wavs, STEMS)
    assert score_records(bundle, records, STEMS).raw == pytest.approx(from_folder.raw, rel=1e-6)
    with pytest.raises(UserError, match="1 of 8 recordings have no tokens, the first is zebra"):
        score_records(bundle, records, [*STEMS, "zebra"])
    with pytest.raises(UserError, match="not of bundle tiny"):
        score_records(bundle, [dataclasses.replace(records[0], semantic_fingerprint="other")] + records[1:], STEMS)
    with pytest.raises(UserError, match="two records"):
        score_records(bundle, records + records, STEMS)


def test_a_stopped_run_goes_on_where_it_was(bundle, wavs, tmp_path, monkeypatch):
    whole = score_folder(bundle, wavs, STEMS, tmp_path / "whole.scores", batch_size=1)
    monkeypatch.setattr(likelihood, "_CHUNK_BATCHES", 2)
    read = likelihood.read_audio
    seen = []

    def read_until_killed(path):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(path.stem)
        return read(path)

    output = tmp_path / "parts.scores"
    monkeypatch.setattr(likelihood, "_READING_THREADS", 1)
    monkeypatch.setattr(likelihood, "read_audio", read_until_killed)
    with pytest.raises(KeyboardInterrupt):
        score_folder(bundle, wavs, STEMS, output, batch_size=1)
    assert len(output.read_text().splitlines()) == 2 + 4  # header, and two chunks
    with output.open("a") as file:
        file.write("u4 -1.0 -3")  # a line that was being written

    again = []
    monkeypatch.setattr(likelihood, "read_audio", lambda path: again.append(path.stem) or read(path))
    scores = score_folder(bundle, wavs, STEMS, output, batch_size=1)
    assert sorted(again) == STEMS[4:]
    assert scores.raw == whole.raw and scores.main == whole.main and scores.notes == whole.notes
    assert scores.raw[STEMS[0]] == scores.raw[STEMS[-1]]  # the tie outlives the stop
    assert read_scores(output).main == scores.main and read_scores(output).raw == scores.raw
    score_folder(bundle, wavs, STEMS, output)
    assert again == STEMS[4:]


def test_scores_of_another_bundle_or_file_are_not_added_to(bundle, wavs, tmp_path):
    output = tmp_path / "a.scores"
    score_folder(bundle, wavs, STEMS[:1], output)
    other = tiny_system(tiny_tokenizers(), seed=9)
    with pytest.raises(UserError, match="another language_model_fingerprint; name another --output"):
        score_folder(other, wavs, STEMS[:1], output)
    ready = tmp_path / "ready.txt"
    ready.write_text("u0 -3.5\n")
    with pytest.raises(UserError, match="no scores of ours"):
        score_folder(bundle, wavs, STEMS[:1], ready)
    assert ready.read_text() == "u0 -3.5\n"
    output.write_text(output.read_text() + "u1 not a line of ours\n")
    with pytest.raises(UserError, match="line 4: damaged"):
        read_scores(output)


def test_a_header_that_was_cut_is_written_anew(tmp_path):
    path = tmp_path / "a.scores"
    ScoreFile(path, {"bundle": "x"})
    whole = path.read_bytes()
    for length in (0, 5, len(whole) - 3):
        path.write_bytes(whole[:length])
        file = ScoreFile(path, {"bundle": "x"})
        file.add([ScoredRecording("a", -3.0, 2, "00", 16_000)])
        assert read_scores(path).main == {"a": -1.5} and read_scores(path).settings["bundle"] == "x"


def test_what_cannot_be_scored_is_told(bundle, wavs, tmp_path):
    with pytest.raises(UserError, match="2 of 3 recordings are not in .*the first is v"):
        score_folder(bundle, wavs, ["u0", "v", "w"])
    with pytest.raises(UserError, match="no semantic stage"):
        score_folder(dataclasses.replace(bundle, language_models={}), wavs, ["u0"])
    write_audio(tmp_path / "a" / "x.wav", Waveform(np.zeros(100), 16_000))
    write_audio(tmp_path / "b" / "x.wav", Waveform(np.zeros(100), 16_000))
    with pytest.raises(UserError, match="two files are called x"):
        score_folder(bundle, tmp_path, ["x"])
    (tmp_path / "y.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="y.wav"):
        score_folder(bundle, tmp_path, ["y"])


def test_the_command_goes_from_wavs_to_figures(bundle, wavs, tmp_path, capsys):
    tokenizers = dataclasses.replace(bundle, language_models={}, prompt=None)
    system = export_bundle(tiny_system(export_bundle(tokenizers, tmp_path / "tokenizers")), tmp_path / "system").path
    gold = tmp_path / "gold.csv"
    rows = ["u0,1,a,0,1", "u6,1,a,,0", "u1,2,a,30,1", "u2,2,a,,0", "u3,2,b,30,1", "u4,2,b,,0"]
    gold.write_text("filename,id,voice,frequency,correct\n" + "\n".join(rows) + "\n")
    argv = ["eval", "swuggy", "--gold", str(gold), "--wavs", str(wavs), "--bundle", str(system)]
    argv += ["--output", str(tmp_path / "scores"), "--json", "-"]
    assert cli.main(argv) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["out_of_vocabulary"] == values["out_of_vocabulary_raw"] == 0.5  # the same sound twice
    assert values["in_vocabulary"] in (0, 0.5, 1) and values["counts"]["ties"] >= 1
    assert values["settings"]["bundle"] == "tiny" and "1 of 6 recordings were resampled" in values["notes"][0]
    assert cli.main(argv) == 0
    assert json.loads(capsys.readouterr().out) == values
    ready = ["eval", "swuggy", "--gold", str(gold), "--scores", str(tmp_path / "scores"), "--json", "-"]
    assert cli.main(ready) == 0
    again = json.loads(capsys.readouterr().out)
    assert all(again[name] == values[name] for name in ("all", "all_raw", "in_vocabulary_raw", "details", "intervals"))


def test_other_random_weights_score_otherwise(bundle):
    """Scores come from the language model and not from the tokens alone."""
    model = StageModel(bundle.stages["semantic"], TRANSFORMER)
    params = random_like(np.random.default_rng(5), lambda: model.init(jax.random.key(0)))
    other = dataclasses.replace(bundle.language_models["semantic"], params=params)
    sequence = [np.arange(16)]
    values = [sequence_log_likelihoods(lm, sequence)[0] for lm in (other, bundle.language_models["semantic"])]
    assert values[0] != pytest.approx(values[1], rel=1e-3)
