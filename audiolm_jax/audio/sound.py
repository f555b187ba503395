"""A file of sound, recognised by its content and decoded in blocks."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from audiolm_jax.audio.contents import Contents, no_samples
from audiolm_jax.audio.formats import flac, pcm_files
from audiolm_jax.audio.formats.decoder import Decoder, opened
from audiolm_jax.audio.formats.mp3 import read_mp3
from audiolm_jax.audio.formats.ogg import read_ogg
from audiolm_jax.audio.formats.tags import without_tags
from audiolm_jax.audio.formats.wav import read_wav
from audiolm_jax.audio.resampling import HIGHEST_RATE_HZ
from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError

LOWEST_RATE_HZ = 1_000
# Speech codecs at their lowest rates hold some dozens of samples in a byte; damaged headers announce millions. A small
# file may be silence altogether, of which a byte of FLAC holds hundreds.
_MOST_SAMPLES_PER_BYTE, _MOST_SAMPLES_OF_SMALL = 96, 2**26
# Of ADPCM and GSM 6.10, in samples.
_LONGEST_CODED_BLOCK = 2**16
_BLOCK_VALUES, _MP3_BLOCK_VALUES = 2**17, 2**15
_INTEGERS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"}
# The decoder finds any sample of these at once; others are decoded from the beginning.
_SEEKABLE = _INTEGERS | {"FLOAT", "DOUBLE", "VORBIS", "OPUS"} | {f"MPEG_LAYER_{layer}" for layer in ("I", "II", "III")}
# Where decoding begins before the first wanted sample. A frame of MP3 draws on up to 511 bytes before it, which are 21
# frames of the shortest; Opus needs some packets to settle.
_MARGIN_SAMPLES = {"MP3": 32 * 1152, "OGG": 24_000}

# By the first bytes of a file: a name for errors, and who reads its headers.
_READERS = {
    b"RIFF": ("WAV", read_wav),
    b"RIFX": ("WAV", read_wav),
    b"RF64": ("WAV", read_wav),
    b"FORM": ("AIFF", pcm_files.read_aiff),
    b"riff": ("Wave64", pcm_files.read_wave64),
    b"caff": ("CAF", pcm_files.read_caf),
    b".snd": ("AU", pcm_files.read_au),
    b"dns.": ("AU", pcm_files.read_au),
    b"NIST": ("SPHERE", pcm_files.read_nist),
    b"fLaC": ("FLAC", flac.read_flac),
    b"OggS": ("OGG", read_ogg),
}
# Of containers that hold other things too.
_FORMS = {b"RIFF": (b"WAVE", b""), b"RIFX": (b"WAVE", b""), b"RF64": (b"WAVE", b""), b"FORM": (b"AIFF", b"AIFC", b"")}
_CONTAINERS = {"WAV", "WAVEX", "RF64", "AIFF", "W64", "CAF", "AU", "NIST", "FLAC", "OGG", "MP3"}


@dataclasses.dataclass(frozen=True)
class Sound:
    """What is known of a file before its samples are decoded.

    Attributes:
        source: what the decoder reads.
        num_samples: of each channel; the decoder gives exactly these, or the file is damaged.
        num_channels: of the file.
        sample_rate_hz: of the file.
        container, encoding: libsndfile's names, such as "FLAC" and "PCM_16".
    """

    source: Source
    num_samples: int
    num_channels: int
    sample_rate_hz: int
    container: str
    encoding: str

    @property
    def is_float(self) -> bool:
        """Whether the file holds numbers that may have any scale."""
        return self.encoding in ("FLOAT", "DOUBLE")

    @property
    def is_bounded(self) -> bool:
        """Whether its samples cannot leave [-1, 1]."""
        return self.encoding in _INTEGERS

    def opened(self) -> contextlib.AbstractContextManager[Decoder]:
        """A decoder of the file, at its beginning."""
        return opened(self.source)

    def blocks(self, decoder: Decoder, start: int, stop: int) -> Iterator[np.ndarray]:
        """float32[n, C], one after the other, of the samples from `start` to `stop`.

        Args:
            decoder: of this file, at any sample; it is left at `stop`.

        Raises UserError, after the blocks before it, where nothing can be decoded any more.
        """
        begin = max(0, start - _MARGIN_SAMPLES.get(self.container, 0)) if self.encoding in _SEEKABLE else 0
        if not begin <= decoder.position <= start and not decoder.seek(begin):
            raise decoder.ended()
        most = max(1, (_MP3_BLOCK_VALUES if self.container == "MP3" else _BLOCK_VALUES) // self.num_channels)
        while decoder.position < stop:
            is_before = decoder.position < start
            block = decoder.read_block(min(most, (start if is_before else stop) - decoder.position))
            if not len(block):
                raise decoder.ended()
            if not is_before:
                yield block


def read_sound(source: Source) -> Sound:
    """Recognises a file and reads its headers.

    Raises UserError, in one line that names the file, if it is no sound that can be read, ends before its headers say,
    announces more than its bytes can hold, has no samples, or a rate beyond 1 to 768 kHz.
    """
    source = without_tags(source)
    contents = _contents(source)
    try:
        with opened(contents.source) as decoder:
            sound = _sound(contents, decoder)
    except UserError:
        raise
    except ValueError as error:
        raise _not_decoded(source) from error
    if sound.container not in _CONTAINERS:
        raise _not_decoded(source)
    if not LOWEST_RATE_HZ <= sound.sample_rate_hz <= HIGHEST_RATE_HZ:
        rate = f"{source.path} says its rate is {sound.sample_rate_hz} Hz"
        raise UserError(f"{rate}; rates from 1 to 768 kHz are supported")
    most = max(_MOST_SAMPLES_OF_SMALL, _MOST_SAMPLES_PER_BYTE * source.size)
    if sound.container == "FLAC" and not sound.num_samples:
        sound = _counted(sound, most)
    if sound.num_samples <= 0:
        raise no_samples(source)
    if sound.num_samples > most:
        raise UserError(
            f"{source.path} announces {sound.num_samples} samples in {source.size} bytes: it is damaged, or hours of "
            "silence; copy it again, or cut it into parts"
        )
    return sound


def _contents(source: Source) -> Contents:
    """What the headers say, by the first bytes; what begins with none of the known ones may be MP3."""
    magic, form = source.read_at(0, 4), source.read_at(8, 4)
    is_other = form not in _FORMS.get(magic, (form,))
    _, read = _READERS.get(magic, ("", read_mp3))
    contents = None if is_other else read(source)
    if contents is None:
        raise UserError(f"{source.path} is not audio that can be read; give WAV, FLAC, OGG, Opus or MP3")
    return contents


def _sound(contents: Contents, decoder: Decoder) -> Sound:
    num_samples = decoder.num_samples if contents.num_samples is None else contents.num_samples
    if contents.true_samples is not None and 0 <= num_samples - contents.true_samples < _LONGEST_CODED_BLOCK:
        num_samples = contents.true_samples
    return Sound(
        contents.source,
        num_samples,
        decoder.num_channels,
        decoder.sample_rate_hz,
        decoder.container,
        decoder.encoding,
    )


def _counted(sound: Sound, most: int) -> Sound:
    """A FLAC file whose writer did not know its length, with the length found by decoding it."""
    with sound.opened() as decoder:
        while decoder.position <= most and len(decoder.read_block(_BLOCK_VALUES // sound.num_channels)):
            pass
        if decoder.has_failed:
            raise decoder.ended()
        found = decoder.position
    return dataclasses.replace(sound, num_samples=found, source=flac.with_length(sound.source, found))


def _not_decoded(source: Source) -> UserError:
    name, _ = _READERS.get(source.read_at(0, 4), ("MP3", None))
    return UserError(
        f"{source.path} is not audio that can be read: {name} that is damaged or of an unsupported encoding; "
        "convert it to 16-bit WAV"
    )
