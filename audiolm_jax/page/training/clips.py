"""The sounds that a training left in its TensorBoard event files, with their spectrograms."""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

# A record: length (8 bytes), its checksum (4), data, their checksum (4).
_LENGTH_BYTES, _CHECKSUM_BYTES = 12, 4
_AUDIO, _SPECTROGRAM = "audio/", "spectrogram/"


@dataclasses.dataclass(frozen=True)
class TrainingClip:
    """A sound that was made after a step: a WAV file's bytes, and its spectrogram as those of a PNG (None without)."""

    step: int
    name: str
    wav: bytes
    spectrogram_png: bytes | None


def read_clips(workdir: str | Path) -> tuple[list[TrainingClip], str | None]:
    """The clips of a work directory by step, and what is missing to read them, None where nothing is.

    A file that a running training is at, or that a kill cut short, is read as far as it is whole.
    """
    paths = sorted((Path(workdir) / "tensorboard").glob("events.out.tfevents.*"))
    if not paths:
        return [], None
    try:
        from tensorboard.compat.proto import event_pb2
    except ModuleNotFoundError:
        return [], "sounds of this training need tensorboard to be read: pip install 'audiolm_jax[train]'"
    sounds: dict[tuple[int, str], bytes] = {}
    pictures: dict[tuple[int, str], bytes] = {}
    for path in paths:
        for data in _records(path):
            try:
                event = event_pb2.Event.FromString(data)
            except ValueError:  # protobuf's DecodeError is one
                break
            if event.HasField("session_log") and event.session_log.status == event.session_log.START:
                # What a killed run wrote beyond its last checkpoint was made again.
                for found in (sounds, pictures):
                    for key in [key for key in found if key[0] >= event.step]:
                        del found[key]
            for value in event.summary.value:
                if value.HasField("audio") and value.tag.startswith(_AUDIO):
                    sounds[event.step, value.tag.removeprefix(_AUDIO)] = value.audio.encoded_audio_string
                elif value.HasField("image") and value.tag.startswith(_SPECTROGRAM):
                    pictures[event.step, value.tag.removeprefix(_SPECTROGRAM)] = value.image.encoded_image_string
    clips = [TrainingClip(step, name, wav, pictures.get((step, name))) for (step, name), wav in sounds.items()]
    return sorted(clips, key=lambda clip: (clip.step, clip.name)), None


def _records(path: Path) -> Iterator[bytes]:
    """The records of an event file that are whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while len(head := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
                (length,) = struct.unpack("<Q", head[:8])
                if file.tell() + length + _CHECKSUM_BYTES > size:
                    return
                data = file.read(length)
                file.seek(_CHECKSUM_BYTES, 1)
                yield data
    except OSError:
        return
