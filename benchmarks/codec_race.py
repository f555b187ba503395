#!/usr/bin/env python3
"""audiolm-pytorch's SoundStream and ours, trained for the same time on the same recordings, and heard side by side.

    python3 -m venv ~/.cache/peer && . ~/.cache/peer/bin/activate
    pip install torch==2.13.0 soundfile accelerate beartype einops ema-pytorch gateloop-transformer hyper-connections \\
        joblib local-attention pytorch-warmup scikit-learn sentencepiece transformers tqdm vector-quantize-pytorch
    pip install --no-deps audiolm-pytorch==2.4.0 encodec torchaudio==2.11.1
    rm ~/.cache/peer/lib/python3*/site-packages/torchaudio/lib/*.so   # built for CUDA, and not needed

    python benchmarks/codec_race.py --data speech/ --workdir work/race --peer_python ~/.cache/peer/bin/python \\
        --minutes 60 --asr whisper-base/ --write docs/recipe.md

Each side is a process of its own that has the machine for itself for --minutes, all included: starting, compiling,
saving. Started again, the program goes on where it was; a side that has had its time is not run again. Neither hears
the speakers that a training holds out. Both have 6 kbps: ours codec_small, with a schedule that fits the time by the
speed that is measured first; audiolm-pytorch its AudioLMSoundStream with 12 levels of 1024 codes and its own trainer,
and of its weights the moving average, as the trainer saves it. Batch and crop are ours for both.

WORKDIR/clips/{original,ours,audiolm-pytorch}/ hold the same held-out recordings to listen to, WORKDIR/race.json the
figures. Let nothing else run beside it.
"""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import codec_training  # noqa: E402
from markdown_table import check_markers, write_table  # noqa: E402
from tqdm import tqdm  # noqa: E402

from audiolm_jax.audio import Waveform, read_audio, resample, write_audio  # noqa: E402
from audiolm_jax.bundle.tokenizer_dirs import codec_of  # noqa: E402
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked  # noqa: E402
from audiolm_jax.errors import UserError  # noqa: E402
from audiolm_jax.evaluation.generated.samples import usable  # noqa: E402
from audiolm_jax.evaluation.pairs import compare, mean_figures  # noqa: E402
from audiolm_jax.evaluation.recordings import DataSettings, Recording, shared_out  # noqa: E402
from audiolm_jax.evaluation.sound.codec_fidelity import MAX_SECONDS, MIN_SECONDS  # noqa: E402
from audiolm_jax.evaluation.words import word_error
from audiolm_jax.evaluation.words.asr import load_recogniser  # noqa: E402
from audiolm_jax.evaluation.words.words_changed import words_changed  # noqa: E402
from audiolm_jax.files import replace_file  # noqa: E402
from audiolm_jax.training.experiment import load  # noqa: E402
from audiolm_jax.training.logging import read_metrics  # noqa: E402
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.saved.work_directory import WorkDirectory  # noqa: E402

NAME = Path(__file__).name
ROOT = Path(__file__).resolve().parents[1]
ORIGINAL, OURS, PEER = "original", "ours", "audiolm-pytorch"
BITRATE_BPS = 6000
SAMPLE_RATE_HZ = 16_000  # of both codecs
PEER_SUFFIXES = (".flac", ".wav")  # that its data set takes
# Of the time, what the schedule of ours leaves for what is slower than the steps that were timed.
SLACK, START_SECONDS = 0.05, 20.0


class Side:
    """One of the two trainings: how much of its time is over, in WORKDIR/<name>.json."""

    def __init__(self, workdir: Path, name: str):
        self.name, self.folder = name, workdir / name
        self._path = workdir / f"{name}.json"
        self.state = json.loads(self._path.read_text()) if self._path.exists() else {"seconds": 0.0, "done": False}

    def save(self, **values) -> None:
        """Notes what is given."""
        self.state |= values
        replace_file(self._path, (json.dumps(self.state, indent=1) + "\n").encode())

    def run(self, command: list[str], seconds: float, has_step: Callable[[], bool]) -> None:
        """Runs a training that ends in order at SIGTERM, until it has had its seconds in all and has made a step.

        Raises:
            SystemExit: it failed; the line names its log.
        """
        if self.state["done"]:
            return
        began, before, told = time.monotonic(), self.state["seconds"], 0.0
        log = self.folder.with_suffix(".log")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        bar = tqdm(total=round(seconds), initial=round(before), desc=self.name, unit="s")
        with open(log, "ab") as output, bar:
            # In a session of its own, so that ^C reaches this process alone, which then stops it in order.
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, cwd=ROOT, start_new_session=True
            )
            try:
                while process.poll() is None:
                    time.sleep(0.5)
                    passed = before + time.monotonic() - began
                    bar.update(min(round(passed), bar.total) - bar.n)
                    if passed - told > 10:
                        self.save(seconds=passed)
                        told = passed
                    if passed >= seconds and has_step():
                        break
            finally:
                passed = before + time.monotonic() - began
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                self.save(seconds=passed)
        if process.returncode:
            raise SystemExit(f"{self.name}: the training failed; see {log}")
        self.save(done=True)


def schedule(experiment: str, overrides: list[str], seconds: float) -> list[str]:
    """Macros with which an experiment of ours ends when the time does, its phases at the same shares of its steps."""
    without, with_discriminators = codec_training.beside(ROOT, experiment, overrides)
    load(experiment, overrides, data="nowhere")
    macros = configuration.macros()
    late = macros["DISCRIMINATOR_START_STEP"] / macros["STEPS"]
    mean_step = late * without["seconds"] + (1 - late) * with_discriminators["seconds"]
    # Three programs: without a quantizer, with it, and with discriminators.
    compiling = 2 * without["compile_seconds"] + with_discriminators["compile_seconds"]
    left = (1 - SLACK) * seconds - compiling - START_SECONDS
    steps = max(round(left / mean_step), 20)
    starts = {name: round(macros[name] / macros["STEPS"] * steps)
              for name in ("QUANTIZER_START_STEP", "DISCRIMINATOR_START_STEP")}
    return [
        *overrides,
        f"STEPS={steps}",
        f"WARMUP_STEPS={min(macros['WARMUP_STEPS'], max(steps // 10, 1))}",
        *(f"{name}={step}" for name, step in starts.items()),
        *("EVAL_EVERY=0", "SAMPLE_EVERY=0", "LOG_EVERY=10"),
    ]


def train_ours(side: Side, arguments) -> None:
    """Trains our side and notes how far it came."""
    if "macros" not in side.state:
        side.save(macros=schedule(arguments.experiment, arguments.set, 60 * arguments.minutes))
    macros = [f"HELDOUT_SPEAKERS={arguments.heldout_speakers}", f"SPLIT_SEED={arguments.split_seed}"]
    command = [sys.executable, "-m", "audiolm_jax.cli", "train", arguments.experiment, "--workdir", str(side.folder)]
    for folder in arguments.data:
        command += ["--data", str(Path(folder).resolve())]
    for macro in (*macros, *side.state["macros"]):
        command += ["--set", macro]
    side.run(command, 60 * arguments.minutes, lambda: any(read_metrics(side.folder)))
    rows, samples = batch_shape(arguments)
    steps = max(line["step"] for line in read_metrics(side.folder))
    side.save(steps=steps, audio_seconds=steps * rows * samples / SAMPLE_RATE_HZ)


def batch_shape(arguments) -> tuple[int, int]:
    """Crops of a batch of ours, and samples of a crop."""
    return load(arguments.experiment, arguments.set, data="nowhere")[0].feed.batch_shapes()["samples"].shape


def train_peer(side: Side, arguments, recordings: list[Recording]) -> None:
    """Trains the other side on a folder of links to the recordings of the training split."""
    folder = side.folder.with_name("recordings")
    for number, recording in enumerate(recordings):
        target = folder / recording.speaker / f"{number:06d}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if recording.path.suffix in PEER_SUFFIXES and not recording.ranges:
            link = target.with_suffix(recording.path.suffix)
            if not link.is_symlink():
                link.symlink_to(recording.path.resolve())
        elif not (copy := target.with_suffix(".wav")).exists():
            write_audio(copy, recording.read())
    rows, samples = batch_shape(arguments)
    side.folder.mkdir(exist_ok=True)
    progress = side.folder / "progress.json"
    command = peer_command(arguments, "train", folder, side.folder)
    command += ["--batch_size", str(arguments.peer_batch_size or rows)]
    command += ["--crop_seconds", str(arguments.peer_crop_seconds or samples / SAMPLE_RATE_HZ)]
    command += ["--accumulate", str(arguments.peer_accumulate)]
    side.run(command, 60 * arguments.minutes, progress.exists)
    side.save(**json.loads(progress.read_text()))


def peer_command(arguments, *words) -> list[str]:
    """The script of the other side under its interpreter."""
    # Not resolved: the interpreter of a virtual environment is a link, and knows by its name where its packages are.
    python = os.path.abspath(shutil.which(arguments.peer_python))
    return [python, str(Path(__file__).resolve().with_name("codec_race_peer.py")), *map(str, words)]


def write_originals(heldout: list[Recording], folder: Path, max_clips: int) -> list[Recording]:
    """The held-out clips as 16-bit files, one of every speaker before a second of any."""
    chosen = shared_out(usable(heldout, MIN_SECONDS, MAX_SECONDS), max_clips)
    if not chosen:
        raise UserError(f"no held-out recording is {MIN_SECONDS:g} to {MAX_SECONDS:g} s long; give more recordings")
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for recording in chosen:
        path = folder / f"{recording.key.replace('/', '_')}.wav"
        if not path.exists():
            write_audio(path, resample(recording.read(), SAMPLE_RATE_HZ))
        written.append(dataclasses.replace(recording, path=path, ranges=()))
    return written


def decode_ours(workdir: Path, originals: list[Recording], folder: Path) -> float:
    """Writes what our codec makes of the clips at the bit rate of the race, which is returned in bits per second."""
    part = codec_of(workdir)
    levels = min(
        range(1, part.functions.num_quantizers + 1),
        key=lambda count: abs(part.functions.bitrate_bps(count) - BITRATE_BPS),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for original in tqdm(originals, desc="decoding"):
        samples = read_audio(original.path).samples
        tokens = encode_chunked(part.functions, part.params, samples[None])[:, :, :levels]
        decoded = decode_chunked(part.functions, part.params, tokens)[0, : len(samples)]
        write_audio(folder / original.path.name, Waveform(decoded, SAMPLE_RATE_HZ))
    return float(part.functions.bitrate_bps(levels))


def measure(originals: list[Recording], clips: Path, asr: str | None, cache: Path) -> dict[str, dict]:
    """Figures of every side: means over the clips, and the words that are heard."""
    speaker_of = {original.key: original.speaker for original in originals}
    made = {
        name: [original.sample(clips / name / original.path.name) for original in originals] for name in (OURS, PEER)
    }
    found: dict[str, dict] = {ORIGINAL: {}}
    for name, recordings in made.items():
        rows = {
            original.key: compare(original.read(), recording.read())
            for original, recording in zip(tqdm(originals, desc=f"measuring {name}"), recordings, strict=True)
        }
        figures, intervals = mean_figures(rows, speaker_of)
        found[name] = {"figures": figures, "intervals": intervals, "clips": rows}
    if asr is None:
        return found
    if all(original.text is not None for original in originals):
        words = word_error.measure({ORIGINAL: originals, **made}, asr, cache)
        for name in found:
            found[name]["words"] = {"wrong": words.figures[f"wer_{name}"], "asr": words.settings["asr"],
                                    "against": "the transcripts"}
        return found
    recogniser = load_recogniser(asr)
    for name, recordings in made.items():
        pairs = [(original.read().samples, recording.read().samples)
                 for original, recording in zip(originals, recordings, strict=True)]
        found[name]["words"] = {"wrong": words_changed(recogniser, pairs, SAMPLE_RATE_HZ), "asr": recogniser.name,
                                "against": "what is heard in the originals, which have no transcripts"}
    return found


def table(race: dict) -> str:
    """The figures in Markdown."""
    head = ("", "kbps", "ViSQOL", "words wrong", "mel distance", "SI-SDR", "minutes", "steps", "hours of audio trained")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, side in race["sides"].items():
        figures, words = side.get("figures", {}), side.get("words")

        def cell(value: float | None, form: str) -> str:
            return "" if value is None else form.format(value)

        cells = (
            name,
            cell(side.get("bitrate_bps", 0) / 1000 or None, "{:.1f}"),
            cell(figures.get("moslqo"), "{:.2f}"),
            cell(words and words["wrong"], "{:.1%}"),
            cell(figures.get("log_mel_distance"), "{:.2f}"),
            cell(figures.get("si_sdr_db"), "{:.1f} dB"),
            cell(side.get("seconds", 0) / 60 or None, "{:.1f}"),
            cell(side.get("steps"), "{:,}"),
            cell(side.get("audio_seconds", 0) / 3600 or None, "{:.1f}"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    heard = next((side["words"] for side in race["sides"].values() if "words" in side), None)
    words = f" Words: {heard['asr']}, against {heard['against']}." if heard else ""
    clips = f"{race['clips']} recordings of {race['speakers']} held-out speakers"
    lines += ["", f"{clips}; {race['cores']} CPU cores.{words}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="DIR", help="speech, a folder a speaker")
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="everything goes there")
    parser.add_argument("--peer_python", required=True, metavar="FILE", help="an interpreter with audiolm-pytorch")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each side (default 60)")
    parser.add_argument("--heldout_speakers", type=int, default=20, metavar="N", help="default 20")
    parser.add_argument("--split_seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--max_clips", type=int, default=20, metavar="N", help="that are heard (default 20)")
    parser.add_argument("--asr", metavar="NAME", help="a recogniser, as `audiolm eval wer` takes it")
    parser.add_argument("--experiment", default="codec_small", metavar="EXP", help="of ours (default codec_small)")
    parser.add_argument("--set", action="append", default=[], metavar="MACRO=VALUE", help="of ours")
    parser.add_argument("--peer_batch_size", type=int, metavar="N", help="default that of ours")
    parser.add_argument("--peer_crop_seconds", type=float, metavar="S", help="default that of ours")
    parser.add_argument("--peer_accumulate", type=int, default=1, metavar="N", help="batches of a step (default 1)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the two markers")
    arguments = parser.parse_args()
    try:
        race(arguments)
    except UserError as error:
        raise SystemExit(f"{NAME}: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"{NAME}: stopped; the same command goes on from there") from None


def check_settings(workdir: Path, arguments) -> None:
    """Notes what decides on a race in its folder, and refuses a folder with another one."""
    names = ("data", "minutes", "heldout_speakers", "split_seed", "max_clips", "experiment", "set", "peer_batch_size",
             "peer_crop_seconds", "peer_accumulate")  # fmt: skip
    now = {name: getattr(arguments, name) for name in names}
    now["data"] = [str(Path(folder).resolve()) for folder in arguments.data]
    path = workdir / "settings.json"
    before = json.loads(path.read_text()) if path.exists() else now
    for name in names:
        if before[name] != now[name]:
            raise UserError(f"{workdir} holds a race with --{name} {before[name]}, not {now[name]}; give another "
                            "--workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(now, indent=1) + "\n").encode())


def race(arguments) -> None:
    """Everything, one thing after the other; what is done is not done again."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    if arguments.write:
        check_markers(arguments.write, NAME)
    if shutil.which(arguments.peer_python) is None:
        raise UserError(f"--peer_python {arguments.peer_python} is no program; make an interpreter as --help tells")
    if arguments.minutes <= 0 or arguments.max_clips < 1:
        raise UserError("--minutes must be above 0, and --max_clips at least 1")
    data = DataSettings(tuple(arguments.data), "folder", arguments.heldout_speakers, arguments.split_seed)
    recordings = data.recordings()
    heldout = [recording for recording in recordings if recording.heldout]
    if arguments.asr and any(recording.text is not None for recording in heldout):
        heldout = word_error.with_transcripts(heldout)
    workdir: Path = arguments.workdir.resolve()
    check_settings(workdir, arguments)
    with WorkDirectory(workdir).held():
        originals = write_originals(heldout, workdir / "clips" / ORIGINAL, arguments.max_clips)
        ours, peer = Side(workdir, OURS), Side(workdir, PEER)
        train_ours(ours, arguments)
        train_peer(peer, arguments, [recording for recording in recordings if not recording.heldout])
        bitrate_bps = decode_ours(ours.folder, originals, workdir / "clips" / OURS)
        command = peer_command(arguments, "decode", peer.folder, workdir / "clips" / ORIGINAL, workdir / "clips" / PEER)
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            raise UserError(f"{PEER} could not decode; its message is above")
        sides = measure(originals, workdir / "clips", arguments.asr, workdir)
    sides[OURS] |= ours.state | {"bitrate_bps": bitrate_bps}
    sides[PEER] |= peer.state | {"bitrate_bps": BITRATE_BPS}
    made = {"sides": sides, "clips": len(originals), "speakers": len({each.speaker for each in originals}),
            "cores": os.cpu_count()}  # fmt: skip
    replace_file(workdir / "race.json", (json.dumps(made, indent=1) + "\n").encode())
    print(table(made))
    if arguments.write:
        write_table(arguments.write, NAME, table(made))


if __name__ == "__main__":
    main()
