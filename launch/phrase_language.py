#!/usr/bin/env python3
"""A small closed language to train and judge speech with: weather, trains, stories of little animals, recipes.

    python launch/phrase_language.py --texts 3
    python launch/phrase_language.py --texts 1000 --seed 7 > phrases.txt
    python launch/phrase_language.py --words > words.txt

A text has four short sentences, 9 to 14 seconds when spoken, of 175 words in all. What it is about comes back: the city
of the weather, the platform of the train, the animal and the food are drawn once and said again sentences later, so
whoever continues a text has to remember how it began. Text number N of a seed is a function of both alone, and there is
no last one.
"""

import argparse
import collections
import dataclasses
import itertools
import random
import re
import sys
from collections.abc import Iterator, Mapping

# Numbers in three ranges: what is counted or measured, what a person holds in hands or cups, platforms.
_NUMBERS = "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty".split()

# What can stand in a gap of a sentence, by the name of the gap.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "city": ("Berlin", "Boston", "Chicago", "Dublin", "London", "Madrid", "Oslo", "Paris", "Rome", "Vienna"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "daytime": ("morning", "afternoon", "evening", "night"),
    "greeting": ("morning", "afternoon", "evening"),
    "sky": ("cloudy", "cold", "foggy", "rainy", "stormy", "sunny", "warm", "windy"),
    "event": ("a little sun", "heavy rain", "light rain", "some snow", "strong wind", "thick fog"),
    "direction": ("north", "east", "south", "west"),
    "change": ("rise", "fall"),
    "number": tuple(_NUMBERS),
    "few": tuple(_NUMBERS[:6]),
    "platform": tuple(_NUMBERS[:9]),
    "animal": ("bear", "bird", "cat", "dog", "fox", "horse", "mouse", "owl", "rabbit", "wolf"),
    "character": ("brave", "clever", "gentle", "hungry", "little", "old", "quiet", "young"),
    "place": ("bridge", "farm", "forest", "garden", "lake", "mountain", "river", "village"),
    "thing": ("apples", "bread", "fish", "flowers", "honey", "letters", "stones", "water"),
    "food": ("butter", "carrots", "cheese", "flour", "milk", "onions", "potatoes", "rice", "sugar", "tomatoes"),
    "dish": ("bread", "cake", "pie", "salad", "soup"),
    "quality": ("good", "quick", "simple"),
}


@dataclasses.dataclass(frozen=True)
class Topic:
    """What a text can be about.

    Attributes:
        name: of the topic.
        remembered: gaps that are filled once for the whole text, with their class; of one class no two are alike. A gap
            that is not among them is named after its class, and filled anew wherever it stands.
        sentences: for each place in the text the sentences that can stand there; one of them does.
    """

    name: str
    remembered: Mapping[str, str]
    sentences: tuple[tuple[str, ...], ...]


TOPICS = (
    Topic(
        "weather",
        {"city": "city", "day": "day", "now": "daytime", "later": "daytime"},
        (
            ("Good {greeting}.",),
            ("Here is the weather for {city} on {day}.",),
            ("The {now} will be {sky} and {sky}, with {event} from the {direction}.",),
            (
                "In the {later}, the temperature in {city} will {change} to {number} degrees.",
                "By the {later} of {day}, there will be {event} in {city}.",
            ),
        ),
    ),
    Topic(
        "train",
        {"city": "city", "stop": "city", "platform": "platform"},
        (
            ("The {day} {daytime} train to {city} will leave from platform {platform}.",),
            ("It will stop in {stop} for {number} minutes.",),
            (
                "The train to {city} is {number} minutes late.",
                "The train from {stop} will arrive in {number} minutes.",
            ),
            (
                "Please wait on platform {platform}.",
                "Please keep your tickets ready.",
                "Thank you for travelling to {city}.",
            ),
        ),
    ),
    Topic(
        "story",
        {"hero": "animal", "friend": "animal", "place": "place", "thing": "thing"},
        (
            ("Once there was a {character} {hero} who lived by the {place}.",),
            ("Every {daytime} the {hero} went to the {place} to look for {thing}.",),
            ("One day the {hero} met a {character} {friend} who had {number} {thing}.",),
            (
                "The {friend} gave {few} {thing} to the {hero}.",
                "They ate the {thing} together by the {place}.",
                "From that day the {hero} and the {friend} were friends.",
            ),
        ),
    ),
    Topic(
        "recipe",
        {"base": "food", "rest": "food", "cut": "food", "dish": "dish"},
        (
            ("To make a {quality} {dish}, take {few} cups of {base} and some {rest}.",),
            ("Cut the {cut}, and mix it with the {base}.",),
            ("Cook the {dish} for {number} minutes.",),
            (
                "Then add the {rest}, and wait for {number} minutes.",
                "Serve the {dish} with {cut} in the {daytime}.",
            ),
        ),
    ),
)


class _Filler:
    """What the gaps of one text are filled with, for `str.format_map`."""

    def __init__(self, topic: Topic, draw: random.Random):
        self._draw = draw
        self._remembered: dict[str, str] = {}
        gaps_of = collections.defaultdict(list)
        for gap, name in topic.remembered.items():
            gaps_of[name].append(gap)
        for name, gaps in gaps_of.items():
            self._remembered |= dict(zip(gaps, draw.sample(CLASSES[name], len(gaps)), strict=True))

    def __getitem__(self, gap: str) -> str:
        return self._remembered[gap] if gap in self._remembered else self._draw.choice(CLASSES[gap])


def text(*seed: int | str) -> str:
    """The text of a seed, which may have several parts: (seed, voice, number). Parts that differ give other texts."""
    draw = random.Random("/".join(map(str, seed)))
    topic = draw.choice(TOPICS)
    filler = _Filler(topic, draw)
    return " ".join(draw.choice(sentences).format_map(filler) for sentences in topic.sentences)


def texts(seed: int = 0) -> Iterator[str]:
    """Texts without end, the same for the same seed."""
    return (text(seed, number) for number in itertools.count())


def words() -> frozenset[str]:
    """Every word of the language, in lower case."""
    sentences = [sentence for topic in TOPICS for choices in topic.sentences for sentence in choices]
    literal = [re.sub(r"\{\w+\}", " ", sentence) for sentence in sentences]
    used = {gap for sentence in sentences for gap in re.findall(r"\{(\w+)\}", sentence)}
    classes = used | {name for topic in TOPICS for name in topic.remembered.values()}
    fillings = [filling for name in classes & CLASSES.keys() for filling in CLASSES[name]]
    return frozenset(re.findall(r"[a-z]+", " ".join([*literal, *fillings]).lower()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10, metavar="N", help="how many to print (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the texts (default 0)")
    parser.add_argument("--words", action="store_true", help="print the words of the language instead")
    args = parser.parse_args()
    lines = sorted(words()) if args.words else itertools.islice(texts(args.seed), max(args.texts, 0))
    try:
        for line in lines:
            print(line)
    except BrokenPipeError:  # as by `| head`; what is left to flush goes nowhere either
        sys.stdout = None
    return 0


if __name__ == "__main__":
    sys.exit(main())
