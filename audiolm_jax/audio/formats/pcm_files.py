"""Headers of the other containers of uncompressed sound: AIFF, Wave64, CAF, AU and NIST SPHERE."""

import re
import struct
from collections.abc import Callable

from audiolm_jax.audio.contents import Contents, cut_short, damaged
from audiolm_jax.audio.formats import chunks
from audiolm_jax.audio.formats.chunks import Layout
from audiolm_jax.audio.source import Source

_NIST_HEADER_BYTES = 1024
_AU_HEADER_BYTES = 24
# Wave64 from a pipe announces more than any disk holds.
_NO_SIZE = 2**62


def read_aiff(source: Source) -> Contents:
    """Checks an AIFF or AIFF-C file; raises UserError if it ends before its samples do."""
    return _read_chunks(source, chunks.AIFF, lambda size: False)


def read_wave64(source: Source) -> Contents:
    """Checks a Wave64 file and fills in a size that was not known.

    Raises UserError if it ends before its samples do.
    """
    return _read_chunks(source, chunks.WAVE64, lambda size: size >= _NO_SIZE)


def read_caf(source: Source) -> Contents:
    """Checks a CAF file and fills in a size of -1, which it has from a pipe.

    Raises UserError if it ends before its samples do.
    """
    return _read_chunks(source, chunks.CAF, lambda size: size == -1)


def _read_chunks(source: Source, layout: Layout, is_unknown: Callable[[int], bool]) -> Contents:
    sound = next((chunk for chunk in chunks.chunks(source, layout) if chunk.name == layout.sound), None)
    if sound is None:
        raise cut_short(source)
    available = source.size - sound.start
    if is_unknown(sound.size):
        return Contents(chunks.with_size(source, layout, sound, available))
    if not 0 <= sound.size <= available:
        raise cut_short(source)
    return Contents(source)


def read_au(source: Source) -> Contents:
    """Checks a file of Sun and NeXT (.au, .snd).

    Raises UserError if it ends before its samples do, or if they would begin within its header.
    """
    head = source.read_at(0, 12)
    if len(head) < 12:
        raise cut_short(source)
    start, size = struct.unpack("<II" if head[:4] == b"dns." else ">II", head[4:])
    if start < _AU_HEADER_BYTES:
        # The decoder would begin behind the header, and come back to another place when it seeks.
        raise damaged(source, f"its samples begin at byte {start}, within its header")
    # The largest number stands for a size that was not known.
    if size != 2**32 - 1 and start + size > source.size:
        raise cut_short(source)
    return Contents(source)


def read_nist(source: Source) -> Contents:
    """Checks a NIST SPHERE file, as of TIMIT; raises UserError if it ends before its samples do."""
    header = source.read_at(0, _NIST_HEADER_BYTES)
    counts = [
        re.search(rb"(?m)^%s -i (\d{1,15})\s" % name, header)
        for name in (b"sample_count", b"sample_n_bytes", b"channel_count")
    ]
    samples, sample_bytes, channels = (1 if count is None else int(count.group(1)) for count in counts)
    if _NIST_HEADER_BYTES + samples * sample_bytes * channels > source.size:
        raise cut_short(source)
    return Contents(source)
