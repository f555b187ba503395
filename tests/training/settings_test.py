"""What a parameter takes follows from its annotation."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from audiolm_jax.ranges import Count, NotNegative, Positive, Range, Seed, Share, Whole
from audiolm_jax.training.macros.settings import annotations, as_wanted, fits, takes
from audiolm_jax.training.optimization.muon import muon


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (int, [0, -3], [True, 2.0, "2", None, (1,)], "a whole number"),
        (float, [1, 0.5], [True, "fast", float("nan"), float("inf"), None], "a number"),
        (bool, [True, False], [0, 1, "False", None], "True or False"),
        (str, ["", "a"], [1, None, ("a",)], "text"),
        (str | None, ["a", None], [1], "text or None"),
        (Count, [1, 7], [0, -1, 1.0, True], "a whole number of at least 1"),
        (Whole, [0], [-1], "a whole number of at least 0"),
        (Whole | None, [0, None], [-1, "None"], "a whole number of at least 0 or None"),
        (Positive, [1e-9, 1], [0, -1], "a number above 0"),
        (NotNegative, [0], [-1e-9], "a number of at least 0"),
        (Share, [0, 1, 0.5], [-0.1, 1.1], "a number of at least 0 and at most 1"),
        (Seed, [0, 2**32 - 1], [-1, 2**32], "a whole number of at least 0 and at most 4294967295"),
        (tuple[Count, ...], [(), (1, 2)], [(0,), [1], 1, "12"],
         "several in parentheses, each a whole number of at least 1"),
        (tuple[float, float] | None, [(1, 2.0), None], [(1,), (1, 2, 3), 1],
         "(a number, a number) in parentheses or None"),
        (str | Sequence[str] | None, ["a", ("a", "b"), ["a"], None], [1, (1,)],
         "text or several in parentheses, each text or None"),
        (Literal["full", "none"], ["full"], ["fast", 1, None], "full or none"),
        (Range, [], [1, "a", None], "an object, which a gin file names as @module.constructor()"),
        (Any, [1, "a", None], [], "an object, which a gin file names as @module.constructor()"),
    ],
    ids=str,
)
def test_what_fits_and_how_it_is_said(annotation, good, bad, words):
    assert [value for value in good if not fits(value, annotation)] == []
    assert [value for value in bad if fits(value, annotation)] == []
    assert takes(annotation) == words


def test_whole_numbers_become_numbers_where_numbers_are_wanted():
    for value, annotation in ((2, float), (2, Positive | None), (2, Share), ((1, 2), tuple[float, float] | None)):
        made = as_wanted(value, annotation)
        assert made == value and "." in repr(made)
    for value, annotation in ((2, int), (True, bool), ("2", str), (None, float | None), ((1, 2), tuple[Count, ...])):
        assert repr(as_wanted(value, annotation)) == repr(value)


def test_multiples_and_upper_bounds():
    assert [number for number in range(12) if number in Range(2, 8, multiple_of=2)] == [2, 4, 6, 8]
    assert str(Range(2, 8, multiple_of=2)) == "of at least 2 and at most 8 and a multiple of 2"
    assert 0.5 in Range(0, open=True) and 0 not in Range(0, open=True)


def test_annotations_of_a_function_and_of_a_constructor():
    assert annotations(muon)["beta"] == Share
    assert annotations(Range)["least"] is float and "return" in annotations(Range)


def test_nothing_is_known_of_annotations_that_cannot_be_read():
    def foreign(steps: "SeenByACheckerAlone"):  # noqa: F821
        return steps

    assert annotations(foreign) == {} and annotations(functools.partial(muon, 1.0)) == {}
