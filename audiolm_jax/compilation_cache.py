"""JAX's cache of compiled programs, in the user's cache folder: what one command compiles, no later one compiles again.

JAX finds an entry by the program, the versions of jaxlib and XLA, the flags and the device, so nothing stale is found.
The folder is bounded: what was not used for longest goes first. Processes that share it take turns by a lock of JAX's.

From Python, before anything is compiled: `audiolm_jax.compilation_cache.set_up()`.
"""

import os
import sys
import warnings
from pathlib import Path

from audiolm_jax.files import user_cache_folder

# Of all programs together; those of one `audiolm generate` with the small bundle take 1.8 MB.
MOST_BYTES = 2 * 2**30
_LOCK_SECONDS = 2
# JAX's names: of the file that it locks, of a program, and of the time it was last used, which is written after it.
_LOCK, _PROGRAM, _LAST_USED = ".lockfile", "-cache", "-atime"


def set_up(keep: bool = True, folder: str | Path | None = None) -> Path | None:
    """Lets this process, and those that it starts, keep and find compiled programs.

    Whatever goes wrong with the folder, then or later, costs only time: programs are compiled as without it, and
    nothing is said. A user's own JAX_COMPILATION_CACHE_DIR stays as it is.

    Args:
        keep: False to compile everything anew, and to keep nothing.
        folder: of the programs; by default audiolm_jax/compiled in $XDG_CACHE_HOME or ~/.cache.

    Returns:
        The folder; None if nothing is kept, because that was asked for or no folder can be written.
    """
    if not keep:
        _configure({"jax_enable_compilation_cache": False})
        return None
    if own := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(own)
    try:
        folder = Path(folder or user_cache_folder() / "compiled").absolute()
        # Programs are run as they are found: nobody else is to write them.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_broken(folder)
    except (OSError, RuntimeError):  # the latter where the user has no home
        return None
    _configure(
        {
            "jax_compilation_cache_max_size": MOST_BYTES,
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
            "jax_compilation_cache_dir": str(folder),
        }
    )
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    warnings.filterwarnings("ignore", message="Cache value for key .* exceeds the maximum cache size")
    return folder


def _configure(settings: dict[str, object]) -> None:
    """Settings of JAX, by environment: it need not be imported for that, and processes started from here inherit them.

    What the user has set in the environment stays, but for what turns the cache off.
    """
    for name, value in settings.items():
        if value is not False and name.upper() in os.environ:
            continue
        os.environ[name.upper()] = str(value)
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value)


def _remove_broken(folder: Path) -> None:
    """Removes programs whose writing was cut off by a kill or a full disk; JAX would try them for ever.

    Raises:
        OSError: the folder cannot be written.
    """
    import filelock

    lock = folder / _LOCK
    lock.touch()
    try:
        with filelock.FileLock(lock, timeout=_LOCK_SECONDS):
            for program in folder.glob(f"*{_PROGRAM}"):
                last_used = program.with_name(program.name.removesuffix(_PROGRAM) + _LAST_USED)
                if not last_used.exists() or not program.stat().st_size:
                    program.unlink()
            for last_used in folder.glob(f"*{_LAST_USED}"):
                if not last_used.with_name(last_used.name.removesuffix(_LAST_USED) + _PROGRAM).exists():
                    last_used.unlink()
    except filelock.Timeout:
        return  # others are busy writing; a later process will look
