"""Reads damaged records, manifests, weights and files of text, and tells every reading that ends in a fault.

    python -m tests.fuzz.text_and_weights --count 200000 --seed 0
    python -m tests.fuzz.text_and_weights --seed 0 --only 1234 --keep /tmp/case

A fault is any error but a UserError of one line, more than 5 s, or more than 500 MB. Case N of a seed is the same in
every run, whatever other cases there are. The cases run in one process that is watched by another: one that hangs or
dies counts as a fault, and those after it go on in a new process. Exit code 1 where there are faults.
"""

import argparse
import collections
import dataclasses
import functools
import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.fuzz import text_kinds, token_kinds, weight_kinds
from tests.fuzz.bounds import FAULT, READ, REFUSED, Ending, ending_of, set_ceiling
from tests.fuzz.file_kind import FileKind

# Reading gives up after ten seconds of processor time, if it can be interrupted at all.
_SILENT_SECONDS = 120.0
_STARTING_SECONDS = 900.0
_THIS = (sys.executable, "-m", "tests.fuzz.text_and_weights")


@dataclasses.dataclass(frozen=True)
class Case:
    """One damaged folder and how its reading ended."""

    number: int
    kind: str
    ending: Ending


@functools.cache
def all_kinds() -> tuple[FileKind, ...]:
    """Every kind of file, with whole ones."""
    return (*token_kinds.kinds(), *text_kinds.kinds(), *weight_kinds.kinds())


def run(
    numbers: Iterable[int],
    seed: int,
    keep: Path | None = None,
    wanted: str = "",
    ready: Callable[[], None] | None = None,
) -> Iterator[Case]:
    """Runs cases in this process.

    Args:
        numbers: of the cases.
        seed: with the number it decides the kind and the damage.
        keep: a folder that gets the damaged files of the last case.
        wanted: only kinds whose name begins so.
        ready: is called when whole files have been made and read.
    """
    kinds = [kind for kind in all_kinds() if kind.name.startswith(wanted)]
    shares = [kind.share for kind in kinds]
    with tempfile.TemporaryDirectory(prefix="audiolm_fuzz_", dir=_fast_folder()) as root:
        folders = {}
        for number, kind in enumerate(kinds):
            folders[kind.name] = Path(root, str(number))
            _write(folders[kind.name], kind.files)
            whole = ending_of(lambda kind=kind: kind.read(folders[kind.name]))
            if whole.status != READ:
                raise AssertionError(f"whole files of kind {kind.name} are not read: {whole.message}")
        if ready is not None:
            ready()
        for number in numbers:
            rng = Random(f"{seed} {number}")
            [kind] = rng.choices(kinds, shares)
            files = dict(kind.files)
            kind.damage(rng, files)
            folder = folders[kind.name]
            changed = {name for name in kind.files if files.get(name) is not kind.files[name]}
            _replace(folder, {name: files.get(name) for name in changed})
            if keep is not None:
                _write(keep, files)
            yield Case(number, kind.name, ending_of(lambda kind=kind, folder=folder: kind.read(folder)))
            _replace(folder, {name: kind.files[name] for name in changed})


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _write(folder: Path, files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _replace(folder: Path, files) -> None:
    """New contents; None removes a file."""
    for name, data in files.items():
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)


def run_watched(count: int, command: Callable[[int], Sequence[str]]) -> Iterator[Case]:
    """Runs cases 0 to count - 1 in another process, and in a new one where that hangs or dies.

    Args:
        count: of the cases.
        command: of a process that runs them from a number on, and prints "ready" and then each of them as JSON.

    Raises:
        RuntimeError: a process ended before it was ready.
    """
    number = 0
    while number < count:
        worker = subprocess.Popen(command(number), stdout=subprocess.PIPE)
        is_ready = False
        try:
            for line in _lines(worker):
                if line is None:
                    yield Case(number, "?", Ending(FAULT, "no end of it", _SILENT_SECONDS, 0))
                    number += 1
                    break
                fields = json.loads(line)
                if fields == "ready":
                    is_ready = True
                    continue
                yield Case(fields["number"], fields["kind"], Ending(**fields["ending"]))
                number = fields["number"] + 1
            else:
                if worker.wait() != 0:
                    if not is_ready:
                        raise RuntimeError("whole files are not read; see above")
                    yield Case(number, "?", Ending(FAULT, f"the process died with {worker.returncode}", 0.0, 0))
                    number += 1
        finally:
            worker.kill()
            worker.wait()


def _lines(worker: subprocess.Popen) -> Iterator[bytes | None]:
    """Lines of a process until it ends; None where none came for too long."""
    buffer, seconds = b"", _STARTING_SECONDS
    while True:
        ready, _, _ = select.select([worker.stdout], [], [], seconds)
        seconds = _SILENT_SECONDS
        if not ready:
            yield None
            continue
        data = os.read(worker.stdout.fileno(), 1 << 16)
        if not data:
            return
        *whole, buffer = (buffer + data).split(b"\n")
        yield from whole


class Figures:
    """Counts of cases by kind, and the faults."""

    def __init__(self):
        self._counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._bytes: dict[str, int] = collections.defaultdict(int)
        self.faults: list[Case] = []

    def add(self, case: Case) -> None:
        """Counts a case."""
        self._counts[case.kind][case.ending.status] += 1
        self._seconds[case.kind] = max(self._seconds[case.kind], case.ending.seconds)
        self._bytes[case.kind] = max(self._bytes[case.kind], case.ending.peak_bytes)
        if case.ending.status == FAULT:
            self.faults.append(case)

    def table(self) -> str:
        """A row for every kind, in Markdown."""
        rows = ["| kind | cases | read | refused in one line | faults | longest, s | most memory, MB |"]
        rows.append("|" + "---|" * 7)
        for kind in [*sorted(self._counts), "all"]:
            kinds = list(self._counts) if kind == "all" else [kind]
            counts = sum((self._counts[each] for each in kinds), collections.Counter())
            longest, most = (max(values[each] for each in kinds) for values in (self._seconds, self._bytes))
            rows.append(
                f"| {kind} | {counts.total()} | {counts[READ]} | {counts[REFUSED]} | {counts[FAULT]} | {longest:.2f} | "
                f"{most / 1e6:.0f} |"
            )
        return "\n".join(rows)

    def fault_lines(self) -> list[str]:
        """Each fault once, with how often it came and a case that shows it."""
        found: dict[tuple[str, str], list[Case]] = collections.defaultdict(list)
        for case in self.faults:
            place = case.ending.message.split(": ")[0]
            found[case.kind, place].append(case)
        ordered = sorted(found.values(), key=len, reverse=True)
        return [f"{len(same)}x {same[0].kind}, case {same[0].number}: {same[0].ending.message}" for same in ordered]


def main() -> int:
    """Runs the fuzz as the flags say; 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="cases (default 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--kinds", default="", metavar="NAME", help="only kinds whose name begins so")
    parser.add_argument("--show", type=int, default=100, metavar="N", help="faults told as they come (default 100)")
    parser.add_argument("--only", type=int, metavar="N", help="run one case, in this process")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --only: keep its damaged files there")
    parser.add_argument("--from", type=int, dest="first", metavar="N", help="be the process that is watched")
    args = parser.parse_args()
    if args.first is not None:

        def ready() -> None:
            set_ceiling()
            gc.freeze()  # what the libraries hold is not looked through again and again
            print(json.dumps("ready"), flush=True)

        for case in run(range(args.first, args.count), args.seed, wanted=args.kinds, ready=ready):
            print(json.dumps(dataclasses.asdict(case)), flush=True)
        return 0
    figures = Figures()
    if args.only is not None:
        cases = run([args.only], args.seed, args.keep, args.kinds)
    else:
        same = ["--count", str(args.count), "--seed", str(args.seed), "--kinds", args.kinds]
        cases = run_watched(args.count, lambda first: [*_THIS, *same, "--from", str(first)])
    begun = time.monotonic()
    for done, case in enumerate(cases, 1):
        figures.add(case)
        if case.ending.status == FAULT and len(figures.faults) <= args.show:
            print(f"case {case.number}, {case.kind}: {case.ending.message}", file=sys.stderr, flush=True)
        if args.only is not None:
            print(case)
        elif done % 5000 == 0:
            spent = time.monotonic() - begun
            print(f"{done} of {args.count}, {len(figures.faults)} faults, {spent:.0f} s", file=sys.stderr, flush=True)
    print(figures.table())
    print("\n".join(figures.fault_lines()))
    return 1 if figures.faults else 0


if __name__ == "__main__":
    sys.exit(main())
