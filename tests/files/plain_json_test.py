"""JSON of other people's hands, and dataclasses read from it: whatever stands in it is one line, and soon."""

import dataclasses
import json
import pickle
from fractions import Fraction

import pytest

from audiolm_jax.errors import UserError, brief, first_line, shown
from audiolm_jax.files.plain_json import from_plain, parse


@dataclasses.dataclass(frozen=True)
class Rates:
    rate_hz: Fraction
    seconds: float = 0.0

    def __post_init__(self):
        if self.rate_hz == 7:
            raise ZeroDivisionError("seven")


def test_a_mark_before_it_does_not_count():
    assert parse(b'\xef\xbb\xbf{"a": "\xc3\xa9"}') == {"a": "\u00e9"}


DEEP = ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000)


@pytest.mark.parametrize("text", [*DEEP, '{"a": "\\ud800"}', b"\xff", "{", ""], ids=range(6))
def test_what_no_writer_makes_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse(text)


def test_whole_surrogate_pairs_are_characters():
    assert parse('["\\ud83d\\ude00"]') == ["\U0001f600"]


@pytest.mark.parametrize("text", ["1e999999999", "1/0", "9" * 100, "0x1", " 1/2", "1/2/3", "\u0661", "nan"])
def test_only_fractions_as_they_are_written_are_computed(text):
    with pytest.raises(UserError, match="r.rate_hz is .*no Fraction"):
        from_plain(Rates, {"rate_hz": text}, "r")
    assert from_plain(Rates, {"rate_hz": "-3/2"}, "r").rate_hz == Fraction(-3, 2)


def test_numbers_that_no_float_holds_and_errors_of_arithmetic_are_told():
    with pytest.raises(UserError, match="r.seconds is 1000.* no float"):
        from_plain(Rates, {"rate_hz": "1", "seconds": 10**400}, "r")
    with pytest.raises(UserError, match="r: seven"):
        from_plain(Rates, {"rate_hz": "7"}, "r")


def test_a_long_error_keeps_the_place_and_the_remedy():
    error = UserError(f"a/b.json has {'x' * 50_000}; copy it again")
    assert str(error).startswith("a/b.json has xxx") and str(error).endswith("xxx; copy it again")
    assert len(str(error)) < 2000 and str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(UserError("a line")) == "a line"


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, list(range(10_000)), {"a": "b" * 10_000}, 10**5000],
    ids=["text", "list", "object", "number"],
)
def test_of_a_long_value_the_beginning_is_shown(value):
    assert len(shown(value)) < 100
    with pytest.raises(UserError) as caught:
        from_plain(Rates, value, "r")
    assert len(str(caught.value)) < 200
    assert len(first_line(ValueError(json.dumps(["x"] * 10_000)))) < 400
    assert brief("a\nb " * 100) == " ".join(["a b"] * 20) + " ..." and brief("a\nb") == "a b"
