"""Opus, the codec of calls and of the web, by the programs of opus-tools: how well other codecs do is measured by it.

The encoder runs with its own settings (packets of 20 ms, variable rate, full complexity), as `opusenc --bitrate 6`
does. At 6 kbps it leaves out everything above 4 kHz; at a constant rate it would do so at 9 kbps too.
"""

import dataclasses
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np

from audiolm_jax.audio import Waveform, encode_audio, resample
from audiolm_jax.errors import UserError, brief

ENCODER, DECODER = "opusenc", "opusdec"
HOW_TO_INSTALL = (
    f"{ENCODER} and {DECODER} are not on the PATH; install them with: apt-get install opus-tools (macOS: brew install "
    "opus-tools)"
)
# Of the decoder whatever was encoded; it would bring other rates about by a resampler of its own.
_DECODED_RATE_HZ = 48_000
# What begins a stream: a page with the head, then one with the comments (RFC 7845, section 3).
_HEADER_PAGES = 2
_PAGE_HEAD_BYTES = 27
_LENGTH_TOLERANCE_SECONDS = 0.01


@dataclasses.dataclass(frozen=True)
class OpusSound:
    """What comes out of the decoder, and the bits of the packets that it was decoded from, without their container."""

    waveform: Waveform
    bits: int


@dataclasses.dataclass(frozen=True)
class Opus:
    """The two programs.

    Attributes:
        encoder, decoder: their paths.
        version: of opus-tools and of libopus.
    """

    encoder: str
    decoder: str
    version: str

    def through(self, waveform: Waveform, bitrate_bps: float) -> OpusSound:
        """A recording encoded and decoded: as long as it was, at its own rate, and not delayed.

        Args:
            waveform: the recording; louder than `audio.PEAK_LIMIT` it is scaled down, as in a file.
            bitrate_bps: the rate that the encoder aims at, 6000 or more; see `OpusSound.bits` for what it took.

        Raises:
            UserError: a program fails, or gives sound of another length.
        """
        rate = f"{bitrate_bps / 1000:g}"
        # The serial number of the stream is drawn unless it is given.
        stream = _run([self.encoder, "--quiet", "--bitrate", rate, "--serial", "1", "-", "-"], encode_audio(waveform))
        decoding = [self.decoder, "--quiet", "--float", "--rate", str(_DECODED_RATE_HZ), "-", "-"]
        samples = np.frombuffer(_run(decoding, stream), "<f4").astype(np.float32)
        samples = resample(Waveform(samples, _DECODED_RATE_HZ), waveform.sample_rate_hz).samples
        surplus = len(samples) - len(waveform.samples)
        if abs(surplus) > _LENGTH_TOLERANCE_SECONDS * waveform.sample_rate_hz:
            raise UserError(
                f"{self.decoder} gave {len(samples)} samples for {len(waveform.samples)}; install opus-tools again"
            )
        samples = np.pad(samples[: len(waveform.samples)], (0, max(0, -surplus)))
        return OpusSound(Waveform(samples, waveform.sample_rate_hz), 8 * _packet_bytes(stream))


def find_opus() -> Opus | None:
    """The programs on the PATH; None where one of them is not there.

    Raises:
        UserError: they are there and cannot run.
    """
    encoder, decoder = shutil.which(ENCODER), shutil.which(DECODER)
    if encoder is None or decoder is None:
        return None
    # "opusenc opus-tools 0.2 (using libopus 1.5)" and a line of copyright.
    told = [_run([program, "--version"]).decode(errors="replace").splitlines() for program in (encoder, decoder)]
    versions = dict.fromkeys(" ".join(lines[0].split()[1:]) if lines else "unknown" for lines in told)
    return Opus(encoder, decoder, ", ".join(versions))


def _run(command: Sequence[str], given: bytes = b"") -> bytes:
    """What a program writes to its output when it is given these bytes."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run ({error.strerror}); install opus-tools again") from error
    if done.returncode != 0:
        told = brief(done.stderr.decode(errors="replace").strip()) or f"exit code {done.returncode}"
        raise UserError(f"{command[0]} failed ({told}); install opus-tools again")
    return done.stdout


def _packet_bytes(stream: bytes) -> int:
    """Bytes of the packets of sound in a stream of Ogg pages (RFC 3533, section 6)."""
    sizes, position = [], 0
    while position < len(stream):
        first_segment = position + _PAGE_HEAD_BYTES
        segments = stream[first_segment : first_segment + stream[first_segment - 1]]
        sizes.append(sum(segments))
        position = first_segment + len(segments) + sizes[-1]
    return sum(sizes[_HEADER_PAGES:])
