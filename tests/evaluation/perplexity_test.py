"""Held-out nats and their baselines, against sums written out by hand."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language.perplexity import manifest_metrics, measure, stage_batches
from audiolm_jax.evaluation.language.token_records import read_records
from audiolm_jax.evaluation.sound.code_usage import unbiased_entropy_nats
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.alignment import collapse
from audiolm_jax.tokens.records import TokenRecord
from tests.data.tiny_records import SIZES, write_folder
from tests.evaluation.counted_figures import (
    model_nats,
    stage_figures,
    target_counts,
    train_unigram_nats,
    unigram_nats,
)
from tests.tiny_system import STAGES, TRANSFORMER, random_like, tiny_system, tiny_tokenizers

RNG = np.random.default_rng(0)


def fine_batch(rows=3, frames=5):
    """Random fine-stage sequences of 16 codes, levels 0 and 1 given and 2 and 3 predicted; the last row is padding."""
    stage = STAGES["fine"]
    codes = RNG.integers(0, 16, (rows, frames, 4))
    prefix = stage.layout.encode_frames("acoustic", codes[:, :, :2], 0)
    target = stage.layout.encode_frames("acoustic", codes[:, :, 2:], 2)
    ids = np.zeros((rows, stage.sequence_length), np.int32)
    weights = np.zeros((rows, stage.sequence_length), np.float32)
    length = prefix.shape[1]
    ids[:, :length], ids[:, length : 2 * length] = prefix, target
    weights[:, length : 2 * length] = 1
    example_weights = np.ones(rows, np.float32)
    example_weights[-1] = 0
    return codes, {"ids": ids, "loss_weights": weights, "example_weights": example_weights}


def test_counts_are_per_level_and_leave_padding_out():
    codes, batch = fine_batch()
    counts = target_counts(STAGES["fine"], [batch])
    assert counts.shape == (2, 16)
    for level in (0, 1):
        expected = np.bincount(codes[:-1, :, 2 + level].ravel(), minlength=16)
        np.testing.assert_array_equal(counts[level], expected)


def test_end_of_sequence_counts_in_the_semantic_stage():
    stage = STAGES["semantic"]
    ids = np.concatenate([stage.layout.encode("semantic", 0, np.array([3, 3, 4])), [1, 0]])[None]
    counts = target_counts(stage, [{"ids": ids, "loss_weights": np.array([[1, 1, 1, 1, 0]])}])
    assert counts.sum() == 4
    codes = np.bincount([1, 1, 2, 0], minlength=17)
    assert unigram_nats(counts) == pytest.approx(unbiased_entropy_nats(codes))
    # 16 clusters and EOS are legal; nothing else gets a share of the smoothing.
    nothing = np.zeros_like(counts)
    assert train_unigram_nats(stage, nothing, counts) == pytest.approx(np.log(17))


def test_own_entropy_is_never_above_the_training_counts():
    _, batch = fine_batch()
    counts = target_counts(STAGES["fine"], [batch])
    other = target_counts(STAGES["fine"], [fine_batch()[1]])
    assert unigram_nats(counts) <= train_unigram_nats(STAGES["fine"], other, counts)


def test_model_nats_of_flat_logits_are_the_logarithm_of_the_codes():
    stage = STAGES["fine"]
    model = StageModel(stage, TRANSFORMER)
    params = random_like(np.random.default_rng(1), lambda: model.init(jax.random.key(0)))
    flat = dict(params, embedding=np.zeros_like(params["embedding"]))
    _, batch = fine_batch()
    totals = model_nats(model, flat, [batch, batch])
    np.testing.assert_allclose(totals.nats / totals.tokens, np.log(16), rtol=1e-5)
    np.testing.assert_array_equal(totals.tokens, [20, 20])

    figures = stage_figures(model, params, [batch, batch], train_counts=np.ones((2, 16), np.int64))
    halves = [stage_figures(model, params, [batch])["heldout_nats_per_token"] for _ in range(2)]
    assert figures["heldout_nats_per_token"] == pytest.approx(np.mean(halves))
    assert figures["num_tokens"] == 40
    assert figures["train_unigram_nats_per_token"] == pytest.approx(np.log(16))
    assert np.mean(figures["heldout_nats_by_level"]) == pytest.approx(figures["heldout_nats_per_token"])
    assert figures["share_of_unigram"] == figures["heldout_nats_per_token"] / figures["unigram_nats_per_token"]


def test_no_tokens_is_an_error():
    model = StageModel(STAGES["fine"], TRANSFORMER)
    with pytest.raises(ValueError, match="no held-out tokens"):
        stage_figures(model, {}, [])


def noise_records(bundle, count=6, seed=0):
    """Records of random tokens of two speakers and more, whose semantic tokens come in runs."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        frames = int(rng.integers(20, 160))
        yield TokenRecord(
            key=f"s{number % 3}/{number}",
            speaker=f"s{number % 3}",
            source=f"{number}.wav",
            num_samples=frames * 640,
            semantic_tokens=np.repeat(rng.integers(0, 16, frames), 2)[:frames],
            acoustic_tokens=rng.integers(0, 16, (2 * frames, 4)),
            semantic_fingerprint=bundle.semantic_fingerprint,
            codec_fingerprint=bundle.codec_fingerprint,
        )


@pytest.fixture(scope="module")
def bundle():
    return tiny_system(tiny_tokenizers())


@pytest.fixture(scope="module")
def measured(bundle):
    return measure(bundle, list(noise_records(bundle)))


def test_measure_agrees_with_the_stage_figures(bundle, measured):
    records = list(noise_records(bundle))
    for name, language_model in bundle.language_models.items():
        batches = stage_batches(records, language_model.stage, 3)
        expected = stage_figures(language_model.model, language_model.params, batches)
        row = manifest_metrics(measured)[name]
        assert set(expected) <= set(row)
        for figure, value in expected.items():
            assert row[figure] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5)), figure
        assert measured.figures[f"{name}_nats_per_token"] == row["heldout_nats_per_token"]
        assert measured.figures[f"{name}_share_of_unigram"] == pytest.approx(expected["share_of_unigram"], rel=1e-5)
        assert measured.counts[f"{name}_tokens"] == expected["num_tokens"]
    assert measured.counts["recordings"] == 6 and measured.counts["speakers"] == 3
    assert "no bigrams" in measured.notes[0]
    assert len(measured.details["usage"]) == 1 + 4


def test_order_and_batches_change_no_figure(bundle, measured):
    again = measure(bundle, list(noise_records(bundle))[::-1], batch_size=3)
    for name, value in measured.figures.items():
        assert again.figures[name] == pytest.approx(value, rel=1e-5), name
    for name, (low, high) in measured.intervals.items():
        assert again.intervals[name] == pytest.approx((low, high), rel=1e-4), name
        assert low <= measured.figures[name] <= high
    assert again.details["usage"] == measured.details["usage"]
    runs = [collapse(record.semantic_tokens)[1] for record in noise_records(bundle)]
    assert measured.figures["semantic_mean_run_frames"] == pytest.approx(np.concatenate(runs).mean())


def test_training_tokens_give_bigrams(bundle, tmp_path):
    sizes = dataclasses.replace(
        SIZES, codebook_size=16, semantic_fingerprint=bundle.semantic_fingerprint,
        codec_fingerprint=bundle.codec_fingerprint,
    )  # fmt: skip
    folder = write_folder(tmp_path / "tokens", {"a": 3, "b": 3, "held": 1}, sizes=sizes)
    records = list(noise_records(bundle))
    found = measure(bundle, records, [folder])
    stage = bundle.stages["coarse"]
    train = [record for record in read_records([folder], bundle, ("train",))]
    counts = target_counts(stage, stage_batches(train, stage, 4))
    heldout = target_counts(stage, stage_batches(records, stage, 4))
    assert found.figures["coarse_train_unigram_nats_per_token"] == pytest.approx(
        train_unigram_nats(stage, counts, heldout)
    )
    # Noise has no order: knowing the token before does not help.
    assert found.figures["coarse_train_bigram_nats_per_token"] > found.figures["coarse_unigram_nats_per_token"]
    assert found.figures["coarse_share_of_train_bigram"] == pytest.approx(
        found.figures["coarse_nats_per_token"] / found.figures["coarse_train_bigram_nats_per_token"]
    )
    assert found.counts["train_recordings"] == 6 and found.notes == ()
    assert {"train_bigram_nats_per_token", "train_bigram_nats_by_level"} <= set(manifest_metrics(found)["coarse"])


def test_one_speaker_is_drawn_by_recording_and_tokenizers_alone_have_no_stages(bundle):
    records = [dataclasses.replace(record, speaker="one") for record in noise_records(bundle)]
    found = measure(dataclasses.replace(bundle, language_models={}), records)
    assert found.settings["interval_unit"] == "recording" and set(found.intervals) == {"semantic_mean_run_frames"}
    assert set(found.figures) == {"semantic_share_in_use", "acoustic_share_in_use", "semantic_mean_run_frames"}


def test_records_that_do_not_fit_are_refused(bundle):
    records = list(noise_records(bundle))
    with pytest.raises(UserError, match="no held-out records"):
        measure(bundle, [])
    with pytest.raises(UserError, match="two records have the key 's0/0'"):
        measure(bundle, [*records, records[0]])
    with pytest.raises(UserError, match="not of bundle tiny"):
        measure(bundle, [dataclasses.replace(records[0], codec_fingerprint="other")])


def test_the_command_takes_recordings_or_tokens(bundle, tmp_path, capsys):
    system = export_bundle(tiny_system(export_bundle(tiny_tokenizers(), tmp_path / "tokenizers")), tmp_path / "b")
    rng = np.random.default_rng(0)
    for speaker in range(4):
        write_audio(tmp_path / "speech" / f"s{speaker}" / "x.wav", Waveform(0.1 * rng.normal(size=9000), 8_000))
    argv = ["eval", "perplexity", "--bundle", str(system.path), "--json", "-"]
    assert cli.main([*argv, "--data", str(tmp_path / "speech"), "--heldout_speakers", "2"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["counts"]["recordings"] == 1  # a quarter of four speakers
    assert values["notes"][1] == "1 of 1 recordings were resampled to 16000 Hz"
    assert "its split is not recorded with the bundle" in values["notes"][2] and len(values["notes"]) == 3
    assert values["settings"]["heldout_speakers"] == 2 and values["settings"]["heldout"] == "unknown"
    argv_all = [*argv, "--data", str(tmp_path / "speech"), "--unseen", "--max_recordings", "3"]
    assert cli.main(argv_all) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["recordings"] == 3

    sizes = dataclasses.replace(
        SIZES, codebook_size=16, semantic_fingerprint=system.semantic_fingerprint,
        codec_fingerprint=system.codec_fingerprint,
    )  # fmt: skip
    tokens = str(write_folder(tmp_path / "tokens", {"a": 3, "held": 2}, sizes=sizes))
    assert cli.main([*argv, "--tokens", tokens, "--train_tokens", tokens]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["counts"]["recordings"] == 2 and values["counts"]["train_recordings"] == 3
    assert values["semantic_train_bigram_nats_per_token"] > 0

    for wrong in ([], ["--data", "a", "--tokens", "b"]):
        assert cli.main([*argv, *wrong]) == 2
        assert "--data" in capsys.readouterr().err
