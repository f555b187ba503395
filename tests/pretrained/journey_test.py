"""Every command with every published codec and encoder, by the small random models of the golden folders."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import audiolm_jax
from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import Bundle
from tests.pretrained.parity import speechlike

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
RATE_HZ = 16_000
TRANSFORMER = (
    "NUM_LAYERS=1 NUM_HEADS=2 EMBED_DIM=16 MLP_DIM=32 STEPS=2 WARMUP_STEPS=1 BATCH_SIZE=2 EVAL_EVERY=0 "
    "CROP_SECONDS=0.48 COMPUTE_DTYPE=float32 REMAT=none MAX_EVAL_EXAMPLES=2"
).split()


@dataclasses.dataclass(frozen=True)
class Pair:
    """A codec, an encoder, and where its centroids come from: a file, or a k-means that is trained here."""

    encoder: str
    codec: str
    trains_kmeans: bool


PAIRS = (
    Pair("hubert", "encodec", trains_kmeans=False),
    Pair("wav2vec2-bert", "dac", trains_kmeans=True),
    Pair("wav2vec2", "mimi", trains_kmeans=False),
    Pair("hubert", "lyra", trains_kmeans=False),
)


def audiolm(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Two speakers with two recordings each."""
    root = tmp_path_factory.mktemp("speech")
    for speaker in range(2):
        for number in range(2):
            sound = speechlike(1.1 + 0.3 * number, RATE_HZ, seed=speaker + 2 * number)
            write_audio(root / f"speaker{speaker}" / f"{number}.flac", Waveform(sound, RATE_HZ))
    return root


def fit_kmeans(work, name: str, speech) -> Path:
    """A k-means training on an imported encoder."""
    assert audiolm("import", GOLDEN / name, "--output", work / "encoder") == 0
    settings = (
        f"ENCODER={work / 'encoder'} LAYER=1 NUM_CLUSTERS=8 WINDOW_FRAMES=50 MARGIN_FRAMES=5 STATISTICS_STEPS=1 "
        "STEPS=3 START_FRAMES=64 BATCH_SIZE=2 CROP_SAMPLES=16000 HELDOUT_SPEAKERS=1 EVAL_EVERY=0"
    ).split()
    flags = [part for setting in settings for part in ("--set", setting)]
    assert audiolm("train", "kmeans_hubert", "--data", speech, "--workdir", work / "kmeans", *flags) == 0
    return work / "kmeans"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.encoder}+{pair.codec}")
def test_published_tokenizers_from_import_to_generation(pair, speech, tmp_path, capsys):
    work = tmp_path
    codec, encoder = (audiolm_jax.pretrained.load(GOLDEN / name) for name in (pair.codec, pair.encoder))
    assert audiolm("import", GOLDEN / pair.codec, "--output", work / "codec", "--num_quantizers", "3") == 0
    if pair.trains_kmeans:
        semantic, licence = fit_kmeans(work, pair.encoder, speech), ("--licence", "CC0-1.0")
    else:
        np.save(work / "km.npy", np.random.default_rng(0).normal(size=(8, encoder.config.dim)))
        semantic, licence = work / "units", ()
        flags = ("--kmeans", work / "km.npy", "--layer", "2", "--output", semantic)
        assert audiolm("import", GOLDEN / pair.encoder, *flags) == 0

    parts = ("--codec", work / "codec", "--kmeans", semantic, "--name", "published", *licence)
    assert audiolm("bundle", work / "tokenizers", *parts) == 0
    bundle = Bundle.load(work / "tokenizers")
    assert [part["kind"] for part in bundle.provenance["published"]] == [pair.codec, pair.encoder]
    prompt = next(speech.glob("speaker0/*"))
    for folder in ("codec", "tokenizers"):
        assert audiolm("codec", prompt, work / "decoded.wav", "--bundle", work / folder) == 0
        assert read_audio(work / "decoded.wav").sample_rate_hz == codec.sample_rate_hz

    tokenize = ("tokenize", "--input", speech, "--output", work / "tokens", "--heldout_speakers", "1")
    assert audiolm(*tokenize, "--bundle", work / "tokenizers", "--batch_size", "2") == 0
    rates = (
        f"SEMANTIC_SAMPLE_RATE={encoder.sample_rate_hz} SEMANTIC_HOP={encoder.hop_samples} "
        f"ACOUSTIC_SAMPLE_RATE={codec.sample_rate_hz} ACOUSTIC_HOP={codec.hop_samples}"
    ).split()
    size = f"CODEBOOK_SIZE={codec.codebook_size}"
    vocabularies = {
        "semantic": ["SEMANTIC_VOCAB=8"],
        "coarse": ["SEMANTIC_VOCAB=8", size, "NUM_COARSE_QUANTIZERS=2"],
        "fine": [size, "NUM_COARSE_QUANTIZERS=2", "NUM_QUANTIZERS=3"],
    }
    for stage, vocabulary in vocabularies.items():
        flags = [part for setting in (*TRANSFORMER, *rates, *vocabulary) for part in ("--set", setting)]
        train = ("train", f"{stage}_hubert_encodec", "--data", work / "tokens", "--workdir", work / stage)
        assert audiolm(*train, *flags) == 0

    stages = [part for stage in ("semantic", "coarse", "fine") for part in (f"--{stage}", work / stage)]
    assert audiolm("bundle", work / "bundle", "--tokenizers", work / "tokenizers", *stages) == 0
    generate = ("generate", "--prompt", prompt, "--prompt_seconds", "0.5", "--seconds", "0.24")
    assert audiolm(*generate, "--output", work / "out.wav", "--bundle", work / "bundle") == 0
    made = read_audio(work / "out.wav")
    assert made.seconds == pytest.approx(0.74, abs=0.01) and np.isfinite(made.samples).all()

    lines = ["#file onset offset #phone prev-phone next-phone speaker"]
    for number, stem in enumerate(("0", "1")):
        for place in range(3):
            start = 0.1 + 0.25 * place
            lines.append(f"{stem} {start:.3f} {start + 0.2:.3f} P{place % 2} A B s{number}")
    (work / "tiny.item").write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    for representation in ("semantic", "codec"):
        flags = ("--bundle", work / "bundle", "--audio", speech / "speaker0", "--representation", representation)
        assert audiolm("eval", "abx", "--item", work / "tiny.item", *flags, "--json", "-") == 0
        assert 0 <= json.loads(capsys.readouterr().out)["within"] <= 1
