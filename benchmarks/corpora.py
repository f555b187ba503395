#!/usr/bin/env python3
"""Times the scan of a Libri-Light of any size, made of links to one recording, and the reading of crops.

    python benchmarks/corpora.py [--recordings 22000] [--folder DIR]

The recording has 16 minutes of noise and about a hundred stretches of speech, like those of Libri-Light, of which
unlab-60k has some 220 000. The folder needs two inodes for each 1000 recordings and room for as many directory entries.
Each scan runs in a process of its own.

One JSON object per figure: {"figure": "scan", "start": "first" or "second", "recordings", "segments", "seconds",
"megabytes"}, the same as "plan" for going once through all inputs of `audiolm tokenize`, {"figure": "read",
"seconds_of_audio", "milliseconds"}, and {"figure": "crop", "from", "whole_cpu_milliseconds", "cpu_milliseconds"} for a
crop of a second at 16 kHz that a feed without a cache cuts out of the whole recording or reads by itself.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATE_HZ, MINUTES = 16_000, 16
# A file may have so many links on some disks.
LINKS, FILES_PER_BOOK, BOOKS_PER_SPEAKER = 30_000, 10, 3

# Recordings to crop: suffix, minutes, rate in Hz, channels, seconds of a segment (0: none).
CROPPED = (
    (".flac", 60, 16_000, 1, 0),
    (".flac", 20, 44_100, 2, 0),
    (".flac", 0.2, 16_000, 1, 0),
    (".wav", 10, 44_100, 2, 60),
)


def write_recording(folder: Path) -> None:
    """One recording and its JSON."""
    import soundfile

    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.normal(size=RATE_HZ * 60 * MINUTES))
    noise -= np.convolve(noise, np.full(400, 1 / 400), "same")
    soundfile.write(folder / "recording.flac", (noise / np.abs(noise).max() / 2).astype(np.float32), RATE_HZ)
    random.seed(0)
    spans, second = [], 0.0
    while True:
        onset = second + random.uniform(0.2, 0.9)
        second = onset + random.uniform(2, 16)
        if second > 60 * MINUTES:
            break
        spans.append([round(onset, 3), round(second, 3)])
    book = {"id": "2315", "title": "Sea Fairies", "meta_genre": "Literature"}
    values = {"speaker": "100", "book_meta": book, "snr": 6.5, "voice_activity": spans}
    (folder / "recording.json").write_text(json.dumps(values))


def write_corpus(folder: Path, count: int) -> None:
    """unlab/small with `count` recordings that are links."""
    for number in range(count):
        if number % LINKS == 0:
            copies = {suffix: folder / f"copy_{number}{suffix}" for suffix in (".flac", ".json")}
            for suffix, copy in copies.items():
                shutil.copy(folder / f"recording{suffix}", copy)
        book, part = divmod(number, FILES_PER_BOOK)
        name = folder / "unlab" / "small" / str(book // BOOKS_PER_SPEAKER) / f"book_{book}_librivox_64kb_mp3"
        name.mkdir(parents=True, exist_ok=True)
        for suffix, copy in copies.items():
            os.link(copy, name / f"chapter_{part:02d}_author_64kb{suffix}")


def peak_megabytes() -> int:
    """Memory of this process at its largest; getrusage would count the parent's too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def scan(folder: Path) -> dict[str, object]:
    """Figures of one start of a training or an extraction."""
    from audiolm_jax.data.corpora.corpora import open_corpus

    started = time.perf_counter()
    corpus = open_corpus("unlab-600", folder / "unlab", cache_dir=folder / "cache")
    segments = len(corpus.train.speakers) + len(corpus.heldout)
    seconds = time.perf_counter() - started
    return {"segments": segments, "seconds": round(seconds, 2), "megabytes": peak_megabytes()}


def plan(folder: Path) -> dict[str, object]:
    """Figures of going through all inputs once."""
    from audiolm_jax.data.corpora.corpora import open_corpus

    files = open_corpus("unlab-600", folder / "unlab", cache_dir=folder / "cache").source_files()
    started = time.perf_counter()
    segments = sum(1 for _ in files)
    seconds = time.perf_counter() - started
    return {"segments": segments, "seconds": round(seconds, 2), "megabytes": peak_megabytes()}


def read(folder: Path) -> None:
    """Figures of reading parts of a recording."""
    from audiolm_jax.audio import read_ranges

    for seconds in (0.5, 3, 30, 60):
        starts = np.random.default_rng(0).integers(0, (60 * MINUTES - 60) * RATE_HZ, 20).tolist()
        started = time.perf_counter()
        for start in starts:
            read_ranges(folder / "recording.flac", ((start, start + int(seconds * RATE_HZ)),))
        milliseconds = (time.perf_counter() - started) / len(starts) * 1000
        print(json.dumps({"figure": "read", "seconds_of_audio": seconds, "milliseconds": round(milliseconds, 3)}))


def crop(folder: Path) -> None:
    """Figures of a crop of a second out of several kinds of recordings, in time of the processor."""
    import soundfile

    from audiolm_jax.data.corpora.sample_cache import SampleCache
    from audiolm_jax.data.corpora.utterances import Utterance

    cache = SampleCache(RATE_HZ, 0)
    uniforms = np.random.default_rng(0).uniform(size=40).tolist()
    for number, (suffix, minutes, rate_hz, channels, segment_seconds) in enumerate(CROPPED):
        path = folder / f"cropped_{number}{suffix}"
        rng = np.random.default_rng(0)
        noise = np.cumsum(rng.normal(scale=0.01, size=(round(60 * minutes * rate_hz), channels)), axis=0)
        soundfile.write(path, np.sin(noise) / 2, rate_hz, subtype="PCM_16")
        ranges = ((0, segment_seconds * rate_hz),) if segment_seconds else ()
        utterance = Utterance(path, "s", "x", ranges)
        times = [time.process_time()]
        cache.read(utterance)
        times.append(time.process_time())
        for uniform in uniforms:
            cache.read_crop(utterance, RATE_HZ, uniform)
        times.append(time.process_time())
        whole, alone = np.diff(times) * 1000 / (1, len(uniforms))
        name = f"{suffix} of {minutes:g} min, {rate_hz} Hz, {channels} channels"
        name += f", segments of {segment_seconds} s" if segment_seconds else ""
        figures = {"whole_cpu_milliseconds": round(whole, 2), "cpu_milliseconds": round(alone, 2)}
        print(json.dumps({"figure": "crop", "from": name, **figures}), flush=True)
        path.unlink()


def measured(folder: Path, figure: str, **names: object) -> None:
    """Runs one figure in a process of its own and prints it."""
    command = [sys.executable, __file__, "--folder", str(folder), "--only", figure]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(json.dumps({"figure": figure, **names, **json.loads(done.stdout)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=22_000)
    parser.add_argument("--folder", type=Path, help="where the corpus is made (default: a temporary folder)")
    parser.add_argument("--only", choices=["scan", "plan"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps({"scan": scan, "plan": plan}[args.only](args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_recording(folder)
        read(folder)
        crop(folder)
        write_corpus(folder, args.recordings)
        for start in ("first", "second"):
            measured(folder, "scan", start=start, recordings=args.recordings)
        measured(folder, "plan", recordings=args.recordings)


if __name__ == "__main__":
    main()
