"""How far an extraction is, told while it runs: files, hours, times real time and the time that is left.

Workers may be threads, processes or other hosts, so nothing is counted in them: the folder is looked at, where each
finished shard has a file that says what is in it.
"""

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence

from etils import epath
from tqdm import tqdm

from audiolm_jax.tokens.extraction.shard_plan import ShardPlan
from audiolm_jax.tokens.manifest import ShardEntry

_BAR_SECONDS = 2.0
_LINE_SECONDS = 15.0


@dataclasses.dataclass
class JobProgress:
    """Watches the shards that were missing when the job began, until the `with` block ends.

    On a terminal it draws a bar, elsewhere it writes a line now and then. One process of a job watches.
    """

    missing: Sequence[ShardPlan]
    shown: bool = True

    def __enter__(self) -> "JobProgress":
        self._started = time.monotonic()
        self._done: dict[str, ShardEntry] = {}
        self._stopped = threading.Event()
        total = sum(plan.num_inputs for plan in self.missing)
        self._total_files = total
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="file", desc="tokenize", disable=not (self.shown and on_terminal))
        self._every_seconds = _BAR_SECONDS if on_terminal else _LINE_SECONDS
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        if self.shown:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped.set()
        if self.shown:
            self._thread.join()
        self._bar.close()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every_seconds):
            before = len(self._done)
            self._look()
            if len(self._done) > before:
                self._tell()

    def _look(self) -> None:
        """Finds the shards that were finished since the last look: one listing, and the headers that are new."""
        there = {path.name for path in epath.Path(self.missing[0].folder).glob("*.array_record.jsonl")}
        for plan in self.missing:
            if f"{plan.name}.jsonl" in there and plan.name not in self._done:
                header = plan.finished()
                if header is not None:
                    self._done[plan.name] = header.shard

    def _tell(self) -> None:
        files = sum(shard.num_inputs for shard in self._done.values())
        left_out = sum(shard.num_inputs - shard.num_records for shard in self._done.values())
        seconds = sum(shard.seconds for shard in self._done.values())
        wall_seconds = time.monotonic() - self._started
        left_seconds = wall_seconds * (self._total_files - files) / max(files, 1)
        self._bar.set_postfix_str(f"{seconds / 3600:.2f} h, {seconds / wall_seconds:.0f}x real time", refresh=False)
        self._bar.update(files - self._bar.n)
        if self._bar.disable:
            print(
                f"tokenize: {files}/{self._total_files} files, {seconds / 3600:.2f} h of audio, "
                f"{seconds / wall_seconds:.1f} times real time, {left_out} left out, "
                f"about {_duration(left_seconds)} to go",
                file=sys.stderr,
                flush=True,
            )


def _duration(seconds: float) -> str:
    """For people: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
