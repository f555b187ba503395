"""Headers of WAV: RIFF, big-endian RIFX and the 64-bit RF64."""

import struct

from audiolm_jax.audio.contents import Contents, cut_short, no_samples
from audiolm_jax.audio.formats import chunks, mp3
from audiolm_jax.audio.formats.chunks import Chunk, Layout
from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError

# Format tags whose last block is padded; the chunk `fact` then has the true length. 0x55 is MP3.
_BLOCK_CODECS = (0x0002, 0x0011, 0x0031)
_MP3_TAG = 0x0055
# A program that writes into a pipe cannot go back to fill in the size. It leaves 0 or a value near a limit of 32 bits:
# 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF or a few bytes less.
_LIMITS, _NEAR_BYTES = (2**31, 2**32), 2**16
_LARGEST_SIZE = 2**32 - 1


def read_wav(source: Source) -> Contents:
    """Checks the sizes of a WAV file and fills in those that were not known when it was written.

    Raises UserError if it ends before its samples do, or has none.
    """
    is_rf64 = source.read_at(0, 4) == b"RF64"
    layout = chunks.RIFX if source.read_at(0, 4) == b"RIFX" else chunks.RIFF
    found = {chunk.name: chunk for chunk in chunks.chunks(source, layout)}
    sound = found.get(b"data")
    if sound is None:
        raise cut_short(source)
    available = source.size - sound.start
    size = _long_size(source, found.get(b"ds64"), sound) if is_rf64 else sound.size
    if not is_rf64 and _is_unknown(source, layout, size, available):
        size = available
        if source.size - 8 > _LARGEST_SIZE:
            raise UserError(f"{source.path} is a WAV file of more than 4 GiB without its length; convert it to FLAC")
        source = chunks.with_size(source, layout, sound, size)
        source = source.corrected(4, struct.pack(layout.head[0] + "I", source.size - 8))
    if size > available:
        raise cut_short(source)
    if not size:
        raise no_samples(source)
    tag = _format_tag(source, layout, found.get(b"fmt "))
    if tag == _MP3_TAG:
        return mp3.read_mp3(source.part(sound.start, sound.start + size))
    return Contents(source, true_samples=_stated_samples(source, layout, found.get(b"fact"), tag))


def _is_unknown(source: Source, layout: Layout, size: int, available: int) -> bool:
    """Whether the writer did not know the size of the samples."""
    if size == 0:
        # An empty recording with chunks behind it says 0 too, but then the size of the file is right.
        (whole,) = struct.unpack(layout.head[0] + "I", source.read_at(4, 4))
        return available > 0 and abs(whole + 8 - source.size) > 1
    return size > available and any(0 <= limit - size <= _NEAR_BYTES for limit in _LIMITS)


def _long_size(source: Source, ds64: Chunk | None, sound: Chunk) -> int:
    """Size of the samples of an RF64 file: that of its 64-bit table where the chunk's own says that it stands there."""
    table = b"" if ds64 is None else source.read_at(ds64.start, 16)
    if sound.size != _LARGEST_SIZE or len(table) < 16:
        return sound.size
    return struct.unpack("<QQ", table)[1]


def _format_tag(source: Source, layout: Layout, fmt: Chunk | None) -> int:
    head = b"" if fmt is None else source.read_at(fmt.start, 2)
    return struct.unpack(layout.head[0] + "H", head)[0] if len(head) == 2 else 0


def _stated_samples(source: Source, layout: Layout, fact: Chunk | None, tag: int) -> int | None:
    """Samples of each channel that a file of a block codec says it has; its last block may be padded beyond them."""
    head = b"" if fact is None else source.read_at(fact.start, 4)
    if tag not in _BLOCK_CODECS or len(head) < 4:
        return None
    return struct.unpack(layout.head[0] + "I", head)[0] or None
