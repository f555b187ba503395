"""Headers of MPEG audio frames (MPEG-1, 2 and 2.5, layers I to III)."""

import functools
import struct
from dataclasses import dataclass
from typing import NamedTuple

HEADER_BYTES = 4
_VERSION_1 = 3  # as the header writes it; 2 is MPEG-2, 0 is MPEG-2.5
_LAYER_1, _LAYER_2, LAYER_3 = 3, 2, 1
_MONO = 3
_RATES_HZ = (44_100, 48_000, 32_000)
_RATE_SHIFT = {3: 0, 2: 1, 0: 2}
_KBPS = {
    (True, _LAYER_1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, _LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, _LAYER_1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, _LAYER_2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, LAYER_3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# What tells one frame from another: all but the private, copyright, original and emphasis bits.
_TELLING_BITS = 0xFFFF_FEC0


@dataclass(frozen=True)
class FrameHeader:
    """A frame as its header announces it.

    Attributes:
        kind: equal for the frames of one stream: version, layer, rate and whether it is mono.
        num_bytes: of the whole frame.
        num_samples: of each channel.
        side_bytes: of layer III, between header and sound.
    """

    kind: tuple[int, int, int, bool]
    num_bytes: int
    num_samples: int
    side_bytes: int

    @property
    def layer(self) -> int:
        return self.kind[1]


def header_at(data: bytes, position: int) -> FrameHeader | None:
    """The frame that begins at a position; None if none does, or one without a bit rate."""
    if position + HEADER_BYTES > len(data):
        return None
    (word,) = struct.unpack_from(">I", data, position)
    return _header(word & _TELLING_BITS) if word >> 21 == 0x7FF else None


@functools.lru_cache(maxsize=2**14)
def _header(word: int) -> FrameHeader | None:
    version, layer, kbps, rate = (word >> 19) & 3, (word >> 17) & 3, (word >> 12) & 15, (word >> 10) & 3
    padding, is_mono = (word >> 9) & 1, (word >> 6) & 3 == _MONO
    if version == 1 or layer == 0 or kbps in (0, 15) or rate == 3:
        return None
    is_first = version == _VERSION_1
    bits_per_second = 1000 * _KBPS[is_first, layer][kbps - 1]
    rate_hz = _RATES_HZ[rate] >> _RATE_SHIFT[version]
    if layer == _LAYER_1:
        num_samples, num_bytes = 384, (12 * bits_per_second // rate_hz + padding) * 4
    else:
        num_samples = 1152 if is_first or layer == _LAYER_2 else 576
        num_bytes = num_samples // 8 * bits_per_second // rate_hz + padding
    side_bytes = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return FrameHeader((version, layer, rate, is_mono), num_bytes, num_samples, side_bytes)


class SideInfo(NamedTuple):
    """Where the sound of a frame of layer III is.

    Attributes:
        start, stop: of the side information itself, positions in the file.
        earlier_bytes: of the frames before, with which the sound begins.
        own_bytes: behind the side information.
        sound_bits: that the sound takes.
    """

    start: int
    stop: int
    earlier_bytes: int
    own_bytes: int
    sound_bits: int


def side_info(data: bytes, position: int, header: FrameHeader) -> SideInfo:
    """The side information of a frame of layer III that begins at a position."""
    version, _, _, is_mono = header.kind
    channels = 1 if is_mono else 2
    if version == _VERSION_1:
        earlier_bits, skipped_bits, parts, part_bits = 9, (5 if is_mono else 3) + 4 * channels, 2 * channels, 59
    else:
        earlier_bits, skipped_bits, parts, part_bits = 8, channels, channels, 63
    start = position + HEADER_BYTES + (0 if data[position + 1] & 1 else 2)
    stop = start + header.side_bytes
    bits = int.from_bytes(data[start:stop])
    left_bits = 8 * header.side_bytes - earlier_bits
    earlier_bytes = bits >> left_bits
    left_bits -= skipped_bits
    # Each part begins with the number of its bits.
    sound_bits = sum(bits >> (left_bits - number * part_bits - 12) & 0xFFF for number in range(parts))
    return SideInfo(start, stop, earlier_bytes, position + header.num_bytes - stop, sound_bits)


def info_frame(first: bytes, num_frames: int) -> bytes:
    """A frame of layer III that holds no sound but tells how many frames follow (Xing's tag).

    Args:
        first: header of the stream's first frame.
        num_frames: that follow.
    """
    (word,) = struct.unpack(">I", first)
    tag = b"Info" + struct.pack(">II", 1, num_frames)
    for kbps in range(1, 15):
        # No checksum, no padding, and the first bit rate whose frames have room for the tag.
        word = (word | 1 << 16) & ~(15 << 12) & ~(1 << 9) | kbps << 12
        header = header_at(struct.pack(">I", word), 0)
        if header.num_bytes >= HEADER_BYTES + header.side_bytes + len(tag):
            break
    frame = struct.pack(">I", word) + bytes(header.side_bytes) + tag
    return frame + bytes(header.num_bytes - len(frame))
