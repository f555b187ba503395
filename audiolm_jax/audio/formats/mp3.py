"""Frames of MP3, counted one by one.

MP3 has no header of its own. The decoder guesses its length from the first frame and the size of the file, or believes
the tag that some encoders put in front (Xing's). Both are wrong for many files: a variable bit rate without the tag,
files put together, tags of other programs in between. So the frames are counted here, and the decoder gets them alone,
behind a tag that is right.
"""

import re
import struct
from dataclasses import dataclass, field

from audiolm_jax.audio.contents import Contents, cut_short, damaged
from audiolm_jax.audio.formats.mpeg_frame import (
    HEADER_BYTES,
    LAYER_3,
    FrameHeader,
    SideInfo,
    header_at,
    info_frame,
    side_info,
)
from audiolm_jax.audio.formats.tags import id3v2_bytes
from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError

_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_NOT_ZERO = re.compile(rb"[^\x00]")
# How far into a file, after tags and zeros, the first frame may be, and how many alike make sure that it is one.
_MOST_FOREIGN_BYTES = 2**16
_ZEROS_BYTES = 2**20
_SURE_FRAMES = 3
_INFO_TAGS = (b"Xing", b"Info")


@dataclass(frozen=True)
class _Info:
    """What the tag in the first frame says; None for what it does not.

    Attributes:
        num_frames: that follow it.
        num_bytes: from the beginning of its frame to the end of the last one.
    """

    num_frames: int | None
    num_bytes: int | None


@dataclass
class _Frames:
    """The frames of a file.

    Attributes:
        first: header of the first that holds sound.
        runs: [start, stop) in bytes of frames that follow each other directly.
        count: frames with sound.
        info: of the frame before them; None if there is none.
        info_start: position of that frame.
        silenced: [start, stop) in bytes of the side information of frames whose sound is lost.
    """

    first: FrameHeader
    runs: list[list[int]]
    count: int = 0
    info: _Info | None = None
    info_start: int = 0
    silenced: list[tuple[int, int]] = field(default_factory=list)


def read_mp3(source: Source) -> Contents | None:
    """The frames of a file behind a right count of them; None if it holds no MPEG audio.

    A last frame that is not whole is left out, unless the encoder's tag says that more should be there. Frames at the
    beginning of a piece of a longer stream are silent where their sound began before it.

    Raises UserError if the file ends before that tag says, if something that is no frame stands between frames, if a
    frame is longer than its bytes, or if the rate or the number of channels changes on the way.
    """
    first = _first_frame(source)
    if first is None:
        return None
    data = source.read_at(0, source.size)
    # Now that all of the file is here, what looked like frames must go on.
    start = _next_run(data, first, first + _MOST_FOREIGN_BYTES)
    if start is None:
        return None
    frames = _count(source, data, start)
    if frames.info is not None:
        if (frames.info.num_bytes or 0) > len(data) - frames.info_start or not frames.count:
            raise cut_short(source)
        # Some encoders count the frame of the tag too.
        if (frames.info.num_frames or 0) > frames.count + 1:
            raise cut_short(source)
        if frames.info.num_frames == frames.count:
            # Right, and it may tell too how much of the first and the last frame is no sound.
            frames.runs.insert(0, [frames.info_start, frames.info_start + _num_bytes(data, frames.info_start)])
            return Contents(Source(source.path, _joined(data, frames)))
    if frames.first.layer == LAYER_3:
        header = data[frames.runs[0][0] : frames.runs[0][0] + HEADER_BYTES]
        return Contents(Source(source.path, info_frame(header, frames.count) + _joined(data, frames)))
    # Layers I and II have no such tag. The decoder takes all frames to be as long as the first, and stops there, so it
    # is given zeros for what it would miss.
    joined = _joined(data, frames)
    missing = max(0, (frames.count + 1) * frames.first.num_bytes - len(joined))
    return Contents(
        Source(source.path, joined + bytes(missing)), num_samples=frames.count * frames.first.num_samples
    )


def _count(source: Source, data: bytes, start: int) -> _Frames:
    """Walks over the frames from the first one on."""
    position, kind = start, header_at(data, start).kind
    frames = _Frames(header_at(data, start), [])
    earlier_bytes = 0
    while True:
        header = header_at(data, position)
        stop = position + header.num_bytes if header is not None else position
        if header is not None and header.kind == kind and stop <= len(data):
            info = _info(data, position, header)
            if info is not None:
                # Only the first is about this file; others come with files that were put together.
                if position == start:
                    frames.info, frames.info_start = info, position
            else:
                if header.layer == LAYER_3:
                    earlier_bytes = _check_sound(source, frames, side_info(data, position, header), earlier_bytes)
                if frames.runs and frames.runs[-1][1] == position:
                    frames.runs[-1][1] = stop
                else:
                    frames.runs.append([position, stop])
                    frames.first = header if not frames.count else frames.first
                frames.count += 1
            position = stop
        elif (tag_bytes := _tag_bytes(data, position)) and position + tag_bytes <= len(data):
            position += tag_bytes
        else:
            break
    _refuse_more(source, data, position, kind)
    return frames


def _check_sound(source: Source, frames: _Frames, side: SideInfo, earlier_bytes: int) -> int:
    """Looks whether the bytes of a frame's sound are there, of which `earlier_bytes` may be in the frames before.

    Where they are not, the decoder would go on with what happens to stand in its memory, each time with something else.

    Returns:
        Bytes in which the sound of the next frame may begin.
    """
    if side.earlier_bytes > earlier_bytes:
        # Cut out of a longer stream: the beginning of its sound is lost.
        frames.silenced.append((side.start, side.stop))
    elif side.sound_bits > 8 * (side.earlier_bytes + side.own_bytes):
        raise damaged(source, f"the sound of the MP3 frame before byte {side.stop} is longer than its bytes")
    return earlier_bytes + max(side.own_bytes, 0)


def _refuse_more(source: Source, data: bytes, position: int, kind: tuple) -> None:
    """Raises UserError if more frames follow something that is no frame."""
    header = header_at(data, position)
    is_changed = header is not None and header.kind != kind and _is_run(data, position)
    following = position if is_changed else _next_run(data, position + 1, len(data))
    if following is None:
        return
    if header_at(data, following).kind != kind:
        raise UserError(f"{source.path} changes its rate or channels on the way; convert it to WAV or FLAC")
    raise damaged(source, f"{following - position} bytes between its MP3 frames are none")


def _first_frame(source: Source) -> int | None:
    """Position of what looks like frames after zeros and foreign bytes; no more of the file is read than these."""
    position = 0
    while not (block := source.read_at(position, _ZEROS_BYTES)).strip(b"\x00"):
        if not block:
            return None
        position += len(block)
    position += _NOT_ZERO.search(block).start()
    found = _next_run(source.read_at(position, 2 * _MOST_FOREIGN_BYTES), 0, _MOST_FOREIGN_BYTES)
    return None if found is None else position + found


def _next_run(data: bytes, begin: int, stop: int) -> int | None:
    """Position in [begin, stop) where frames follow each other."""
    for found in _SYNC.finditer(data, begin, min(stop + 1, len(data))):
        if _is_run(data, found.start()):
            return found.start()
    return None


def _is_run(data: bytes, position: int) -> bool:
    """Whether several frames of one kind begin here, or a single one that ends with the file."""
    kind = None
    for number in range(_SURE_FRAMES):
        header = header_at(data, position)
        if header is None or kind not in (None, header.kind):
            return number > 0 and _tag_bytes(data, position) > 0
        kind = header.kind
        position += header.num_bytes
        if position >= len(data):
            return position == len(data) or number > 0
    return True


def _tag_bytes(data: bytes, position: int) -> int:
    """Length of the tag that begins here: ID3v2, APE or ID3v1; 0 if none does."""
    head = data[position : position + 32]
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack_from("<III", head, 12)
        # Its size leaves out the header; a header says so of itself in bit 29.
        return 32 + size if flags & 1 << 29 else 32
    return 128 if head[:3] == b"TAG" else id3v2_bytes(head[:10])


def _info(data: bytes, position: int, header: FrameHeader) -> _Info | None:
    """The encoder's tag if this frame holds one."""
    if header.layer != LAYER_3:
        return None
    at = position + HEADER_BYTES + header.side_bytes
    at = next((place for place in (at, at + 2) if data[place : place + 4] in _INFO_TAGS), None)
    if at is None or at + 16 > position + header.num_bytes:
        return None
    flags, first, second = struct.unpack_from(">III", data, at + 4)
    has_frames, has_bytes = flags & 1, flags & 2
    return _Info(first if has_frames else None, (second if has_frames else first) if has_bytes else None)


def _num_bytes(data: bytes, position: int) -> int:
    return header_at(data, position).num_bytes


def _joined(data: bytes, frames: _Frames) -> bytes:
    """The frames one after the other; one whose sound is lost says that it has none. Others may draw on its bytes."""
    if frames.silenced:
        changed = bytearray(data)
        for start, stop in frames.silenced:
            changed[start:stop] = bytes(stop - start)
        data = bytes(changed)
    return b"".join(data[start:stop] for start, stop in frames.runs)
