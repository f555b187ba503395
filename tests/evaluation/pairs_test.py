"""Recordings and their references: pairing, notes and means."""

import importlib.util
import json
import statistics

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, resample, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.pairs import compare, mean_figures, measure, paired_files
from tests.evaluation.speechlike import RATE_HZ, noisy, speechlike


def write(path, samples, rate_hz=RATE_HZ):
    write_audio(path, Waveform(samples, rate_hz))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two speakers with two recordings each, and their noisy copies in another order and format."""
    root = tmp_path_factory.mktemp("pairs")
    for number, key in enumerate(("s1/a", "s1/b", "s2/a", "s2/b")):
        samples = speechlike(1.5, seed=number)
        write(root / "reference" / f"{key}.wav", samples)
        write(root / "degraded" / f"{key}.flac", noisy(samples, 5 + 8 * number))
    return root


def test_visqol_command_equals_the_package_called_by_hand(tmp_path, capsys):
    api_module = pytest.importorskip("visqol.api")
    reference = write(tmp_path / "a.wav", speechlike())
    degraded = write(tmp_path / "b.wav", noisy(speechlike(), 10))
    assert cli.main(["eval", "visqol", "--reference", str(reference), "--degraded", str(degraded), "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    api = api_module.VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    assert figures["moslqo"] == api.measure(str(reference), str(degraded)).moslqo
    assert figures["mapping"] == "exponential" and figures["settings"]["visqol_mapping"] == "exponential"
    assert figures["intervals"] == {} and figures["counts"] == {"pairs": 1, "left_out": 0}
    assert figures["si_sdr_db"] == pytest.approx(10, abs=0.2)

    assert cli.main(["eval", "visqol", "--reference", str(reference), "--degraded", str(reference), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["moslqo"] == pytest.approx(5.0, abs=1e-3)


def test_folders_pair_by_name_and_resample_speakers(folders):
    pytest.importorskip("visqol")
    measured = measure(folders / "reference", folders / "degraded")
    rows = measured.details["pairs"]
    assert list(rows) == ["s1/a", "s1/b", "s2/a", "s2/b"]
    for name in ("moslqo", "si_sdr_db", "log_mel_distance", "visqol_similarity"):
        assert measured.figures[name] == pytest.approx(statistics.fmean(row[name] for row in rows.values()))
        low, high = measured.intervals[name]
        by_speaker = [statistics.fmean([rows[f"{s}/a"][name], rows[f"{s}/b"][name]]) for s in ("s1", "s2")]
        # Two speakers: a resample holds either one twice or both.
        assert (low, high) == (pytest.approx(min(by_speaker)), pytest.approx(max(by_speaker)))
    assert json.loads(json.dumps(measured.to_json()))["counts"]["pairs"] == 4


def test_partners_must_be_there_and_others_are_told(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / "r" / name, speechlike(1.2))
    for name in ("b.wav", "x.wav"):
        write(tmp_path / "d" / name, speechlike(1.2))
    with pytest.raises(UserError, match=r"a\.wav has no partner in .*nor have 1 others"):
        paired_files(tmp_path / "r", tmp_path / "d")
    (tmp_path / "r" / "a.wav").unlink()
    (tmp_path / "r" / "c.wav").unlink()
    assert [path.name for path in paired_files(tmp_path / "r", tmp_path / "d").without_reference] == ["x.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        paired_files(tmp_path / "empty", tmp_path / "d")
    write(tmp_path / "d" / "b.flac", speechlike(1.2))
    with pytest.raises(UserError, match="differ only in their suffix"):
        paired_files(tmp_path / "r", tmp_path / "d")
    with pytest.raises(UserError, match="two files or two folders"):
        paired_files(tmp_path / "r" / "b.wav", tmp_path / "d")
    with pytest.raises(UserError, match="does not exist"):
        paired_files(tmp_path / "r", tmp_path / "nowhere")


def test_rates_and_lengths_are_told(tmp_path):
    pytest.importorskip("visqol")
    samples = speechlike(3.0)
    write(tmp_path / "r" / "x.wav", samples)
    half = resample(Waveform(samples, RATE_HZ), 8_000)
    write(tmp_path / "d" / "x.wav", half.samples[: 8_000 * 3 // 2], 8_000)
    write(tmp_path / "d" / "more.wav", samples)
    measured = measure(tmp_path / "r", tmp_path / "d")
    notes = " ".join(measured.notes)
    assert "1 of 1 degraded files were resampled" in notes
    assert "differ in length by more than 1 s" in notes
    assert "1 degraded files have no reference" in notes and "more.wav" in notes
    write(tmp_path / "r" / "x.wav", half.samples, 8_000)
    assert "1 of 1 pairs were resampled to 16000 Hz" in " ".join(measure(tmp_path / "r", tmp_path / "d").notes)


def test_a_pair_that_cannot_be_compared_is_left_out_with_a_note(tmp_path, capsys):
    pytest.importorskip("visqol")
    for name, samples in (("good", speechlike(1.5)), ("silent", np.zeros(RATE_HZ * 2)), ("short", speechlike(0.5))):
        write(tmp_path / "r" / f"{name}.wav", samples)
        write(tmp_path / "d" / f"{name}.wav", speechlike(1.5)[: len(samples)])
    measured = measure(tmp_path / "r", tmp_path / "d")
    assert list(measured.details["pairs"]) == ["good"] and measured.counts == {"pairs": 1, "left_out": 2}
    left_out = [note for note in measured.notes if note.startswith("left out")]
    assert len(left_out) == 2 and "silent" in left_out[1] + left_out[0]

    command = ["eval", "visqol", "--reference", f"{tmp_path}/r/short.wav", "--degraded", f"{tmp_path}/d/short.wav"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "at least 1 s" in error


def test_a_mapping_without_its_library_is_one_line(tmp_path, capsys):
    if importlib.util.find_spec("ai_edge_litert") is not None:
        pytest.skip("the library is installed")
    path = str(write(tmp_path / "x.wav", speechlike(1.2)))
    assert cli.main(["eval", "visqol", "--reference", path, "--degraded", path, "--mapping", "lattice"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("audiolm eval visqol: the lattice mapping") and "audiolm_jax[lattice]" in error
    assert error.count("\n") == 1


def test_figures_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    rows = {f"s{n % 3}/{n}": {"x": float(v), "y": None if n < 9 else 1.0} for n, v in enumerate(rng.normal(size=10))}
    units = {key: key[:2] for key in rows}
    backwards = dict(reversed(rows.items()))
    assert mean_figures(rows, units) == mean_figures(backwards, units)
    figures, intervals = mean_figures(rows, units)
    assert figures["y"] == 1.0 and "y" not in intervals
    assert intervals["x"][0] < figures["x"] < intervals["x"][1]


def test_recordings_compare_without_visqol():
    samples = speechlike()
    figures = compare(Waveform(samples, RATE_HZ), Waveform(samples[::2].copy(), RATE_HZ // 2), mapping=None)
    assert "moslqo" not in figures and {"si_sdr_db", "log_mel_distance"} <= figures.keys()
    with pytest.raises(UserError, match="cannot compare"):
        compare(Waveform(np.zeros(RATE_HZ), RATE_HZ), Waveform(samples, RATE_HZ), mapping=None)
