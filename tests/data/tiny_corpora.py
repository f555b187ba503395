"""Corpora in their exact layouts on disk, made small."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000

# Recording below the root: seconds, and its voice activity as it stands in the JSON.
LIBRI_LIGHT = {
    "small/100/sea_fairies_0812_librivox_64kb_mp3/01_baum_sea_fairies_64kb": (
        3.0,
        [[0.1, 0.5], [0.7, 1.2], [1.3, 2.75], [2.8, 2.9]],
    ),
    "small/100/sea_fairies_0812_librivox_64kb_mp3/02_baum_sea_fairies_64kb": (1.0, [[0.0, 0.4], [0.4, 1.0]]),
    "small/25/emma_librivox_64kb_mp3/emma_01_austen_64kb": (1.0, [[0.25, 0.75]]),
    "small/31/emma_librivox_64kb_mp3/emma_02_austen_64kb": (1.0, [[0.5, 1.0]]),
    "medium/100/tales_librivox_64kb_mp3/tales_1_64kb": (1.0, [[0.0, 0.9]]),
    "medium/7/tales_librivox_64kb_mp3/tales_2_64kb": (1.0, [[0.3, 0.9]]),
    "large/8/poems_librivox_64kb_mp3/poems_1_64kb": (1.0, [[0.2, 0.9]]),
}

# composer, title, split, year, audio file, seconds
MAESTRO = (
    ("Alban Berg", "Sonata Op. 1", "train", 2018, "2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1.wav"),
    ("Alban Berg", "Sonata Op. 1", "train", 2008, "2008/MIDI-Unprocessed_03_R2_2008_01-03_ORIG_MID--AUDIO_03.wav"),
    ("Alexander Scriabin", '24 Preludes Op. 11, No. 13-24 "all"', "train", 2004, "2004/MIDI-Unprocessed_XP_21_R1.wav"),
    ("Alexander Scriabin", "3 Etudes, Op. 65", "validation", 2006, "2006/MIDI-Unprocessed_17_R1_2006_01-06.wav"),
    ("Franz Liszt", "La Campanella", "test", 2009, "2009/MIDI-Unprocessed_11_R1_2009_06-09.wav"),
)


def ramp(num_samples: int, number: int = 0) -> np.ndarray:
    """int16[T] in which sample n of recording `number` tells its own place."""
    return ((np.arange(num_samples) * 3 + 1009 * number) % 60_000 - 30_000).astype(np.int16)


def write_recording(path: Path, samples: np.ndarray, sample_rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate_hz, subtype="PCM_16")


def flac_announcing(num_samples: int) -> bytes:
    """A FLAC of a second at RATE_HZ whose header announces another number of samples."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).uniform(-0.1, 0.1, RATE_HZ), RATE_HZ, format="FLAC")
    data = bytearray(buffer.getvalue())
    # The last 36 bits of the 8 bytes with rate, channels and depth in STREAMINFO, which follows "fLaC" and 14 bytes.
    fields = int.from_bytes(data[18:26], "big")
    data[18:26] = (fields >> 36 << 36 | num_samples).to_bytes(8, "big")
    return bytes(data)


def describe(key: str, spans) -> dict:
    """The JSON that Libri-Light keeps beside a recording."""
    speaker = key.split("/")[-3]
    return {
        "speaker": speaker,
        "book_meta": {
            "id": "2315",
            "title": "Sea Fairies",
            "url_text_source": "http://www.gutenberg.org/etext/4358",
            "language": "English",
            "copyright_year": "1911",
            "totaltime": "4:40:52",
            "authors": [{"id": "405", "first_name": "L. Frank", "last_name": "Baum"}],
            "genre": ["Children's Fiction", "Fantastic Fiction"],
            "Dramatic Readings": False,
            "meta_genre": "Literature",
        },
        "snr": 6.5,
        "voice_activity": spans,
    }


def write_libri_light(root: Path) -> Path:
    """LIBRI_LIGHT; the n-th recording is ramp(n)."""
    for number, (key, (seconds, spans)) in enumerate(LIBRI_LIGHT.items()):
        write_recording(root / f"{key}.flac", ramp(round(seconds * RATE_HZ), number))
        (root / f"{key}.json").write_text(json.dumps(describe(key, spans)))
    return root


def write_maestro(root: Path, table_format: str = "json") -> Path:
    """MAESTRO v3.0.0 in stereo at its own rates, with its table in one of the two formats it comes in."""
    names = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration")
    rows = [(*row[:4], row[4].replace(".wav", ".midi"), row[4], 0.25) for row in MAESTRO]
    for number, row in enumerate(MAESTRO):
        rate_hz = 48_000 if number % 2 else 44_100
        samples = np.stack([ramp(rate_hz // 4, number)] * 2, axis=1)
        write_recording(root / row[4], samples, rate_hz)
    if table_format == "json":
        columns = {name: {str(n): row[i] for n, row in enumerate(rows)} for i, name in enumerate(names)}
        (root / "maestro-v3.0.0.json").write_text(json.dumps(columns))
    else:
        with (root / "maestro-v3.0.0.csv").open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    return root
