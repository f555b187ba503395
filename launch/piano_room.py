"""Where a piece is played and how it is recorded. Part of `render_midi.py`."""

import dataclasses

import numpy as np
from scipy.signal import oaconvolve

# Ten recordings of a concert grand (K. Ishizaka's Bach) have -35.5 to -24.3 dBFS (RMS), half of them -27 and more.
LEVEL_DBFS, LEVEL_DEVIATION_DB, MOST_DEVIATION_DB = -27.5, 3.0, 6.0
PEAK_DBFS = -1.0
# Above it walls and air swallow sound twice as fast.
_SPLIT_HZ = 1500.0
_FIRST_ECHO_SECONDS = (0.004, 0.03)
_NUM_ECHOES = 6
_TILT_TAPS = 2047


@dataclasses.dataclass(frozen=True)
class Room:
    """What of the room and the recording is drawn.

    Attributes:
        decay_seconds: in which its sound falls by 60 dB.
        distance_db: sound of the room beside that of the piano itself; the further the microphone, the more.
        tilt_db: rise of the microphone's response per octave.
        noise_db: steady noise beside the music (RMS).
        level_dbfs: of the whole recording (RMS).
    """

    decay_seconds: float
    distance_db: float
    tilt_db: float
    noise_db: float
    level_dbfs: float


def draw_room(rng: np.random.Generator) -> Room:
    """From a room in a house with the microphone in the piano to a hall with it in the third row."""
    deviation_db = np.clip(rng.normal(0.0, LEVEL_DEVIATION_DB), -MOST_DEVIATION_DB, MOST_DEVIATION_DB)
    return Room(
        decay_seconds=float(np.exp(rng.uniform(*np.log((0.25, 2.2))))),
        distance_db=float(rng.uniform(-22.0, -4.0)),
        tilt_db=float(rng.uniform(-3.0, 0.5)),
        noise_db=float(rng.uniform(-75.0, -50.0)),
        level_dbfs=float(LEVEL_DBFS + deviation_db),
    )


def in_room(samples: np.ndarray, sample_rate_hz: int, room: Room, rng: np.random.Generator) -> np.ndarray:
    """float32[T'] of what the synthesiser played, float32[T]: in the room, recorded, at its level; T' as long as T.

    `rng` draws the room's echoes and the noise.
    """
    heard = oaconvolve(samples, impulse_response(sample_rate_hz, room, rng))[: len(samples)]
    heard = oaconvolve(heard, tilt_filter(sample_rate_hz, room.tilt_db), mode="same")
    loudness = np.sqrt(np.mean(np.square(heard)))
    heard += pink_noise(len(heard), rng) * loudness * 10 ** (room.noise_db / 20)
    gain = 10 ** (room.level_dbfs / 20) / max(loudness, 1e-9)
    return (heard * min(gain, 10 ** (PEAK_DBFS / 20) / max(np.max(np.abs(heard)), 1e-9))).astype(np.float32)


def impulse_response(sample_rate_hz: int, room: Room, rng: np.random.Generator) -> np.ndarray:
    """float64[N] of the way from the piano to the microphone: the piano itself first, then the room."""
    length = round(room.decay_seconds * sample_rate_hz) + 1
    seconds = np.arange(length) / sample_rate_hz
    noise = np.fft.rfft(rng.normal(size=length))
    hz = np.fft.rfftfreq(length, 1 / sample_rate_hz)
    low = 1 / (1 + (hz / _SPLIT_HZ) ** 4)
    late = np.fft.irfft(noise * low, length) * 10 ** (-3 * seconds / room.decay_seconds)
    late += np.fft.irfft(noise * (1 - low), length) * 10 ** (-6 * seconds / room.decay_seconds)
    late[: round(_FIRST_ECHO_SECONDS[0] * sample_rate_hz)] = 0
    for at in rng.uniform(*_FIRST_ECHO_SECONDS, _NUM_ECHOES):
        late[min(round(at * sample_rate_hz), length - 1)] += rng.choice((-1, 1)) * 4 * np.std(late)
    late *= 10 ** (room.distance_db / 20) / np.sqrt(np.sum(np.square(late)))
    late[0] += 1.0
    return late


def tilt_filter(sample_rate_hz: int, tilt_db: float) -> np.ndarray:
    """float64[N], N odd, of a microphone that hears every octave so much louder than the one below, and 500 Hz as it
    is; below 50 Hz nothing changes. It delays by half its length, which a convolution of mode "same" takes back."""
    period = _TILT_TAPS + 1
    octaves = np.log2(np.maximum(np.fft.rfftfreq(period, 1 / sample_rate_hz), 50.0) / 500.0)
    centred = np.fft.fftshift(np.fft.irfft(10 ** (tilt_db * octaves / 20), period))
    return centred[1:] * np.hanning(_TILT_TAPS)


def pink_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """float64[length] of RMS 1, 3 dB softer for every octave, as rooms and amplifiers hum and hiss."""
    period = 1 << min(max(length - 1, 1).bit_length(), 18)
    spectrum = np.fft.rfft(rng.normal(size=period)) / np.sqrt(np.maximum(np.arange(period // 2 + 1), 32))
    noise = np.fft.irfft(spectrum, period)
    return np.resize(noise / np.sqrt(np.mean(np.square(noise))), length)
