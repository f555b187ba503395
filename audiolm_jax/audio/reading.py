"""Sound in from files."""

import os
from collections.abc import Sequence

import numpy as np

from audiolm_jax.audio.formats.decoder import Decoder
from audiolm_jax.audio.mixdown import Mixdown, find_mixdown
from audiolm_jax.audio.resampling import resample
from audiolm_jax.audio.sound import Sound, read_sound
from audiolm_jax.audio.source import Source, open_source
from audiolm_jax.audio.waveform import Waveform, checked_rate
from audiolm_jax.errors import UserError

# By name, size and time of a file.
_mixdowns: dict[tuple[str, int, int], Mixdown] = {}
_MOST_MIXDOWNS = 2**17


def read_audio(path, sample_rate_hz: int | None = None) -> Waveform:
    """Reads WAV, FLAC, OGG (Vorbis, Opus) or MP3 of any rate and channel count as a mono Waveform.

    AIFF, AU, CAF, Wave64 and NIST SPHERE are read too. The format is told from the content, not from the name. A string
    may name an object in a bucket (gs://, s3://). Channels are averaged, unless they cancel each other: then one is
    taken alone, with a warning. With `sample_rate_hz` the result is resampled to it; without, it keeps the file's rate.

    Raises UserError, in one line that names the file, if it is missing, a folder, empty, not audio, cut short, damaged,
    or holds no samples, NaN or numbers of a scale that cannot be told.
    """
    if sample_rate_hz is not None:
        sample_rate_hz = checked_rate(sample_rate_hz)
    with open_source(path) as source:
        waveform = _decoded(source)
    return waveform if sample_rate_hz is None else resample(waveform, sample_rate_hz)


def decode_audio(path, data: bytes) -> Waveform:
    """The sound in the bytes of a file, at the file's own rate; `path` is for the errors, which are `read_audio`'s."""
    if not data:
        raise UserError(f"{path} is empty (0 bytes); give an audio file")
    return _decoded(Source(path, bytes(data)))


def read_header(path) -> tuple[int, int]:
    """Number of samples and rate in Hz of a file: those of `read_audio`, without decoding it where headers tell them.

    The frames of MP3 and the pages of OGG are counted, and FLAC whose length was not known when it was written is
    decoded.

    Raises UserError, in one line that names the file, where `read_audio` does, but for damage that only shows when the
    samples are decoded.
    """
    with open_source(path) as source:
        sound = read_sound(source)
    return sound.num_samples, sound.sample_rate_hz


def read_ranges(path, ranges: Sequence[tuple[int, int]], sample_rate_hz: int | None = None) -> Waveform:
    """Reads parts of a file and nothing else of it, one after the other as one mono Waveform.

    A part of an hour of FLAC is found by seeking, so a minute costs a minute. Samples are those of `read_audio`; with
    `sample_rate_hz` the joined parts are resampled to it.

    Args:
        path: of a file in a format that `read_audio` reads.
        ranges: [start, stop) each, in samples at the file's own rate; empty: the whole file, by `read_audio`.
        sample_rate_hz: wanted rate; None: the file's.

    Raises UserError, in one line that names the file, if it cannot be read or ends before a range does.
    """
    if not ranges:
        return read_audio(path, sample_rate_hz)
    if sample_rate_hz is not None:
        sample_rate_hz = checked_rate(sample_rate_hz)
    with open_source(path) as source:
        sound = read_sound(source)
        mixdown = _file_mixdown(sound, path)
        with sound.opened() as decoder:
            parts = [_read_range(sound, decoder, mixdown, start, stop) for start, stop in ranges]
    waveform = Waveform(np.concatenate(parts), sound.sample_rate_hz)
    return waveform if sample_rate_hz is None else resample(waveform, sample_rate_hz)


def _decoded(source: Source) -> Waveform:
    sound = read_sound(source)
    mixdown = find_mixdown(sound)
    with sound.opened() as decoder:
        return Waveform(_samples(sound, decoder, mixdown, 0, sound.num_samples), sound.sample_rate_hz)


def _samples(sound: Sound, decoder: Decoder, mixdown: Mixdown, start: int, stop: int) -> np.ndarray:
    """float32[stop - start]; memory that a damaged file announces and does not fill is never touched."""
    samples = np.empty(stop - start, np.float32)
    position = 0
    for block in sound.blocks(decoder, start, stop):
        samples[position : position + len(block)] = mixdown.applied(sound, block)
        position += len(block)
    return samples


def _read_range(sound: Sound, decoder: Decoder, mixdown: Mixdown, start: int, stop: int) -> np.ndarray:
    """float32[stop - start] of a file."""
    if not 0 <= start < stop <= sound.num_samples:
        has = f"{sound.source.path} has {sound.num_samples} samples"
        raise UserError(f"{has}, none from {start} to {stop}: it was changed; start again")
    return _samples(sound, decoder, mixdown, start, stop)


def _file_mixdown(sound: Sound, path) -> Mixdown:
    """As `find_mixdown`, once for all the parts that are read of a file as long as it stays the same."""
    if sound.num_channels == 1 and not sound.is_float:
        return Mixdown()
    try:
        status = os.stat(path)
    except OSError:
        return find_mixdown(sound)
    state = (os.fspath(path), status.st_size, status.st_mtime_ns)
    mixdown = _mixdowns.get(state)
    if mixdown is None:
        mixdown = find_mixdown(sound)
        if len(_mixdowns) >= _MOST_MIXDOWNS:
            _mixdowns.clear()
        _mixdowns[state] = mixdown
    return mixdown
