#!/usr/bin/env python3
"""What the feed of the stages costs at the size of Libri-Light: start-up and memory, and examples a second.

    python benchmarks/feed.py --records 10000000 [--folder DIR]
    python benchmarks/feed.py --throughput [--threads 1,2] [--workers 0,1,2] [--seconds 10]
        [--step_seconds 0.08,0.25,0.20] [--folder DIR]

--records writes a folder of so many tiny records with the writers that `audiolm tokenize` uses (10 million: ten minutes
and 6 GB), then, in a process of its own, opens a TokenFeed on it, takes a first batch, and then 100 more, by which most
shards are open. One JSON object: {"figure": "feed_start", "records", "shards", "speakers", "start_seconds",
"first_batch_seconds", "peak_rss_mb", "imports_mb"}; `imports_mb` is what the process held before it touched the folder.

--throughput writes records of 60 s with the paper's rates and 12 levels, and reads the paper's three stages from them
as one of four hosts does: 64 rows of a batch of 256, with so many worker processes (0: none) of so many threads. One
JSON object for each: {"figure": "feed_throughput", "stage", "workers", "threads", "examples_per_s", "tokens_per_s",
"pod_examples_per_s", "times_a_stage", "cpu_us_per_example"}. "pod" is four such hosts; "times_a_stage" compares it
with 16 chips that take a batch of 256 every --step_seconds (of the three stages; `audiolm check` tells them); the CPU
time is told without workers only, and other processes on the machine do not change it much.

--folder keeps what was written, and is used again as it is.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tqdm

REPOSITORY = Path(__file__).resolve().parents[1]
HOSTS, BATCH_SIZE = 4, 256
RECORDS_PER_SHARD = 16_384
RECORDS_PER_SPEAKER = 1400  # Libri-Light: 10 million crops of 22 s by 7000 speakers
LONG_RECORDS, LONG_SECONDS = 1024, 60


def write_folder(folder: Path, split_sizes: dict[str, int], seconds: float, records_per_shard: int) -> None:
    """Records of random tokens in a folder as `audiolm tokenize` leaves it."""
    from audiolm_jax.tokens.manifest import InputEntry, ShardEntry, TokenizerSizes, write_inputs, write_manifest
    from audiolm_jax.tokens.records import TokenRecord, encode_record, write_shard
    from audiolm_jax.tokens.stages import PAPER_RATES

    rng = np.random.default_rng(0)
    num_samples = round(seconds * 16_000)
    semantic = np.repeat(rng.integers(0, 1024, round(seconds * 25)), 2)[: round(seconds * 25)]
    acoustic = rng.integers(0, 1024, (round(seconds * 50), 12))
    record = TokenRecord("", "", "", num_samples, semantic, acoustic, "aa", "bb")

    def encoded(entries: list[InputEntry], bar: tqdm.tqdm) -> Iterable[bytes]:
        for entry in entries:
            yield encode_record(dataclasses.replace(record, key=entry.key, speaker=entry.speaker, source=entry.source))
            bar.update()

    names = []
    with tqdm.tqdm(total=sum(split_sizes.values()), unit="record", disable=not sys.stderr.isatty()) as bar:
        for split, size in split_sizes.items():
            num_shards = -(-size // records_per_shard)
            for shard in range(num_shards):
                entries = []
                for number in range(shard * size // num_shards, (shard + 1) * size // num_shards):
                    speaker = f"{split}{number // RECORDS_PER_SPEAKER:05d}"
                    key = f"{speaker}/{number:08d}"
                    entries.append(InputEntry(f"{key}.flac", key, speaker, split, "ok", "0" * 64, seconds))
                name = f"{split}-{shard:05d}-of-{num_shards:05d}.array_record"
                write_shard(folder / name, encoded(entries, bar))
                shard_seconds = seconds * len(entries)
                entry = ShardEntry(name, split, len(entries), len(entries), shard_seconds, "", "0" * 64)
                write_inputs(folder, entry, entries)
                names.append(name)
    write_manifest(folder, TokenizerSizes(PAPER_RATES, 1024, 1024, 12, "aa", "bb"), {}, names)


def stages():
    """The paper's three."""
    from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

    return semantic_stage(length_multiple=128), coarse_stage(length_multiple=128), fine_stage(length_multiple=128)


def peak_mb() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start(folder: Path) -> dict:
    """Opens the feed of the coarse stage on a folder, and takes one batch."""
    from audiolm_jax.data.feed.feed import TokenFeed

    imports_mb, begin = peak_mb(), time.perf_counter()
    feed = TokenFeed((str(folder),), stages()[1], BATCH_SIZE)
    records = feed.source.num_training_records
    started = time.perf_counter()
    batches = feed.batches(feed.initial_cursor(), range(BATCH_SIZE // HOSTS))
    next(batches)
    first_batch_seconds = time.perf_counter() - started
    for _ in range(100):
        next(batches)
    manifest = feed.source.manifests[0]
    return {
        "figure": "feed_start",
        "records": records,
        "shards": len(manifest.shards),
        "speakers": manifest.num_speakers["train"],
        "start_seconds": round(started - begin, 2),
        "first_batch_seconds": round(first_batch_seconds, 2),
        "peak_rss_mb": round(peak_mb()),
        "imports_mb": round(imports_mb),
    }


def throughput(folder: Path, stage, step_seconds: float, workers: int, threads: int, seconds: float) -> dict:
    """Reads one host's rows for so long."""
    from audiolm_jax.data.feed.feed import TokenFeed

    feed = TokenFeed((str(folder),), stage, BATCH_SIZE, num_threads=threads, num_workers=workers)
    batches = feed.batches(feed.initial_cursor(), range(BATCH_SIZE // HOSTS))
    for _ in range(8 + 4 * workers):  # starts the workers, opens the shards
        next(batches)
    examples = tokens = 0
    cpu_begin, begin = time.process_time(), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        batch, _ = next(batches)
        examples += len(batch["ids"])
        tokens += int(np.count_nonzero(batch["ids"]))
    took = time.perf_counter() - begin
    cpu_us = 1e6 * (time.process_time() - cpu_begin) / examples
    batches.close()
    return {
        "figure": "feed_throughput",
        "stage": stage.name,
        "workers": workers,
        "threads": threads,
        "examples_per_s": round(examples / took),
        "tokens_per_s": round(tokens / took),
        "pod_examples_per_s": round(HOSTS * examples / took),
        "times_a_stage": round(HOSTS * examples / took / (BATCH_SIZE / step_seconds), 1),
        "cpu_us_per_example": None if workers else round(cpu_us),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--step_seconds", default="0.08,0.25,0.20")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "manifest.json").exists():
            tiny = arguments.records > 0
            sizes = {"train": arguments.records or LONG_RECORDS, "heldout": 64}
            write_folder(folder, sizes, 0.12 if tiny else LONG_SECONDS, RECORDS_PER_SHARD if tiny else 128)
        if arguments.records:
            # In a process of its own, whose memory is that of the feed alone.
            subprocess.run([sys.executable, __file__, "--start", "--folder", str(folder)], cwd=REPOSITORY, check=True)
        if arguments.throughput:
            step_seconds = map(float, arguments.step_seconds.split(","))
            for stage, seconds in zip(stages(), step_seconds, strict=True):
                for workers in map(int, arguments.workers.split(",")):
                    for threads in map(int, arguments.threads.split(",")):
                        figures = throughput(folder, stage, seconds, workers, threads, arguments.seconds)
                        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
