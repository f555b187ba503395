"""What is registered with seqio when a training begins: the folders of --data, then what a user's modules register."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import seqio

from audiolm_jax.data.feed.feed import AudioFeed, TokenFeed
from audiolm_jax.data.seqio.audio_tasks import register_feed_tasks
from audiolm_jax.data.seqio.tasks import register_tasks
from audiolm_jax.errors import UserError, first_line

_SHOWN_NAMES = 8


def register_folders(feed: AudioFeed | TokenFeed) -> tuple[str, tuple[str, ...]]:
    """Registers a Task for each folder of a feed, and the Mixture of them that is the feed.

    Folders of tokens become "audiolm_FOLDER_STAGE" and the Mixture "audiolm_STAGE"; folders of audio
    "audiolm_audio_FOLDER" and the Mixture "audiolm_audio". FOLDER is the last part of the path, with _2 and so on
    where several folders have it.

    Returns:
        The Mixture's name, and those of the Tasks.
    """
    if isinstance(feed, TokenFeed):
        names = dict(zip(_names(feed.folders), feed.folders, strict=True))
        made = register_tasks(names, [feed.stage], feed.seed, feed.balance_speakers, feed.weights)[feed.stage.name]
        return made.mixture, made.tasks
    return "audiolm_audio", register_feed_tasks(feed, _names([str(corpus.root) for corpus in feed.corpora]))


def _names(folders: Sequence[str]) -> list[str]:
    """A name of letters, digits and underscores for each folder, no two alike."""
    names: list[str] = []
    for folder in folders:
        name = plain = re.sub(r"\W", "_", Path(folder).resolve().name, flags=re.ASCII) or "data"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return names


def import_modules(modules: Sequence[str]) -> None:
    """Imports modules by their names, or Python files by their paths, each once in a process.

    Raises:
        UserError: there is no such module, or it raises an error.
    """
    for module in modules:
        try:
            if module.endswith(".py"):
                _import_file(Path(module))
            else:
                importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever the user's code does)
            told = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"--module {module} cannot be imported ({told}); mend it, or name another") from error


def _import_file(path: Path) -> None:
    name = "audiolm_module_" + re.sub(r"\W", "_", str(path.resolve()))
    if name in sys.modules:
        return
    if not path.is_file():
        raise UserError(f"there is no file {path}; give --module a Python file, or the name of a module")
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def find_tasks(name: str) -> tuple[tuple[seqio.Task, ...], tuple[float, ...]]:
    """The Tasks of a registered Task or Mixture, in the order in which it names them, and their rates above 0.

    Raises:
        UserError: nothing has this name, or no Task of it has a rate.
    """
    if name in seqio.MixtureRegistry.names():
        mixture = seqio.MixtureRegistry.get(name)
        named = list(mixture.rate_per_task_name)  # Mixtures in it too, whose Tasks come last
        tasks = sorted(mixture.tasks, key=lambda task: named.index(task.name) if task.name in named else len(named))
        rated = [(task, rate) for task in tasks if (rate := float(mixture.get_rate(task))) > 0]
        if not rated:
            raise UserError(f"no Task of the seqio Mixture {name} has a rate above 0")
        tasks, rates = zip(*rated, strict=True)
        return tasks, rates
    if name in seqio.TaskRegistry.names():
        return (seqio.TaskRegistry.get(name),), (1.0,)
    known = sorted({*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()})
    shown = ", ".join(known[:_SHOWN_NAMES]) + (" ..." if len(known) > _SHOWN_NAMES else "")
    there = f"registered are {shown}" if known else "nothing is registered"
    raise UserError(f"there is no seqio Task or Mixture {name}; {there}; give --module the file that registers it, or "
                    "change SEQIO_MIXTURE")
