"""Reads damaged sound files by the hundred thousand, and says what became of them.

    python -m tests.fuzz.audio_files --count 50000 --seed 0 1 2 3 --document docs/reliability.md

Every file is a whole one of some container and encoding that was damaged in one to four ways, drawn from the seed and
its number. It is read by `read_audio`, `read_header`, `read_ranges` and `decode_audio`. Each must give sound or a
UserError in one line that names the file; nothing may be printed, no file may take more than 5 s of the processor or
make the process grow by more than 500 MB; and where `read_audio` reads a file, the others must agree with it. A child
process reads, so that a crash or a hang is a line in the table and not the end. The exit code is 1 if there was any
fault.
"""

import argparse
import collections
import dataclasses
import json
import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from audiolm_jax import audio
from audiolm_jax.errors import UserError
from tests.fuzz.mutation import mutated
from tests.fuzz.sound_seeds import sound_seeds

ROOT = Path(__file__).parents[2]
MOST_SECONDS, MOST_MEGABYTES = 5.0, 500
# A child that says nothing for so long hangs. Much more than MOST_SECONDS: other programs may have the processor.
_PATIENCE_SECONDS = 300
# Files that a child reads before it says what became of them; one at a time after a crash, to find the guilty one.
_BATCH = 100
_BEGIN, _END = "<!-- fuzz: audio files -->", "<!-- end of fuzz: audio files -->"


@dataclasses.dataclass
class Outcome:
    """What became of the files.

    Attributes:
        count: of all files.
        read: by container, those that `read_audio` read.
        refused: by container, those that it refused.
        headers: of those that it refused, how many `read_header` had refused already.
        faults: a line for each, with the number of its file.
        slowest_seconds: of the processor, for one file.
        most_megabytes: by which the process had grown at its largest.
    """

    count: int = 0
    read: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    headers: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    slowest_seconds: float = 0.0
    most_megabytes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Readers:
    """The functions under test."""

    read_audio: Callable = audio.read_audio
    read_header: Callable = audio.read_header
    read_ranges: Callable = audio.read_ranges
    decode_audio: Callable = audio.decode_audio


def damaged_file(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of a file, always the same for a seed and a number."""
    chance = random.Random(f"{seed}/{number}")
    seeds = sound_seeds()
    kind = chance.choice(list(seeds))
    return kind, mutated(chance, seeds[kind], list(seeds.values()))


def judged(path: Path, chance: random.Random, readers: Readers) -> tuple[bool, bool, list[str]]:
    """Reads one file in every way.

    Returns:
        Whether `read_audio` read it, whether `read_header` did, and what is wrong with that.
    """
    faults = []

    def tried(name: str, *arguments):
        try:
            return getattr(readers, name)(*arguments)
        except UserError as error:
            if "\n" in str(error) or str(path) not in str(error):
                faults.append(f"{name} says {str(error)!r}")
        except Exception as error:  # noqa: BLE001 (any other error is what is looked for)
            faults.append(f"{name} raises {type(error).__name__}: {error}")
        return None

    header, whole = tried("read_header", path), tried("read_audio", path)
    if whole is None:
        return False, header is not None, faults
    length = len(whole.samples)
    if header != (length, whole.sample_rate_hz):
        faults.append(f"read_header says {header}, read_audio {length} samples at {whole.sample_rate_hz} Hz")
    if not length:
        return True, header is not None, [*faults, "read_audio gives no sound"]
    if chance.random() < 0.25 and tried("decode_audio", path, path.read_bytes()) != whole:
        faults.append("decode_audio gives other samples than read_audio")
    start = chance.randrange(length)
    stop = chance.randint(start + 1, min(length, start + 5_000))
    part = tried("read_ranges", path, ((start, stop),))
    if part is not None and len(part.samples) != stop - start:
        faults.append(f"read_ranges gives {len(part.samples)} samples from {start} to {stop}")
    if part is not None and part.samples.shape == (stop - start,):
        distance = float(np.max(np.abs(part.samples - whole.samples[start:stop])))
        if distance > 1e-4 and path.suffix not in (".mp3", ".ogg"):
            faults.append(f"read_ranges differs by {distance:g} from {start} to {stop}")
    return True, header is not None, faults


def _read_many(seed: int, first: int, last: int, batch: int, folder: Path, report) -> None:
    """A child: reads the files from `first` up to `last` and sends a list of _Result for each `batch` of them."""
    logging.disable(logging.CRITICAL)
    told = tempfile.TemporaryFile(dir=folder)
    os.dup2(told.fileno(), 2)
    readers = Readers()
    sound_seeds()
    before_megabytes = _peak_megabytes()
    results: list[_Result] = []
    for number in range(first, last):
        kind, data = damaged_file(seed, number)
        suffix = {"MP3": ".mp3", "OGG": ".ogg"}.get(kind.split("/")[0], ".wav")
        path = folder / f"damaged{suffix}"
        path.write_bytes(data)
        began = time.process_time()
        is_read, is_header_read, faults = judged(path, random.Random(number), readers)
        seconds = time.process_time() - began
        megabytes = _peak_megabytes() - before_megabytes
        if seconds > MOST_SECONDS:
            faults.append(f"takes {seconds:.1f} s")
        if megabytes > MOST_MEGABYTES:
            faults.append(f"takes {megabytes:.0f} MB")
        if told.tell():
            told.seek(0)
            faults.append(f"prints {told.read(300)!r}")
            told.seek(0)
            told.truncate()
        results.append(_Result(number, kind, is_read, is_header_read, faults, seconds, megabytes))
        has_grown = megabytes > MOST_MEGABYTES
        if len(results) == batch or has_grown or number == last - 1:
            report.send(results)
            results = []
        if has_grown:
            break  # the peak stays; the next child begins anew
    report.close()


@dataclasses.dataclass(frozen=True)
class _Result:
    """What became of one file; seconds of the processor, and megabytes by which the process had grown by then."""

    number: int
    kind: str
    is_read: bool
    is_header_read: bool
    faults: list[str]
    seconds: float
    megabytes: float


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(seed: int, count: int, on_progress: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Reads `count` files, in child processes one after the other."""
    outcome = Outcome()
    batch = _BATCH
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:
        while outcome.count < count:
            last = count if batch > 1 else min(count, outcome.count + _BATCH)
            exit_code = _read_in_child(outcome, (seed, outcome.count, last, batch, Path(folder)), on_progress)
            if exit_code != 0 and batch == 1:
                kind, _ = damaged_file(seed, outcome.count)
                outcome.faults.append(f"file {outcome.count} ({kind}): the process ended with {exit_code}")
                outcome.count += 1
            batch = _BATCH if exit_code == 0 or batch == 1 else 1
    return outcome


def _read_in_child(outcome: Outcome, work: tuple, on_progress: Callable[[Outcome], None]) -> int:
    """Adds what a child finds until it ends, and ends it where it hangs; returns its exit code."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_read_many, args=(*work, sender), daemon=True)
    child.start()
    sender.close()
    while True:
        if not receiver.poll(_PATIENCE_SECONDS):
            child.kill()
            break
        try:
            results = receiver.recv()
        except EOFError:
            break
        for result in results:
            _add(outcome, result)
        on_progress(outcome)
    child.join()
    return child.exitcode


def _add(outcome: Outcome, result: _Result) -> None:
    outcome.count = result.number + 1
    container = result.kind.split("/")[0]
    (outcome.read if result.is_read else outcome.refused)[container] += 1
    outcome.headers += not result.is_read and not result.is_header_read
    outcome.faults += [f"file {result.number} ({result.kind}): {fault}" for fault in result.faults]
    outcome.slowest_seconds = max(outcome.slowest_seconds, result.seconds)
    outcome.most_megabytes = max(outcome.most_megabytes, result.megabytes)


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The sum of the outcomes of several seeds."""
    return Outcome(
        sum(one.count for one in outcomes),
        sum((collections.Counter(one.read) for one in outcomes), collections.Counter()),
        sum((collections.Counter(one.refused) for one in outcomes), collections.Counter()),
        sum(one.headers for one in outcomes),
        [fault for one in outcomes for fault in one.faults],
        max(one.slowest_seconds for one in outcomes),
        max(one.most_megabytes for one in outcomes),
    )


def table(outcome: Outcome, seeds: Sequence[int]) -> str:
    """The result as Markdown."""
    named = f"seed{'s' if len(seeds) > 1 else ''} {' and '.join(map(str, seeds))}"
    read, refused = sum(outcome.read.values()), sum(outcome.refused.values())
    lines = [
        f"{outcome.count} damaged files ({named}): {read} were read, {refused} refused, {outcome.headers} of these "
        f"by their headers alone; {len(outcome.faults)} faults. The slowest took {outcome.slowest_seconds:.2f} s of "
        f"the processor, and the process grew by {outcome.most_megabytes:.0f} MB at its largest.",
        "",
        "| container | read | refused |",
        "|---|---|---|",
    ]
    for container in sorted(outcome.read | outcome.refused):
        lines.append(f"| {container} | {outcome.read[container]} | {outcome.refused[container]} |")
    return "\n".join(lines + [""] + [f"- {text}" for text in outcome.faults]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_000, help="of files, for each seed")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, metavar="FILE", help="only write the bytes of the file NUMBER here")
    parser.add_argument("--number", type=int, default=0, help="of the file to keep")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, written again and again on the way")
    parser.add_argument("--document", type=Path, help="put the table, which is also printed, between its two marks")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.write_bytes(damaged_file(arguments.seed[0], arguments.number)[1])
        return 0

    outcomes: list[Outcome] = []

    def on_progress(running: Outcome) -> None:
        outcome = together([*outcomes, running])
        if arguments.json and outcome.count % 1000 == 0:
            # dataclasses.asdict would rebuild the counters from pairs.
            arguments.json.write_text(json.dumps(vars(outcome)))

    for seed in arguments.seed:
        outcomes.append(fuzz(seed, arguments.count, on_progress))
    outcome = together(outcomes)
    text = table(outcome, arguments.seed)
    print(text)
    if arguments.document:
        before, rest = arguments.document.read_text().split(_BEGIN)
        arguments.document.write_text(f"{before}{_BEGIN}\n{text}{_END}{rest.split(_END)[1]}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
