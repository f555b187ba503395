"""The side of audiolm-pytorch in `codec_race.py`: trains its SoundStream by its own trainer, and decodes with it.

Runs under the interpreter of `--peer_python`, which has audiolm-pytorch and not this package:

    python benchmarks/codec_race_peer.py train FOLDER RESULTS --batch_size 8 --crop_seconds 1 --accumulate 1
    python benchmarks/codec_race_peer.py decode RESULTS IN OUT

`train` ends in order at SIGTERM and goes on where it was when it is started again. What is trained is the library's own
AudioLMSoundStream with 1024 codes a level: 12 levels at 50 Hz, 6 kbps. Trainer and model have the library's default
settings but for what the arguments say. `decode` takes the moving average of the weights, as the trainer saves it, and
sends every .wav file of a folder through all levels.
"""

import argparse
import importlib.machinery
import json
import os
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np
import soundfile
import torch

CODEBOOK_SIZE = 1024
SAVE_EVERY_SECONDS = 300
NEVER = 10**9  # steps
PROGRESS = "progress.json"


def import_peer():
    """audiolm-pytorch, with what it imports and this race never uses left out.

    Since version 2.9 torchaudio reads and writes files by torchcodec; soundfile does it here. Its transforms, on which
    the losses depend, are its own.
    """
    import torchaudio

    def load(path):
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
        return torch.from_numpy(np.ascontiguousarray(samples.T)), rate_hz

    def save(path, samples, rate_hz):
        soundfile.write(str(path), np.clip(samples.numpy().T, -1, 1), rate_hz)

    torchaudio.load, torchaudio.save = load, save
    for name in ("fairseq", "wandb"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)  # accelerate looks for it
    import audiolm_pytorch

    return audiolm_pytorch


def newest(results: Path) -> Path | None:
    """The last whole checkpoint; None where there is none."""
    found = sorted(results.glob("soundstream.*.pt"), key=lambda path: int(path.name.split(".")[1]))
    return found[-1] if found else None


def train(arguments) -> None:
    """Trains until SIGTERM."""
    peer = import_peer()
    codec = peer.AudioLMSoundStream(codebook_size=CODEBOOK_SIZE)
    trainer = peer.SoundStreamTrainer(
        codec,
        folder=str(arguments.folder),
        batch_size=arguments.batch_size,
        grad_accum_every=arguments.accumulate,
        data_max_length_seconds=arguments.crop_seconds,
        num_train_steps=NEVER,
        valid_frac=0.0,  # the held-out recordings are not in the folder; all of it is to learn from
        save_results_every=NEVER,
        save_model_every=NEVER,
        results_folder=str(arguments.results),
        force_clear_prev_results=False,
    )
    if (last := newest(arguments.results)) is not None:
        trainer.load(last)
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        # The trainer takes the step from the name of the file, and goes on with the next one.
        path = arguments.results / f"soundstream.{int(trainer.steps) - 1}.pt"
        trainer.save(str(temporary := path.with_suffix(".part")))
        os.replace(temporary, path)
        for other in arguments.results.glob("soundstream.*.pt"):
            if other != path:
                other.unlink()
        saved_at = time.monotonic()

    def after_step(_) -> None:
        steps = int(trainer.steps)
        seconds = steps * arguments.batch_size * arguments.accumulate * arguments.crop_seconds
        text = json.dumps({"steps": steps, "audio_seconds": seconds})
        temporary = arguments.results / f"{PROGRESS}.part"
        temporary.write_text(text)
        os.replace(temporary, arguments.results / PROGRESS)
        if stop:
            trainer.num_train_steps = 0
        elif time.monotonic() - saved_at >= SAVE_EVERY_SECONDS:
            save()

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    trainer.train(log_fn=after_step)
    save()


def decode(arguments) -> None:
    """Writes OUT/NAME.wav for every IN/NAME.wav."""
    peer = import_peer()
    checkpoint = newest(arguments.results)
    if checkpoint is None:
        raise SystemExit(f"{arguments.results} holds no checkpoint")
    codec = peer.SoundStream.init_and_load_from(checkpoint)
    arguments.decoded.mkdir(parents=True, exist_ok=True)
    for path in sorted(arguments.originals.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="float32")
        if rate_hz != codec.target_sample_hz:
            raise SystemExit(f"{path} has {rate_hz} Hz; {codec.target_sample_hz} Hz are needed")
        # It cuts to whole frames; with silence behind it nothing of the recording is lost.
        padded = np.pad(samples, (0, -len(samples) % codec.seq_len_multiple_of))
        with torch.inference_mode():
            decoded = codec(torch.from_numpy(padded)[None], return_recons_only=True).reshape(-1).numpy()
        soundfile.write(arguments.decoded / path.name, np.clip(decoded[: len(samples)], -1, 1), rate_hz, "PCM_16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train")
    command.add_argument("folder", type=Path)
    command.add_argument("results", type=Path)
    command.add_argument("--batch_size", type=int, required=True)
    command.add_argument("--crop_seconds", type=float, required=True)
    command.add_argument("--accumulate", type=int, required=True)
    command.set_defaults(run=train)
    command = commands.add_parser("decode")
    command.add_argument("results", type=Path)
    command.add_argument("originals", type=Path)
    command.add_argument("decoded", type=Path)
    command.set_defaults(run=decode)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
