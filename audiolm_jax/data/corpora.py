"""Corpora as lists of utterances with speakers, split by speaker."""

import dataclasses
import functools
from pathlib import Path

from audiolm_jax.audio import audio_files
from audiolm_jax.data.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.records import SourceFile


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording: its file, its speaker, and a key that is unique in its corpus and the same on every machine."""

    path: Path
    speaker: str
    key: str


@dataclasses.dataclass(frozen=True)
class FolderCorpus:
    """Every audio file below a folder.

    The speaker of a file is the first folder below the root (`root/ls19/x.flac` is spoken by "ls19"), or the file's
    own stem where it lies in the root. The key is the path below the root without its suffix. So the folders of
    LibriSpeech's subsets and of Libri-Light's parts are corpora as they are, and with `speaker_level=1` so is a folder
    that holds several of them (`root/dev-clean/84/...`).

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
        if self.heldout_speakers < 0:
            raise UserError(f"heldout_speakers must not be negative, got {self.heldout_speakers}")

    @functools.cached_property
    def utterances(self) -> list[Utterance]:
        """All recordings in the order of their keys.

        Raises:
            UserError: the folder is missing or holds no audio, or two files differ only in their suffix.
        """
        root = Path(self.root)
        found: dict[str, Utterance] = {}
        for path in audio_files(root):
            below = path.relative_to(root)
            key = below.with_suffix("").as_posix()
            if key in found:
                raise UserError(f"{path} and {found[key].path} differ only in their suffix; remove one of them")
            folders = below.parts[:-1]
            speaker = folders[min(self.speaker_level, len(folders) - 1)] if folders else path.stem
            found[key] = Utterance(path, speaker, key)
        if not found:
            raise UserError(f"{root} holds no audio files; give a folder with .wav, .flac, .ogg, .opus or .mp3 files")
        return [found[key] for key in sorted(found)]

    @functools.cached_property
    def heldout_names(self) -> frozenset[str]:
        """Names of the held-out speakers; empty if the corpus has one speaker only."""
        speakers = sorted({utterance.speaker for utterance in self.utterances})
        count = min(self.heldout_speakers, max(1, len(speakers) // 4))
        if len(speakers) == 1:
            return frozenset()
        return frozenset(sorted(speakers, key=lambda name: (hash_bits(self.seed, "heldout", name), name))[:count])

    @functools.cached_property
    def _heldout_keys(self) -> frozenset[str]:
        keys = [u.key for u in self.utterances if u.speaker in self.heldout_names]
        if not keys and self.heldout_speakers and len(self.utterances) > 1:
            by_hash = sorted(self.utterances, key=lambda u: (hash_bits(self.seed, "heldout", u.key), u.key))
            keys = [u.key for u in by_hash[: max(1, len(by_hash) // 10)]]
        return frozenset(keys)

    @functools.cached_property
    def train(self) -> list[Utterance]:
        """Recordings to train on."""
        return [u for u in self.utterances if u.key not in self._heldout_keys]

    @functools.cached_property
    def heldout(self) -> list[Utterance]:
        """Recordings of the held-out speakers, for evaluation only."""
        return [u for u in self.utterances if u.key in self._heldout_keys]

    def source_files(self) -> list[SourceFile]:
        """All recordings as `tokens.extract` wants them, each with its split."""
        root = Path(self.root)
        return [
            SourceFile(
                path=str(u.path.resolve()),
                source=u.path.relative_to(root).as_posix(),
                key=u.key,
                speaker=u.speaker,
                split="heldout" if u.key in self._heldout_keys else "train",
            )
            for u in self.utterances
        ]
