"""Music without speakers, a system without a fine stage, and the acoustic-only one beside it, by the same commands."""

import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import Bundle
from audiolm_jax.bundle.export import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import KINDS
from audiolm_jax.generation.pipeline import AudioLM
from tests.tiny_system import tiny_tokenizers

RATE_HZ = 44_100
STEPS = ("NUM_LAYERS=1 NUM_HEADS=2 EMBED_DIM=16 MLP_DIM=32 STEPS=2 WARMUP_STEPS=1 BATCH_SIZE=2 EVAL_EVERY=0 "
         "SAMPLE_EVERY=0 CROP_SECONDS=2").split()  # fmt: skip
LEVELS = ["CODEBOOK_SIZE=16", "NUM_COARSE_QUANTIZERS=4"]
SETTINGS = {
    "semantic": [*STEPS, "SEMANTIC_VOCAB=16"],
    "coarse": [*STEPS, *LEVELS, "SEMANTIC_VOCAB=16"],
    "acoustic": [*STEPS, *LEVELS],
}


def audiolm(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def plucked(seed: int, seconds: float = 13.0) -> Waveform:
    """Notes of a scale, one every quarter of a second, that die away."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * RATE_HZ), np.float32)
    for start in range(0, len(sound) - RATE_HZ, RATE_HZ // 4):
        seconds_since = np.arange(RATE_HZ) / RATE_HZ
        pitch_hz = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        sound[start : start + RATE_HZ] += np.sin(2 * np.pi * pitch_hz * seconds_since) * np.exp(-4 * seconds_since)
    return Waveform(0.2 * sound, RATE_HZ)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Five pieces, two of them with a folder."""
    root = tmp_path_factory.mktemp("music")
    for seed, name in enumerate(("suite/prelude", "suite/gigue", "sonata/allegro", "waltz", "nocturne", "etude")):
        write_audio(root / f"{name}.wav", plucked(seed))
    return root


def test_music_from_tokens_to_a_report(music, tmp_path, capsys):
    corpus = ("--corpus", "music", "--corpus_cache", tmp_path / "cache", "--heldout_speakers", "2")
    tokenizers = export_bundle(tiny_tokenizers(), tmp_path / "tokenizers")
    tokenize = ("tokenize", "--engine", "jax", "--input", music, "--output", tmp_path / "tokens")
    assert audiolm(*tokenize, *corpus, "--bundle", tmp_path / "tokenizers") == 0
    for name, settings in SETTINGS.items():
        flags = [part for setting in settings for part in ("--set", setting)]
        trained = ("train", f"{name}_piano_small", "--data", tmp_path / "tokens", "--workdir", tmp_path / name)
        assert audiolm(*trained, *flags) == 0 and (tmp_path / name / "done").exists()

    stages = {"piano": ("semantic", "coarse"), "alone": ("acoustic",)}
    for bundle, names in stages.items():
        flags = [part for name in names for part in (f"--{name}", tmp_path / name)]
        assert audiolm("bundle", tmp_path / bundle, "--tokenizers", tmp_path / "tokenizers", *flags) == 0
        made = Bundle.load(tmp_path / bundle)
        assert tuple(made.stages) == names and made.codec_fingerprint == tokenizers.codec_fingerprint
    capsys.readouterr()
    both = [part for name in ("acoustic", "coarse") for part in (f"--{name}", tmp_path / name)]
    assert audiolm("bundle", tmp_path / "both", "--tokenizers", tmp_path / "tokenizers", *both) == 2
    refused = capsys.readouterr().err
    assert "stands in place" in refused and refused.count("\n") == 1 and not (tmp_path / "both").exists()

    for bundle, names in stages.items():
        assert audiolm("info", tmp_path / bundle, "--json", "-") == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["stages"] == list(names) and facts["parts"][f"lm_{names[-1]}"]["vocab_size"] >= 2 + 4 * 16

        generate = ("generate", "--bundle", tmp_path / bundle, "--prompt", music / "waltz.wav", "--prompt_seconds", "1")
        out, page = tmp_path / f"{bundle}.wav", tmp_path / f"{bundle}.html"
        assert audiolm(*generate, "--seconds", "1.5", "--output", out, "--page", page) == 0
        assert read_audio(out).seconds == pytest.approx(2.5, abs=0.02)
        text = page.read_text()
        assert "levels 1–4 coarse" in text and ("Semantic tokens" in text) == (bundle == "piano")
    capsys.readouterr()
    assert audiolm(*generate, "--mode", "acoustic", "--output", tmp_path / "none.wav") == 2
    assert "tiny has no coarse stage, which mode acoustic needs" in capsys.readouterr().err

    # No recording is 4 to 10 s long: excerpts of the held-out ones are prompts.
    for bundle, names in stages.items():
        report = ("eval", "all", "--quick", "--only", "perplexity,samples", "--bundle", tmp_path / bundle)
        report += ("--data", music, *corpus, "--output", tmp_path / f"{bundle}_report")
        assert audiolm(*report) == 0
        measured = json.loads((tmp_path / f"{bundle}_report" / "report.json").read_text())["measurements"]
        found = [kind for kind in KINDS if kind in measured["samples"]]
        assert found == [kind for kind in KINDS if kind != "fine" and (kind != "acoustic" or bundle == "piano")]
        assert measured["samples"]["continuation"] == 1
        assert any("prompts are excerpts of" in note for note in measured["samples"]["notes"])
        assert measured["perplexity"][f"{names[-1]}_nats_per_token"] > 0
    with pytest.raises(UserError, match="no semantic and no coarse"):
        AudioLM(tokenizers)
