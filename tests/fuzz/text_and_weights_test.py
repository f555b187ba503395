"""A short piece of the fuzz of text, records and weights, and whether its bounds see what they should."""

import sys
import time

import numpy as np
import pytest

from audiolm_jax.errors import UserError
from tests.fuzz.bounds import FAULT, READ, REFUSED, ending_of
from tests.fuzz.text_and_weights import Figures, all_kinds, run, run_watched

CASES = 200


def test_damaged_files_are_read_or_refused_in_one_line():
    figures = Figures()
    endings = set()
    for case in run(range(CASES), seed=1):
        figures.add(case)
        endings.add(case.ending.status)
    assert not figures.faults, "\n".join(figures.fault_lines())
    assert endings == {READ, REFUSED}


def test_a_case_is_the_same_whatever_comes_before_it():
    together = [(case.number, case.ending.status, case.kind) for case in run(range(5, 9), seed=1, wanted="item")]
    alone = [next(run([number], seed=1, wanted="item")) for number in range(5, 9)]
    assert together == [(case.number, case.ending.status, case.kind) for case in alone]


def refuse(message):
    raise UserError(message)


def take_long():
    begun = time.process_time()
    while time.process_time() < begun + 5:
        pass


def take_memory():
    np.ones(600_000_000, np.uint8)


@pytest.mark.parametrize(
    ("read", "status", "message"),
    [
        (lambda: None, READ, ""),
        (lambda: refuse("x is damaged; copy it again"), REFUSED, "x is damaged; copy it again"),
        (lambda: refuse("two\nlines"), FAULT, "not one clear line"),
        (lambda: refuse(""), FAULT, "not one clear line"),
        (lambda: 1 // 0, FAULT, "ZeroDivisionError at text_and_weights_test.py"),
        (take_long, FAULT, "too slow at text_and_weights_test.py"),
        (take_memory, FAULT, "MB, then"),
    ],
)
def test_bounds(read, status, message):
    ending = ending_of(read, max_seconds=0.2 if read is take_long else 5.0)
    assert ending.status == status and message in ending.message


def test_every_kind_is_drawn():
    assert len({kind.name for kind in all_kinds()}) == len(all_kinds()) >= 15
    assert all(kind.share > 0 for kind in all_kinds())


def test_a_process_that_dies_is_a_fault_and_the_cases_after_it_go_on():
    def command(first):
        case = '{"number": %d, "kind": "x", "ending": {"status": "read", "message": "", "seconds": 0, "peak_bytes": 0}}'
        lines = [f"print({case % number!r}, flush=True)" for number in range(first, 4)]
        if first < 2:
            lines[2 - first] = "os._exit(3)"
        return sys.executable, "-c", "\n".join(["import os", "print('\"ready\"', flush=True)", *lines])

    cases = list(run_watched(4, command))
    assert [(case.number, case.ending.status) for case in cases] == [(0, READ), (1, READ), (2, FAULT), (3, READ)]
    assert cases[2].ending.message == "the process died with 3"
    with pytest.raises(RuntimeError, match="whole files are not read"):
        list(run_watched(4, lambda first: (sys.executable, "-c", "raise SystemExit(1)")))
