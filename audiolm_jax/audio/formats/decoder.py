"""libsndfile, read from one block to the next."""

import contextlib
from collections.abc import Iterator

import numpy as np
import soundfile

from audiolm_jax.audio.formats import decoder_messages
from audiolm_jax.audio.source import DecoderFile, Source
from audiolm_jax.errors import UserError, first_line

_ERRORS = (soundfile.SoundFileError, ValueError, OverflowError, MemoryError)


class _Sequential(soundfile.SoundFile):
    """A file that soundfile does not seek in after every block: that would cost MP3 its memory of the frames before."""

    def seekable(self) -> bool:
        return False


class Decoder:
    """An open file of sound.

    Attributes:
        container, encoding: libsndfile's names, such as "FLAC" and "PCM_16".
        num_samples: of each channel as the decoder announces them.
        num_channels: of the file.
        sample_rate_hz: of the file.
        position: sample that is read next.
    """

    def __init__(self, source: Source):
        """Raises ValueError with the decoder's reason if it does not take the file, OSError where the disk refuses."""
        self._source = source
        # MP3 alone begins with these bits, and its decoder alone prints.
        self._quiet = decoder_messages.dropped if source.read_at(0, 1) == b"\xff" else contextlib.nullcontext
        self._open()
        self.container, self.encoding = self._file.format, self._file.subtype
        self.num_samples, self.num_channels = self._file.frames, self._file.channels
        self.sample_rate_hz = self._file.samplerate

    def _open(self) -> None:
        self._bytes = DecoderFile(self._source)
        self._failure = ""
        self.position = 0
        with self._quiet():
            try:
                self._file = _Sequential(self._bytes)
            except _ERRORS as error:
                raise self._bytes.error or ValueError(first_line(error)) from error

    def close(self) -> None:
        self._file.close()

    def seek(self, position: int) -> bool:
        """Goes to a sample; says whether that worked. Of every encoding the decoder finds at least the first."""
        if position == 0:
            self._file.close()
            self._open()
            return True
        with self._quiet():
            try:
                is_there = self._file.seek(position) == position
            except _ERRORS as error:
                self._failure = first_line(error)
                return False
        self.position = position if is_there else self.position
        return is_there

    def read_block(self, num_samples: int) -> np.ndarray:
        """float32[n, C] of at most so many samples; none at the end, and where nothing can be decoded any more."""
        block = np.empty((num_samples, self.num_channels), np.float32)
        with self._quiet():
            try:
                found = self._file.read(out=block)
            except _ERRORS as error:
                self._failure = first_line(error)
                return block[:0]
        self.position += len(found)
        return found

    @property
    def has_failed(self) -> bool:
        """Whether the last block was none because of an error."""
        return bool(self._failure or self._bytes.error)

    def ended(self) -> UserError:
        """The error for a file of which nothing came after this position."""
        if self._bytes.error is not None:
            reason = self._bytes.error.strerror or first_line(self._bytes.error)
            return UserError(f"{self._source.path} cannot be read: {reason}; read it again")
        what = "it cannot be decoded somewhere" if self._failure else "nothing comes"
        return UserError(
            f"{self._source.path} is cut short or damaged: {what} after sample {self.position}; copy the file again"
        )


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Decoder]:
    """A decoder that is closed in the end; raises ValueError if it does not take the file."""
    decoder = Decoder(source)
    try:
        yield decoder
    finally:
        decoder.close()
