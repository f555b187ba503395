"""Libri-Light on disk: <part>/<speaker>/<book>/<name>.flac with <name>.json beside it, and its segments.

The parts small, medium and large are 577, 5193 and 51934 hours; unlab-600, unlab-6k and unlab-60k join the first one,
two and three of them (https://github.com/facebookresearch/libri-light, data_preparation).
"""

import dataclasses
import functools
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audiolm_jax.audio import AUDIO_SUFFIXES, read_header
from audiolm_jax.audio.folder import RealFolders, is_folder, is_utf8, shown
from audiolm_jax.data.corpora.segment_index import FileSegments, Stamp, index_path, up_to_date_index
from audiolm_jax.data.corpora.utterances import (
    LeftOut,
    Listing,
    UtteranceTable,
    heldout_files,
    heldout_speaker_names,
)
from audiolm_jax.data.corpora.voice_activity import checked_spans, cut_by_voice_activity, described_excess
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import parse

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


@dataclasses.dataclass(frozen=True)
class _Below:
    """What lies below a folder.

    Attributes:
        recordings, left_out: what is and what is not used of it.
        links: to folders, not followed yet.
    """

    recordings: list[Recording]
    left_out: list[LeftOut]
    links: list[str]


def find_recordings(root: Path, parts: tuple[str, ...]) -> tuple[list[Recording], list[LeftOut]]:
    """Every recording of the parts in the order of the keys, and what is there but is no recording of a speaker.

    Symbolic links are followed, but each real folder is read once, under its own name if it lies below `root`.

    Raises:
        UserError: there is no recording at all, or a folder cannot be listed.
    """
    found: list[Recording] = []
    left_out: list[LeftOut] = []
    links: list[tuple[str, str]] = []
    once = RealFolders(root)
    once.claim(root)
    try:
        for part in parts:
            if part and not once.claim(root / part):
                left_out.append(_link_again(part, ""))
                continue
            for speaker, below in _of_part(root, part, once):
                found += below.recordings
                left_out += below.left_out
                links += [(speaker or link.split("/")[-1], link) for link in below.links]
        while links:  # when all that has a name of its own is known
            links.sort(key=lambda link: (link[1].count("/"), link[1]), reverse=True)
            speaker, source = links.pop()
            if not once.claim(root / source):
                left_out.append(_link_again(source, speaker))
                continue
            below = _below(root, speaker, once, source)
            found += below.recordings
            left_out += below.left_out
            links += [(speaker, link) for link in below.links]
    except OSError as error:
        name = error.filename or root
        raise UserError(f"{name} cannot be listed ({error.strerror}); mend that and start again") from error
    if not found:
        raise UserError(f"{root} holds no <speaker>/<book>/<name>.flac; give a folder of Libri-Light")
    return sorted(found, key=lambda recording: recording.key), left_out


def _of_part(root: Path, part: str, once: RealFolders) -> Iterator[tuple[str, _Below]]:
    """What lies in a part itself, of speaker "", and below each of its speakers."""
    itself = _Below([], [], [])
    folders = []
    with os.scandir(root / part) as entries:
        entries = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        source = f"{part}/{entry.name}".lstrip("/")
        if is_folder(entry):
            if not is_utf8(entry.name):
                itself.left_out.append(_not_utf8(source, entry.name))
            else:
                (itself.links if entry.is_symlink() else folders).append(source)
        elif entry.name.endswith(AUDIO_SUFFIXES):
            reason = "it lies outside a speaker's folder"
            itself.left_out.append(LeftOut(shown(source), shown(_stem(source)), "", reason))
    yield "", itself
    hidden = not sys.stderr.isatty()
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        listings = threads.map(functools.partial(_of_speaker, root, once), folders)
        bar = tqdm(listings, f"listing {part or root.name}", len(folders), unit="speaker", disable=hidden)
        for source, below in zip(folders, bar, strict=True):
            yield source.split("/")[-1], below


def _of_speaker(root: Path, once: RealFolders, source: str) -> _Below:
    speaker = source.split("/")[-1]
    once.claim(root / source)
    below = _below(root, speaker, once, source)
    if not below.recordings and not below.left_out and not below.links:
        below.left_out.append(LeftOut(source, source, speaker, "the folder of this speaker holds no .flac"))
    return below


def _below(root: Path, speaker: str, once: RealFolders, source: str) -> _Below:
    """The recordings of a speaker below a folder that is claimed, with the stamps of themselves and of their JSON."""
    stamps: dict[str, tuple[int, int]] = {}
    left_out, links = [], []
    waiting = [source]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.name.startswith("."):
                    continue
                if not is_utf8(entry.name):
                    if is_folder(entry) or entry.name.lower().endswith(AUDIO_SUFFIXES):
                        left_out.append(_not_utf8(name, speaker))
                elif is_folder(entry):
                    if entry.is_symlink():
                        links.append(name)
                    elif once.claim(root / name):
                        waiting.append(name)
                elif entry.name.endswith((".flac", ".json")):
                    if (found := _stamp(entry)) is not None:
                        stamps[name] = found
                    elif entry.name.endswith(".flac"):
                        left_out.append(LeftOut(name, _stem(name), speaker, "it is no file, or a link to none"))
                elif entry.name.lower().endswith(AUDIO_SUFFIXES):
                    left_out.append(LeftOut(name, _stem(name), speaker, "Libri-Light's recordings are named .flac"))
    recordings = []
    for name, stamp in sorted(stamps.items()):
        if name.endswith(".flac"):
            recordings.append(Recording(name, speaker, (*stamp, *stamps.get(f"{_stem(name)}.json", _NO_STAMP))))
        elif f"{_stem(name)}.flac" not in stamps:
            left_out.append(LeftOut(name, _stem(name), speaker, "the .flac beside it is missing"))
    return _Below(recordings, left_out, links)


def _stamp(entry: os.DirEntry) -> tuple[int, int] | None:
    """Size and time of change of a file; None of what is none."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _link_again(source: str, speaker: str) -> LeftOut:
    return LeftOut(source, source, speaker, "it is a link to a folder that is read already, or that holds this one")


def _not_utf8(source: str, speaker: str) -> LeftOut:
    reason = "its name is not UTF-8; rename it, for nothing of it is read"
    return LeftOut(shown(source), shown(_stem(source)), shown(speaker), reason)


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
        values: Any = parse(path.read_bytes())
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
    except Exception as error:  # noqa: BLE001 (decoders and parsers have errors of their own)
        return FileSegments.unusable(path, error)
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
