"""Measurements of a plan: kept, made anew, lost by nobody else's failure, and there again after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_plan import NotMeasured, Step
from audiolm_jax.evaluation.report.report_run import exit_code, in_minutes, read_kept, run_plan

ROOT = Path(__file__).parents[2]


class Counting:
    """A metric that counts how often it is measured, and may fail."""

    def __init__(self, error: BaseException | None = None):
        self.calls, self.error = 0, error

    def __call__(self) -> Measurement:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Measurement("abx", {"within": 0.25, "none": None}, {"within": (0.2, 0.3)}, {"pairs": 3}, notes=("a",))


def step(name: str, measure, inputs=None, needs=(), uses=()) -> Step:
    return Step(name, "abx", "3 pairs", inputs or {"seed": 0}, 1.0, measure, needs, uses)


def test_what_is_measured_is_kept_and_not_measured_again(tmp_path, capsys):
    measure = Counting()
    made, gaps = run_plan([step("one", measure)], tmp_path)
    again, _ = run_plan([step("one", measure)], tmp_path)
    assert measure.calls == 1 and not gaps
    assert again == made and made[0].measurement == Counting()()
    assert "one: kept" in capsys.readouterr().err


def test_other_inputs_and_damaged_files_are_measured_anew(tmp_path):
    measure = Counting()
    run_plan([step("one", measure)], tmp_path)
    run_plan([step("one", measure, {"seed": 1})], tmp_path)
    assert measure.calls == 2
    path = tmp_path / "measurements" / "one.json"
    text = path.read_text()
    for damaged in (text[: len(text) // 2], "{}", "[1]", ""):
        path.write_text(damaged)
        assert read_kept(tmp_path, step("one", measure, {"seed": 1})) is None
    run_plan([step("one", measure, {"seed": 1})], tmp_path)
    assert measure.calls == 3 and json.loads(path.read_text())["inputs"] == {"seed": 1}


def test_a_failure_is_one_line_and_loses_no_other_metric(tmp_path, capsys):
    plan = [
        NotMeasured("swuggy", "swuggy", "no folder is given", "give --swuggy"),
        step("mistaken", Counting(UserError("the item file names\n nothing"))),
        step("broken", Counting(ZeroDivisionError("division by zero\nand more"))),
        step("lacking", Counting(ModuleNotFoundError("No module named 'visqol'", name="visqol.api"))),
        step("bug", Counting(ModuleNotFoundError("No module named 'audiolm_jax.x'", name="audiolm_jax.x"))),
        step("depends", Counting(), needs=("one", "broken")),
        step("one", Counting()),
    ]
    made, gaps = run_plan(plan, tmp_path)
    assert [kept.name for kept in made] == ["one"]
    by_name = {gap.name: gap for gap in gaps}
    assert by_name["mistaken"].reason == "the item file names nothing" and not by_name["mistaken"].failed
    assert by_name["broken"].failed and by_name["broken"].reason == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in (tmp_path / "measurements" / "broken.failed.txt").read_text()
    assert "visqol" in by_name["lacking"].reason and "audiolm_jax[eval]" in by_name["lacking"].remedy
    assert not by_name["lacking"].failed and by_name["bug"].failed
    assert "broken" in by_name["depends"].reason and not by_name["depends"].failed
    assert all(line.count(":") for line in capsys.readouterr().err.splitlines())
    assert not (tmp_path / "measurements" / "broken.json").exists()


def test_what_lacks_something_is_measured_but_not_kept(tmp_path):
    network, ladder = Counting(UserError("no data")), Counting()
    plan = [step("network", network), step("ladder", ladder, uses=("network",))]
    made, _ = run_plan(plan, tmp_path)
    assert [kept.name for kept in made] == ["ladder"]
    network.error = None
    run_plan(plan, tmp_path)
    run_plan(plan, tmp_path)
    assert (network.calls, ladder.calls) == (2, 2)


def test_an_interrupt_stops_the_report_and_keeps_what_is_there(tmp_path):
    first, second = Counting(), Counting(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_plan([step("one", first), step("two", second)], tmp_path)
    made, _ = run_plan([step("one", first), step("two", Counting())], tmp_path)
    assert first.calls == 1 and len(made) == 2


def test_a_killed_report_goes_on_where_it_was(tmp_path):
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.evaluation.report_run_test import Counting, step
from audiolm_jax.evaluation.report.report_run import run_plan
run_plan([step("one", Counting()), step("two", lambda: time.sleep(600))], {str(tmp_path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "measurements" / "one.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    first, second = Counting(), Counting()
    made, gaps = run_plan([step("one", first), step("two", second)], tmp_path)
    assert (first.calls, second.calls) == (0, 1) and len(made) == 2 and not gaps


def test_exit_code_tells_failures_and_what_was_asked_for():
    lacking, broken = NotMeasured("a", "abx", "why"), NotMeasured("b", "fad", "why", failed=True)
    assert exit_code(frozenset(), []) == 0
    assert exit_code(frozenset({"fad"}), [lacking]) == 0
    assert exit_code(frozenset({"abx"}), [lacking]) == 1
    assert exit_code(frozenset(), [lacking, broken]) == 1


@pytest.mark.parametrize("seconds,words", [(0.2, "1 s"), (60, "60 s"), (600, "10 min"), (9000, "2.5 h")])
def test_lengths_of_time_in_words(seconds, words):
    assert in_minutes(seconds) == words
