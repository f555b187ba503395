"""The closed language: its words, what comes back in a text, and how much there is to say."""

import collections
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.scripts import LAUNCH, load

language = load("phrase_language")
# The words of recorded phrases of this language, one a line: what was made and what was recorded are of one language.
RECORDED_WORDS = (Path(__file__).parent / "phrase_words.txt").read_text().split()
MANY = list(itertools.islice(language.texts(seed=5), 4000))


def words_of(text):
    return re.findall(r"[a-z']+", text.lower())


def by_topic(texts):
    """Texts by the topic that their first words tell."""
    first = {"Good": "weather", "The": "train", "Once": "story", "To": "recipe"}
    found = collections.defaultdict(list)
    for text in texts:
        found[first[text.split()[0]]].append(text)
    return found


def entropy_bits(values):
    counts = collections.Counter(values)
    return -sum(count / len(values) * math.log2(count / len(values)) for count in counts.values())


def test_the_words_are_those_of_the_recordings_and_no_others():
    assert len(RECORDED_WORDS) == len(set(RECORDED_WORDS)) == 175
    assert language.words() == set(RECORDED_WORDS)
    assert {word for text in MANY for word in words_of(text)} == set(RECORDED_WORDS)


def test_a_text_has_four_sentences_of_plain_words():
    for text in MANY:
        assert len(re.findall(r"[A-Z][a-zA-Z, ]+\.", text)) == 4 and re.fullmatch(r"[a-zA-Z,. ]+", text), text
        assert 24 <= len(text.split()) <= 48


# What is said in the beginning of a text, and in its end again.
COMES_BACK = {
    "weather": (
        r"weather for (?P<city>\w+) on (?P<day>\w+)\. The (?P<now>\w+) will .* "
        r"(?:In the (?P<later>\w+), the temperature in (?P=city) will (?:rise|fall) to \w+ degrees\.|"
        r"By the (?P<by>\w+) of (?P=day), there will be [a-z ]+ in (?P=city)\.)$"
    ),
    "train": (
        r"train to (?P<city>\w+) will leave from platform (?P<platform>\w+)\. It will stop in (?P<stop>\w+) for \w+ "
        r"minutes\. The train (?:to (?P=city)|from (?P=stop)) .* "
        r"(?:on platform (?P=platform)|tickets ready|travelling to (?P=city))\.$"
    ),
    "story": (
        r"Once there was a \w+ (?P<hero>\w+) who lived by the (?P<place>\w+)\. "
        r"Every \w+ the (?P=hero) went to the (?P=place) to look for (?P<thing>\w+)\. "
        r"One day the (?P=hero) met a \w+ (?P<friend>\w+) who had \w+ (?P=thing)\. .*"
        r"(?:(?P=friend) gave \w+ (?P=thing) to the (?P=hero)|(?P=thing) together by the (?P=place)|"
        r"the (?P=hero) and the (?P=friend) were friends)\.$"
    ),
    "recipe": (
        r"make a \w+ (?P<dish>\w+), take \w+ cups of (?P<base>\w+) and some (?P<rest>\w+)\. "
        r"Cut the (?P<cut>\w+), and mix it with the (?P=base)\. Cook the (?P=dish) for .* "
        r"(?:add the (?P=rest), and|Serve the (?P=dish) with (?P=cut)) .*\.$"
    ),
}


@pytest.mark.parametrize("topic", COMES_BACK)
def test_what_a_text_is_about_comes_back_and_is_not_mixed_up(topic):
    for text in by_topic(MANY)[topic]:
        said = re.search(COMES_BACK[topic], text)
        assert said, text
        names = {name: value for name, value in said.groupdict().items() if value}
        for one, other in (("city", "stop"), ("hero", "friend"), ("now", "later"), ("now", "by"), ("base", "rest"),
                           ("base", "cut"), ("rest", "cut")):  # fmt: skip
            assert one not in names or other not in names or names[one] != names[other], text
        # Nobody and nothing of the kind is named that was not introduced.
        for group, name in (("city", "city"), ("hero", "animal"), ("place", "place"), ("thing", "thing")):
            if group in names:
                others = set(language.CLASSES[name]) - set(names.values())
                assert not others & set(re.findall(r"\w+", text)), text


def test_texts_are_a_function_of_seed_and_number_alone():
    again = list(itertools.islice(language.texts(seed=5), 50))
    assert again == MANY[:50] and again[17] == language.text(5, 17)
    other = list(itertools.islice(language.texts(seed=6), 50))
    assert not set(other) & set(again)
    # Also in another process, whose hashes of text are others.
    command = [sys.executable, LAUNCH / "phrase_language.py", "--texts", "3", "--seed", "5"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert printed == MANY[:3]


def test_the_language_is_rich():
    assert len(set(MANY)) > 0.999 * len(MANY)
    topics = by_topic(MANY)
    assert entropy_bits([name for name, texts in topics.items() for _ in texts]) > 1.99  # of 2
    for pattern, name in ((r"weather for (\w+) on", "city"), (r"on (\w+day)\.", "day"), (r"take (\w+) cups", "few"),
                          (r"from platform (\w+)", "platform"), (r"Once there was a \w+ (\w+)", "animal"),
                          (r"cups of (\w+)", "food"), (r"stop in \w+ for (\w+)", "number"),
                          (r"will be (\w+) and", "sky"), (r"with ([a-z ]+) from the", "event")):  # fmt: skip
        said = [found[1] for text in MANY if (found := re.search(pattern, text))]
        assert entropy_bits(said) > math.log2(len(language.CLASSES[name])) - 0.05, name
    # Nor does the topic tell the ending, which what came before is needed for.
    assert all(entropy_bits([text.rsplit(". ", 1)[1] for text in texts]) > 3.5 for texts in topics.values())


def test_the_words_are_printed():
    command = [sys.executable, LAUNCH / "phrase_language.py", "--words"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.split() == RECORDED_WORDS
