"""How a piece is played: one MIDI file as another, with another touch. Part of `render_midi.py`.

Of a file the notes, the three pedals and the tempo are kept, on the channels that they are on. Instruments, volumes and
effects are replaced: everything is played on the first piano of the sound font, without the synthesiser's own room.
"""

import dataclasses
import io

import mido
import numpy as np

# So long a string sounds on after the last key has been let go.
TAIL_SECONDS = 3.0
_DRUMS_CHANNEL = 9
_PEDALS = (64, 66, 67)
_REVERB, _CHORUS = 91, 93
# The wheel's range is two semitones on either side.
_WHEEL_PER_CENT = 8192 / 200
_TEMPO_MICROSECONDS = 500_000  # of a quarter note, where a file names none


class UnusableMidi(ValueError):
    """A file is no MIDI file, or holds no notes; says which in a few words."""


@dataclasses.dataclass(frozen=True)
class Touch:
    """What of the playing is drawn.

    Attributes:
        speed: times as fast as written.
        semitones: higher than written.
        cents: that the whole piano is tuned higher.
        strength: times as hard the keys are struck.
        contrast: exponent of the strength of a key: above 1, soft notes become softer still.
    """

    speed: float = 1.0
    semitones: int = 0
    cents: float = 0.0
    strength: float = 1.0
    contrast: float = 1.0


def draw_touch(rng: np.random.Generator) -> Touch:
    """As pianists differ who play one piece: a tenth faster or slower, harder or softer, on pianos of another pitch."""
    return Touch(
        speed=float(np.exp(rng.uniform(*np.log((0.88, 1.12))))),
        semitones=int(rng.integers(-3, 4)),
        cents=float(rng.uniform(-15.0, 15.0)),
        strength=float(rng.uniform(0.8, 1.15)),
        contrast=float(np.exp(rng.uniform(*np.log((0.75, 1.35))))),
    )


def read_midi(data: bytes) -> mido.MidiFile:
    """The MIDI file of these bytes.

    Raises:
        UnusableMidi: they are none, or hold no notes.
    """
    try:
        midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception as error:  # noqa: BLE001 (whatever the parser meets in a damaged file)
        raise UnusableMidi(f"it is no MIDI file that can be read ({' '.join(str(error).split())[:80]})") from error
    if midi.type == 2 or midi.ticks_per_beat <= 0:
        raise UnusableMidi("its tracks do not share one time (MIDI of type 2, or time codes)")
    if not any(_is_key_down(message) for track in midi.tracks for message in track):
        raise UnusableMidi("it holds no notes")
    return midi


def played(midi: mido.MidiFile, touch: Touch) -> bytes:
    """The file with this touch, as the bytes of a MIDI file of one track."""
    found = [message for message in mido.merge_tracks(midi.tracks) if message.type != "end_of_track"]
    channels = sorted({message.channel for message in found if _is_key_down(message)})
    wheel = round(touch.cents * _WHEEL_PER_CENT)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(_TEMPO_MICROSECONDS / touch.speed))])
    for channel in channels:
        track.append(mido.Message("program_change", channel=channel, program=0))
        for control in (_REVERB, _CHORUS):
            track.append(mido.Message("control_change", channel=channel, control=control, value=0))
        track.append(mido.Message("pitchwheel", channel=channel, pitch=wheel))
    waited = 0  # ticks since the last message that is kept
    for message in found:
        waited += message.time
        if (kept := _touched(message, touch)) is not None:
            track.append(kept.copy(time=waited))
            waited = 0
    # The renderer stops where the file ends. The last tempo holds there.
    tempo = next((m.tempo for m in reversed(track) if m.type == "set_tempo"), _TEMPO_MICROSECONDS)
    tail = round(TAIL_SECONDS * 1e6 / tempo * midi.ticks_per_beat)
    for channel in channels:
        track.append(mido.Message("control_change", channel=channel, control=_PEDALS[0], value=0))
    track.append(mido.Message("control_change", channel=channels[0], control=_PEDALS[0], value=0, time=tail))
    out = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=midi.ticks_per_beat, tracks=[track]).save(file=out)
    return out.getvalue()


def _is_key_down(message: mido.Message | mido.MetaMessage) -> bool:
    return message.type == "note_on" and message.velocity > 0 and message.channel != _DRUMS_CHANNEL


def _touched(message: mido.Message | mido.MetaMessage, touch: Touch) -> mido.Message | mido.MetaMessage | None:
    """What becomes of one message; None for one that does not count."""
    if message.type == "set_tempo":
        # Three bytes hold it.
        return message.copy(tempo=min(max(round(message.tempo / touch.speed), 1), 2**24 - 1))
    if message.is_meta or getattr(message, "channel", _DRUMS_CHANNEL) == _DRUMS_CHANNEL:
        return None
    if message.type == "control_change":
        return message if message.control in _PEDALS else None
    if message.type not in ("note_on", "note_off"):
        return None
    note = message.note + touch.semitones
    if not 0 <= note <= 127:
        return None
    if message.type == "note_off" or message.velocity == 0:
        return message.copy(note=note)
    struck = 127 * touch.strength * (message.velocity / 127) ** touch.contrast
    return message.copy(note=note, velocity=min(max(round(struck), 1), 127))
