"""Recordings to evaluate on: who speaks, what is said where that is known, and whether the speaker was held out."""

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from audiolm_jax.data.corpora import FolderCorpus
from audiolm_jax.data.order import hash_bits
from audiolm_jax.errors import UserError


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


def find_recordings(folders: Sequence[str | Path], heldout_speakers: int = 20, split_seed: int = 0) -> list[Recording]:
    """All recordings below folders, in the order of their keys, with the transcripts that lie beside them.

    Args:
        folders: of audio, one folder for each speaker; with several, keys begin with the folder's name.
        heldout_speakers, split_seed: of the split, those of the training; 0 speakers: all count as held out, which is
            right for data that no training has seen.

    Raises:
        UserError: a folder holds no audio, or two folders of one name hold the same file.
    """
    found: dict[str, Recording] = {}
    for folder in folders:
        corpus = FolderCorpus(folder, heldout_speakers, split_seed)
        texts = read_transcripts(folder)
        heldout = {utterance.key for utterance in corpus.heldout}
        for utterance in corpus.utterances:
            key = f"{Path(folder).name}/{utterance.key}" if len(folders) > 1 else utterance.key
            if key in found:
                raise UserError(f"{utterance.path} and {found[key].path} have one key {key!r}; rename a folder")
            text = texts.get(utterance.path.stem)
            found[key] = Recording(
                key, utterance.speaker, utterance.path, text, not heldout_speakers or utterance.key in heldout
            )
    return [found[key] for key in sorted(found)]


def read_transcripts(folder: str | Path) -> dict[str, str]:
    """What is said in each recording below a folder, by the stem of its file; empty texts are left out.

    Three formats are read, all of them where there are several: `transcripts.tsv` (columns utterance, speaker, text, or
    utterance, text; no header), LibriSpeech's `*.trans.txt` (utterance, a space, text) and `NAME.txt` beside `NAME.*`.

    Raises:
        UserError: a line of a transcript file has no text column, or the file is not UTF-8 text.
    """
    texts: dict[str, str] = {}
    for path in sorted(Path(folder).rglob("*.tsv")) + sorted(Path(folder).rglob("*.txt")):
        if path.name.startswith("."):
            continue
        try:
            if path.name == "transcripts.tsv":
                texts |= _tsv_transcripts(path)
            elif path.name.endswith(".trans.txt"):
                rows = (line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
                texts |= {stem: text.strip() for stem, _, text in rows}
            elif path.suffix == ".txt" and _has_audio_beside(path):
                texts[path.stem] = " ".join(path.read_text(encoding="utf-8").split())
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    return {stem: text for stem, text in texts.items() if text}


def _tsv_transcripts(path: Path) -> dict[str, str]:
    texts = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if not row:
                continue
            if len(row) not in (2, 3):
                raise UserError(f"{path}, line {number}: expected utterance, speaker and text with tabs between them")
            texts[row[0]] = row[-1].strip()
    return texts


def _has_audio_beside(path: Path) -> bool:
    return any(path.with_suffix(suffix).exists() for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3"))


def shared_out(recordings: Sequence[Recording], count: int | None) -> list[Recording]:
    """At most `count` recordings, one of every speaker before a second of any; a function of names alone."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=lambda r: (hash_bits(0, "report", r.speaker, r.key), r.key)):
        by_speaker.setdefault(recording.speaker, []).append(recording)
    rounds = itertools.zip_longest(*(by_speaker[name] for name in sorted(by_speaker)))
    chosen = [recording for one_round in rounds for recording in one_round if recording is not None]
    return chosen[:count]
