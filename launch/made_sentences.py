"""Made-up English sentences of some 500 words, and the words of their numbers: text for speech that is free."""

import re

import numpy as np

PEOPLE = (
    "the teacher|my brother|an old friend|the captain|her neighbour|the young doctor|a tall stranger|the baker|"
    "our guide|the children|two sailors|the farmer's wife|a quiet student|the night porter|his grandmother|"
    "the painter|everyone|a letter carrier|the engineer|some travellers|the judge|a gardener|my cousin Anna|"
    "Mister Hale|the woman in the shop"
).split("|")
PLACES = (
    "the river|the market square|the old bridge|a narrow valley|the railway station|the kitchen|"
    "the edge of the forest|the library|a small island|the northern road|the garden wall|the school yard|"
    "a crowded theatre|the top of the hill|the empty warehouse|the village church|the beach|a farm near the border|"
    "the third floor|the winter camp|the museum"
).split("|")
THINGS = (
    "a silver watch|the broken chair|seven yellow boxes|a bag of oranges|the morning paper|a map of the coast|"
    "an unfinished letter|the heavy blue curtain|a bottle of milk|the wrong key|a pair of gloves|the violin|"
    "fresh bread|a basket of fish|the photograph|an ancient coin|three loaves|the measuring tape|a cheap umbrella|"
    "the ship's log|a jar of honey|their wooden sledge|the garden tools|a large brown dog|the smallest of the horses"
).split("|")
PAST_ACTIONS = (
    "found|carried|forgot|described|sold|borrowed|hid|repaired|painted|noticed|wanted|dropped|kept|measured|"
    "gave away|brought|asked for|searched for|pushed|threw|examined|admired|wrapped|stole|returned"
).split("|")
MOVEMENTS = (
    "walked|ran|drove|hurried|rode|wandered|came back|marched|climbed|was sent|went alone|travelled|swam|was led|"
    "moved"
).split("|")
ADVERBS = (
    "quickly|without a word|very early|as usual|just before noon|in the pouring rain|for the first time|"
    "rather slowly|by mistake|again and again|with great care|after supper|on Thursday|in June|years ago|"
    "every other week|at half past six"
).split("|")
QUALITIES = (
    "cold|bright|much larger than before|strange|empty|almost white|difficult to reach|wonderful|thick with dust|"
    "quiet|too expensive|covered with leaves|green and gold|visible from far away|deep|as sharp as glass|very hungry|"
    "usual"
).split("|")
SUBJECTS = (
    "the weather|this house|the sea|the bread|her voice|the path|the engine|that story|the moon|the coffee|"
    "the question|the whole journey|the ice|the judge's answer|the music|the field|the first chapter|a good knife|"
    "the fog"
).split("|")
OPENERS = (
    "Yes, |No, |Perhaps |Later that year |In the end |Of course |They say that |I think |You should know that |"
    "Suddenly |Long before the war |While the others slept, |To be honest, |By the way, |When the bell rang, "
).split("|")
REASONS = (
    "because the roof was leaking|although nobody believed it|since there was nothing else to do|"
    "so that the boys could rest|if the snow does not melt|which surprised us all|until the lamp went out|"
    "before the shop closed|and laughed about it|but the door was locked|as if it were a game|"
    "while the fire was burning|though it was far too late"
).split("|")
QUESTIONS = (
    "Where did {person} put {thing}?|Who {past} {thing} at {place}?|Why is {subject} so {quality}?|"
    "Have you ever {past2} {place} {adverb}?|Did {person} really walk to {place}?|What is the price of {thing}?"
).split("|")
STATEMENTS = (
    "{person} {past} {thing} near {place}|{person} {moved} to {place} {adverb}|{subject} was {quality}|"
    "{adverb}, {person} {past} {thing}|{person} told {person2} about {place}|there were {number} people at {place}|"
    "{subject} seemed {quality}, and {person} {moved} past {place}|{person} {past} {thing} and {past} {thing2}|"
    "it takes {number} minutes from {place} to {place2}|{thing} lay beside {place}|"
    "we paid {number} pounds for {thing}"
).split("|")

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def make_sentence(rng: np.random.Generator) -> str:
    """One sentence of the grammar."""

    def pick(options: tuple[str, ...] | list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    def fill(template: str) -> str:
        return template.format(
            person=pick(PEOPLE), person2=pick(PEOPLE), place=pick(PLACES), place2=pick(PLACES), thing=pick(THINGS),
            thing2=pick(THINGS), past=pick(PAST_ACTIONS), moved=pick(MOVEMENTS), adverb=pick(ADVERBS),
            subject=pick(SUBJECTS), quality=pick(QUALITIES), number=int(rng.integers(2, 400)),
            past2=pick(("seen", "been to", "left", "visited")),
        )  # fmt: skip

    if rng.random() < 0.15:
        return fill(pick(QUESTIONS))
    text = fill(pick(STATEMENTS))
    if rng.random() < 0.4:
        text = f"{text} {pick(REASONS)}"
    if rng.random() < 0.3:
        text = pick(OPENERS) + text
    return text[0].upper() + text[1:] + ("!" if rng.random() < 0.05 else ".")


def make_text(rng: np.random.Generator, num_words: int) -> str:
    """Sentences of the grammar until there are at least `num_words` words."""
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < num_words:
        sentences.append(make_sentence(rng))
    return " ".join(sentences)


def spoken_words(text: str, accent: str) -> str:
    """The text with its numbers, all below a thousand, in the words that espeak-ng says: for transcripts."""

    def words(number: int) -> str:
        if number >= 100:
            hundreds, rest = divmod(number, 100)
            joint = " " if accent.startswith("en-us") else " and "
            return f"{UNITS[hundreds]} hundred" + (joint + words(rest) if rest else "")
        if number >= 20:
            return "-".join((TENS[number // 10 - 2], *([UNITS[number % 10]] if number % 10 else [])))
        return UNITS[number]

    return re.sub(r"\d+", lambda match: words(int(match[0])), text)
