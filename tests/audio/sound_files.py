"""Sound files as other programs write them, in bytes; what they hold is known."""

import io
import struct

import numpy as np
import soundfile

from audiolm_jax.audio.formats.mpeg_frame import header_at
from audiolm_jax.audio.formats.tags import id3v2_bytes


def tone(seconds: float = 1.0, rate_hz: int = 16_000, hz: float = 440.0) -> np.ndarray:
    """float32[T] of peak 0.5."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def file_bytes(samples: np.ndarray, rate_hz: int = 16_000, container: str = "WAV", **more) -> bytes:
    """A file of [T] or [T, C], by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, **more)
    return file.getvalue()


def with_number(data: bytes, at: int, number: int, form: str = "<I") -> bytes:
    """The bytes with a number at a position."""
    written = struct.pack(form, number)
    return data[:at] + written + data[at + len(written) :]


def with_flac_length(flac: bytes, num_samples: int) -> bytes:
    """A FLAC file that announces another number of samples; 0 as from a pipe."""
    high, low = num_samples >> 32, num_samples & 2**32 - 1
    return flac[:21] + bytes([flac[21] & 0xF0 | high]) + struct.pack(">I", low) + flac[26:]


def with_ogg_checksum(page: bytes) -> bytes:
    """An OGG page with the checksum that it should have."""
    checksum = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (0x104C11DB7 if checksum & 0x80000000 else 0)
    return page[:22] + struct.pack("<I", checksum) + page[26:]


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an OGG file."""
    pages = []
    while data:
        segments = data[27 : 27 + data[26]]
        size = 27 + len(segments) + sum(segments)
        pages.append(data[:size])
        data = data[size:]
    return pages


def variable_mp3(seconds: float = 8.0, rate_hz: int = 44_100, channels: int = 1) -> bytes:
    """MP3 of variable bit rate with its encoder's tag in front; near silence first, in short frames."""
    rng = np.random.default_rng(0)
    samples = tone(seconds, rate_hz) * 0.5 + rng.normal(0, 0.1, round(seconds * rate_hz)).astype(np.float32)
    samples[: len(samples) // 4] *= 1e-3
    samples = samples if channels == 1 else np.stack([samples] * channels, axis=1)
    return file_bytes(samples, rate_hz, "MP3", bitrate_mode="VARIABLE", compression_level=0.3)


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of an MP3 file, the one with the encoder's tag first."""
    data = data[id3v2_bytes(data[:10]) :]
    frames = []
    while data and (header := header_at(data, 0)) is not None:
        frames.append(data[: header.num_bytes])
        data = data[header.num_bytes :]
    return frames
