"""The report on held-out speakers, on a system of random weights."""

import json

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import Bundle, export_bundle
from audiolm_jax.data.corpora import Utterance
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import heldout
from audiolm_jax.evaluation.heldout import ReportSettings, levels_by_name, measure, shared_out, write_report
from tests.tiny_system import tiny_system, tiny_tokenizers


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Eight speakers of noise bursts; two are held out, and one file is broken."""
    root = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for speaker in range(8):
        for number in range(2):
            samples = rng.normal(size=16_000 * 3 + 800 * number) * np.linspace(0.05, 0.3, 16_000 * 3 + 800 * number)
            write_audio(root / f"s{speaker}" / f"{number}.wav", Waveform(samples.astype(np.float32) * 0.2, 16_000))
    for speaker in range(8):
        (root / f"s{speaker}" / "broken.wav").write_bytes(b"RIFF")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    tokenizers = export_bundle(tiny_tokenizers(), folder / "tokenizers")
    return export_bundle(tiny_system(tokenizers), folder / "system")


def test_recordings_are_shared_out_among_speakers():
    keys = [f"a/{n}" for n in range(5)] + [f"b/{n}" for n in range(2)]
    utterances = [Utterance(path=None, speaker=key[0], key=key) for key in keys]
    chosen = shared_out(utterances, 4)
    assert [u.speaker for u in chosen] == ["a", "b", "a", "b"]
    assert shared_out(list(reversed(utterances)), 4) == chosen
    assert len(shared_out(utterances, None)) == 7


def test_report_of_a_random_system(bundle, speech, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heldout, "visqol_is_installed", lambda: False)
    settings = ReportSettings(folders=(str(speech),), heldout_speakers=2, max_clips=2)
    report = measure(bundle, settings)
    metrics = report["metrics"]
    assert levels_by_name(bundle) == {"0.8kbps": 4}
    assert not any(name.startswith("codec_visqol") for name in metrics)
    assert len(metrics["codec_code_usage"]) == 4 and all(0 < share <= 1 for share in metrics["codec_code_usage"])
    assert metrics["codec_si_sdr_db"] < 0
    assert metrics["heldout"]["speakers"] == 2 and metrics["heldout"]["recordings"] == 4
    assert len(report["settings"]["left_out"]) == 2
    seconds = metrics["heldout"]["seconds"]
    assert seconds == pytest.approx(2 * (3 + 3.05), abs=0.01)
    for name in ("semantic", "coarse", "fine"):
        assert 0 <= metrics[name]["unigram_nats_per_token"] <= np.log(17)
        assert np.isfinite(metrics[name]["heldout_nats_per_token"])
    # Every frame of every recording is scored once: two levels each, 50 frames a second.
    assert metrics["coarse"]["num_tokens"] == metrics["fine"]["num_tokens"] == 2 * 2 * (150 + 153)

    write_report(bundle, report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["metrics"] == json.loads(json.dumps(metrics))
    assert "| fine |" in (tmp_path / "report.md").read_text()
    assert Bundle.load(bundle.path).metrics["fine"] == metrics["fine"]


def test_no_heldout_speakers_is_told(bundle, tmp_path):
    write_audio(tmp_path / "one.wav", Waveform(np.zeros(16_000), 16_000))
    with pytest.raises(UserError, match="no held-out recordings"):
        measure(bundle, ReportSettings(folders=(str(tmp_path),)))


def test_mistakes_are_one_line(tmp_path, capsys):
    code = cli.main(["report", "--bundle", "nowhere", "--data", str(tmp_path), "--output", str(tmp_path)])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
