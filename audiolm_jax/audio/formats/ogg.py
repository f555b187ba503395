"""Pages of OGG, which hold Vorbis, Opus or FLAC."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from audiolm_jax.audio.contents import Contents, cut_short, damaged
from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError

_PAGE_HEAD_BYTES = 27
_BEGINS, _ENDS = 2, 4


@dataclass(frozen=True)
class _Page:
    flags: int
    last_sample: int  # of the stream, that ends on it; -1 for none
    stop: int  # position behind it


def read_ogg(source: Source) -> Contents:
    """Checks that one stream of sound fills the file.

    Raises UserError if the file ends within a page or before the one that is marked as the last, if pages are missing
    between others or count backwards, or if it holds more than one stream.
    """
    streams, last, last_sample = 0, None, 0
    for page in _pages(source):
        streams += bool(page.flags & _BEGINS)
        if streams > 1:
            after = last is not None and last.flags & _ENDS
            raise UserError(
                f"{source.path} holds several OGG streams {'one after another' if after else 'at once'}, "
                "of which only the first would be heard; convert it to WAV or FLAC"
            )
        last = page
        if page.last_sample != -1:
            if page.last_sample < last_sample:
                raise damaged(source, "its pages count their samples backwards")
            last_sample = page.last_sample
        # Foreign bytes may stand behind the last page.
        if page.flags & _ENDS and source.read_at(page.stop, 4) != b"OggS":
            break
    if last is None or not last.flags & _ENDS:
        raise cut_short(source)
    return Contents(source.part(0, last.stop))


def _pages(source: Source) -> Iterator[_Page]:
    position = 0
    while position < source.size:
        head = source.read_at(position, _PAGE_HEAD_BYTES + 255)
        if len(head) >= 4 and head[:4] != b"OggS":
            raise damaged(source, f"after byte {position} its pages are broken")
        if len(head) < _PAGE_HEAD_BYTES:
            raise cut_short(source)
        flags, last_sample, num_segments = struct.unpack_from("<5xBq12xB", head)
        segments = head[_PAGE_HEAD_BYTES : _PAGE_HEAD_BYTES + num_segments]
        stop = position + _PAGE_HEAD_BYTES + num_segments + sum(segments)
        if len(segments) < num_segments or stop > source.size:
            raise cut_short(source)
        yield _Page(flags, last_sample, stop)
        position = stop
