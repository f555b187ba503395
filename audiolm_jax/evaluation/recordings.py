"""Recordings to evaluate on: who speaks, what is said where that is known, and whether the split holds them out."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.audio import Waveform, read_ranges
from audiolm_jax.data.corpora.corpora import Corpus, open_corpora
from audiolm_jax.data.corpora.utterances import Utterance
from audiolm_jax.data.corpora.voice_activity import SEGMENT_SECONDS, Ranges, narrowed
from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.words.transcripts import read_transcripts
from audiolm_jax.tokens.split import Split


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording, or one sample that was made of it.

    Attributes:
        key: unique in its list and the same on every machine: the path below the folder without suffix, and behind it
            the number of the segment where a corpus is cut, and that of the sample where several are drawn.
        speaker: who speaks, or the piece of music; a name of the recording's own where that is not known.
        path: of the file.
        text: what is said, None where it is not known.
        heldout: whether the split keeps it out of training.
        ranges: [start, stop) in samples of the file that make up the recording; empty: the whole file.
        source_key: of a sample the key of the recording that it was made of; of that itself its own key.
        sample_index: of a drawn sample which one of its recording it is, 0, 1 ...; else None.
        has_speaker: whether `speaker` says who speaks.
    """

    key: str
    speaker: str
    path: Path
    text: str | None = None
    heldout: bool = True
    ranges: Ranges = ()
    source_key: str = ""
    sample_index: int | None = None
    has_speaker: bool = True

    def __post_init__(self):
        object.__setattr__(self, "source_key", self.source_key or self.key)

    def read(self) -> Waveform:
        """Its sound, at the rate of its file.

        Raises:
            UserError: the file cannot be read.
        """
        return read_ranges(self.path, self.ranges)

    def sample(self, path: Path, index: int | None = None) -> "Recording":
        """A file that was made of this recording, with the index of the sample where several are drawn."""
        key = self.key if index is None else f"{self.key}#{index}"
        return dataclasses.replace(self, key=key, path=path, ranges=(), source_key=self.key, sample_index=index)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Folders of recordings and how they are split: what `--data` and the flags beside it say.

    Attributes:
        folders: opened as a training opens them, see `data.corpora.corpora.open_corpora`.
        corpus: the kind of all of them.
        heldout_speakers, split_seed: of the split, those of the training; 0 speakers: none is held out.
        segment_seconds: that Libri-Light, MAESTRO and music are cut into; the split does not depend on it.
        corpus_cache: of the index of their segments.
        unseen: all recordings count as held out, because no training has heard any of them.
    """

    folders: tuple[str, ...]
    corpus: str = "folder"
    heldout_speakers: int = 20
    split_seed: int = 0
    segment_seconds: float = SEGMENT_SECONDS
    corpus_cache: str | None = None
    unseen: bool = False

    @functools.cached_property
    def corpora(self) -> tuple[Corpus, ...]:
        """One for each folder.

        Raises:
            UserError: there is no such kind of corpus, or several folders cannot be one.
        """
        settings = (self.heldout_speakers, self.split_seed, self.segment_seconds, self.corpus_cache)
        return open_corpora(self.corpus, self.folders, *settings)

    @functools.cached_property
    def splits(self) -> tuple[Split, ...]:
        """What of each folder is held out by these settings, whatever `unseen` says."""
        return tuple(corpus.split for corpus in self.corpora)

    def recordings(self, transcripts: str | Path | None = None) -> list[Recording]:
        """All recordings below the folders, in the order of their keys, with their transcripts.

        With several folders, keys begin with the folder's name. Libri-Light, MAESTRO and music have no transcripts.

        Args:
            transcripts: a folder with the transcripts, laid out like that of the audio; None: they lie beside it. See
                `transcripts.read_transcripts` for the formats.

        Raises:
            UserError: a folder holds no audio, two folders of one name hold the same file, or transcripts cannot be
                read.
        """
        found: dict[str, Recording] = {}
        for folder, corpus in zip(self.folders, self.corpora, strict=True):
            texts: dict[str, str] = {}
            if transcripts is not None or self.corpus == "folder":
                texts = read_transcripts(transcripts or folder, (utterance.key for utterance in corpus.utterances))
            for utterances, heldout in ((corpus.train, self.unseen), (corpus.heldout, True)):
                for utterance in utterances:
                    key = f"{Path(folder).name}/{utterance.key}" if len(self.folders) > 1 else utterance.key
                    if key in found:
                        raise UserError(
                            f"{utterance.path} and {found[key].path} have one key {key!r}; rename a folder"
                        )
                    found[key] = Recording(
                        key,
                        utterance.speaker,
                        utterance.path,
                        texts.get(utterance.key),
                        heldout,
                        utterance.ranges,
                        has_speaker=self._has_speaker(utterance),
                    )
        return [found[key] for key in sorted(found)]

    def _has_speaker(self, utterance: Utterance) -> bool:
        """Whether the corpus says who speaks: a file that lies in the root of a folder is in no speaker's folder."""
        return self.corpus not in ("maestro", "music") and utterance.speaker != utterance.key

    def flags(self) -> str:
        """The flags that decide on the split, for messages."""
        if self.corpus == "maestro":
            return "--corpus maestro"
        return (
            f"--corpus {self.corpus} --heldout_speakers {self.heldout_speakers} --split_seed {self.split_seed}"
        )

    def to_json(self) -> dict[str, Any]:
        """What figures depend on, plain JSON values."""
        plain = {"data": list(self.folders), "corpus": self.corpus}
        if self.unseen:
            return plain | {"unseen": True}
        return plain | {"heldout_speakers": self.heldout_speakers, "split_seed": self.split_seed}


def excerpt(recording: Recording, num_samples: int, sample_rate_hz: int, seconds: float) -> Recording:
    """So many seconds of a longer recording, from a place that its key alone decides; nobody knows what is said there.

    Args:
        recording: of which it is a part; its key is followed by "@" and the second at which the excerpt begins.
        num_samples: of all of it, as it is read.
        sample_rate_hz: of its file.
        seconds: of the excerpt, less than the recording has.
    """
    length = round(seconds * sample_rate_hz)
    start = hash_bits(0, "excerpt", recording.key) % (num_samples - length + 1)
    ranges = narrowed(recording.ranges or ((0, num_samples),), start, start + length)
    key = f"{recording.key}@{start / sample_rate_hz:.2f}"
    return dataclasses.replace(recording, key=key, source_key=key, ranges=ranges, text=None)


def find_recordings(
    folders: Sequence[str | Path],
    heldout_speakers: int = 20,
    split_seed: int = 0,
    transcripts: str | Path | None = None,
    unseen: bool = False,
) -> list[Recording]:
    """All recordings of plain folders: `DataSettings.recordings` for the kind "folder"."""
    data = DataSettings(tuple(map(str, folders)), "folder", heldout_speakers, split_seed, unseen=unseen)
    return data.recordings(transcripts)


def shared_out(recordings: Sequence[Recording], count: int | None) -> list[Recording]:
    """At most `count` recordings, one of every speaker before a second of any; a function of names alone."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=lambda r: (hash_bits(0, "report", r.speaker, r.key), r.key)):
        by_speaker.setdefault(recording.speaker, []).append(recording)
    rounds = itertools.zip_longest(*(by_speaker[name] for name in sorted(by_speaker)))
    chosen = [recording for one_round in rounds for recording in one_round if recording is not None]
    return chosen[:count]
