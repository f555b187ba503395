"""Recordings cut into segments: where nobody speaks, by the rule of Libri-Light's own tools, or evenly.

A segment is a list of sample ranges of its recording, read one after the other. So a recording of an hour becomes sixty
utterances without a second copy of it on disk.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from audiolm_jax.errors import UserError

# [start, stop) in samples at the rate of the recording.
Ranges = tuple[tuple[int, int], ...]

# What Libri-Light's `cut_by_vad.py` aims at by default.
SEGMENT_SECONDS = 60.0


def checked_spans(spans: Any) -> list[tuple[float, float]]:
    """Stretches of speech as (onset, offset) in seconds, from what a JSON file holds.

    Raises:
        UserError: they are no list of pairs of numbers, or one of them is negative or ends before it begins.
    """
    if not isinstance(spans, list):
        raise UserError("its voice activity is no list of [onset, offset] pairs")
    checked = []
    for span in spans:
        pair = isinstance(span, list) and len(span) == 2
        if not pair or not all(type(second) in (int, float) and math.isfinite(second) for second in span):
            raise UserError(f"its voice activity holds {str(span)[:40]}, which is no pair of seconds")
        onset, offset = map(float, span)
        if not 0 <= onset <= offset:
            raise UserError(f"its voice activity holds [{onset:g}, {offset:g}], which ends before it begins")
        checked.append((onset, offset))
    return checked


def cut_by_voice_activity(
    spans: Iterable[tuple[float, float]],
    sample_rate_hz: int,
    num_samples: int,
    segment_seconds: float = SEGMENT_SECONDS,
) -> list[Ranges]:
    """The segments of a recording: neighbouring stretches of speech together, without the silence between them.

    A stretch is added to the segment as long as the sum stays within `segment_seconds`; a stretch that is longer by
    itself stays whole, in a segment of its own. This is what Libri-Light's `cut_by_vad.py` does, in the same
    arithmetic, so its files and these segments hold the same samples.

    Args:
        spans: (onset, offset) of each stretch, in seconds, in their order.
        sample_rate_hz: of the recording.
        num_samples: of the recording; what a stretch claims beyond them is left out.
        segment_seconds: the sum that is aimed at.

    Returns:
        The ranges of each segment; stretches that touch are one range. Segments without a sample are left out.
    """
    if segment_seconds <= 0:
        raise UserError(f"the length of a segment must be positive, got {segment_seconds} s")
    segments: list[list[tuple[float, float]]] = []
    seconds = 0.0
    for onset, offset in spans:
        if not segments or (seconds + (offset - onset) > segment_seconds and seconds > 0):
            segments.append([])
            seconds = 0.0
        segments[-1].append((onset, offset))
        seconds += offset - onset
    ranges = [_in_samples(segment, sample_rate_hz, num_samples) for segment in segments]
    return [segment for segment in ranges if segment]


def _in_samples(spans: Iterable[tuple[float, float]], sample_rate_hz: int, num_samples: int) -> Ranges:
    """The samples of stretches of speech, stretches that touch as one range, none that is empty."""
    joined: list[tuple[int, int]] = []
    for onset, offset in spans:
        # Rounded down like there: a sample more or less would make other tokens.
        start, stop = int(onset * sample_rate_hz), min(int(offset * sample_rate_hz), num_samples)
        if start >= stop:
            continue
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return tuple(joined)


def cut_evenly(num_samples: int, sample_rate_hz: int, segment_seconds: float = SEGMENT_SECONDS) -> list[Ranges]:
    """The segments of a recording without voices: as few as possible of up to `segment_seconds`, of one length."""
    if segment_seconds <= 0:
        raise UserError(f"the length of a segment must be positive, got {segment_seconds} s")
    count = math.ceil(num_samples / (segment_seconds * sample_rate_hz))
    bounds = [place * num_samples // count for place in range(count + 1)] if count else []
    return [(pair,) for pair in itertools.pairwise(bounds)]


def num_samples_of(ranges: Ranges) -> int:
    """Samples in all ranges together."""
    return sum(stop - start for start, stop in ranges)


def narrowed(ranges: Ranges, start: int, stop: int) -> Ranges:
    """The ranges of the samples [start, stop), counted within `ranges` as if these were one recording.

    A crop of a segment is read this way without the rest of it.
    """
    ends = itertools.accumulate(high - low for low, high in ranges)
    found = []
    for (low, high), end in zip(ranges, ends, strict=True):
        begin = end - (high - low)
        first, last = max(start, begin), min(stop, end)
        if first < last:
            found.append((low + first - begin, low + last - begin))
    return tuple(found)


def described_excess(spans: Sequence[tuple[float, float]], sample_rate_hz: int, num_samples: int) -> str:
    """In words, how far voice activity goes on after the end of its recording; "" if by no more than a second.

    The last offset may lie a little after the end, because the detector works in frames.
    """
    seconds = num_samples / sample_rate_hz
    last = max((offset for _, offset in spans), default=0.0)
    if last <= seconds + 1.0:
        return ""
    return f"its voice activity ends at {last:.2f} s, the recording at {seconds:.2f} s; the rest is left out"
