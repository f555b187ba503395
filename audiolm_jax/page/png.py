"""Pictures from arrays without a plotting library: colour maps and a PNG encoder."""

import struct
import zlib

import numpy as np

# Colours at equal steps from the lowest to the highest value, as RGB.
INK = ((252, 252, 250), (190, 219, 226), (94, 158, 194), (38, 88, 150), (10, 22, 66))
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def colour(values: np.ndarray, palette=INK) -> np.ndarray:
    """Values in [0, 1] of shape [...] -> RGB uint8[..., 3], linear between the palette's colours."""
    steps = np.linspace(0.0, 1.0, len(palette))
    channels = [np.interp(values, steps, [rgb[channel] for rgb in palette]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """RGB uint8[height, width, 3] -> the bytes of a PNG file. Raises ValueError for another shape or type."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"a picture is uint8[height, width, 3], not {pixels.dtype}{list(pixels.shape)}")
    height, width, _ = pixels.shape
    # Every row starts with the number of its filter; 0 is none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
