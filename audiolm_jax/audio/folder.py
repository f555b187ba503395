"""What lies below a folder of audio: each real folder once, and nothing passed over without a word."""

import collections
import dataclasses
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiolm_jax.errors import UserError
from audiolm_jax.files.object_storage import check_access, is_remote, remote_path

if TYPE_CHECKING:
    from etils import epath

# What libsndfile decodes, by the names that such files have.
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aifc", ".aiff", ".au", ".caf", ".oga", ".rf64", ".sph", ".w64"
)  # fmt: skip
# Names of audio that libsndfile does not decode.
_FOREIGN_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".dff", ".dsf", ".m4a", ".m4b", ".mka", ".mp4", ".mpc", ".ra", ".shn",
    ".spx", ".tta", ".webm", ".wma", ".wv",
})  # fmt: skip
# Lines about single files, before the rest is only counted.
_MAX_LINES = 20


@dataclasses.dataclass(frozen=True)
class PassedOver:
    """A file or folder that is not read, and in one line why.

    Attributes:
        name: its path below the folder; bytes that are not UTF-8 as \\xNN.
        reason: for the user.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class AudioFolder:
    """The audio files below a folder.

    Attributes:
        folder: that was looked through.
        files: those with the wanted suffixes, sorted by path.
        links: those of them that are symbolic links.
        passed_over: what carries a wanted suffix, or is a folder, but cannot be read or named.
        foreign: number of files by suffix that are audio of a kind that is not read.
    """

    folder: "Path | epath.Path"
    files: tuple[Path, ...]
    links: tuple[Path, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    foreign: dict[str, int] = dataclasses.field(default_factory=dict)

    def tell(self) -> None:
        """Says on stderr what is passed over, the first of it by name; a line is said once in a process."""
        for entry in self.passed_over[:_MAX_LINES]:
            _say_once(f"left out: {Path(self.folder, entry.name)}: {entry.reason}")
        if len(self.passed_over) > _MAX_LINES:
            _say_once(f"left out: {len(self.passed_over) - _MAX_LINES} more below {self.folder}")
        if self.foreign:
            suffixes = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.foreign.items()))
            _say_once(
                f"left out: files below {self.folder} that cannot be decoded here: {suffixes}; convert them to FLAC to "
                "use them: ffmpeg -i x.m4a x.flac"
            )


def audio_files(folder) -> list[Path]:
    """Every audio file below `folder`, sorted by path; files are recognised by AUDIO_SUFFIXES in any case.

    As `find_audio`, which see; what is passed over is told on stderr.

    Raises:
        UserError: there is no such folder.
    """
    found = find_audio(folder, AUDIO_SUFFIXES)
    found.tell()
    return list(found.files)


def find_audio(folder: str | os.PathLike, suffixes: Sequence[str]) -> AudioFolder:
    """The files below a folder whose names end with one of the suffixes, in any case.

    Symbolic links are followed, but each real folder is read once: under its own name if it lies below `folder`, else
    under that of the link that lies highest. A link to a folder that holds `folder` is not followed. Hidden files and
    folders are no part of it. A folder on object storage gives paths of etils.epath.

    Raises:
        UserError: there is no such folder, or it cannot be listed.
    """
    check_access(folder)
    folder = remote_path(folder) if is_remote(folder) else Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder that holds audio files")
    return _find_remote(folder, suffixes) if is_remote(folder) else _Search(folder, suffixes).found()


def _find_remote(folder: "epath.Path", suffixes: Sequence[str]) -> AudioFolder:
    """On object storage, where there are neither links nor names that are not UTF-8."""
    files: list[epath.Path] = []
    foreign: collections.Counter[str] = collections.Counter()
    for root, folders, names in folder.walk():
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix in suffixes and not name.startswith("."):
                files.append(root / name)
            elif suffix in _FOREIGN_SUFFIXES and not name.startswith("."):
                foreign[suffix] += 1
    return AudioFolder(folder, tuple(sorted(files)), foreign=dict(foreign))


class _Search:
    """One look through a folder on this machine."""

    def __init__(self, folder: Path, suffixes: Sequence[str]):
        self._folder = folder
        self._suffixes = frozenset(suffixes)
        self._files: list[Path] = []
        self._links: list[Path] = []
        self._passed_over: list[PassedOver] = []
        self._foreign: collections.Counter[str] = collections.Counter()

    def found(self) -> AudioFolder:
        """What is there."""
        try:
            os.scandir(self._folder).close()
        except OSError as error:
            raise UserError(f"{self._folder} cannot be listed ({error.strerror}); mend that and start again") from error
        once = RealFolders(self._folder)
        starts = [os.fspath(self._folder)]
        while starts:  # first the folder itself, then what links in it lead to, then what links in that lead to
            links: list[str] = []
            for start in sorted(starts, key=lambda link: (link.count(os.sep), link)):
                waiting = [start]
                while waiting:
                    folder = waiting.pop()
                    if once.claim(folder):
                        below, linked = self._read(folder)
                        waiting += below
                        links += linked
            starts = links
        return AudioFolder(
            self._folder,
            tuple(sorted(self._files)),
            tuple(sorted(self._links)),
            tuple(sorted(self._passed_over, key=lambda entry: entry.name)),
            dict(self._foreign),
        )

    def _read(self, folder: str) -> tuple[list[str], list[str]]:
        """Takes the files of a folder; the folders in it, and the links to folders."""
        folders, links = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if is_folder(entry):
                        (links if entry.is_symlink() else folders).append(entry.path)
                    else:
                        self._take(entry)
        except OSError as error:
            self._pass_over(folder, f"the folder cannot be listed ({error.strerror})")
        return folders, links

    def _take(self, entry: os.DirEntry) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in _FOREIGN_SUFFIXES:
            self._foreign[suffix] += 1
        if suffix not in self._suffixes:
            return
        if not is_utf8(os.path.relpath(entry.path, self._folder)):
            self._pass_over(entry.path, "its path is not UTF-8; rename it")
        elif entry.is_symlink() and not os.path.isfile(entry.path):
            self._pass_over(entry.path, "it is a link to a file that is not there")
        elif not entry.is_symlink() and not entry.is_file():
            self._pass_over(entry.path, "it is no file")
        else:
            self._files.append(Path(entry.path))
            if entry.is_symlink():
                self._links.append(Path(entry.path))

    def _pass_over(self, path: str, reason: str) -> None:
        self._passed_over.append(PassedOver(shown(os.path.relpath(path, self._folder)), reason))


class RealFolders:
    """Which folders of a search were read already, whatever links led to them."""

    def __init__(self, root: str | os.PathLike):
        """Begins with the folders that hold `root`: what lies beside it is no part of it."""
        self._claimed = {os.fspath(above) for above in Path(os.path.realpath(root)).parents}

    def claim(self, folder: str | os.PathLike) -> bool:
        """Whether nobody has claimed this real folder before, under this or another name."""
        real = os.path.realpath(folder)
        if real in self._claimed:
            return False
        self._claimed.add(real)
        return True


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_utf8(name: str) -> bool:
    """Whether a name that the system gave can be written as UTF-8; others cannot be keys, and are not the same
    everywhere.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name that the system gave, to be printed and stored: bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@functools.cache
def _say_once(line: str) -> None:
    """Says a line on stderr, once in a process: several parts of a command look through the same folder."""
    print(line, file=sys.stderr)
