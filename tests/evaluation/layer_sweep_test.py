"""The sweep of layers and clusters: what it measures, that it goes on where it was stopped, and what it writes."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.layers import layer_report, layer_sweep
from audiolm_jax.evaluation.layers.layer_features import parse_layers
from tests.evaluation.abx_data import HEADER

# A second of three tones of 0.2 s, and their "phones"; rows of one speaker lie in one file.
TONES_HZ = {"a": 300.0, "b": 700.0, "c": 1600.0}
TINY = ["STEPS=2", "BATCH_SIZE=2", "CROP_SAMPLES=12800", "DIM=16", "NUM_HEADS=2", "MLP_DIM=32", "FRONTEND_CHANNELS=4",
        "CONTRASTIVE_LAYERS=1", "MLM_LAYERS=1", "MASK_CODE_DIM=8", "SCAN_UNROLL=1", "TARGET_CLUSTERS=(8,)",
        "TARGET_FRAMES=80", "HELDOUT_SPEAKERS=1", "EVAL_EVERY=0", "WARMUP_STEPS=1"]  # fmt: skip


def spoken(folder, name, order, rng):
    """A recording of tones with a voice of noise; the rows of its triphones."""
    pieces = [np.sin(2 * np.pi * TONES_HZ[phone] * np.arange(3200) / 16_000) for phone in order]
    samples = 0.3 * np.concatenate(pieces) + 0.01 * rng.standard_normal(3200 * len(order))
    write_audio(folder / name.split("-")[0] / f"{name}.wav", Waveform(samples.astype(np.float32), 16_000))
    return [
        f"{name} {0.2 * (k - 1):.2f} {0.2 * (k + 2):.2f} {order[k]} {order[k - 1]} {order[k + 1]} {name.split('-')[0]}"
        for k in range(1, len(order) - 1)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(item file, recordings, work directory of a training by clusters)."""
    folder, rng, rows = tmp_path_factory.mktemp("sweep"), np.random.default_rng(0), []
    for speaker in ("ann", "ben", "cleo"):
        for take in range(3):
            order = [list(TONES_HZ)[k] for k in rng.integers(0, 3, 12)]
            found = spoken(folder / "speech", f"{speaker}-{take}", order, rng)
            rows += found if speaker != "cleo" else []
    (folder / "made.item").write_text("\n".join([HEADER, *rows]) + "\n")
    sets = [word for setting in TINY for word in ("--set", setting)]
    command = ["train", "cluster_small", "--data", str(folder / "speech"), "--workdir", str(folder / "work"), *sets]
    assert cli.main(command) == 0
    return folder / "made.item", folder / "speech", folder / "work"


def run(made, output, *more):
    item, speech, work = map(str, made)
    return cli.main(["eval", "semantic", "--w2v_bert", work, "--item", item, "--data", speech, "--output", str(output),
                     "--clusters", "4,8", "--window_frames", "50", "--margin_frames", "5", *more])  # fmt: skip


def test_every_layer_and_every_k_has_its_figures_and_a_second_run_makes_none(made, tmp_path, capsys, monkeypatch):
    assert run(made, tmp_path / "out", "--layers", "0,2", "--json", str(tmp_path / "best.json")) == 0
    told = json.loads((tmp_path / "out" / "layers.json").read_text())
    rows = {row["name"] + (f"/{row['clusters']}" if row["clusters"] else ""): row for row in told["rows"]}
    assert set(rows) == {
        "mfcc", *(name + k for name in ("mfcc_40ms", "layer_00", "layer_02") for k in ("", "/4", "/8"))
    }  # fmt: skip
    assert told["settings"]["objective"] == "cluster_prediction" and told["settings"]["steps"] == 2
    # Tones are told apart by their spectra alone, so MFCC and what is made of them make few errors.
    assert rows["mfcc"]["abx_within"] < 0.2 and rows["mfcc_40ms/8"]["pnmi"] > 0.5
    for row in rows.values():
        assert 0 <= row["abx_across"] <= 1
        assert ("pnmi" in row) == (row["clusters"] is not None)
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["across"] == min(rows[name]["abx_across"] for name in ("layer_00", "layer_02"))
    table = (tmp_path / "out" / "layers.md").read_text()
    assert table.count("\n| ") == len(rows) and "| layer 2 | 8 |" in table
    svg = ElementTree.fromstring((tmp_path / "out" / "layers.svg").read_text())
    assert svg.tag.endswith("svg") and "layer 2" in "".join(svg.itertext())

    capsys.readouterr()
    monkeypatch.setattr(layer_sweep.abx, "measure", None)  # nothing is measured again
    monkeypatch.setattr(layer_sweep, "fitted_centroids", None)
    assert run(made, tmp_path / "out", "--layers", "0,2") == 0
    assert capsys.readouterr().err.count("kept, measured") == len(rows)


def test_what_is_missing_is_made_and_another_k_is_another_row(made, tmp_path, capsys):
    arguments = (made, tmp_path / "out", "--layers", "1")
    assert run(*arguments) == 0
    kept = tmp_path / "out" / "measurements" / "layer_01_k00008.json"
    before = (tmp_path / "out" / "layers.json").read_bytes()
    kept.unlink()
    capsys.readouterr()
    assert run(*arguments) == 0
    assert capsys.readouterr().err.count("kept, measured") == 6
    after = json.loads((tmp_path / "out" / "layers.json").read_text())
    assert after == json.loads(before)  # the same to the last digit, k-means and all


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--layers", "3"), "'3' is not among the layers 0 to 2"),
        (("--layers", "one"), "'one' is not among the layers"),
        (("--clusters", "1"), "--clusters '1' is not a list of numbers"),
        (("--w2v_bert", "/nowhere"), "/nowhere"),
        (("--margin_frames", "30"), "leave nothing of 50 frames"),
    ],
)
def test_a_mistake_is_one_line(made, tmp_path, capsys, flags, words):
    assert run(made, tmp_path / "out", *flags) == 2
    told = capsys.readouterr().err
    assert words in told and told.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_more_clusters_than_frames_is_told_and_the_rest_is_made(made, tmp_path, capsys):
    assert run(made, tmp_path / "out", "--layers", "2", "--clusters", "4,5000") == 2
    assert "5000 clusters of" in capsys.readouterr().err
    assert "layer 2 | 4 |" in (tmp_path / "out" / "layers.md").read_text()


def test_layers_are_numbers_or_all():
    assert parse_layers("all", 2) == (0, 1, 2) and parse_layers("2, 0,2", 2) == (0, 2)
    with pytest.raises(UserError, match="--layers ''"):
        parse_layers("", 2)


def test_centroids_are_of_the_frames_that_memory_takes(monkeypatch):
    frames = np.repeat(np.float32([[0, 0], [9, 9]]), 50, axis=0)[np.random.default_rng(0).permutation(100)]
    monkeypatch.setattr(layer_sweep, "_MOST_SCORES", 60)
    found = layer_sweep.fitted_centroids(frames, 2, seed=0)
    assert sorted(found.round().tolist()) == [[0, 0], [9, 9]]


def test_a_figure_without_values_says_so():
    row = {"name": "layer_00", "title": "layer 0", "layer": 0, "clusters": None, "abx_within": 0.1, "abx_across": None}
    assert "PNMI of the clusters: not defined" in layer_report.as_svg([row], "a title")
    assert layer_report.best_rows([row]) == {}
