"""Small sound files of every container and encoding that is read, made here; the fuzz damages them."""

import functools
import io

import numpy as np
import soundfile

from audiolm_jax.audio.formats.mpeg_frame import header_at

# (container, encoding, byte order, rate in Hz, channels)
_KINDS = (
    ("WAV", "PCM_U8", "FILE", 8_000, 1),
    ("WAV", "PCM_16", "FILE", 16_000, 1),
    ("WAV", "PCM_16", "FILE", 44_100, 2),
    ("WAV", "PCM_24", "FILE", 16_000, 2),
    ("WAV", "PCM_32", "FILE", 16_000, 1),
    ("WAV", "FLOAT", "FILE", 16_000, 2),
    ("WAV", "DOUBLE", "FILE", 16_000, 1),
    ("WAV", "ULAW", "FILE", 8_000, 1),
    ("WAV", "IMA_ADPCM", "FILE", 16_000, 1),
    ("WAV", "MS_ADPCM", "FILE", 16_000, 2),
    ("WAV", "GSM610", "FILE", 8_000, 1),
    ("WAV", "G721_32", "FILE", 8_000, 1),
    ("WAV", "PCM_16", "BIG", 16_000, 1),
    ("WAVEX", "PCM_16", "FILE", 16_000, 2),
    ("RF64", "PCM_16", "FILE", 16_000, 1),
    ("W64", "PCM_16", "FILE", 16_000, 1),
    ("W64", "FLOAT", "FILE", 16_000, 2),
    ("AIFF", "PCM_16", "FILE", 16_000, 1),
    ("AIFF", "IMA_ADPCM", "FILE", 16_000, 1),
    ("CAF", "PCM_16", "FILE", 16_000, 2),
    ("CAF", "ALAC_16", "FILE", 16_000, 1),
    ("AU", "PCM_16", "FILE", 16_000, 1),
    ("AU", "PCM_16", "LITTLE", 16_000, 1),
    ("NIST", "PCM_16", "FILE", 16_000, 1),
    ("FLAC", "PCM_16", "FILE", 16_000, 1),
    ("FLAC", "PCM_24", "FILE", 44_100, 2),
    ("OGG", "VORBIS", "FILE", 16_000, 1),
    ("OGG", "VORBIS", "FILE", 44_100, 2),
    ("OGG", "OPUS", "FILE", 16_000, 1),
    ("OGG", "OPUS", "FILE", 48_000, 2),
    ("MP3", "MPEG_LAYER_III", "FILE", 8_000, 1),
    ("MP3", "MPEG_LAYER_III", "FILE", 22_050, 1),
    ("MP3", "MPEG_LAYER_III", "FILE", 44_100, 2),
)


@functools.cache
def sound_seeds() -> dict[str, bytes]:
    """Whole files of about a tenth of a second, by a name for each."""
    seeds = {"/".join(map(str, kind)): _file(*kind) for kind in _KINDS}
    seeds["WAV/pipe"] = with_size(seeds["WAV/PCM_16/FILE/16000/1"], 0x7FFFF000)
    seeds["FLAC/pipe"] = without_length(seeds["FLAC/PCM_16/FILE/16000/1"])
    seeds["MP3/no tag"] = without_first_frame(seeds["MP3/MPEG_LAYER_III/FILE/44100/2"])
    return seeds


def with_size(wav: bytes, size: int) -> bytes:
    """A WAV file whose chunk of samples announces `size` bytes."""
    at = wav.index(b"data") + 4
    return wav[:at] + size.to_bytes(4, "little") + wav[at + 4 :]


def without_length(flac: bytes) -> bytes:
    """A FLAC file that does not say how many samples it has."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def without_first_frame(mp3: bytes) -> bytes:
    """An MP3 file without the frame in which its encoder tells its length."""
    return mp3[header_at(mp3, 0).num_bytes :]


def _file(container: str, encoding: str, byte_order: str, rate_hz: int, channels: int) -> bytes:
    rng = np.random.default_rng(rate_hz + channels)
    times = np.arange(rate_hz // 8) / rate_hz
    tones = [0.4 * np.sin(2 * np.pi * (200 + 150 * channel) * times) for channel in range(channels)]
    samples = np.stack(tones, axis=1) + rng.normal(0, 0.01, (len(times), channels))
    file = io.BytesIO()
    more = {"bitrate_mode": "VARIABLE", "compression_level": 0.5} if container == "MP3" and rate_hz > 8_000 else {}
    soundfile.write(file, samples, rate_hz, format=container, subtype=encoding, endian=byte_order, **more)
    return file.getvalue()
