"""Tags with titles and pictures that programs put before and behind the sound of any format."""

from audiolm_jax.audio.source import Source

_ID3V1_BYTES = 128


def without_tags(source: Source) -> Source:
    """The source without ID3v2 tags before the sound and an ID3v1 tag behind it."""
    start, stop = 0, source.size
    while size := id3v2_bytes(source.read_at(start, 10)):
        start += size
    if source.read_at(stop - _ID3V1_BYTES, 3) == b"TAG":
        stop -= _ID3V1_BYTES
    return source.part(start, stop) if start < stop else source


def id3v2_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag that begins with these ten bytes, 0 if none does."""
    if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return size + 10 if head[5] & 0x10 else size
