"""`benchmarks/recipe.py`: figures of a run at times that it trained, and nothing where there is none."""

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("recipe")
    finally:
        sys.path.remove(str(FOLDER))


def write_run(folder, hours, every_seconds=300.0):
    """A run of a step a second that is evaluated every so often; its figures tell the hours it had trained."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(1, int(hours * 3600 / every_seconds) + 1):
        step, trained = round(number * every_seconds), number * every_seconds / 3600
        lines += [
            {"step": step, "split": "train", "loss": 9.0, "seconds": number * every_seconds},
            {"step": step, "split": "exam", "visqol": trained, "usage": 0.5},
            {"step": step, "split": "eval", "loss": 10.0 - trained, "nats_per_token": 10.0 - trained},
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.gin").write_text("QUANTIZER_START_STEP = 500\nDISCRIMINATOR_START_STEP = 1e9\n")
    return folder


def rows(text):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return lines[0], {row[0]: row[1:] for row in lines[2:]}


def test_figures_are_those_of_the_evaluation_nearest_to_a_time(recipe, tmp_path):
    run = recipe.read_run(write_run(tmp_path / "codec", hours=6), recipe.LEARNERS["codec"][1])
    head, found = rows(recipe.table(run))
    assert head == ["", "10 minutes", "1 hour", "5 hours", "so far: 6.0 hours, 21,600 steps"]
    assert found["ViSQOL"] == ["0.17", "1.00", "5.00", "6.00"]
    assert found["held-out loss"] == ["9.833", "9.000", "5.000", "4.000"]
    assert "words changed" not in found
    assert run.phases == {"quantizer": pytest.approx(500)}


def test_a_short_run_has_empty_columns_and_one_that_is_rarely_evaluated_too(recipe, tmp_path):
    short = recipe.read_run(write_run(tmp_path / "short", hours=0.5), recipe.LEARNERS["codec"][1])
    assert rows(recipe.table(short))[1]["ViSQOL"] == ["0.17", "", "", "0.50"]
    rare = recipe.read_run(write_run(tmp_path / "rare", 2, every_seconds=3600.0), recipe.LEARNERS["codec"][1])
    assert rows(recipe.table(rare))[1]["ViSQOL"] == ["", "1.00", "", "2.00"]


def test_a_run_without_seconds_is_read_by_its_speed(recipe, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    lines = [{"step": 1000, "split": "train", "steps_per_s": 2.0}, {"step": 1200, "split": "train", "steps_per_s": 2.0},
             {"step": 1200, "split": "eval", "loss": 0.5}, {"step": 1200, "split": "eval", "loss": float("nan")}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "done").write_text('{"step": 1200}')
    run = recipe.read_run(folder, recipe.LEARNERS["kmeans"][1])
    head, found = rows(recipe.table(run))
    assert found["held-out loss"][0] == "0.500" and head[-1] == "the end: 10 minutes, 1,200 steps"


def test_the_command_writes_tables_and_plots_of_what_is_there(recipe, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    write_run(work / "codec", hours=2)
    write_run(work / "semantic", hours=1.5)
    page = tmp_path / "docs" / "recipe.md"
    page.parent.mkdir()
    marks = [f"<!-- table: benchmarks/recipe.py {name} -->\nold {name}\n<!-- end of table -->\n"
             for name in recipe.LEARNERS]
    page.write_text("".join(marks))
    monkeypatch.setattr(sys, "argv", ["recipe.py", str(work), "--write", str(page)])
    recipe.main()
    text = page.read_text()
    assert "old codec" not in text and "old semantic" not in text and "old kmeans" in text
    assert "| held-out nats per token | 9.83 | 9.00 |  | 8.50 |" in text
    assert "kmeans: nothing yet" in capsys.readouterr().err
    assert "time that it trained](recipe-codec.png)\n<!-- end of table -->" in text
    pictures = sorted(page.parent.glob("*.png"))
    assert [path.name for path in pictures] == ["recipe-codec.png", "recipe-semantic.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size < 60_000 for path in pictures)


@pytest.mark.parametrize("arguments", [["nowhere"], ["nowhere", "--codec", "nothing"]])
def test_nothing_to_read_is_one_line(recipe, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe.py", *arguments])
    with pytest.raises(SystemExit, match="no training in .* has been evaluated yet|holds no metrics.jsonl"):
        recipe.main()
