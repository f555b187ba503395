"""Compiling is told while it lasts, and counts neither as speed nor in the time left."""

import dataclasses
import re
import time

import pytest

from audiolm_jax.training import progress
from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.loop import train
from audiolm_jax.training.progress import Clock, FirstCalls, StepBar
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(progress, "_TOLD_EVERY_SECONDS", 0.2)


def test_a_first_call_is_told_while_it_lasts_and_left_out(capsys, impatient):
    calls, clock = FirstCalls("tiny", shown=True), Clock(0)
    with calls.of("the step", clock):
        time.sleep(0.7)
        during = capsys.readouterr().err
    begun, still = r"tiny: compiling the step; this happens once\n", r"tiny: still compiling the step, \d s\n"
    assert re.fullmatch(f"{begun}({still})+", during)
    assert re.fullmatch(r"tiny: compiled the step in \d s\n", capsys.readouterr().err)
    clock.tick(1, "examples")
    assert clock.rates()["steps_per_s"] > 5

    with calls.of("the step", clock):
        time.sleep(0.3)
    with calls.of("something quick", clock):
        pass
    assert capsys.readouterr().err == ""


def test_trained_seconds_count_steps_alone_and_go_on_from_the_session_before(impatient):
    clock = Clock(0, seconds=100.0)
    with FirstCalls("tiny", shown=False).of("the step", clock):
        time.sleep(0.5)
    time.sleep(0.2)
    clock.tick(1, "examples")
    assert 0.2 <= clock.seconds - 100.0 < 0.45
    clock.rates()
    time.sleep(0.2)
    clock.tick(1, "examples")
    counted = clock.seconds
    assert 0.4 <= counted - 100.0 < 0.9
    time.sleep(0.3)  # an evaluation
    clock.restart()
    clock.tick(1, "examples")
    assert clock.seconds - counted < 0.2


def test_a_first_call_that_fails_is_not_said_to_be_compiled(capsys, impatient):
    with pytest.raises(ValueError, match="no"), FirstCalls("tiny", shown=True).of("the step"):
        time.sleep(0.3)
        raise ValueError("no")
    assert "compiled" not in capsys.readouterr().err


def test_other_processes_show_nothing(capsys, impatient):
    bar = StepBar("tiny", 10, 0, shown=False)
    with FirstCalls("tiny", shown=False).of("the step", bar):
        time.sleep(0.3)
    bar.update()
    bar.close()
    assert capsys.readouterr().err == ""


def test_the_time_left_is_that_of_steps(capsys):
    bar = StepBar("tiny", 100, 0, shown=True)
    before = bar.format_dict["elapsed"]
    bar.leave_out(100.0)
    assert bar.format_dict["elapsed"] < before - 50
    bar.close()


def test_the_loop_tells_of_compiling_and_leaves_it_out(tmp_path, capsys):
    class SlowToCompile(TinyLearner):
        def train_step(self, state, batch, rng):
            time.sleep(6.0)  # while it is traced, so once
            return super().train_step(state, batch, rng)

    train(SlowToCompile(), TinyFeed(), tmp_path, dataclasses.replace(OPTIONS, steps=3))
    told = capsys.readouterr().err
    assert "tiny: compiling the training step; this happens once" in told
    assert "tiny: compiled the training step in" in told
    rates = [line["steps_per_s"] for line in read_metrics(tmp_path) if line["split"] == "train"]
    assert len(rates) == 3 and min(rates) > 1 / 6
    elapsed = re.findall(r"3/3 \[(\d\d):(\d\d)<", told)[-1]
    assert 60 * int(elapsed[0]) + int(elapsed[1]) < 6
