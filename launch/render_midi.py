#!/usr/bin/env python3
"""Plays a folder of MIDI files on a piano: OUT/<piece>/<file>_v000.flac, mono, and renders.tsv that tells how each was
played.

    python launch/render_midi.py midi/ data/piano --variants 4
    python launch/render_midi.py midi/ data/piano --variants 4 --minutes 60 --seed 1
    python launch/render_midi.py midi/ data/piano --sound_font FluidR3_GM.sf2 --sound_font other.sf2

A variant of a file is played by another pianist (speed, key, tuning, strength and contrast of the touch), on another
piano where several sound fonts are given, in another room and before another microphone; so a few hours of MIDI are
sound without end. With --variants N every file is played N times; --minutes stops when so much is there, and all files
have had their first variant before any has its second.

Whoever trains on the folder holds out some pieces, as of any folder with one subfolder for each speaker. A piece is
named by the path of its file with -- for /, without a performance's number at its end (_p01); --piece EXPRESSION says
it otherwise, by its first group. All performances of one piece, and all excerpts of it, must have one name.

Every file is a pure function of (MIDI file, sound fonts, seed, variant): a stopped run is continued by starting it
again, and files that exist are kept.

Needs no synthesiser of the system: pip install 'audiolm_jax[midi]' (midirenderer, mido, and pretty_midi, whose small
General MIDI sound font, TimGM6mb, is the piano if none is named). A better one, of 148 MB under the MIT licence, is
Debian's and Ubuntu's: apt install fluid-soundfont-gm, then --sound_font /usr/share/sounds/sf2/FluidR3_GM.sf2.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from midi_folder import PIECE, Mistake, Score, find_scores, in_turns
from tqdm import tqdm

DESCRIPTION, TABLE = "made_from.json", "renders.tsv"
COLUMNS = ("file", "midi", "piece", "seconds", "sound_font", "speed", "semitones", "cents", "strength", "contrast",
           "decay_seconds", "distance_db", "tilt_db", "noise_db", "level_dbfs")  # fmt: skip
LEAST_SECONDS = 1.0
# Of silence before the first note, and of what sounds on after the last has become a thousandth of the loudest.
EDGE_SECONDS = (0.2, 1.5)


@dataclasses.dataclass(frozen=True)
class SoundFont:
    """A piano: name of its file, bytes, and the first digits of their SHA-256."""

    name: str
    data: bytes
    digest: str

    @classmethod
    def read(cls, path: Path) -> "SoundFont":
        """A .sf2 file.

        Raises:
            Mistake: there is none.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Mistake(f"{path} cannot be read ({error.strerror}); give --sound_font a .sf2 file") from error
        if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
            raise Mistake(f"{path} is no sound font; give --sound_font a .sf2 file")
        return cls(path.name, data, hashlib.sha256(data).hexdigest()[:12])


def default_sound_font() -> Path:
    """TimGM6mb in the package pretty_midi.

    Raises:
        Mistake: it is not installed.
    """
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin).with_name("TimGM6mb.sf2") if found and found.origin else None
    if path is None or not path.is_file():
        raise Mistake("there is no sound font; give --sound_font FILE, or pip install 'audiolm_jax[midi]'")
    return path


def rng_of(seed: int, score: Score, variant: int) -> np.random.Generator:
    """The generator that decides everything about one variant."""
    digest = hashlib.sha256(f"{seed}/{score.key}/{variant}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def render(score: Score, fonts: list[SoundFont], seed: int, variant: int, sample_rate_hz: int):
    """Sound float32[T] of one variant, and the values of its row of the table that follow from it.

    Raises:
        piano_touch.UnusableMidi: the file cannot be played.
    """
    import midirenderer
    import piano_room
    import piano_touch

    rng = rng_of(seed, score, variant)
    font = fonts[int(rng.integers(len(fonts)))]
    touch, room = piano_touch.draw_touch(rng), piano_room.draw_room(rng)
    midi = piano_touch.played(piano_touch.read_midi(score.path.read_bytes()), touch)
    try:
        wav = midirenderer.render_wave_from(font.data, midi)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        what = " ".join(str(error).split())[:80]
        raise piano_touch.UnusableMidi(f"the synthesiser cannot play it ({what})") from error
    stereo, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    dry = soxr.resample(stereo.mean(axis=1), rate_hz, sample_rate_hz, quality="HQ")
    loud = np.flatnonzero(np.abs(dry) > 1e-3 * np.max(np.abs(dry), initial=0.0))
    if len(loud):
        before, after = (round(seconds * sample_rate_hz) for seconds in EDGE_SECONDS)
        dry = dry[max(0, loud[0] - before) : loud[-1] + 1 + after]
    if len(dry) < LEAST_SECONDS * sample_rate_hz or not len(loud):
        raise piano_touch.UnusableMidi("nothing of it is heard")
    samples = piano_room.in_room(dry, sample_rate_hz, room, rng)
    drawn = dataclasses.asdict(touch) | dataclasses.asdict(room)
    return samples, {"sound_font": font.name} | {name: f"{value:.4g}" for name, value in drawn.items()}


def describe(output: Path, made_from: dict) -> None:
    """Writes down what the sounds of a folder are made from.

    Raises:
        Mistake: it holds sounds that were made otherwise, which would be kept, or something else.
    """
    path = output / DESCRIPTION
    if output.exists() and not output.is_dir():
        raise Mistake(f"{output} is no folder; name one to fill")
    if path.exists():
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise Mistake(f"{path} cannot be read; name another folder") from error
        if before != made_from:
            before = before if isinstance(before, dict) else {}
            others = " and ".join(f"--{name}" for name in made_from if before.get(name) != made_from[name])
            raise Mistake(f"{output} holds sounds made with another {others}; give the same, or name another folder")
    elif output.exists() and any(output.iterdir()):
        raise Mistake(f"{output} holds something else; name a folder of its own")
    output.mkdir(parents=True, exist_ok=True)
    replace(path, (json.dumps(made_from) + "\n").encode())


def replace(path: Path, data: bytes) -> None:
    """A file, complete or absent."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def render_all(
    scores: list[Score], output: Path, fonts: list[SoundFont], variants: int, minutes: float, seed: int, rate_hz: int
) -> None:
    """Fills the folder.

    Raises:
        Mistake: none of the files can be played, or the folder holds other sounds.
    """
    import piano_touch

    rows = read_rows(output)
    unusable: set[Path] = set()
    seconds, made = 0.0, []
    bar = tqdm(total=len(scores) * variants, unit="file", desc="piano", disable=not sys.stderr.isatty())
    for score, variant in in_turns(scores, variants, seed):
        bar.update()
        if seconds >= 60 * minutes or score.path in unusable:
            continue
        name = f"{score.stem}_v{variant:03d}.flac"
        path = output / name
        if not (path.exists() and name in rows):
            try:
                samples, drawn = render(score, fonts, seed, variant, rate_hz)
            except piano_touch.UnusableMidi as error:
                unusable.add(score.path)
                bar.write(f"left out: {score.path}: {error}", file=sys.stderr)
                continue
            sound = io.BytesIO()
            soundfile.write(sound, samples, rate_hz, format="FLAC", subtype="PCM_16")
            rows[name] = {"file": name, "midi": score.path.name, "piece": score.piece,
                          "seconds": f"{len(samples) / rate_hz:.3f}"} | drawn  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            # The table first: a sound without its row would be made again.
            write_rows(output, rows)
            replace(path, sound.getvalue())
        made.append(score)
        seconds += float(rows[name]["seconds"])
        bar.set_postfix_str(f"{seconds / 60:.1f} min")
    bar.close()
    if not made:
        raise Mistake("none of the MIDI files can be played; the lines above say why")
    pieces = len({score.piece for score in made})
    print(f"{len(made)} sounds of {pieces} pieces, {seconds / 60:.1f} min, in {output}")


def read_rows(output: Path) -> dict[str, dict[str, str]]:
    """The table of a folder by file; none where it cannot be read, for then the sounds are made again."""
    try:
        lines = [line.split("\t") for line in (output / TABLE).read_text().splitlines()]
        if tuple(lines[0]) != COLUMNS:
            return {}
        return {line[0]: dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]}
    except (OSError, ValueError, IndexError):
        return {}


def write_rows(output: Path, rows: dict[str, dict[str, str]]) -> None:
    """The table, by file."""
    lines = [COLUMNS, *([rows[name][column] for column in COLUMNS] for name in sorted(rows))]
    replace(output / TABLE, ("\n".join("\t".join(line) for line in lines) + "\n").encode())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Ends the program with one line."""
        self.exit(2, f"error: {message}\n")


def main() -> int:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("midi", type=Path, help="the folder of MIDI files")
    parser.add_argument("output", type=Path, help="the folder to fill")
    parser.add_argument("--variants", type=int, default=1, metavar="N", help="of every file (default 1)")
    parser.add_argument("--minutes", type=float, default=np.inf, metavar="M", help="stop at so many (default never)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (default 0)")
    parser.add_argument("--sound_font", type=Path, action="append", metavar="FILE", help="a .sf2; may be repeated")
    parser.add_argument("--sample_rate", type=int, default=16_000, metavar="HZ", help="of the sounds (default 16000)")
    parser.add_argument("--piece", default=PIECE, metavar="EXPRESSION", help=f"names a piece (default {PIECE})")
    args = parser.parse_args()
    if args.variants < 1:
        parser.error(f"--variants is {args.variants}; give a whole number above 0")
    if not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes:g}; give a number above 0")
    if not 8_000 <= args.sample_rate <= 48_000:
        parser.error(f"--sample_rate is {args.sample_rate}; give 8000 to 48000")
    for package in ("midirenderer", "mido"):
        if importlib.util.find_spec(package) is None:
            parser.error(f"the synthesiser's package {package} is missing; pip install 'audiolm_jax[midi]'")
    try:
        scores = find_scores(args.midi, args.piece)
        fonts = [SoundFont.read(path) for path in args.sound_font or [default_sound_font()]]
        describe(args.output, {
            "seed": args.seed, "sample_rate": args.sample_rate, "sound_font": [font.digest for font in fonts],
            "piece": args.piece,
        })  # fmt: skip
        render_all(scores, args.output, fonts, args.variants, args.minutes, args.seed, args.sample_rate)
    except Mistake as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{args.output} cannot be written ({error.strerror or error}); make room, or name another folder")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
