"""Containers made of chunks with a name and a size: WAV (RIFF, RIFX, RF64), AIFF, Wave64 and CAF."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from audiolm_jax.audio.source import Source

# A file of zeros would be chunks without an end.
_MOST_CHUNKS = 10_000


@dataclass(frozen=True)
class Layout:
    """How a container writes its chunks.

    Attributes:
        head: struct format of name and size.
        first: position of the first chunk.
        align: chunks begin at multiples of it, counted from the end of the head before.
        sound: name of the chunk that holds the samples.
        counts_head: whether a chunk's size has its head in it.
    """

    head: str
    first: int
    align: int
    sound: bytes
    counts_head: bool = False


@dataclass(frozen=True)
class Chunk:
    """One chunk: its name, where its contents begin and how many bytes its head announces."""

    name: bytes
    start: int
    size: int


RIFF = Layout("<4sI", 12, 2, b"data")
RIFX = Layout(">4sI", 12, 2, b"data")
AIFF = Layout(">4sI", 12, 2, b"SSND")
CAF = Layout(">4sq", 8, 1, b"data")
WAVE64 = Layout("<16sQ", 40, 8, b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), counts_head=True)


def chunks(source: Source, layout: Layout) -> Iterator[Chunk]:
    """The chunks up to the one with the samples, that one too; raises nothing where they end before it."""
    head_bytes = struct.calcsize(layout.head)
    position = layout.first
    for _ in range(_MOST_CHUNKS):
        head = source.read_at(position, head_bytes)
        if len(head) < head_bytes:
            return
        name, size = struct.unpack(layout.head, head)
        position += head_bytes
        size -= head_bytes if layout.counts_head else 0
        yield Chunk(name, position, size)
        if name == layout.sound or size < 0:
            return
        position += size + -size % layout.align


def with_size(source: Source, layout: Layout, chunk: Chunk, size: int) -> Source:
    """The file with another size at the head of a chunk."""
    size_format = layout.head[0] + layout.head[-1]
    announced = size + (struct.calcsize(layout.head) if layout.counts_head else 0)
    right = struct.pack(size_format, announced)
    return source.corrected(chunk.start - len(right), right)
