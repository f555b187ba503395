"""Sound as samples that carry their rate: reading, resampling and writing."""

import io
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiolm_jax.audio.folder import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from audiolm_jax.audio.folder import audio_files as audio_files
from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file

PEAK_LIMIT = 0.99

_CONTAINER_OF_SUFFIX = {".wav": "WAV", ".flac": "FLAC"}
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1_000, 768_000
# Sizes that programs write into a WAV header when they stream and cannot go back to fill in the real one.
_STREAMED_WAV_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Waveform:
    """Mono sound: `samples` float32[T], nominally within [-1, 1], at `sample_rate_hz`.

    Raises ValueError for samples of another rank and for a rate that is not a positive whole number, so that a
    mistaken shape or rate fails where it is made and not where it is heard.
    """

    samples: np.ndarray
    sample_rate_hz: int

    def __post_init__(self):
        samples = np.asarray(self.samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"a Waveform holds mono samples [T]; got an array of shape {samples.shape}")
        if int(self.sample_rate_hz) != self.sample_rate_hz or self.sample_rate_hz <= 0:
            raise ValueError(f"sample_rate_hz must be a positive whole number; got {self.sample_rate_hz!r}")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate_hz", int(self.sample_rate_hz))

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate_hz


def read_audio(path, sample_rate_hz: int | None = None) -> Waveform:
    """Reads WAV, FLAC, OGG (Vorbis, Opus) or MP3 of any rate and channel count as a mono Waveform.

    The format is told from the content, not from the name. Channels are averaged. With `sample_rate_hz` the result
    is resampled to it; without, it keeps the file's rate.

    Raises UserError, in one line that names the file, if it is missing, a folder, empty, not audio, cut short, or
    holds no samples or NaN.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name one audio file")
    if not path.exists():
        raise UserError(f"{path} does not exist")
    waveform = decode_audio(path, path.read_bytes())
    return waveform if sample_rate_hz is None else resample(waveform, sample_rate_hz)


def decode_audio(path, data: bytes) -> Waveform:
    """The sound in the bytes of a file, at the file's own rate; `path` is for the errors, which are `read_audio`'s."""
    if not data:
        raise UserError(f"{path} is empty (0 bytes); give an audio file")
    if _is_cut_short(data):
        raise UserError(f"{path} is cut short: it ends before the audio its header announces; copy the file again")
    samples, rate_hz = _decode(path, data)
    if not samples.size:
        raise UserError(f"{path} holds no audio samples; give a longer file")
    if not np.isfinite(samples).all():
        raise UserError(f"{path} holds samples that are not numbers (NaN or infinity); export it again")
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise UserError(f"{path} says its rate is {rate_hz} Hz; rates from 1 to 768 kHz are supported")
    return Waveform(samples.mean(axis=1, dtype=np.float32), rate_hz)


def read_header(path) -> tuple[int, int]:
    """Number of samples and rate in Hz of a file, from its header alone.

    Raises UserError, in one line that names the file, if it is no audio, is empty, or is a WAV that ends before its
    header says. What else is wrong with it shows when it is read.
    """
    import soundfile

    path = Path(path)
    try:
        header = soundfile.info(str(path))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            is_cut_short = header.format == "WAV" and _wav_is_cut_short(data)
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise UserError(f"{path} is not audio that can be read; copy it again") from error
    if is_cut_short:
        raise UserError(f"{path} is cut short: it ends before the audio its header announces; copy the file again")
    if not header.frames:
        raise UserError(f"{path} holds no audio samples; copy it again")
    return header.frames, header.samplerate


def read_ranges(path, ranges: Sequence[tuple[int, int]], sample_rate_hz: int | None = None) -> Waveform:
    """Reads parts of a file and nothing else of it, one after the other as one mono Waveform.

    A part of an hour of FLAC is found by seeking, so a minute costs a minute. Channels are averaged; with
    `sample_rate_hz` the joined parts are resampled to it.

    Args:
        path: of a file in a format that `read_audio` reads.
        ranges: [start, stop) each, in samples at the file's own rate; empty: the whole file, by `read_audio`.
        sample_rate_hz: wanted rate; None: the file's.

    Raises UserError, in one line that names the file, if it cannot be read or ends before a range does.
    """
    if not ranges:
        return read_audio(path, sample_rate_hz)
    import soundfile

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz = file.samplerate
            parts = [_read_range(path, file, start, stop) for start, stop in ranges]
    except (soundfile.LibsndfileError, ValueError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read ({error}); copy the file again") from error
    samples = np.concatenate(parts)
    if not np.isfinite(samples).all():
        raise UserError(f"{path} holds samples that are not numbers (NaN or infinity); export it again")
    waveform = Waveform(samples, rate_hz)
    return waveform if sample_rate_hz is None else resample(waveform, sample_rate_hz)


def _read_range(path: Path, file, start: int, stop: int) -> np.ndarray:
    """float32[stop - start] of an open soundfile.SoundFile."""
    if not 0 <= start < stop <= file.frames:
        raise UserError(f"{path} has {file.frames} samples, none from {start} to {stop}: it was changed; start again")
    file.seek(start)
    samples = file.read(stop - start, dtype="float32", always_2d=True)
    if len(samples) < stop - start:
        raise UserError(f"{path} is cut short or damaged: nothing can be read after sample {start + len(samples)}")
    return samples.mean(axis=1, dtype=np.float32)


def write_audio(path, waveform: Waveform, copyright_notice: str = "") -> None:
    """Writes 16-bit WAV or FLAC, chosen by the suffix, under a temporary name that is then renamed.

    Samples beyond PEAK_LIMIT would wrap or clip, so a louder waveform is scaled down as a whole to that peak.
    The notice, for example the licence of the weights that made the sound, is stored in the file.

    Raises UserError for another suffix and for samples that are not finite, OSError where the disk refuses.
    """
    container = _CONTAINER_OF_SUFFIX[check_output_suffix(path).suffix.lower()]
    replace_file(path, encode_audio(waveform, container, copyright_notice))


def check_output_suffix(path) -> Path:
    """The path, if sound can be written under its suffix; raises UserError otherwise."""
    path = Path(path)
    if path.suffix.lower() not in _CONTAINER_OF_SUFFIX:
        raise UserError(f"cannot write {path}: name the output .wav or .flac")
    return path


def encode_audio(waveform: Waveform, container: str = "WAV", copyright_notice: str = "") -> bytes:
    """The bytes of a 16-bit file ("WAV" or "FLAC") with the peak limited to PEAK_LIMIT."""
    import soundfile

    buffer = io.BytesIO()
    samples = limit_peak(waveform.samples)
    shape = {"samplerate": waveform.sample_rate_hz, "channels": 1}
    with soundfile.SoundFile(buffer, "w", format=container, subtype="PCM_16", **shape) as file:
        if copyright_notice:
            file.copyright = copyright_notice
        file.write(samples)
    return buffer.getvalue()


def limit_peak(samples: np.ndarray) -> np.ndarray:
    """float32[T] scaled down as a whole so that no sample exceeds PEAK_LIMIT; quieter samples are left alone."""
    if not np.isfinite(samples).all():
        raise UserError("the samples to write are not all numbers (NaN or infinity)")
    peak = float(np.max(np.abs(samples), initial=0.0))
    return samples * np.float32(PEAK_LIMIT / peak) if peak > PEAK_LIMIT else samples


def resample(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """The same sound at another rate (soxr, high quality): ceil(T * new / old) samples."""
    if waveform.sample_rate_hz == sample_rate_hz:
        return waveform
    import soxr

    samples = soxr.resample(waveform.samples, waveform.sample_rate_hz, sample_rate_hz, quality="HQ")
    # soxr rounds the length; a fixed rule keeps token counts a function of the input's length alone.
    num_samples = -(-len(waveform.samples) * sample_rate_hz // waveform.sample_rate_hz)
    samples = np.pad(samples[:num_samples], (0, max(0, num_samples - len(samples))))
    return Waveform(samples, sample_rate_hz)


def cut(waveform: Waveform, seconds: float | None) -> Waveform:
    """The first `seconds` of a waveform, all of it for None or where it is shorter."""
    if seconds is None:
        return waveform
    return Waveform(waveform.samples[: round(seconds * waveform.sample_rate_hz)], waveform.sample_rate_hz)


def _decode(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    """float32[T, channels] and the rate in Hz, by libsndfile."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples = file.read(dtype="float32", always_2d=True)
            announced, container = file.frames, file.format
            rate_hz = file.samplerate
    except (soundfile.LibsndfileError, ValueError) as error:
        if data[:4] == b"fLaC" and "lost sync" in str(error):
            raise UserError(f"{path} is cut short or damaged: its FLAC data stops in the middle") from error
        raise UserError(f"{path} is not audio that can be read; give WAV, FLAC, OGG, Opus or MP3") from error
    if container == "FLAC" and len(samples) < announced:
        raise UserError(f"{path} is cut short: {len(samples)} of {announced} samples are there; copy the file again")
    return samples, rate_hz


def _is_cut_short(data: bytes) -> bool:
    """Whether a WAV, OGG or MP3 ends before its own headers say.

    libsndfile reads the remains of such files without a word; a training corpus or a prompt should not.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav_is_cut_short(data)
    if data[:4] == b"OggS":
        return _ogg_is_cut_short(data)
    return _mp3_is_cut_short(data)


def _wav_is_cut_short(data: bytes | mmap.mmap) -> bool:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            return size not in _STREAMED_WAV_SIZES and position + size > len(data)
        position += size + size % 2
    return True


def _ogg_is_cut_short(data: bytes) -> bool:
    position = data.rfind(b"OggS")
    if position + 27 > len(data):
        return True
    num_segments = data[position + 26]
    segments = data[position + 27 : position + 27 + num_segments]
    return position + 27 + num_segments + sum(segments) > len(data)


def _mp3_is_cut_short(data: bytes) -> bool:
    """Only files with a Xing or Info header tell their length; others are read as far as they go."""
    start = 0
    if data[:3] == b"ID3" and len(data) > 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    if data[start : start + 1] != b"\xff":
        return False
    positions = [data.find(tag, start, start + 200) for tag in (b"Xing", b"Info")]
    tag = max(positions)
    if tag < 0 or tag + 16 > len(data):
        return False
    flags = struct.unpack_from(">I", data, tag + 4)[0]
    has_frames, has_bytes = flags & 1, flags & 2
    if not has_bytes:
        return False
    return start + struct.unpack_from(">I", data, tag + (12 if has_frames else 8))[0] > len(data)
