"""An extraction small enough for tests: a folder of sounds, some of them bad, and a job that can run in a process."""

import argparse
import functools
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.tokens.extraction.extract import JobFigures, extract
from audiolm_jax.tokens.extraction.shard_work import WorkSettings
from tests.tokens.tiny_tokenizers import load

GOOD = {"amy/a": 5000, "amy/b": 16000, "bob/c": 9001, "cleo/d": 700, "dan/e": 320, "dan/f": 641}
BAD = ("eve/cut", "eve/empty", "eve/text")


def write_corpus(root: Path) -> Path:
    """Recordings of GOOD lengths in samples at 16 kHz, and the three of BAD."""
    rng = np.random.default_rng(0)
    for key, num_samples in GOOD.items():
        loudness = np.repeat(rng.uniform(0, 0.5, num_samples // 500 + 1), 500)[:num_samples]
        samples = (loudness * rng.uniform(-1, 1, num_samples)).astype(np.float32)
        (root / key).parent.mkdir(exist_ok=True, parents=True)
        write_audio(root / f"{key}.wav", Waveform(samples, 16_000))
    (root / "eve").mkdir()
    (root / "eve" / "empty.wav").write_bytes(b"")
    (root / "eve" / "text.wav").write_text("this is not audio at all, it is a line of text")
    soundfile.write(root / "eve" / "cut.flac", rng.uniform(-0.1, 0.1, 16000), 16_000)
    data = (root / "eve" / "cut.flac").read_bytes()
    (root / "eve" / "cut.flac").write_bytes(data[: len(data) // 2])
    return root


def run(
    corpus_dir: Path,
    output_dir: Path,
    engine: str = "jax",
    files_per_shard: int = 3,
    batch_size: int = 1,
    beam_args: tuple[str, ...] = (),
    process: tuple[int, int] = (0, 1),
    scale: float = 2.0,
) -> JobFigures:
    """One job, or one process of a job of the "jax" engine."""
    tokenizers = load(scale)
    sizes = tokenizers.sizes()
    settings = WorkSettings(batch_size)
    if engine == "jax":
        from audiolm_jax.tokens.extraction.device_engine import run_on_devices as run_engine

        extra = process
    else:
        from audiolm_jax.tokens.extraction.beam_engine import run_on_beam as run_engine

        extra = (functools.partial(load, scale), beam_args)
    return extract(
        FolderCorpus(corpus_dir, heldout_speakers=1).source_files(), output_dir, sizes, {"codec_si_sdr_db": 1.0},
        lambda plans: run_engine(plans, tokenizers, sizes, settings, *extra),
        files_per_shard, joins=process[0] == 0,
    )  # fmt: skip


def shard_bytes(folder: Path) -> dict[str, bytes]:
    """Content of every shard by its name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.array_record"))}


def main() -> None:
    """`python -m tests.tokens.tiny_job IN OUT`: a job to be killed, or one process of a job."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--engine", default="jax")
    parser.add_argument("--files_per_shard", type=int, default=1)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that each shard takes before it is written")
    args, beam_args = parser.parse_known_args()

    from audiolm_jax.parallel import hosts
    from audiolm_jax.tokens.extraction import shard_work

    real_write = shard_work.write_records

    def slow_write(path, records):
        path.write_bytes(b"half a shard")
        time.sleep(args.slow)
        return real_write(path, records)

    shard_work.write_records = slow_write
    with hosts.joined():
        process = (hosts.index(), hosts.count())
        run(args.input, args.output, args.engine, args.files_per_shard, beam_args=tuple(beam_args), process=process)
    print("done", file=sys.stderr)


if __name__ == "__main__":
    main()
