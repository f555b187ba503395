"""What a recogniser hears in files: each content once, kept on disk as it comes, by several processes where that pays.

The file of a cache is `hypotheses.jsonl`, one line for everything heard: {"asr", "sha256", "text", "sample_rate_hz"}.
It is keyed by the recogniser's version and the content of the audio file, so it may be shared by anything that listens,
and a run that is stopped loses at most what was being heard. A line that was cut off is heard again.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from audiolm_jax.audio import read_audio, resample
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.asr import Recogniser
from audiolm_jax.files import error_names
from audiolm_jax.files.plain_json import from_plain, parse

CACHE_NAME = "hypotheses.jsonl"
_MOST_PROCESSES = 16
# A process takes about as long to start as a recogniser takes for so many recordings.
_LEAST_FILES_OF_PROCESS = 4
# A process that listens looks so often whether its parent is still there: one that was killed cannot tell it to end.
_WATCH_SECONDS = 2.0


class Hypothesis(NamedTuple):
    """What was heard in one file: text as the recogniser wrote it, and the file's own sample rate."""

    text: str
    sample_rate_hz: int


def transcribe_files(
    recogniser: Recogniser, paths: Sequence[Path], cache: Path | None = None, processes: int | None = None
) -> dict[Path, Hypothesis]:
    """What is said in every file; a function of contents alone, not of order, processes or what was known before.

    Args:
        recogniser: who listens.
        paths: audio files of any rate.
        cache: a folder to keep what was heard in; it is made. None keeps nothing.
        processes: how many listen at once; None chooses by the number of files and cores.

    Raises:
        UserError: a file cannot be read, or is too long for the recogniser.
    """
    digests = {path: _digest(path) for path in paths}
    known = read_cache(cache, recogniser.version)
    missing = {digest: path for path, digest in digests.items() if digest not in known}
    quiet = not missing or not sys.stderr.isatty()
    with tqdm(total=len(missing), desc=f"listening ({recogniser.name})", unit="file", disable=quiet) as progress:
        for digest, hypothesis in _hear_all(recogniser, missing, processes):
            known[digest] = hypothesis
            _keep(cache, recogniser.version, digest, hypothesis)
            progress.update()
    return {path: known[digest] for path, digest in digests.items()}


def hear(recogniser: Recogniser, path: Path) -> Hypothesis:
    """What is said in one file.

    Raises:
        UserError: it cannot be read, or is too long for the recogniser.
    """
    waveform = read_audio(path)
    if recogniser.max_seconds is not None and waveform.seconds > recogniser.max_seconds:
        raise UserError(
            f"{path} lasts {waveform.seconds:.1f} s, and {recogniser.name} hears {recogniser.max_seconds:g} s at "
            "once; cut it, or choose another --asr"
        )
    samples = resample(waveform, recogniser.sample_rate_hz).samples
    return Hypothesis(recogniser.transcribe(samples), waveform.sample_rate_hz)


def _hear_all(
    recogniser: Recogniser, missing: Mapping[str, Path], processes: int | None
) -> Iterator[tuple[str, Hypothesis]]:
    """What is said in files by their digest, as it comes."""
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = min(cores, _MOST_PROCESSES, len(missing) // _LEAST_FILES_OF_PROCESS) if recogniser.one_core else 1
    left = dict(missing)
    if processes > 1:
        try:
            for digest, hypothesis in _hear_in_processes(recogniser, missing, processes):
                del left[digest]
                yield digest, hypothesis
        except BrokenProcessPool:
            # For lack of memory, or because the program that calls us has no `if __name__ == "__main__":`.
            print(f"a process that listens has died; {len(left)} files are left to this one", file=sys.stderr)
    for digest, path in left.items():
        yield digest, hear(recogniser, path)


def _hear_in_processes(
    recogniser: Recogniser, missing: Mapping[str, Path], processes: int
) -> Iterator[tuple[str, Hypothesis]]:
    # Spawned, not forked: JAX has threads by now, and a fork would inherit their locks.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, context, _begin_listening, (os.getpid(),))
    try:
        futures = {executor.submit(hear, recogniser, path): digest for digest, path in missing.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_listening(parent: int) -> None:
    """Prepares a process: ^C is told to its parent alone, and it ends where its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_cache(cache: Path | None, version: str) -> dict[str, Hypothesis]:
    """What a recogniser of this version has heard, by digest of the file."""
    if cache is None or not (cache / CACHE_NAME).exists():
        return {}
    known = {}
    for line in (cache / CACHE_NAME).read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        try:
            entry = parse(line)
            if entry["asr"] == version:
                text, rate_hz = from_plain(tuple[str, int], [entry["text"], entry["sample_rate_hz"]], "a line")
                known[entry["sha256"]] = Hypothesis(text, rate_hz)
        except (ValueError, KeyError, TypeError):
            continue
    return known


def _keep(cache: Path | None, version: str, digest: str, hypothesis: Hypothesis) -> None:
    """Appends one line, after the end of a line that was cut off."""
    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"asr": version, "sha256": digest, **hypothesis._asdict()}) + "\n"
    with error_names(cache / CACHE_NAME), open(cache / CACHE_NAME, "ab+") as file:
        if file.tell() and not _ends_line(file):
            line = "\n" + line
        file.write(line.encode())


def _ends_line(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
