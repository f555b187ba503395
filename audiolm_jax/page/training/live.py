"""Writes the page of trainings, once, or again and again while they run."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file
from audiolm_jax.page.training.clips import read_clips
from audiolm_jax.page.training.page import AS_THEY_COME, PageSettings, page
from audiolm_jax.page.training.runs import Run, read_runs


def write_page(
    workdirs: Sequence[str | Path], output: str | Path, settings: PageSettings = AS_THEY_COME
) -> list[Run]:
    """Writes the page of some work directories, whole or not at all, and gives what they tell.

    Raises:
        UserError: one is no work directory, or the page cannot be written.
    """
    runs = read_runs(workdirs)
    text = page(runs, [read_clips(run.workdir) for run in runs], settings)
    try:
        replace_file(output, text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}; name another --output") from error
    return runs


def keep_page(
    workdirs: Sequence[str | Path],
    output: str | Path,
    settings: PageSettings,
    every_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    written: Callable[[list[Run]], None] = lambda runs: None,
) -> list[Run]:
    """Writes the page whenever there are new figures, until all runs are done or ^C; the last one does not reload.

    Args:
        workdirs, output: as for `write_page`.
        settings: how it is drawn; when it reloads is set here.
        every_seconds: how often it is looked whether there is something new.
        sleep: waits so many seconds.
        written: called with the runs whenever the page was written.

    Raises:
        UserError: as `write_page`.
    """
    live = dataclasses.replace(settings, reload_seconds=every_seconds)
    seen = None
    try:
        while True:
            now = _state(workdirs)
            if now != seen:
                runs, seen = write_page(workdirs, output, live), now
                written(runs)
                if all(run.is_done for run in runs):
                    break
            sleep(every_seconds)
    except KeyboardInterrupt:
        pass
    return write_page(workdirs, output, dataclasses.replace(settings, reload_seconds=None))


def _state(workdirs: Sequence[str | Path]) -> list[tuple]:
    """Changes when anything was written."""
    found = []
    for folder in map(Path, workdirs):
        for path in (*folder.glob("*.jsonl"), *folder.glob("nan_step_*.json"), *folder.glob("done"),
                     *folder.glob("tensorboard/events.out.tfevents.*")):
            try:
                status = path.stat()
            except OSError:
                continue  # replaced at this moment; the next look sees it
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
