"""The stated rules, each by its example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.evaluation.words.text_normalisation import has_digits, normalise, spell


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("MISTER QUILTER IS THE APOSTLE", "mister quilter is the apostle"),
        ("Hello,   world!\n", "hello world"),
        ("Don\u2019t! 'Tis the dogs' bone, o\u00b4clock", "don't tis the dogs bone o'clock"),
        ("don\u2032t, o\u02bbclock, it\uff07s, y\ua78call", "don't o'clock it's y'all"),
        ("6\u2032 or 5\u2033", "six or five"),
        ("rock 'n' roll", "rock n roll"),
        ("ex\u00adtra\u00adordi\u00adnary, don\u00ad't", "extraordinary don't"),
        ("\ufeffto\u2060geth\u200der, \u200e12\u00ad3", "together one hundred twenty three"),
        ("one\u200btwo", "one two"),
        ("a well-known, half\u2014finished thing", "a well known half finished thing"),
        ("\ufb01ne \uff21\uff22\uff23", "fine abc"),
        ("Cafe\u0301 \u00fcber stra\u00dfe", "caf\u00e9 \u00fcber stra\u00dfe"),
        ("<unk> [NOISE] ...", "unk noise"),
        ("?!", ""),
        ("", ""),
        ("It takes 17 minutes.", "it takes seventeen minutes"),
        ("1,005 people and 12 dogs, 3 cats", "one thousand five people and twelve dogs three cats"),
        ("0 or 999999", "zero or nine hundred ninety nine thousand nine hundred ninety nine"),
        ("the 2nd mp3 at 10:30 is 3.14, 1000000", "the 2nd mp3 at ten thirty is three fourteen 1000000"),
        ("x\u00b2 1/2 007", "x2 one two 007"),
        ("1,2,345 and 12,34", "one two three hundred forty five and twelve thirty four"),
    ],
)
def test_rules(text, normalised):
    assert normalise(text) == normalised


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())


@given(st.text(alphabet="aB c'-,.\u2019\u00e9\u00df\u0130\u0345"))
def test_case_and_spaces_do_not_matter(text):
    assert normalise(f"  {text.lower()} ") == normalise(text)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"), (13, "thirteen"), (20, "twenty"), (42, "forty two"), (100, "one hundred"),
        (117, "one hundred seventeen"), (1665, "one thousand six hundred sixty five"),
        (70_000, "seventy thousand"), (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)  # fmt: skip
def test_numbers(number, words):
    assert spell(number) == words


def test_digits_that_remain_are_told():
    assert has_digits(normalise("the 2nd of May"))
    assert not has_digits(normalise("2 of May"))


def test_numbers_out_of_range_are_refused():
    for number in (-1, 1_000_000):
        with pytest.raises(ValueError, match="999,999"):
            spell(number)
