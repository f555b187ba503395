#!/usr/bin/env python3
"""Makes a folder of English speech with espeak-ng: OUT/espeak_<voice>/<n>.flac, 16 kHz mono, and transcripts.tsv.

    python launch/make_espeak_speech.py data/espeak --minutes 90
    python launch/make_espeak_speech.py data/espeak_phrases --text phrases --minutes 60
    python launch/make_espeak_speech.py data/few_voices --text phrases --minutes 5 --voices 8 --seed 1
    python launch/make_espeak_speech.py data/espeak --prompt prompt.wav

What is said are made-up sentences of some 500 words (`made_sentences.py`) or, with `--text phrases`, the small closed
language of `phrase_language.py`; so nothing is copied from anywhere, and what espeak-ng speaks belongs to whoever runs
it. Levels are those of read speech, about -25 dBFS, and pauses between sentences vary. Every clip is a pure function of
(seed, text, voice, number): a stopped run is continued by starting it again, and clips that exist are kept. Whoever
trains on the folder holds out some of its voices, as of any folder with one subfolder for each speaker.

With --prompt one sentence is spoken that neither kind of text can make, in one of the same voices: a prompt whose voice
a system trained on the folder knows and whose sentence it does not.

Needs the PyPI packages espeakng-loader, numpy, soundfile, soxr and tqdm (extra `espeak`).
"""

import argparse
import ctypes
import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import phrase_language
import soundfile
import soxr
from espeak_voices import VOICES, Voice
from made_sentences import make_text, spoken_words
from tqdm import tqdm

SAMPLE_RATE_HZ = 16_000
# Shortest and longest clip of each kind of text. One of the phrases is said to its end, and voices differ in speed.
CLIP_SECONDS = {"sentences": (5.0, 12.0), "phrases": (5.0, 20.0)}
# LibriSpeech's recordings have -31.5 to -22.3 dBFS (RMS; the middle 90 %), and half of them are below -25.5.
LEVEL_DBFS, LEVEL_DEVIATION_DB, MOST_DEVIATION_DB = -25.0, 2.5, 5.0
PEAK_DBFS = -1.0
# Between sentences; readers of LibriSpeech pause for 0.2 s in the middle, one time in twenty for more than 1 s.
PAUSE_SECONDS = (0.2, 0.8)
EDGE_SECONDS = (0.05, 0.25)
DESCRIPTION = "made_from.json"
PROMPT_VOICE = "us_m3"
PROMPT_TEXT = "A cold wind moved over the harbour, and somewhere a single bell began to ring."


class OtherClips(ValueError):
    """A folder holds clips of another kind of text, or of another seed."""


class Espeak:
    """Holder of the espeak-ng library, which is one per process.

    The phase of its oscillators outlives even a restart of the library, so only the first calls of a fresh process are
    the same in every run: every clip is spoken in a process of its own.
    """

    _PCM_BY_CALLBACK, _UTF8, _RATE, _PITCH, _RANGE = 2, 1, 1, 3, 4

    def __init__(self) -> None:
        import espeakng_loader  # here, so that --help needs nothing

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


def speak_text(espeak: Espeak, voice: Voice, text: str, rng: np.random.Generator) -> np.ndarray:
    """A text as a reader says it: float32[T] at 16 kHz, with drawn pauses between its sentences and a drawn level."""
    parts = [np.zeros(_samples(rng, EDGE_SECONDS), np.float32)]
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        spoken = espeak.speak(voice, sentence, noise_seed=int(rng.integers(1, 2**31)))
        parts.append(without_silence(soxr.resample(spoken, espeak.sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")))
        parts.append(np.zeros(_samples(rng, PAUSE_SECONDS), np.float32))
    parts[-1] = np.zeros(_samples(rng, EDGE_SECONDS), np.float32)
    deviation_db = np.clip(rng.normal(0.0, LEVEL_DEVIATION_DB), -MOST_DEVIATION_DB, MOST_DEVIATION_DB)
    return at_level(np.concatenate(parts), LEVEL_DBFS + deviation_db)


def _samples(rng: np.random.Generator, seconds: tuple[float, float]) -> int:
    """A number of samples between two lengths, short ones as often as those of twice the length."""
    return round(float(np.exp(rng.uniform(*np.log(seconds)))) * SAMPLE_RATE_HZ)


def without_silence(samples: np.ndarray, kept_seconds: float = 0.03) -> np.ndarray:
    """float32[T'] of float32[T] at 16 kHz: all but `kept_seconds` of the silence at both ends cut off."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.max(np.abs(samples)))
    kept = round(kept_seconds * SAMPLE_RATE_HZ)
    return samples[max(0, loud[0] - kept) : loud[-1] + 1 + kept]


def at_level(samples: np.ndarray, level_dbfs: float) -> np.ndarray:
    """The same float32[T] with this RMS, or as near to it as its peak allows."""
    gain = 10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(samples)))
    return samples * np.float32(min(gain, 10 ** (PEAK_DBFS / 20) / np.max(np.abs(samples))))


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


def clip_text(kind: str, rng: np.random.Generator, voice: Voice) -> str:
    """One of the phrases, or sentences of about 6 to 11 seconds at the voice's rate."""
    if kind == "phrases":
        return phrase_language.text(int(rng.integers(2**63)))
    # espeak-ng pauses between sentences, so it speaks about 15 % fewer words than its nominal rate.
    return make_text(rng, round(rng.uniform(5.5, 9.5) * voice.words_per_minute * 0.8 / 60))


def make_clip(output: Path, kind: str, seed: int, voice: Voice, number: int) -> float:
    """Speaks and writes one clip and its text, drawing texts until one has a length of its kind; its seconds."""
    path, text_path = clip_paths(output, voice, number)
    rng = clip_rng(seed, voice, number)
    espeak = Espeak()
    shortest, longest = CLIP_SECONDS[kind]
    while True:
        text = clip_text(kind, rng, voice)
        samples = speak_text(espeak, voice, text, rng)
        if shortest <= len(samples) / SAMPLE_RATE_HZ <= longest:
            break
    text_path.parent.mkdir(parents=True, exist_ok=True)
    text_path.write_text(spoken_words(text, voice.accent) + "\n")
    write(path, samples)
    return len(samples) / SAMPLE_RATE_HZ


def clip_paths(output: Path, voice: Voice, number: int) -> tuple[Path, Path]:
    """Where a clip and its text lie; the audio file is written last, so that it stands for both."""
    folder = output / f"espeak_{voice.name}"
    return folder / f"{number:04d}.flac", folder / f"{number:04d}.txt"


def some_voices(count: int) -> tuple[Voice, ...]:
    """`count` of the voices, accents and variants mixed; more of them hold the fewer."""
    return tuple(sorted(VOICES, key=lambda voice: hashlib.sha256(voice.name.encode()).digest())[:count])


def describe(output: Path, kind: str, seed: int) -> None:
    """Writes down what the clips of a folder are made from; OtherClips where it holds others, which would be kept."""
    path, now = output / DESCRIPTION, {"text": kind, "seed": seed}
    before = None
    if path.exists():
        try:
            before = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise OtherClips(f"{path} cannot be read; name another folder") from error
    elif any(output.glob("espeak_*/*.flac")):  # made before folders said what they hold
        before = {"text": "sentences", "seed": seed}
    if before not in (None, now):
        flags = " ".join(f"--{name} {value}" for name, value in before.items())
        raise OtherClips(f"{output} holds clips of {flags}; give the same, or name another folder")
    output.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(now) + "\n")


def write_text(path: Path, text: str) -> None:
    """A file of text, complete or absent."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    os.replace(temporary, path)


def make_corpus(
    output: Path, minutes: float, seed: int, kind: str = "sentences", voices: tuple[Voice, ...] = VOICES
) -> None:
    """Fills `output` until every voice has its share of `minutes`, and writes transcripts.tsv (clip, speaker, text).

    Raises:
        OtherClips: the folder holds clips of another kind of text or another seed.
    """
    describe(output, kind, seed)
    target_seconds = minutes * 60 / len(voices)
    transcripts: list[str] = []
    total_seconds = 0.0
    progress = tqdm(total=round(minutes * 60), unit="s", desc="espeak-ng speech", disable=not sys.stderr.isatty())
    # ^C is told to this process alone: the other one ends its clip.
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1, **ignore) as fresh_process:
        for voice in voices:
            speaker, seconds, number = f"espeak_{voice.name}", 0.0, 0
            while seconds < target_seconds:
                path, text_path = clip_paths(output, voice, number)
                if path.exists():
                    clip_seconds = soundfile.info(path).duration
                else:
                    clip_seconds = fresh_process.apply(make_clip, (output, kind, seed, voice, number))
                # Folders of earlier versions have digits in their texts.
                text = spoken_words(text_path.read_text().strip(), voice.accent)
                transcripts.append(f"{speaker}/{number:04d}\t{speaker}\t{text}")
                seconds, number = seconds + clip_seconds, number + 1
                progress.update(min(round(clip_seconds), progress.total - progress.n))
            total_seconds += seconds
    progress.close()
    write_text(output / "transcripts.tsv", "\n".join(transcripts) + "\n")
    print(f"{len(transcripts)} clips of {len(voices)} voices, {total_seconds / 60:.1f} min, in {output}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Ends the program with one line."""
        self.exit(2, f"error: {message}\n")


def main() -> int:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("output", type=Path, help="the folder to fill")
    parser.add_argument("--text", choices=sorted(CLIP_SECONDS), default="sentences", help="default sentences")
    parser.add_argument("--minutes", type=float, default=90.0, help="to make, all voices together (default 90)")
    parser.add_argument("--voices", type=int, default=len(VOICES), help=f"so many (default all, {len(VOICES)})")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--prompt", type=Path, help="write the prompt to this file instead of filling the folder")
    parser.add_argument("--prompt_voice", default=PROMPT_VOICE, choices=[v.name for v in VOICES], metavar="NAME")
    parser.add_argument("--prompt_text", default=PROMPT_TEXT)
    args = parser.parse_args()
    if not 0 < args.minutes < float("inf"):
        parser.error(f"--minutes is {args.minutes:g}; give a number above 0")
    if not 1 <= args.voices <= len(VOICES):
        parser.error(f"--voices is {args.voices}; there are 1 to {len(VOICES)}")
    if args.output.exists() and not args.output.is_dir():
        parser.error(f"{args.output} is no folder; name one to fill")
    try:
        import espeakng_loader  # noqa: F401  before anything is written
    except ModuleNotFoundError:
        parser.error("espeak-ng is not installed; install it with: pip install 'audiolm_jax[espeak]'")

    if args.prompt is None:
        try:
            make_corpus(args.output, args.minutes, args.seed, args.text, some_voices(args.voices))
        except OtherClips as error:
            parser.error(str(error))
        except KeyboardInterrupt:
            parser.exit(130, "stopped; the same command goes on\n")
        return 0
    voice = next(voice for voice in VOICES if voice.name == args.prompt_voice)
    samples = speak_text(Espeak(), voice, args.prompt_text, np.random.default_rng(args.seed))
    write(args.prompt, samples)
    print(f"{len(samples) / SAMPLE_RATE_HZ:.2f} s in {args.prompt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
