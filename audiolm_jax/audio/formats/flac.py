"""Headers of FLAC."""

from audiolm_jax.audio.contents import Contents, cut_short, damaged
from audiolm_jax.audio.source import Source

# STREAMINFO is the first block; its 36 bits of the number of samples end 26 bytes into the file.
_STREAMINFO_BYTES = 34
_COUNT_AT, _COUNT_BITS = 21, 36
MOST_SAMPLES = 2**_COUNT_BITS - 1


def read_flac(source: Source) -> Contents:
    """Number of samples by STREAMINFO, 0 where the writer did not know it.

    Raises UserError if the file has no STREAMINFO or ends in it.
    """
    head = source.read_at(0, 8 + _STREAMINFO_BYTES)
    if len(head) < 8 + _STREAMINFO_BYTES:
        raise cut_short(source)
    if head[4] & 0x7F or int.from_bytes(head[5:8]) != _STREAMINFO_BYTES:
        raise damaged(source, "it does not begin with what FLAC begins with")
    return Contents(source, num_samples=int.from_bytes(head[_COUNT_AT : _COUNT_AT + 5]) & MOST_SAMPLES)


def with_length(source: Source, num_samples: int) -> Source:
    """The file with a number of samples in its STREAMINFO."""
    old = int.from_bytes(source.read_at(_COUNT_AT, 5))
    new = old >> _COUNT_BITS << _COUNT_BITS | num_samples
    return source.corrected(_COUNT_AT, new.to_bytes(5))
