"""From waveforms to a report: all six learners for a few steps, tokens, bundle, generation and figures, by the CLI."""

import json
import shutil

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import describe
from audiolm_jax.bundle.workdirs import export_system, export_tokenizers
from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.sound import codec_exam, codec_fidelity
from audiolm_jax.tokens.manifest import read_manifest
from audiolm_jax.training.saved.checkpoints import load_params

RATE_HZ = 16_000
ENCODER = (
    "DIM=8 NUM_HEADS=2 MLP_DIM=16 CONTRASTIVE_LAYERS=1 MLM_LAYERS=1 FRONTEND_CHANNELS=2 MASK_CODES=8 MASK_CODE_DIM=4 "
    "NUM_DISTRACTORS=4 SCAN_UNROLL=1 HELDOUT_SPEAKERS=1 BATCH_SIZE=2 "
).split()
TRANSFORMER = (
    "NUM_LAYERS=1 NUM_HEADS=2 EMBED_DIM=16 MLP_DIM=32 STEPS=3 WARMUP_STEPS=1 BATCH_SIZE=2 EVAL_EVERY=0"
).split()
SETTINGS = {
    "codec": [
        "STEPS=4", "WARMUP_STEPS=1", "QUANTIZER_START_STEP=1", "DISCRIMINATOR_START_STEP=2", "CODE_DIM=8",
        "STRIDES=(2, 2)", "ENCODER_CHANNELS=(4, 8, 8)", "DECODER_CHANNELS=(4, 8, 8)", "NUM_QUANTIZERS=4",
        "CODEBOOK_SIZE=16", "CROP_SAMPLES=6400", "SPECTROGRAM_CHANNELS=4", "PERIOD_CHANNELS=2", "PERIODS=(2, 3)",
        "HELDOUT_SPEAKERS=1", "BATCH_SIZE=2", "EVAL_EVERY=4", "SAMPLE_EVERY=0",
    ],
    "w2v_bert": [*ENCODER, "STEPS=2", "WARMUP_STEPS=1", "CROP_SAMPLES=32000", "EVAL_EVERY=0"],
    "kmeans": [
        *ENCODER, "STEPS=6", "CROP_SAMPLES=32000", "LAYER=2", "NUM_CLUSTERS=16", "WINDOW_FRAMES=100",
        "MARGIN_FRAMES=10", "STATISTICS_STEPS=2", "START_FRAMES=128", "EVAL_EVERY=0",
    ],
    "semantic": [*TRANSFORMER, "SEMANTIC_VOCAB=16", "CROP_SECONDS=2"],
    "coarse": [*TRANSFORMER, "SEMANTIC_VOCAB=16", "CODEBOOK_SIZE=16", "NUM_COARSE_QUANTIZERS=2", "CROP_SECONDS=2"],
    "fine": [*TRANSFORMER, "CODEBOOK_SIZE=16", "NUM_COARSE_QUANTIZERS=2", "NUM_QUANTIZERS=4", "CROP_SECONDS=1"],
}  # fmt: skip


def speak(seconds: float, pitch_hz: float, seed: int) -> np.ndarray:
    """A buzz in syllables of changing colour, and some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    colour = 1.5 + np.sin(2 * np.pi * (0.8 + 0.1 * seed) * time)
    voice = sum(np.sin(2 * np.pi * k * pitch_hz * time) * np.exp(-k / (4 * colour)) for k in range(1, 12))
    syllables = 0.1 + np.clip(np.sin(2 * np.pi * (2 + 0.2 * seed) * time), 0, 1)
    sound = voice * syllables + 0.02 * rng.normal(size=len(time))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def audiolm(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def train(work, name: str, data, *more: str) -> None:
    flags = [part for setting in (*SETTINGS[name], *more) for part in ("--set", setting)]
    assert audiolm("train", f"{name}_small", "--data", data, "--workdir", work / name, *flags) == 0
    assert (work / name / "done").exists()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Four speakers with two recordings each."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(4):
        for number in range(2):
            sound = speak(3 + number, 90 + 35 * speaker, seed=speaker + 4 * number)
            write_audio(root / f"speaker{speaker}" / f"{number}.flac", Waveform(sound, RATE_HZ))
    return root


def test_from_waveforms_to_a_report(speech, tmp_path, monkeypatch, capsys):
    # ViSQOL has tests of its own; compiling it would double the time of this one.
    for module in (codec_fidelity, codec_exam):
        monkeypatch.setattr(module, "visqol_is_installed", lambda: False)
    work = tmp_path
    train(work, "codec", speech)
    train(work, "w2v_bert", speech)
    train(work, "kmeans", speech, f"W2V_BERT={work / 'w2v_bert'}")
    data = [{"name": "buzz", "licence": "CC0-1.0"}]
    tokenizers = export_tokenizers(
        work / "tokenizers", work / "codec", work / "kmeans", "tiny", "CC0-1.0", data, work / "w2v_bert"
    )
    found = tokenizers.provenance["examination"]
    assert (found["step"], found["passed"] is True) == (4, False)
    # What was examined is what is exported: the moving average of the weights.
    average = load_params(work / "codec")[0]["collections"]["average"]["encoder"]["last"]["kernel"]
    np.testing.assert_array_equal(tokenizers.codec_params["encoder"]["last"]["kernel"], average.astype(np.float16))
    capsys.readouterr()
    tokenize = ("tokenize", "--input", speech, "--output", work / "tokens", "--heldout_speakers", "1")
    assert audiolm(*tokenize, "--bundle", work / "tokenizers") == 0
    assert "has not passed its examination (step 4: " in capsys.readouterr().err
    for stage in ("semantic", "coarse", "fine"):
        train(work, stage, work / "tokens")

    prompt = next(speech.glob("speaker0/*"))
    generate = ("generate", "--prompt", prompt, "--prompt_seconds", "1", "--seconds", "1", "--bundle")
    assert audiolm(*generate, work / "tokenizers", "--output", work / "none.wav") == 2
    assert "stage" in capsys.readouterr().err

    stages = {name: work / name for name in ("semantic", "coarse", "fine")}
    bundle = export_system(work / "bundle", work / "tokenizers", stages)
    assert (bundle.codec_fingerprint, list(bundle.stages)) == (tokenizers.codec_fingerprint, list(stages))
    assert bundle.provenance["semantic_mean_run_frames"] >= 1
    split = FolderCorpus(speech, heldout_speakers=1).split
    assert read_manifest(work / "tokens").split == split
    assert bundle.training_splits == dict.fromkeys(
        ("codec", "k-means", "w2v-BERT", "semantic stage", "coarse stage", "fine stage"), (split,)
    )
    assert len(bundle.provenance["splits"]) == 1 and "train_sample" not in str(describe(bundle))
    assert bundle.provenance["steps"] == {
        "codec": 4, "k-means": 6, "w2v-BERT": 2, "semantic stage": 3, "coarse stage": 3, "fine stage": 3
    }  # fmt: skip
    with pytest.raises(UserError, match="holds a coarse stage"):
        export_system(work / "mixed", work / "tokenizers", {"fine": work / "coarse"})
    with pytest.raises(UserError, match="not of a codec"):
        export_tokenizers(work / "mixed", work / "w2v_bert", work / "kmeans", "tiny", "CC0-1.0")

    for name in ("once", "again"):
        assert audiolm(*generate, work / "bundle", "--seed", "1", "--output", work / f"{name}.wav") == 0
    once, again = read_audio(work / "once.wav"), read_audio(work / "again.wav")
    assert once.seconds == pytest.approx(2.0, abs=0.02)
    np.testing.assert_array_equal(once.samples, again.samples)

    report = ("eval", "all", "--only", "codec,perplexity", "--merge", "--bundle", work / "bundle", "--data", speech)
    report += ("--output", work / "report", "--heldout_speakers", "1", "--train_tokens", work / "tokens")
    assert audiolm(*report) == 0
    measured = json.loads((work / "report" / "report.json").read_text())["measurements"]
    assert list(measured) == ["perplexity", "codec"]
    assert {values["settings"]["heldout"] for values in measured.values()} == {"reproduced"}
    assert "Held out of codec, k-means" in (work / "bundle" / "MODEL_CARD.md").read_text()
    capsys.readouterr()
    assert audiolm(*report, "--heldout_speakers", "1", "--split_seed", "2") == 2
    refused = capsys.readouterr().err
    assert "was trained on speaker" in refused and len(refused.splitlines()) == 1
    tokens = ("eval", "perplexity", "--bundle", work / "bundle", "--tokens", work / "tokens", "--json", "-")
    assert audiolm(*tokens, "--train_tokens", work / "tokens") == 0
    assert json.loads(capsys.readouterr().out)["settings"]["heldout"] == "reproduced"
    assert "nats per token" in (work / "report" / "report.html").read_text()

    capsys.readouterr()
    assert audiolm("info", work / "bundle", "--json", "-") == 0
    facts = json.loads(capsys.readouterr().out)
    metrics = facts["metrics"]
    for name in stages:
        assert 0 <= metrics[name]["unigram_nats_per_token"] <= metrics[name]["train_unigram_nats_per_token"]
        # After three steps the model cannot be much better or worse than a guess among 16 codes.
        assert 0 < metrics[name]["heldout_nats_per_token"] < 2 * np.log(16)
    assert metrics["codec_si_sdr_db"] == measured["codec"]["si_sdr_db"]
    assert metrics["heldout"]["speakers"] == 1 and metrics["heldout"]["codec_clips"] > 0
    assert facts["licence"] == "CC0-1.0"

    # The same bundle elsewhere, without the folders it was trained in.
    shutil.move(work / "bundle", work / "moved")
    for name in ("codec", "w2v_bert", "kmeans", "tokens", "tokenizers", *stages):
        shutil.rmtree(work / name)
    assert audiolm(*generate, work / "moved", "--seed", "1", "--output", work / "moved.wav") == 0
    np.testing.assert_array_equal(read_audio(work / "moved.wav").samples, once.samples)
