"""The same seed gives the tokens that it always gave, alone and among others."""

import json

import pytest

from tests.generation.golden_tokens import CASES, FILE, all_together, each_alone

GOLDEN = json.loads(FILE.read_text())


def test_there_are_golden_tokens_for_every_case():
    assert list(GOLDEN) == [name for name, *_ in CASES]


@pytest.mark.parametrize("drawn", [each_alone, all_together])
@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_tokens_are_the_golden_ones(case, drawn):
    name, *how = case
    assert drawn(*how) == GOLDEN[name], "if this is meant: python -m tests.generation.golden_tokens"


def test_what_is_drawn_depends_on_the_way_to_draw():
    ways = [json.dumps(GOLDEN[name]) for name, mode, _, collapsed in CASES if mode == "continuation" and collapsed]
    assert len(set(ways)) == len(ways) == 3
