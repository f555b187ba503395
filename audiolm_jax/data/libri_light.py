"""Libri-Light on disk: <part>/<speaker>/<book>/<name>.flac with <name>.json beside it, and its segments.

The parts small, medium and large are 577, 5193 and 51934 hours; unlab-600, unlab-6k and unlab-60k join the first one,
two and three of them (https://github.com/facebookresearch/libri-light, data_preparation).
"""

import dataclasses
import functools
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audiolm_jax.audio import AUDIO_SUFFIXES, read_header
from audiolm_jax.data.segment_index import FileSegments, Stamp, index_path, up_to_date_index
from audiolm_jax.data.utterances import (
    LeftOut,
    Listing,
    UtteranceTable,
    heldout_files,
    heldout_speaker_names,
)
from audiolm_jax.data.voice_activity import checked_spans, cut_by_voice_activity, described_excess
from audiolm_jax.errors import UserError

SAMPLE_RATE_HZ = 16_000
PARTS = ("small", "medium", "large")
SUBSETS = {"unlab-600": PARTS[:1], "unlab-6k": PARTS[:2], "unlab-60k": PARTS}
_NO_STAMP = (-1, -1)
# Speakers that are listed at once: on a network disk most of the time is spent waiting.
_NUM_THREADS = 16


def parts_of(root: Path, subset: str | None) -> tuple[str, ...]:
    """The folders below `root` that make up a subset; ("",) if `root` is itself a part.

    Args:
        root: holds small/, medium/ and large/, or those that are wanted; or is one of them.
        subset: a name of SUBSETS, whose parts must all be there; None: what is there.

    Raises:
        UserError: no such folder, or a part is missing.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder into which Libri-Light was unpacked")
    if subset is None:
        return tuple(part for part in PARTS if (root / part).is_dir()) or ("",)
    missing = [part for part in SUBSETS[subset] if not (root / part).is_dir()]
    if missing:
        raise UserError(f"{root} has no folder {missing[0]}/, which {subset} needs; unpack {missing[0]}.tar there")
    return SUBSETS[subset]


@dataclasses.dataclass(frozen=True)
class Recording:
    """One LibriVox file: its place below the root, and its speaker, the folder below the part."""

    name: str
    speaker: str
    stamp: Stamp

    @property
    def key(self) -> str:
        """The path below the root without its suffix."""
        return self.name.removesuffix(".flac")


def find_recordings(root: Path, parts: tuple[str, ...]) -> tuple[list[Recording], list[LeftOut]]:
    """Every recording of the parts in the order of the keys, and what is there but is no recording of a speaker.

    Raises:
        UserError: there is no recording at all, or a folder cannot be listed.
    """
    found: list[Recording] = []
    left_out: list[LeftOut] = []
    try:
        for part in parts:
            recordings, odd = _of_part(root, part)
            found += recordings
            left_out += odd
    except OSError as error:
        name = error.filename or root
        raise UserError(f"{name} cannot be listed ({error.strerror}); mend that and start again") from error
    if not found:
        raise UserError(f"{root} holds no <speaker>/<book>/<name>.flac; give a folder of Libri-Light")
    return sorted(found, key=lambda recording: recording.key), left_out


def _of_part(root: Path, part: str) -> tuple[list[Recording], list[LeftOut]]:
    found: list[Recording] = []
    left_out: list[LeftOut] = []
    with os.scandir(root / part) as entries:
        entries = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        if entry.is_file() and entry.name.endswith(AUDIO_SUFFIXES):
            source = f"{part}/{entry.name}".lstrip("/")
            left_out.append(LeftOut(source, _stem(source), "", "it lies outside a speaker's folder"))
    folders = [f"{part}/{entry.name}".lstrip("/") for entry in entries if entry.is_dir()]
    hidden = not sys.stderr.isatty()
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        listings = threads.map(functools.partial(_of_speaker, root), folders)
        bar = tqdm(listings, f"listing {part or root.name}", len(folders), unit="speaker", disable=hidden)
        for recordings, odd in bar:
            found += recordings
            left_out += odd
    return found, left_out


def _of_speaker(root: Path, source: str) -> tuple[list[Recording], list[LeftOut]]:
    """The recordings below one speaker's folder, each with the stamps of itself and of its JSON."""
    speaker = source.split("/")[-1]
    stamps: dict[str, tuple[int, int]] = {}
    left_out = []
    waiting = [source]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(name)
                elif entry.name.endswith((".flac", ".json")):
                    status = entry.stat()
                    stamps[name] = (status.st_size, status.st_mtime_ns)
                elif entry.name.lower().endswith(AUDIO_SUFFIXES):
                    left_out.append(LeftOut(name, _stem(name), speaker, "Libri-Light's recordings are named .flac"))
    recordings = []
    for name, stamp in sorted(stamps.items()):
        if name.endswith(".flac"):
            recordings.append(Recording(name, speaker, (*stamp, *stamps.get(f"{_stem(name)}.json", _NO_STAMP))))
        elif f"{_stem(name)}.flac" not in stamps:
            left_out.append(LeftOut(name, _stem(name), speaker, "the .flac beside it is missing"))
    if not recordings and not left_out:
        left_out.append(LeftOut(source, source, speaker, "the folder of this speaker holds no .flac"))
    return recordings, left_out


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


@dataclasses.dataclass(frozen=True)
class Description:
    """What the JSON beside a recording says.

    Attributes:
        speaker: LibriVox's number of the reader.
        book_id, book_title, meta_genre: of the book; "" where it is not said.
        snr: signal to noise ratio in dB, NaN where it is not said.
        spans: (onset, offset) of each stretch of speech, in seconds.
    """

    speaker: str
    book_id: str
    book_title: str
    meta_genre: str
    snr: float
    spans: list[tuple[float, float]]


def read_description(path: Path) -> Description:
    """The description of a recording.

    Raises:
        UserError: the file is missing or damaged, or lists no voice activity.
    """
    try:
        values: Any = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path.name} is missing beside it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} beside it is damaged ({str(error).splitlines()[0]})") from error
    book = values.get("book_meta") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(book if book is not None else {}, dict):
        raise UserError(f"{path.name} beside it is no description of a recording")
    spans = checked_spans(values.get("voice_activity", []))
    if not spans:
        raise UserError(f"{path.name} beside it lists no voice activity")
    book, snr = book or {}, values.get("snr")
    return Description(
        speaker=str(values.get("speaker", "")),
        book_id=str(book.get("id", "")),
        book_title=str(book.get("title", "")),
        meta_genre=str(book.get("meta_genre", "")),
        snr=float(snr) if isinstance(snr, (int, float)) else float("nan"),
        spans=spans,
    )


def segments_of(path: Path, segment_seconds: float) -> FileSegments:
    """The segments of a recording, or why there are none; never raises for a damaged file."""
    try:
        description = read_description(path.with_suffix(".json"))
        num_samples, rate_hz = read_header(path)
    except UserError as error:
        return FileSegments.of((), str(error).replace(f"{path} ", "it "))
    if rate_hz != SAMPLE_RATE_HZ:
        return FileSegments.of((), f"its rate is {rate_hz} Hz, Libri-Light's is {SAMPLE_RATE_HZ} Hz")
    segments = cut_by_voice_activity(description.spans, SAMPLE_RATE_HZ, num_samples, segment_seconds)
    excess = described_excess(description.spans, SAMPLE_RATE_HZ, num_samples)
    if not segments:
        return FileSegments.of((), excess or "its voice activity holds no sample")
    return FileSegments.of(segments, excess)


def list_libri_light(
    root: Path,
    parts: tuple[str, ...],
    heldout_speakers: int,
    seed: int,
    segment_seconds: float,
    cache_dir: str | Path | None,
) -> Listing:
    """The segments of the parts, split by speaker.

    Raises:
        UserError: none of the recordings can be used.
    """
    recordings, left_out = find_recordings(root, parts)
    index = up_to_date_index(
        index_path(cache_dir, "libri_light", root, parts, segment_seconds),
        {recording.name: recording.stamp for recording in recordings},
        functools.partial(_segments_below, root, segment_seconds),
    )
    unusable = zip(recordings, index.reasons, strict=True)
    left_out += [LeftOut(r.name, r.key, r.speaker, reason) for r, reason in unusable if reason]
    speakers = [recording.speaker for recording in recordings]
    table = UtteranceTable(
        root, index.names, speakers, index.first_segment, index.first_range, index.ranges, SAMPLE_RATE_HZ
    )
    if not len(table):
        raise UserError(f"none of the {len(recordings)} recordings in {root} can be used: {left_out[0].reason}")
    names = heldout_speaker_names(speakers, heldout_speakers, seed)
    return Listing(table, heldout_files(table, names, heldout_speakers, seed), tuple(left_out))


def _segments_below(root: Path, segment_seconds: float, name: str) -> FileSegments:
    return segments_of(root / name, segment_seconds)
