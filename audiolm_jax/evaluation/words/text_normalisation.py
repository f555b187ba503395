"""The one form in which references and hypotheses are compared, whatever corpus or recogniser they come from.

The rules of VERSION, in this order:

1. Characters that are not seen go (soft hyphens, joiners, byte-order marks), so that they part no word; a zero-width
   space, which does part words, stays. Curly apostrophes, and primes, accents and letters that stand for them, become
   straight ones.
2. Unicode NFKC, so that ligatures, full-width letters and other variants become plain ones; then lower case.
3. Commas between groups of three digits go ("1,005" becomes 1005).
4. An apostrophe between two letters stays ("don't"); every other character that is no letter, mark or number becomes a
   space, hyphens too ("well-known" is two words).
5. A word of one to six digits becomes the English words of that number ("1005": one thousand five), because corpora
   such as LibriSpeech spell numbers and some recognisers do not. Years that are read in pairs, ordinals ("2nd"),
   decimals and numbers that begin with 0 or reach a million are not understood, and count as errors where the other
   side has words.
6. Words are separated by single spaces.

Spelling is left as it is: "colour" and "color" are two words.
"""

import re
import unicodedata

VERSION = "english-2"
SUMMARY = (
    f"{VERSION}: NFKC, lower case, apostrophes kept inside words, other punctuation and hyphens to space, "
    "whole numbers below a million as English words, single spaces"
)

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u2032\u2035\u02b9\u02bb\u02bc\ua78c\u00b4`", "'"))
_ZERO_WIDTH_SPACE = "\u200b"
_THOUSANDS = re.compile(r"(?<![\d,])(\d{1,3}),(\d{3})(?![\d,])", re.ASCII)
_NUMBER = re.compile(r"0|[1-9]\d{0,5}", re.ASCII)


def normalise(text: str) -> str:
    """`text` by the rules of this module, for English; normalising twice changes nothing more."""
    # NFKC makes a space and a mark of one of the apostrophes, and another out of a letter; lower case can leave letters
    # and marks to join. So apostrophes are seen to before and after, and NFKC comes twice.
    text = "".join(character for character in text if not _is_invisible(character))
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    text = _THOUSANDS.sub(r"\1\2", text)
    words = "".join(character if _stays(text, place) else " " for place, character in enumerate(text)).split()
    return " ".join(spell(int(word)) if _NUMBER.fullmatch(word) else word for word in words)


def has_digits(text: str) -> bool:
    """Whether a normalised text still holds digits, which the rules do not spell."""
    return any(character.isdigit() for character in text)


def spell(number: int) -> str:
    """The English words of a whole number from 0 to 999,999, without "and" and without hyphens.

    Raises ValueError for another number.
    """
    if not 0 <= number < 1_000_000:
        raise ValueError(f"numbers from 0 to 999,999 are spelled, not {number}")
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        return f"{spell(thousands)} thousand" + (f" {spell(rest)}" if rest else "")
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" {spell(rest)}" if rest else "")
    if number >= 20:
        tens, rest = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_SMALL[rest]}" if rest else "")
    return _SMALL[number]


def _stays(text: str, place: int) -> bool:
    if text[place] == "'":
        return _is_letter(text[place - 1 : place]) and _is_letter(text[place + 1 : place + 2])
    return _is_letter(text[place]) or unicodedata.category(text[place])[0] == "N"


def _is_invisible(character: str) -> bool:
    """Whether it only tells how its neighbours are set."""
    return unicodedata.category(character) == "Cf" and character != _ZERO_WIDTH_SPACE


def _is_letter(character: str) -> bool:
    """Whether it is a letter or a mark on one; False for none."""
    return bool(character) and unicodedata.category(character)[0] in "LM"
