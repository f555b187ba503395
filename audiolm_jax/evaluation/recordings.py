"""Recordings to evaluate on: who speaks, what is said where that is known, and whether the speaker was held out."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from audiolm_jax.data.corpora import FolderCorpus
from audiolm_jax.data.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.transcripts import read_transcripts


@dataclasses.dataclass(frozen=True)
class Recording:
    """One audio file.

    Attributes:
        key: unique in its list and the same on every machine: the path below the folder without suffix.
        speaker: the first folder below the root, see `FolderCorpus`.
        path: of the file.
        text: what is said, None where it is not known.
        heldout: whether the speaker was kept out of training, by the split of `FolderCorpus`.
    """

    key: str
    speaker: str
    path: Path
    text: str | None = None
    heldout: bool = True


def find_recordings(
    folders: Sequence[str | Path],
    heldout_speakers: int = 20,
    split_seed: int = 0,
    transcripts: str | Path | None = None,
) -> list[Recording]:
    """All recordings below folders, in the order of their keys, with their transcripts.

    Args:
        folders: of audio, one folder for each speaker; with several, keys begin with the folder's name.
        heldout_speakers, split_seed: of the split, those of the training; 0 speakers: all count as held out, which is
            right for data that no training has seen.
        transcripts: a folder with the transcripts, laid out like that of the audio; None: they lie beside it. See
            `transcripts.read_transcripts` for the formats.

    Raises:
        UserError: a folder holds no audio, two folders of one name hold the same file, or transcripts cannot be read.
    """
    found: dict[str, Recording] = {}
    for folder in folders:
        corpus = FolderCorpus(folder, heldout_speakers, split_seed)
        texts = read_transcripts(transcripts or folder, (utterance.key for utterance in corpus.utterances))
        heldout = {utterance.key for utterance in corpus.heldout}
        for utterance in corpus.utterances:
            key = f"{Path(folder).name}/{utterance.key}" if len(folders) > 1 else utterance.key
            if key in found:
                raise UserError(f"{utterance.path} and {found[key].path} have one key {key!r}; rename a folder")
            text = texts.get(utterance.key)
            found[key] = Recording(
                key, utterance.speaker, utterance.path, text, not heldout_speakers or utterance.key in heldout
            )
    return [found[key] for key in sorted(found)]


def shared_out(recordings: Sequence[Recording], count: int | None) -> list[Recording]:
    """At most `count` recordings, one of every speaker before a second of any; a function of names alone."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=lambda r: (hash_bits(0, "report", r.speaker, r.key), r.key)):
        by_speaker.setdefault(recording.speaker, []).append(recording)
    rounds = itertools.zip_longest(*(by_speaker[name] for name in sorted(by_speaker)))
    chosen = [recording for one_round in rounds for recording in one_round if recording is not None]
    return chosen[:count]
