#!/usr/bin/env python3
"""Makes a folder of English speech with espeak-ng: OUT/espeak_<voice>/<n>.flac, 16 kHz mono, and transcripts.tsv.

    python launch/make_espeak_speech.py data/espeak --hours 1.5
    python launch/make_espeak_speech.py data/espeak --prompt prompt.wav

The text comes from a small grammar in this file, so nothing is copied from anywhere, and what espeak-ng speaks belongs
to whoever runs it. Every clip is a pure function of (seed, voice, number): a stopped run is continued by starting it
again, and clips that exist are kept. The second form speaks one sentence that the grammar cannot make, in one of the
same voices: a prompt whose voice a system trained on the folder knows and whose sentence it does not.

Needs the PyPI packages espeakng-loader, numpy, soundfile, soxr and tqdm (extra `demo`).
"""

import argparse
import ctypes
import dataclasses
import hashlib
import multiprocessing
import os
import re
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import soundfile
import soxr
from tqdm import tqdm

SAMPLE_RATE_HZ = 16_000
MIN_SECONDS, MAX_SECONDS = 5.0, 12.0
PROMPT_VOICE = "us_m3"
PROMPT_TEXT = "A cold wind moved over the harbour, and somewhere a single bell began to ring."


@dataclasses.dataclass(frozen=True)
class Voice:
    """One speaker: an accent and a voice variant of espeak-ng, spoken at one pitch, liveliness and speed.

    `pitch` and `pitch_range` are espeak-ng's 0 to 99 (50 is the variant's own), `words_per_minute` its speaking rate.
    """

    name: str
    accent: str
    variant: str
    pitch: int
    pitch_range: int
    words_per_minute: int


VOICES = tuple(
    Voice(*fields)
    for fields in (
        ("us_m1", "en-us", "m1", 50, 50, 160), ("us_m2", "en-us", "m2", 40, 55, 150),
        ("us_m3", "en-us", "m3", 46, 60, 165), ("us_m4", "en-us", "m4", 55, 45, 155),
        ("us_m5", "en-us", "m5", 45, 60, 175), ("us_m6", "en-us", "m6", 50, 50, 145),
        ("us_m7", "en-us", "m7", 42, 65, 170), ("us_m8", "en-us", "m8", 52, 50, 160),
        ("us_f1", "en-us", "f1", 50, 50, 160), ("us_f2", "en-us", "f2", 55, 60, 170),
        ("us_f3", "en-us", "f3", 48, 55, 155), ("us_f4", "en-us", "f4", 52, 65, 165),
        ("us_f5", "en-us", "f5", 45, 50, 150), ("us_adam", "en-us", "adam", 50, 55, 165),
        ("us_alex", "en-us", "Alex", 50, 50, 160), ("us_linda", "en-us", "linda", 45, 50, 165),
        ("us_mike", "en-us", "Mike", 50, 60, 155), ("us_steph", "en-us", "steph", 48, 55, 160),
        ("us_john", "en-us", "john", 50, 50, 150), ("us_travis", "en-us", "travis", 50, 50, 160),
        ("gb_m1", "en", "m1", 44, 60, 150), ("gb_m2", "en", "m2", 52, 50, 165),
        ("gb_m3", "en", "m3", 55, 55, 155), ("gb_m4", "en", "m4", 46, 65, 170),
        ("gb_m7", "en", "m7", 50, 50, 160), ("gb_f1", "en", "f1", 55, 60, 150),
        ("gb_f2", "en", "f2", 46, 50, 165), ("gb_f4", "en", "f4", 50, 55, 155),
        ("gb_f5", "en", "f5", 54, 60, 175), ("gb_david", "en", "david", 50, 55, 160),
        ("gb_edward", "en", "edward", 50, 50, 155), ("gb_belinda", "en", "belinda", 45, 55, 160),
        ("rp_m3", "en-gb-x-rp", "m3", 40, 60, 145),
        ("rp_m5", "en-gb-x-rp", "m5", 52, 55, 160), ("rp_f3", "en-gb-x-rp", "f3", 55, 60, 160),
        ("rp_f2", "en-gb-x-rp", "f2", 42, 55, 150), ("rp_aunty", "en-gb-x-rp", "aunty", 48, 50, 150),
        ("scot_m1", "en-gb-scotland", "m1", 55, 60, 165), ("scot_m6", "en-gb-scotland", "m6", 45, 55, 155),
        ("scot_f1", "en-gb-scotland", "f1", 45, 60, 160), ("scot_f4", "en-gb-scotland", "f4", 56, 55, 170),
        ("nyc_m2", "en-us-nyc", "m2", 55, 60, 170), ("nyc_m8", "en-us-nyc", "m8", 45, 55, 160),
        ("nyc_f3", "en-us-nyc", "f3", 55, 60, 165), ("nyc_f5", "en-us-nyc", "f5", 50, 55, 160),
        ("mid_m4", "en-gb-x-gbcwmd", "m4", 50, 60, 160), ("mid_f2", "en-gb-x-gbcwmd", "f2", 50, 55, 155),
        ("lan_m7", "en-gb-x-gbclan", "m7", 46, 60, 165), ("lan_f1", "en-gb-x-gbclan", "f1", 48, 60, 155),
        ("car_m3", "en-029", "m3", 50, 60, 160), ("car_f4", "en-029", "f4", 46, 60, 160),
    )
)

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


class Espeak:
    """Holder of the espeak-ng library, which is one per process.

    The phase of its oscillators outlives even a restart of the library, so only the first calls of a fresh process are
    the same in every run: every clip is spoken in a process of its own.
    """

    _PCM_BY_CALLBACK, _UTF8, _RATE, _PITCH, _RANGE = 2, 1, 1, 3, 4

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate_hz = self._library.espeak_Initialize(self._PCM_BY_CALLBACK, 200, data, 0)
        if self.sample_rate_hz <= 0:
            raise RuntimeError("espeak-ng did not start; is espeakng-loader installed completely?")
        self._chunks: list[np.ndarray] = []
        callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        # The reference must outlive the library's use of it.
        self._callback = callback_type(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, num_samples: int, events) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(num_samples,)).copy())
        return 0

    def speak(self, voice: Voice, text: str, noise_seed: int) -> np.ndarray:
        """float32[T] at `sample_rate_hz`; `noise_seed` starts espeak-ng's own noise."""
        name = f"{voice.accent}+{voice.variant}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {name!r}")
        for parameter, value in (
            (self._RATE, voice.words_per_minute), (self._PITCH, voice.pitch), (self._RANGE, voice.pitch_range)
        ):  # fmt: skip
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(noise_seed))
        self._chunks = []
        encoded = text.encode()
        self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, self._UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._chunks).astype(np.float32) / 32768.0


def tidy(samples: np.ndarray, sample_rate_hz: int, peak_db: float, edge_seconds: float) -> np.ndarray:
    """float32[T] at 16 kHz: silence at both ends cut to `edge_seconds`, peak at `peak_db` below full scale."""
    samples = soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.max(np.abs(samples)))
    edge = round(edge_seconds * SAMPLE_RATE_HZ)
    samples = samples[max(0, loud[0] - edge) : loud[-1] + edge]
    return samples * np.float32(10 ** (peak_db / 20) / np.max(np.abs(samples)))


def write(path: Path, samples: np.ndarray) -> None:
    """A 16-bit file, complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    soundfile.write(temporary, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    os.replace(temporary, path)


def clip_rng(seed: int, voice: Voice, number: int) -> np.random.Generator:
    """The generator that decides everything about one clip."""
    digest = hashlib.sha256(f"{seed}/{voice.name}/{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def clip_text(rng: np.random.Generator, voice: Voice) -> str:
    """Text of about 6 to 11 seconds at the voice's rate."""
    # espeak-ng pauses between sentences, so it speaks about 15 % fewer words than its nominal rate.
    return make_text(rng, round(rng.uniform(5.5, 9.5) * voice.words_per_minute * 0.8 / 60))


def make_clip(output: Path, seed: int, voice: Voice, number: int) -> float:
    """Speaks and writes one clip of 5 to 12 s and its text, drawing texts until one has such a length; its seconds."""
    path, text_path = clip_paths(output, voice, number)
    rng = clip_rng(seed, voice, number)
    espeak = Espeak()
    while True:
        text = clip_text(rng, voice)
        spoken = espeak.speak(voice, text, noise_seed=int(rng.integers(1, 2**31)))
        samples = tidy(spoken, espeak.sample_rate_hz, float(rng.uniform(-6.0, -3.0)), float(rng.uniform(0.05, 0.25)))
        if MIN_SECONDS <= len(samples) / SAMPLE_RATE_HZ <= MAX_SECONDS:
            break
    text_path.parent.mkdir(parents=True, exist_ok=True)
    text_path.write_text(spoken_words(text, voice.accent) + "\n")
    write(path, samples)
    return len(samples) / SAMPLE_RATE_HZ


def clip_paths(output: Path, voice: Voice, number: int) -> tuple[Path, Path]:
    """Where a clip and its text lie; the audio file is written last, so that it stands for both."""
    folder = output / f"espeak_{voice.name}"
    return folder / f"{number:04d}.flac", folder / f"{number:04d}.txt"


def make_corpus(output: Path, hours: float, seed: int) -> None:
    """Fills `output` until every voice has its share of `hours`, and writes transcripts.tsv (clip, speaker, text)."""
    target_seconds = hours * 3600 / len(VOICES)
    transcripts: list[str] = []
    total_seconds = 0.0
    progress = tqdm(total=round(hours * 3600), unit="s", desc="espeak-ng speech", disable=not sys.stderr.isatty())
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as fresh_process:
        for voice in VOICES:
            speaker, seconds, number = f"espeak_{voice.name}", 0.0, 0
            while seconds < target_seconds:
                path, text_path = clip_paths(output, voice, number)
                if path.exists():
                    clip_seconds = soundfile.info(path).duration
                else:
                    clip_seconds = fresh_process.apply(make_clip, (output, seed, voice, number))
                # Folders of earlier versions have digits in their texts.
                text = spoken_words(text_path.read_text().strip(), voice.accent)
                transcripts.append(f"{speaker}/{number:04d}\t{speaker}\t{text}")
                seconds, number = seconds + clip_seconds, number + 1
                progress.update(min(round(clip_seconds), progress.total - progress.n))
            total_seconds += seconds
    progress.close()
    temporary = output / ".transcripts.partial"
    temporary.write_text("\n".join(transcripts) + "\n")
    os.replace(temporary, output / "transcripts.tsv")
    print(f"{len(transcripts)} clips of {len(VOICES)} voices, {total_seconds / 3600:.2f} h, in {output}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to fill")
    parser.add_argument("--hours", type=float, default=1.5, help="speech to make, all voices together (default 1.5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", type=Path, help="write the prompt to this file instead of filling the folder")
    parser.add_argument("--prompt_voice", default=PROMPT_VOICE, choices=[voice.name for voice in VOICES])
    parser.add_argument("--prompt_text", default=PROMPT_TEXT)
    args = parser.parse_args()

    if args.prompt is None:
        make_corpus(args.output, args.hours, args.seed)
        return 0
    espeak = Espeak()
    voice = next(voice for voice in VOICES if voice.name == args.prompt_voice)
    samples = tidy(espeak.speak(voice, args.prompt_text, noise_seed=args.seed + 1), espeak.sample_rate_hz, -4.0, 0.1)
    write(args.prompt, samples)
    print(f"{len(samples) / SAMPLE_RATE_HZ:.2f} s in {args.prompt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
