"""Corpora of waveforms: utterances with speakers and keys, split so that no speaker is on both sides.

Every corpus has `utterances`, `train` and `heldout` (sequences of Utterance), `left_out` (files that cannot be used,
with reasons), `source_files()` for the extraction of tokens, and `split`, which is stored with what is made of it.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Protocol

from audiolm_jax.audio import AUDIO_SUFFIXES
from audiolm_jax.audio.folder import AudioFolder, PassedOver, find_audio
from audiolm_jax.data.corpora import even_segments, libri_light, maestro
from audiolm_jax.data.corpora.utterances import (
    LeftOut,
    Listing,
    SourceFiles,
    Utterance,
    UtteranceList,
    UtteranceTable,
    heldout_files,
    heldout_speaker_names,
    tell_left_out,
)
from audiolm_jax.data.corpora.voice_activity import SEGMENT_SECONDS
from audiolm_jax.errors import UserError
from audiolm_jax.files.object_storage import any_path, is_remote
from audiolm_jax.tokens.split import Split

CORPUS_KINDS = ("folder", "libri_light", *libri_light.SUBSETS, "maestro", "music")

__all__ = [
    "CORPUS_KINDS",
    "Corpus",
    "FolderCorpus",
    "LibriLightCorpus",
    "MaestroCorpus",
    "MusicCorpus",
    "Utterance",
    "open_corpora",
    "open_corpus",
]


class Corpus(Protocol):
    """What a feed and the extraction ask of a corpus; each kind of corpus says how it is listed."""

    @property
    def listing(self) -> Listing:
        """What a scan of the corpus finds; made when it is first asked for."""

    @property
    def split(self) -> Split:
        """What is held out, and by which settings."""

    @property
    def utterances(self) -> UtteranceList:
        """All of them, in an order that depends on names only."""
        return self.listing.utterances

    @property
    def train(self) -> UtteranceList:
        """Those to train on."""
        return self.listing.train

    @property
    def heldout(self) -> UtteranceList:
        """Those of other speakers, for evaluation only."""
        return self.listing.heldout

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Files, or parts of them, that cannot be used."""
        return self.listing.left_out

    def source_files(self) -> SourceFiles:
        """All utterances with their splits, as `tokens.extraction.extract` wants them, those of a file side by side."""
        return self.listing.source_files()


@dataclasses.dataclass(frozen=True)
class FolderCorpus(Corpus):
    """Every audio file below a folder, each real folder and each real file once, whatever links lead to it.

    The speaker of a file is the first folder below the root (`root/ls19/x.flac` is spoken by "ls19"), or the file's
    own stem where it lies in the root. The key is the path below the root without its suffix. So the folders of
    LibriSpeech's subsets are corpora as they are, and with `speaker_level=1` so is a folder that holds several of them
    (`root/dev-clean/84/...`).

    The held-out speakers are those whose names hash lowest, so the split depends on nothing but names, count and
    seed. At most a quarter of the speakers are held out, at least one; of a single speaker's recordings a tenth is
    held out instead, by key.

    Attributes:
        root: the folder.
        heldout_speakers: number of speakers to hold out; 0 for none.
        seed: of the split.
        speaker_level: how many folders lie between the root and the one named by the speaker.
    """

    root: str | Path
    heldout_speakers: int = 20
    seed: int = 0
    speaker_level: int = 0

    def __post_init__(self):
        _check_count(self.heldout_speakers)

    @functools.cached_property
    def listing(self) -> Listing:
        """All recordings in the order of their keys, and what cannot be named or found; what cannot be decoded shows
        when it is read.

        Raises:
            UserError: the folder is missing or holds no audio, or two files differ only in their suffix.
        """
        root = any_path(self.root)
        folder = _without_links_to_files_again(find_audio(root, AUDIO_SUFFIXES))
        folder.tell()
        left_out = tuple(self._left_out(entry) for entry in folder.passed_over)
        found: dict[str, tuple[str, str]] = {}
        for path in folder.files:
            below = path.relative_to(root)
            key = below.with_suffix("").as_posix()
            if key in found:
                raise UserError(f"{path} and {root / found[key][0]} differ only in their suffix; remove one of them")
            found[key] = (below.as_posix(), self._speaker(below))
        if not found:
            wanted = f"give a folder with files of the kinds {' '.join(AUDIO_SUFFIXES)}"
            raise UserError(f"{root} holds no audio files{' that can be used' if left_out else ''}; {wanted}")
        files, speakers = zip(*(found[key] for key in sorted(found)), strict=True)
        table = UtteranceTable(root, files, speakers)
        names = heldout_speaker_names(speakers, self.heldout_speakers, self.seed)
        is_heldout = heldout_files(table, names, self.heldout_speakers, self.seed)
        return Listing(table, is_heldout, left_out)

    @property
    def split(self) -> Split:
        """By speaker."""
        level = {"speaker_level": self.speaker_level} if self.speaker_level else {}
        settings = {"heldout_speakers": self.heldout_speakers, "split_seed": self.seed, **level}
        return self.listing.split("folder", settings)

    def _speaker(self, below: PurePath) -> str:
        """Who speaks in a file, by its path below the root."""
        folders = below.parts[:-1]
        return folders[min(self.speaker_level, len(folders) - 1)] if folders else below.stem

    def _left_out(self, entry: PassedOver) -> LeftOut:
        below = PurePath(entry.name)
        return LeftOut(entry.name, below.with_suffix("").as_posix(), self._speaker(below), entry.reason)


def _without_links_to_files_again(folder: AudioFolder) -> AudioFolder:
    """The same without links to files that are found without them, or by an earlier link.

    A recording of one speaker must not be another's as well, who may be on the other side of the split.
    """
    if not folder.links:
        return folder
    links = set(folder.links)
    # A file's own folder may have been reached by a link too, so both sides are told by where they really are.
    real_folder = functools.cache(os.path.realpath)
    first = {
        os.path.join(real_folder(path.parent), path.name): path for path in folder.files if path not in links
    }
    again = {}
    for link in folder.links:
        taken = first.setdefault(os.path.realpath(link), link)
        if taken is not link:
            reason = f"it is a link to {taken.relative_to(folder.folder).as_posix()}, which is read already"
            again[link] = PassedOver(link.relative_to(folder.folder).as_posix(), reason)
    files = tuple(path for path in folder.files if path not in again)
    return dataclasses.replace(folder, files=files, passed_over=(*folder.passed_over, *again.values()))


@dataclasses.dataclass(frozen=True)
class LibriLightCorpus(Corpus):
    """Libri-Light as it was unpacked, cut by its voice activity when it is read.

    An utterance is a segment: neighbouring stretches of speech of one recording, without the silence between them, of
    up to `segment_seconds`. See `voice_activity.cut_by_voice_activity`. The first scan reads the JSON and the header
    of every recording; what it finds is kept in an index, and later only new and changed files are opened. Recordings
    without usable voice activity are in `left_out`. Speakers are split as in `FolderCorpus`.

    Attributes:
        root: holds small/, medium/, large/, or is one of them.
        subset: "unlab-600", "unlab-6k" or "unlab-60k"; None: all parts that are there.
        heldout_speakers, seed: as in `FolderCorpus`.
        segment_seconds: what a segment aims at.
        cache_dir: folder of the index; None: audiolm_jax in $XDG_CACHE_HOME or ~/.cache.
    """

    root: str | Path
    subset: str | None = None
    heldout_speakers: int = 20
    seed: int = 0
    segment_seconds: float = SEGMENT_SECONDS
    cache_dir: str | Path | None = None

    def __post_init__(self):
        _check_count(self.heldout_speakers)
        if self.subset is not None and self.subset not in libri_light.SUBSETS:
            raise UserError(f"Libri-Light has no subset {self.subset!r}; take one of {', '.join(libri_light.SUBSETS)}")
        if self.segment_seconds <= 0:
            raise UserError(f"the length of a segment must be positive, got {self.segment_seconds} s")

    @functools.cached_property
    def listing(self) -> Listing:
        """All segments by recording and then by number, and what cannot be used: recordings without usable voice
        activity, and voice activity after the end of a recording.

        Raises:
            UserError: the folder or a part is missing, or no recording in it can be used.
        """
        root = Path(self.root)
        parts = libri_light.parts_of(root, self.subset)
        listing = libri_light.list_libri_light(
            root, parts, self.heldout_speakers, self.seed, self.segment_seconds, self.cache_dir
        )
        tell_left_out(listing.left_out)
        return listing

    @property
    def split(self) -> Split:
        """By speaker."""
        settings = {"heldout_speakers": self.heldout_speakers, "split_seed": self.seed}
        return self.listing.split(self.subset or "libri_light", settings)


@dataclasses.dataclass(frozen=True)
class MaestroCorpus(Corpus):
    """MAESTRO v3 in its own splits, its recordings cut evenly when they are read.

    There are no speakers; the composition takes their place, so none is on both sides. An utterance is a segment of up
    to `segment_seconds`; the first scan reads the header of every recording, and keeps an index as `LibriLightCorpus`.

    Attributes:
        root: the folder that holds maestro-v3.0.0.json or .csv.
        heldout_split: "validation" or "test"; the other one is left alone.
        segment_seconds: of a segment, at most.
        cache_dir: as in `LibriLightCorpus`.
    """

    root: str | Path
    heldout_split: str = "validation"
    segment_seconds: float = SEGMENT_SECONDS
    cache_dir: str | Path | None = None

    def __post_init__(self):
        if self.segment_seconds <= 0:
            raise UserError(f"the length of a segment must be positive, got {self.segment_seconds} s")
        if self.heldout_split not in maestro.SPLITS[1:]:
            raise UserError(f"held out is MAESTRO's validation or test split, got {self.heldout_split!r}")

    @functools.cached_property
    def listing(self) -> Listing:
        """The segments of both splits, by recording and then by number, and the recordings that are missing, cannot be
        read, or whose composition is in another split too.

        Raises:
            UserError: the folder has no table or none of the recordings.
        """
        listing = maestro.list_maestro(
            Path(self.root), self.heldout_split, self.segment_seconds, self.cache_dir
        )
        tell_left_out(listing.left_out)
        return listing

    @property
    def split(self) -> Split:
        """MAESTRO's own; the names that are held out are those of compositions."""
        return self.listing.split("maestro", {"heldout_split": self.heldout_split})


@dataclasses.dataclass(frozen=True)
class MusicCorpus(Corpus):
    """A folder of long recordings without speakers, cut evenly when they are read.

    The piece takes the speaker's place: as in `FolderCorpus` the first folder below the root, or the stem of a file in
    the root. All recordings of a piece are on one side of the split, which is that of `FolderCorpus` to the letter. An
    utterance is a segment of up to `segment_seconds`, as in `MaestroCorpus`.

    Attributes:
        root: the folder.
        heldout_pieces: number of pieces to hold out, at most a quarter of them; 0 for none.
        seed: of the split.
        segment_seconds: of a segment, at most.
        cache_dir: as in `LibriLightCorpus`.
    """

    root: str | Path
    heldout_pieces: int = 20
    seed: int = 0
    segment_seconds: float = SEGMENT_SECONDS
    cache_dir: str | Path | None = None

    def __post_init__(self):
        _check_count(self.heldout_pieces)
        if self.segment_seconds <= 0:
            raise UserError(f"the length of a segment must be positive, got {self.segment_seconds} s")
        if is_remote(self.root):
            raise UserError(f"{self.root} lies on object storage; a corpus of kind music is read from a local folder")

    @functools.cached_property
    def listing(self) -> Listing:
        """The segments of all recordings by key and then by number, and what cannot be used.

        Raises:
            UserError: as `FolderCorpus`, or none of the recordings can be read.
        """
        whole = FolderCorpus(self.root, self.heldout_pieces, self.seed).listing
        table, unreadable = even_segments.cut("music", whole.table, self.segment_seconds, self.cache_dir)
        tell_left_out(unreadable)
        if not len(table):
            raise UserError(f"none of the recordings in {self.root} can be read: {unreadable[0].reason}")
        return Listing(table, whole.is_heldout, (*whole.left_out, *unreadable))

    @property
    def split(self) -> Split:
        """By piece."""
        return self.listing.split("music", {"heldout_speakers": self.heldout_pieces, "split_seed": self.seed})


def open_corpus(
    kind: str,
    root: str | Path,
    heldout_speakers: int = 20,
    seed: int = 0,
    segment_seconds: float = SEGMENT_SECONDS,
    cache_dir: str | Path | None = None,
) -> Corpus:
    """The corpus in a folder; nothing is read before its utterances are asked for.

    Args:
        kind: one of CORPUS_KINDS: "folder" for any folder of audio; "libri_light" for whatever parts of Libri-Light
            are there, "unlab-600", "unlab-6k" or "unlab-60k" for just these; "maestro"; "music" for any folder of long
            recordings without speakers.
        root: the folder.
        heldout_speakers, seed: of the split, pieces where there are no speakers; MAESTRO has its own.
        segment_seconds: of a segment of Libri-Light, MAESTRO or music.
        cache_dir: where the index of their segments is kept; None for the user's cache.

    Raises:
        UserError: there is no such kind.
    """
    if kind == "folder":
        return FolderCorpus(root, heldout_speakers, seed)
    if kind == "libri_light" or kind in libri_light.SUBSETS:
        subset = None if kind == "libri_light" else kind
        return LibriLightCorpus(root, subset, heldout_speakers, seed, segment_seconds, cache_dir)
    if kind == "maestro":
        return MaestroCorpus(root, segment_seconds=segment_seconds, cache_dir=cache_dir)
    if kind == "music":
        return MusicCorpus(root, heldout_speakers, seed, segment_seconds, cache_dir)
    raise UserError(f"there is no kind of corpus {kind!r}; take one of {', '.join(CORPUS_KINDS)}")


def open_corpora(
    kind: str,
    roots: Sequence[str | Path],
    heldout_speakers: int = 20,
    seed: int = 0,
    segment_seconds: float = SEGMENT_SECONDS,
    cache_dir: str | Path | None = None,
) -> tuple[Corpus, ...]:
    """The corpora in several folders, each split by itself; see `open_corpus` for the arguments.

    Raises:
        UserError: there is no such kind, or parts of Libri-Light are named one by one.
    """
    if len(roots) > 1 and kind not in ("folder", "maestro", "music"):
        # A reader of small may read in medium too, and would be held out of one and trained on in the other.
        raise UserError(f"the corpus is {kind!r}: name one folder, that which holds small/, medium/ and large/")
    return tuple(open_corpus(kind, root, heldout_speakers, seed, segment_seconds, cache_dir) for root in roots)


def _check_count(heldout_speakers: int) -> None:
    if heldout_speakers < 0:
        raise UserError(f"heldout_speakers must not be negative, got {heldout_speakers}")
