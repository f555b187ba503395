"""sWUGGY and sBLIMP beside ZeroSpeech 2021's own evaluator, the pairing of gold files, and what is refused."""

import json
import math
import random

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language.gold import Trial, read_gold
from audiolm_jax.evaluation.language.minimal_pairs import band_of, measure
from audiolm_jax.evaluation.language.scores import ScoredRecording, ScoreFile, Scores, read_scores
from tests.evaluation.zerospeech_files import (
    LEXICAL_COLUMNS,
    SYNTACTIC_COLUMNS,
    draw_scores,
    lexical_trials,
    rows_of,
    syntactic_trials,
    write_gold,
    write_scores,
)

# What zerospeech2021/lexical.py (commit 0d7aa7e) and syntactic.py (commit 56bc935) of zerospeech/zerospeech2021 gave
# under pandas 1.5.3 for the files of seed 0: number of pairs, score and deviation of every group.
LEXICAL_ALL, IN_VOCABULARY, OUT_OF_VOCABULARY = 0.6565277777777777, 0.6662121212121211, 0.55
BY_FREQUENCY = {
    "oov": (5, 0.55, 0.32596012026013244),
    "1-5": (16, 0.7161458333333334, 0.21582032886605435),
    "6-20": (5, 0.6833333333333333, 0.40994579587496144),
    "21-100": (16, 0.7291666666666666, 0.32843625008572114),
    ">100": (18, 0.5611111111111111, 0.34758738967927516),
}
BY_LENGTH = {
    3: (10, 0.6583333333333333, 0.38978072341468994),
    4: (8, 0.7291666666666666, 0.23464765886222644),
    5: (7, 0.5416666666666666, 0.3886407938787006),
    6: (12, 0.5708333333333333, 0.2632474927216638),
    7: (7, 0.8095238095238094, 0.19669894811736077),
    8: (16, 0.6666666666666666, 0.3456073558887954),
}
SYNTACTIC_ALL = 0.6558641975308641
BY_TYPE = {
    "agreement": (29, 0.6609195402298851, 0.29372659859738715),
    "binding": (13, 0.7692307692307693, 0.2682113381968069),
    "npi": (12, 0.5208333333333334, 0.41912155610023066),
}


@pytest.fixture
def lexical(tmp_path):
    """(gold file, rows, scores)."""
    rows = rows_of(lexical_trials(0), 0)
    return write_gold(tmp_path / "gold.csv", LEXICAL_COLUMNS, rows), rows, draw_scores(rows, 0)


@pytest.fixture
def syntactic(tmp_path):
    """(gold file, rows, scores)."""
    rows = rows_of(syntactic_trials(0), 0)
    return write_gold(tmp_path / "gold.csv", SYNTACTIC_COLUMNS, rows), rows, draw_scores(rows, 0)


def table(rows, key):
    return {row[key]: (row["pairs"], pytest.approx(row["all"], abs=1e-12), pytest.approx(row["std"], abs=1e-12))
            for row in rows}  # fmt: skip


def test_swuggy_is_that_of_zerospeech(lexical):
    gold, rows, scores = lexical
    measured = measure("swuggy", gold, Scores(scores))
    assert measured.figures == {
        "all": pytest.approx(LEXICAL_ALL, abs=1e-12),
        "in_vocabulary": pytest.approx(IN_VOCABULARY, abs=1e-12),
        "out_of_vocabulary": pytest.approx(OUT_OF_VOCABULARY, abs=1e-12),
    }
    assert table(measured.details["by_frequency"], "band") == BY_FREQUENCY
    assert table(measured.details["by_length"], "length") == BY_LENGTH
    assert measured.counts["pairs"] == 60 and measured.counts["recordings"] == len(rows)
    assert measured.counts["ties"] > 0 and measured.notes == ()
    for name, (low, high) in measured.intervals.items():
        assert low < measured.figures[name] < high


def test_sblimp_is_that_of_zerospeech(syntactic):
    gold, _, scores = syntactic
    measured = measure("sblimp", gold, Scores(scores))
    assert measured.figures == {"all": pytest.approx(SYNTACTIC_ALL, abs=1e-12)}
    assert table(measured.details["by_type"], "type") == BY_TYPE
    assert [row["subtype"] for row in measured.details["by_subtype"]] == [
        "agreement/relative", "agreement/simple", "binding/simple", "npi/only",
    ]  # fmt: skip


def test_the_order_of_rows_and_scores_changes_nothing(lexical, tmp_path):
    gold, rows, scores = lexical
    usual = measure("swuggy", gold, Scores(scores)).to_json()
    # Takes of one voice stay in their order, which is all that tells them apart.
    mixed = sorted(rows, key=lambda row: (random.Random(f"{row['id']}{row['voice']}{row['correct']}").random()))
    other = write_gold(tmp_path / "other" / "gold.csv", LEXICAL_COLUMNS, mixed)
    moved = measure("swuggy", other, Scores(dict(sorted(scores.items())))).to_json()
    assert "another order than ZeroSpeech 2021's evaluator" in moved["notes"][0]
    for name in ("all", "in_vocabulary", "out_of_vocabulary", "intervals", "details", "counts"):
        assert moved[name] == usual[name]


def test_raw_and_normalised_stand_side_by_side(lexical):
    gold, rows, scores = lexical
    reverse = {stem: -score for stem, score in scores.items()}
    measured = measure("swuggy", gold, Scores(scores, raw=reverse))
    assert measured.figures["all"] == pytest.approx(LEXICAL_ALL)
    assert measured.figures["all_raw"] == pytest.approx(1 - LEXICAL_ALL)
    assert measured.figures["in_vocabulary_raw"] == pytest.approx(1 - IN_VOCABULARY)
    assert measured.details["by_frequency"][0]["all_raw"] == pytest.approx(0.45)
    assert set(measured.intervals) == set(measured.figures)


def test_a_pair_counts_once_whatever_its_voices(tmp_path):
    trials = [
        ({"filename": f"w{voice}{pair}", "id": pair, "voice": voice, "frequency": 3, "length": 4, "correct": 1},
         {"filename": f"n{voice}{pair}", "id": pair, "voice": voice, "frequency": "", "length": 4, "correct": 0})
        for pair, voices in ((0, "ABCD"), (1, "A")) for voice in voices
    ]  # fmt: skip
    columns = ("filename", "id", "voice", "frequency", "length", "correct")
    gold = write_gold(tmp_path / "gold.csv", columns, [row for trial in trials for row in trial])
    scores = {"nA0": 1.0, "nB0": 0.0, "nC0": -1.0, "nD0": -1.0, "nA1": 0.0}
    scores |= {row["filename"]: 0.0 for row, _ in trials}
    measured = measure("swuggy", gold, Scores(scores))
    assert measured.figures["all"] == pytest.approx(((0 + 0.5 + 1 + 1) / 4 + 0.5) / 2)
    assert measured.figures["out_of_vocabulary"] is None and measured.to_json()["out_of_vocabulary"] is None
    voices = {row["voice"]: (row["pairs"], row["all"]) for row in measured.details["by_voice"]}
    assert voices == {"A": (2, 0.25), "B": (1, 0.5), "C": (1, 1.0), "D": (1, 1.0)}


def test_bands_are_closed_on_the_left():
    labels = [band_of(frequency) for frequency in (0, 1, 4, 5, 19, 20, 99, 100, 10**9)]
    assert labels == ["oov", "1-5", "1-5", "6-20", "6-20", "21-100", "21-100", ">100", ">100"]


def test_a_part_of_the_pairs_is_the_same_wherever_they_stand(lexical, tmp_path):
    gold, rows, scores = lexical
    part = read_gold(gold, "swuggy", max_pairs=12)
    assert len(part.pairs) == 12 and "12 of 60 pairs" in part.notes[0]
    other = write_gold(tmp_path / "other" / "gold.csv", LEXICAL_COLUMNS, list(reversed(rows)))
    assert {pair.name for pair in read_gold(other, "swuggy", 12).pairs} == {pair.name for pair in part.pairs}
    measured = measure("swuggy", part, Scores({stem: scores[stem] for stem in part.stems}))
    assert measured.counts["pairs"] == 12


def test_names_may_have_suffixes_and_files_a_byte_order_mark(tmp_path):
    text = "filename,id,voice,frequency,correct\na.wav,1,x,7.0,1\nb.wav,1,x,,0\n"
    (tmp_path / "gold.csv").write_text("\ufeff" + text, encoding="utf-8")
    gold = read_gold(tmp_path / "gold.csv", "swuggy")
    assert gold.pairs[0].trials == (Trial("x", "a", "b"),)
    assert gold.pairs[0].frequency == 7 and gold.pairs[0].length is None and gold.stems == ["a", "b"]
    (tmp_path / "scores.txt").write_text("dev/a.wav -1e3\n\nb\t-1.5\n")
    assert read_scores(tmp_path / "scores.txt").main == {"a": -1000.0, "b": -1.5}


HEADER = "filename,id,voice,frequency,correct\n"


@pytest.mark.parametrize(
    "text,words",
    [
        (None, ["does not exist", "--gold"]),
        ("", ["has no column filename"]),
        (HEADER, ["has no rows"]),
        ("filename,id,voice,correct\na,1,x,1\n", ["has no column frequency"]),
        ("filename,id,voice,type,subtype,transcription,correct\n", ["syntactic", "audiolm eval sblimp"]),
        (HEADER + "a,1,x,3,1\na,1,x,,0\n", ["line 3", "a is also on line 2"]),
        (HEADER + "a,1,x,3,1\nb,1,x,,0\nc,1,y,3,1\n", ["2 correct and 1 incorrect"]),
        (HEADER + "a,1,x,3,1\nb,1,y,,0\n", ["line 2", "pair 1, voice x", "partner"]),
        (HEADER + "a,1,x,3,1\nb,2,x,,0\n", ["partner"]),
        (HEADER + "a,1,x,3,1\nb,1,x,,0\nc,2,x,3,1\nd,2,x,3,1\ne,2,x,,0\nf,3,x,,0\n", ["line 4", "pair 2"]),
        (HEADER + "a,1,x,3,yes\nb,1,x,,0\n", ["line 2", "'yes'", "1 or 0"]),
        (HEADER + "a,1,x,often,1\nb,1,x,,0\n", ["line 2", "frequency", "'often'"]),
        (HEADER + "a,1,x,-1,1\nb,1,x,,0\n", ["line 2", "frequency"]),
        (HEADER + "a,1,x,nan,1\nb,1,x,,0\n", ["line 2", "frequency"]),
        (HEADER + "a,1,x,3\nb,1,x,,0\n", ["line 2", "fields"]),
        (HEADER + "a,1,x,3,1\nb,1,x,,0\nc,1,y,4,1\nd,1,y,,0\n", ["lines 2, 4", "differ in frequency"]),
    ],
)
def test_gold_files_that_cannot_be_paired_are_refused_in_one_line(tmp_path, capsys, text, words):
    gold = tmp_path / "gold.csv"
    if text is not None:
        gold.write_text(text)
    (tmp_path / "scores.txt").write_text("a 1\nb 2\n")
    code = cli.main(["eval", "swuggy", "--gold", str(gold), "--scores", str(tmp_path / "scores.txt"), "--json", "-"])
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and captured.err.count("\n") == 1, captured.err
    for word in words:
        assert word in captured.err


def test_a_lexical_file_is_not_taken_for_a_syntactic_one(lexical):
    with pytest.raises(UserError, match="lexical task; use it with `audiolm eval swuggy`"):
        read_gold(lexical[0], "sblimp")


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda lines: lines[:-2], ["2 of the", "have no score"]),
        (lambda lines: [*lines, lines[0]], ["has a score already"]),
        (lambda lines: [lines[0].split()[0] + " nan", *lines[1:]], ["line 1", "finite"]),
        (lambda lines: [lines[0].split()[0] + " -inf", *lines[1:]], ["line 1", "finite"]),
        (lambda lines: [lines[0] + " 3", *lines[1:]], ["line 1", "STEM SCORE"]),
        (lambda lines: [lines[0].replace(" ", ","), *lines[1:]], ["line 1", "STEM SCORE"]),
        (lambda lines: [lines[0].split()[0] + " high", *lines[1:]], ["line 1", "not a number"]),
        (lambda lines: [], ["no scores"]),
        (None, ["does not exist"]),
    ],
)
def test_scores_that_do_not_fit_are_refused_in_one_line(lexical, tmp_path, capsys, change, words):
    gold, _, scores = lexical
    path = tmp_path / "scores.txt"
    if change is not None:
        write_scores(path, scores)
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert cli.main(["eval", "swuggy", "--gold", str(gold), "--scores", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_scores_given_in_memory_are_checked_too(lexical):
    gold, _, scores = lexical
    broken = dict(scores) | {min(scores): math.nan}
    with pytest.raises(UserError, match="finite"):
        measure("swuggy", gold, Scores(scores, raw=broken))


def test_the_command_prints_figures_and_notes_strangers(syntactic, tmp_path, capsys):
    gold, rows, scores = syntactic
    path = write_scores(tmp_path / "scores.txt", scores | {"stranger": 0.5})
    assert cli.main(["eval", "sblimp", "--gold", str(gold), "--scores", str(path), "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["metric"] == "sblimp" and values["all"] == pytest.approx(SYNTACTIC_ALL)
    assert "1 scores are of recordings that are in no measured pair" in values["notes"][0]
    assert values["settings"]["gold"] == str(gold) and values["settings"]["scores"] == str(path)
    assert values["counts"] == {"pairs": 54, "voices": 4, "recordings": len(rows), "ties": values["counts"]["ties"]}
    assert np.isfinite(values["intervals"]["all"]).all()
    code = cli.main(["eval", "sblimp", "--gold", str(gold), "--scores", str(path), "--output", "x"])
    assert code == 2 and "--output" in capsys.readouterr().err


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = write_gold(tmp_path / "gold.csv", LEXICAL_COLUMNS, rows_of(lexical_trials(0, 3), 0))
    path.write_text(path.read_text().replace("phones", "voice", 1))
    with pytest.raises(UserError, match="two columns voice; remove one"):
        read_gold(path, "swuggy")


@pytest.mark.parametrize("line", ["w0 -2.0 -10.0 0 ab 16000", "w0 nan nan 5 ab 16000", "w0 -2.0 -inf 5 ab 16000"])
def test_a_kept_score_of_nothing_is_damage(line, tmp_path):
    path = tmp_path / "scores.txt"
    ScoreFile(path, {"bundle": "x"}).add([ScoredRecording("w0", -10.0, 5, "ab", 16_000)])
    assert read_scores(path).main == {"w0": -2.0}
    path.write_text("\n".join([*path.read_text().splitlines()[:-1], line, ""]))
    with pytest.raises(UserError, match="line 3: damaged; remove the line"):
        read_scores(path)


def test_long_names_are_told_in_short(tmp_path):
    path = tmp_path / "gold.csv"
    name = "x" * 50_000
    for text in (f"{name},0,A,1,w,1\n", f"{name},0,A,1,w,1\n" * 2, f"a,0,A,{name},w,1\n", f"a,0,A,1,w,{name}\n"):
        path.write_text(f"filename,id,voice,frequency,word,correct\n{text}")
        with pytest.raises(UserError) as caught:
            read_gold(path, "swuggy")
        assert len(str(caught.value)) < 600
    (tmp_path / "scores.txt").write_text(f"{name} inf\n")
    with pytest.raises(UserError, match="scores must be finite") as caught:
        read_scores(tmp_path / "scores.txt")
    assert len(str(caught.value)) < 600
