"""ABX against plain loops, against figures of Libri-light's own evaluator, and against its own order."""

import json
from fractions import Fraction

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx import abx_errors, dtw
from audiolm_jax.evaluation.abx.abx import AbxSettings, measure
from audiolm_jax.evaluation.abx.frame_features import folder_features
from tests.evaluation.abx_data import HEADER, made_features, made_rows, plain_abx, write_task
from tests.tiny_system import tiny_tokenizers

NO_CAPS = AbxSettings(max_group_size=0, max_x_across=0)


def measured(folder, rows, features, seconds="0.02", settings=NO_CAPS):
    item, arrays = write_task(folder, rows, features)
    return measure(item, folder_features(arrays), Fraction(seconds), settings)


# Of eval_ABX.py of Libri-light (commit 3fb5006) with torch 2.13 on these features and items, caps raised to 1000.
LIBRI_LIGHT = {
    # seed, share of silent frames, seconds per frame, distance, missing file: within, across
    (0, 0.0, "0.02", "cosine", "made3"): (0.5991401672363281, 0.47458523511886597),
    (1, 0.0, "0.01", "cosine", None): (0.5253472328186035, 0.5676729679107666),
    (2, 0.0, "0.02", "euclidian", None): (0.5452094674110413, 0.5211596488952637),
    (3, 0.2, "0.02", "cosine", None): (0.5331018567085266, 0.42188501358032227),
}


@pytest.mark.parametrize("case", LIBRI_LIGHT)
def test_equals_libri_light_and_plain_loops(case, tmp_path):
    seed, silent, seconds, distance, missing = case
    rows, features = made_rows(seed), made_features(seed, silent)
    features.pop(missing, None)
    made = measured(tmp_path, rows, features, seconds, AbxSettings(0, 0, distance=distance))
    figures = made.figures["within"], made.figures["across"]
    assert figures == pytest.approx(LIBRI_LIGHT[case], abs=1e-6)
    assert figures == pytest.approx(plain_abx(rows, features, float(seconds), distance), abs=1e-9)


def test_order_of_rows_and_files_changes_nothing(tmp_path, monkeypatch):
    # Few vectors, so that many distances tie exactly; caps that bite, so that something is drawn.
    rows, book = made_rows(4), np.random.default_rng(4).normal(size=(4, 7)).astype(np.float32)
    features = {
        name: book[np.random.default_rng(i).integers(0, 4, 60)] for i, name in enumerate(sorted(made_features()))
    }
    settings = AbxSettings(max_group_size=3, max_x_across=1, seed=1)
    straight = measured(tmp_path / "straight", rows, features, settings=settings)
    assert straight.counts["rows_over_the_cap"] > 0

    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    item, arrays = write_task(tmp_path / "shuffled", shuffled, dict(reversed(features.items())))
    (arrays / "below").mkdir()
    (arrays / "made1.npy").rename(arrays / "below" / "made1.npy")
    monkeypatch.setattr(dtw, "_BATCH_MOST", 16)
    monkeypatch.setattr(abx_errors, "_CHUNK_FLOATS", 1000)
    monkeypatch.setattr(abx_errors, "_TRIPLES_AT_ONCE", 5)
    other = measure(item, folder_features(arrays), Fraction(1, 50), settings)
    assert other.figures == straight.figures
    assert other.intervals == straight.intervals
    assert other.counts == straight.counts
    assert other.details["phone_pairs"] == straight.details["phone_pairs"]


def test_a_cap_that_nothing_exceeds_draws_nothing_and_seeds_draw_differently(tmp_path):
    rows, features = made_rows(0), made_features(0)
    free = measured(tmp_path, rows, features)
    assert measured(tmp_path, rows, features, settings=AbxSettings(50, 50, seed=9)).figures == free.figures
    drawn = [measured(tmp_path, rows, features, settings=AbxSettings(2, 1, seed=seed)) for seed in range(3)]
    assert all(made.counts["triples_across"] < free.counts["triples_across"] for made in drawn)
    assert len({made.figures["across"] for made in drawn}) > 1


def test_figures_are_means_of_the_phone_pairs(tmp_path):
    made = measured(tmp_path, made_rows(0), made_features(0))
    for name, low_high in made.intervals.items():
        errors = [row[name] for row in made.details["phone_pairs"] if row[name] is not None]
        assert len(errors) == made.counts[f"phone_pairs_{name}"]
        assert made.figures[name] == pytest.approx(np.mean(errors))
        assert low_high[0] <= made.figures[name] <= low_high[1]
    assert set(made.intervals) == {"within", "across"}
    assert made.settings["interval_unit_within"] == "speaker"


def test_one_speaker_has_no_across(tmp_path):
    rows = [" ".join([*row.split()[:-1], "anna"]) for row in made_rows(0)]
    made = measured(tmp_path, rows, made_features(0))
    assert made.figures["across"] is None and 0 < made.figures["within"] < 1
    assert set(made.intervals) == {"within"} and made.settings["interval_unit_within"] == "context"
    assert json.loads(json.dumps(made.to_json()))["across"] is None


def test_well_separated_phones_make_no_error(tmp_path):
    rows = [f"f {0.1 * i:.1f} {0.1 * i + 0.09:.2f} {'ab'[i % 2]} x y {'st'[i // 4 % 2]}" for i in range(16)]
    directions = np.eye(2, dtype=np.float32)[np.arange(16) % 2].repeat(10, axis=0)
    made = measured(tmp_path, rows, {"f": directions}, "0.01")
    assert made.figures == {"within": 0.0, "across": 0.0}


def test_missing_files_are_named_and_their_rows_left_out(tmp_path):
    rows, features = made_rows(0), made_features(0)
    without = {name: frames for name, frames in features.items() if name != "made3"}
    made = measured(tmp_path, rows, without)
    alone = measured(tmp_path / "alone", [row for row in rows if not row.startswith("made3")], without)
    assert made.figures == alone.figures and not alone.notes
    assert "1 of the 4 files" in made.notes[0] and "made3" in made.notes[0]
    assert made.counts["rows_of_missing_files"] == sum(row.startswith("made3") for row in rows)


def test_rows_far_behind_the_features_get_a_note(tmp_path):
    made = measured(tmp_path, made_rows(0), made_features(0), "0.01")
    assert "end behind the features" in made.notes[0] and "seconds per frame" in made.notes[0]


MISTAKES = {
    "no file": (lambda rows, features: (rows, {"other": features["made0"]}), "made0"),
    "nan": (lambda rows, features: (rows, features | {"made1": np.full((60, 7), np.nan, np.float32)}), "made1.npy"),
    "widths": (lambda rows, features: (rows, features | {"made2": features["made2"][:, :5]}), "5 dimensions"),
    "no rows": (lambda rows, features: ([], features), "no rows"),
    "fields": (lambda rows, features: ([*rows, "made0 0.1 0.2 aa b t"], features), "line 75: 6 fields"),
    "time": (lambda rows, features: ([*rows, "made0 0.1 later aa b t anna"], features), "line 75: 'later'"),
    "no frames": (lambda rows, features: (["made0 9.1 9.2 aa b t anna"], features), "--feature_seconds"),
    "long": (
        lambda rows, features: (["made0 0 99 aa b t anna"], {"made0": np.ones((5000, 7), np.float32)}),
        "more than 4096",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, tmp_path):
    change, words = MISTAKES[mistake]
    with pytest.raises(UserError, match=words) as caught:
        measured(tmp_path, *change(made_rows(0), made_features(0)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"max_group_size": 1}, {"max_group_size": -1}, {"max_x_across": -2}, {"distance": "kl"}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError):
        AbxSettings(**settings)


def run_command(*argv):
    try:
        return cli.main(["eval", "abx", *map(str, argv)])
    except SystemExit as stopped:
        return stopped.code


def test_the_command_prints_json_and_takes_fractions(tmp_path, capsys):
    item, arrays = write_task(tmp_path, made_rows(0), made_features(0))
    (arrays / "made3.npy").unlink()
    printed = []
    for seconds in ("0.02", "1/50"):
        assert run_command("--item", item, "--features", arrays, "--feature_seconds", seconds, "--json", "-") == 0
        captured = capsys.readouterr()
        assert "note: 1 of the 4 files" in captured.err
        printed.append(json.loads(captured.out))
    assert printed[0]["within"] == printed[1]["within"] == pytest.approx(0.5991401672363281, abs=1e-6)
    assert printed[0]["settings"]["max_group_size"] == 10 and printed[0]["settings"]["max_x_across"] == 5


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--feature_seconds"),
        (["--feature_seconds", "fast"], "0.02 or 1/50"),
        (["--feature_seconds", "1/0"], "0.02 or 1/50"),
        (["--feature_seconds", "0.02", "--layer", "2"], "--audio"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(flags, words, tmp_path, capsys):
    (tmp_path / "x.item").write_text(HEADER + "\n")
    assert run_command("--item", tmp_path / "x.item", "--features", tmp_path, *flags) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """(item file, folder of recordings, bundle) of noise; one of the recordings at another rate."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    for name, rate_hz in (("made0", 16_000), ("made1", 8_000)):
        noise = 0.1 * rng.normal(size=3 * rate_hz).astype(np.float32)
        write_audio(folder / f"{name}.wav", Waveform(noise, rate_hz))
    rows = [f"made{i % 2} {0.1 * i:.1f} {0.1 * i + 0.25:.2f} {'ab'[i // 2 % 2]} x y s{i % 2}" for i in range(24)]
    (folder / "made.item").write_text("\n".join([HEADER, *rows]) + "\n")
    export_bundle(tiny_tokenizers(), folder / "bundle")
    return folder / "made.item", folder, folder / "bundle"


def test_the_command_takes_features_of_a_bundle(spoken, capsys):
    item, audio, bundle = spoken
    flags = ("--item", item, "--audio", audio, "--bundle", bundle, "--json", "-")
    seen = {}
    for representation, more in (("centroids", ()), ("semantic", ("--layer", 1)), ("codec", ("--num_quantizers", 2))):
        assert run_command(*flags, "--representation", representation, *more) == 0
        captured = capsys.readouterr()
        assert "1 of 2 recordings had another sample rate" in captured.err
        seen[representation] = json.loads(captured.out)
        assert 0 < seen[representation]["within"] < 1 and 0 < seen[representation]["across"] < 1
    assert [made["settings"]["feature_seconds"] for made in seen.values()] == [0.04, 0.04, 0.02]
    assert seen["codec"]["settings"]["num_quantizers"] == 2 and seen["semantic"]["settings"]["layer"] == 1


def test_a_bundle_knows_its_frame_rate(spoken, capsys):
    item, audio, bundle = spoken
    assert run_command("--item", item, "--audio", audio, "--bundle", bundle, "--feature_seconds", "0.02") == 2
    captured = capsys.readouterr()
    assert "1/25 s" in captured.err and captured.err.count("\n") == 1
