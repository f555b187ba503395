"""Damage to the bytes of a file: what disks, networks, other programs and ill will do to them."""

import random
import struct

# Most of what a reader can be misled by stands near the beginning.
_HEAD_BYTES = 200
_NUMBERS = (
    0, 1, 2, 255, 2**15, 2**16 - 1, 0x7FFFF000, 2**31 - 1, 2**31, 2**32 - 1, 2**36 - 1, 2**62, 2**63 - 1, 2**64 - 1,
)  # fmt: skip


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The bytes after one to four kinds of damage; `others` are whole files to mix in."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        data = chance.choice(_DAMAGES)(chance, data, others)
    # What stands behind a checksum is only read where the checksum is right.
    return with_page_checksums(data) if data[:4] == b"OggS" and chance.random() < 0.7 else data


def with_page_checksums(data: bytes) -> bytes:
    """The bytes of an OGG file with right checksums in its pages, as far as it has any."""
    right = bytearray(data)
    position = 0
    while position + 27 <= len(right) and right[position : position + 4] == b"OggS":
        segments = right[position + 27 : position + 27 + right[position + 26]]
        stop = position + 27 + len(segments) + sum(segments)
        right[position + 22 : position + 26] = bytes(4)
        checksum = 0
        for byte in right[position:stop]:
            checksum = (checksum << 8 & 0xFFFFFFFF) ^ _PAGE_CHECKSUMS[checksum >> 24 ^ byte]
        right[position + 22 : position + 26] = checksum.to_bytes(4, "little")
        position = stop
    return bytes(right)


def _page_checksum(byte: int) -> int:
    """Of one byte, by OGG's polynomial."""
    value = byte << 24
    for _ in range(8):
        value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


_PAGE_CHECKSUMS = [_page_checksum(byte) for byte in range(256)]


def _place(chance: random.Random, data: bytes) -> int:
    most = max(len(data) - 1, 0)
    return chance.randint(0, min(most, _HEAD_BYTES) if chance.random() < 0.6 else most)


def _flip_bits(chance, data, others):
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[_place(chance, data)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _set_number(chance, data, others):
    number, size = chance.choice(_NUMBERS), chance.choice((1, 2, 4, 4, 4, 8))
    written = struct.pack(chance.choice("<>") + "Q", number & (2 ** (8 * size) - 1))
    written = written[:size] if number & 0xFF == written[0] else written[-size:]
    at = _place(chance, data)
    return data[:at] + written + data[at + size :]


def _random_bytes(chance, data, others):
    at, size = _place(chance, data), chance.choice((1, 4, 16, 300))
    return data[:at] + chance.randbytes(size) + data[at + size :]


def _cut(chance, data, others):
    return data[: chance.randint(0, len(data))]


def _cut_a_little(chance, data, others):
    return data[: max(0, len(data) - chance.randint(1, 40))]


def _drop(chance, data, others):
    at = _place(chance, data)
    return data[:at] + data[at + chance.choice((1, 2, 4, 100, 1000)) :]


def _insert(chance, data, others):
    at, size = _place(chance, data), chance.choice((1, 2, 4, 100, 1000))
    return data[:at] + (bytes(size) if chance.random() < 0.5 else chance.randbytes(size)) + data[at:]


def _repeat(chance, data, others):
    at = _place(chance, data)
    return data[:at] + data[at : at + chance.choice((4, 64, 500))] * chance.choice((2, 3, 50)) + data[at:]


def _append(chance, data, others):
    return data + chance.choice((bytes(64), b"TAG" + bytes(125), chance.randbytes(50), data, chance.choice(others)))


def _prepend(chance, data, others):
    tag = b"ID3\x04\x00\x00\x00\x00\x00" + bytes([chance.choice((0, 50, 127))]) + bytes(50)
    return chance.choice((bytes(100), tag, chance.randbytes(20), chance.choice(others)[:100])) + data


def _splice(chance, data, others):
    other = chance.choice(others)
    return data[: _place(chance, data)] + other[_place(chance, other) :]


_DAMAGES = (
    _flip_bits, _flip_bits, _flip_bits, _set_number, _set_number, _set_number, _random_bytes, _cut, _cut_a_little,
    _drop, _insert, _repeat, _append, _prepend, _splice,
)  # fmt: skip
