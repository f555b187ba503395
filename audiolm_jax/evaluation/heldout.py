"""Whether what is called held out was kept out of the training of a bundle: its splits beside those of the data.

The split of every training is stored with its checkpoints, with tokens and with the bundle. A folder is known by what
is held out of it: the same names give the same digest.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audiolm_jax.bundle import Bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.recordings import DataSettings
from audiolm_jax.tokens.manifest import read_inputs, read_manifest
from audiolm_jax.tokens.split import Split

REPRODUCED, UNSEEN, UNKNOWN, REFUSED, NOTHING = "reproduced", "unseen", "unknown", "refused", "nothing held out"
# As a report says of all its recordings.
STATE_WORDS = {
    REPRODUCED: "by the split of its training",
    UNSEEN: "all, by the word of the user",
    UNKNOWN: "by a split that its training did not record",
    REFUSED: "none: the split is not that of its training",
    NOTHING: "none",
}


@dataclasses.dataclass(frozen=True)
class HeldoutClaim:
    """What may be said of the recordings that a split holds out.

    Attributes:
        state: REPRODUCED: every training held them out; UNSEEN: the user says that none has heard them; UNKNOWN: a
            training did not record its split; REFUSED: the split is not that of the trainings; NOTHING: the split
            holds nothing out.
        reason: for UNKNOWN and REFUSED, in one sentence.
    """

    state: str
    reason: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        return (self.reason,) if self.reason else ()

    def required(self) -> "HeldoutClaim":
        """The claim; UserError where it is refused."""
        if self.state == REFUSED:
            raise UserError(self.reason)
        return self


def heldout_claim(bundle: Bundle, data: DataSettings, train_tokens: Sequence[str | Path] = ()) -> HeldoutClaim:
    """Compares the split of the data with those of a bundle's trainings.

    Args:
        bundle: whose trainings.
        data: folders and their split.
        train_tokens: folders of token records whose training split is counted; they are taken for a training too.

    Raises:
        UserError: something would be called held out that was trained on, or a folder cannot be read.
    """
    folders = [
        _Folder(str(folder), corpus.split, corpus.listing.file_keys(heldout_only=not data.unseen))
        for folder, corpus in zip(data.folders, data.corpora, strict=True)
    ]
    return _claim(_trainings(bundle, train_tokens), folders, data.flags(), data.unseen)


def token_claim(bundle: Bundle, tokens: Sequence[str | Path], train_tokens: Sequence[str | Path] = ()) -> HeldoutClaim:
    """The same for the held-out records of folders of tokens, by the splits that their manifests hold.

    Raises:
        UserError: as `heldout_claim`, or a folder is unfinished.
    """
    folders, unrecorded = [], []
    for folder in tokens:
        manifest = read_manifest(folder)
        if manifest.split is None:
            unrecorded.append(str(folder))
            continue
        entries = (entry for shard in manifest.shards_of("heldout") for entry in read_inputs(folder, shard))
        keys = dict.fromkeys(Path(entry.source).with_suffix("").as_posix() for entry in entries)
        folders.append(_Folder(str(folder), manifest.split, list(keys)))
    claim = _claim(_trainings(bundle, train_tokens), folders, "the split of these tokens", unseen=False)
    if unrecorded and claim.state != REFUSED:
        return HeldoutClaim(UNKNOWN, f"{', '.join(unrecorded)} was written without a record of its split")
    return claim


def with_claim(measurement: Measurement, claim: HeldoutClaim, data: DataSettings) -> Measurement:
    """A measurement that says by which split its recordings were held out, and what may be said of that."""
    return dataclasses.replace(
        measurement,
        settings={**measurement.settings, **data.to_json(), "heldout": claim.state},
        notes=(*measurement.notes, *claim.notes),
    )


class _Folder(NamedTuple):
    """A folder that is evaluated on, its split, and the keys of the files that would be called held out."""

    name: str
    split: Split
    keys: Sequence[str]


def _trainings(bundle: Bundle, train_tokens: Sequence[str | Path]) -> dict[str, tuple[Split, ...] | None]:
    """The splits of everything that was trained, or counted, by its name in a sentence."""
    trainings = {f"the {part}": splits for part, splits in bundle.training_splits.items()}
    for folder in train_tokens:
        split = read_manifest(folder).split
        trainings[f"the training tokens {folder}"] = None if split is None else (split,)
    return trainings


def _claim(
    trainings: Mapping[str, tuple[Split, ...] | None], folders: Sequence[_Folder], flags: str, unseen: bool
) -> HeldoutClaim:
    folders = [folder for folder in folders if folder.keys]
    if not folders:
        return HeldoutClaim(NOTHING)
    recorded = {name: splits for name, splits in trainings.items() if splits is not None}
    refused = ""
    for folder in folders:
        strangers = recorded
        if not unseen:
            strangers = {name: splits for name, splits in recorded.items() if not _same(folder, splits)}
        for name, splits in strangers.items():
            _refuse_trained_on(name, splits, folder, flags, unseen)
        if strangers and len(strangers) == len(recorded) and not unseen:
            name, splits = next(iter(strangers.items()))
            refused = refused or (
                f"the split of {folder.name} ({flags}) is not that which {name} was trained with ({_words(splits)}), "
                "so nothing in it can be called held out; give the data, kind and split of the training, or --unseen "
                "for recordings that no training has heard"
            )
    if refused:
        return HeldoutClaim(REFUSED, refused)
    if unseen:
        return HeldoutClaim(UNSEEN)
    if not trainings:
        return HeldoutClaim(UNKNOWN, "it is not known what the published weights of this bundle were trained on")
    if missing := [name for name in trainings if name not in recorded]:
        where = "its split is not recorded" + (f" with {', '.join(missing)}" if recorded else " with the bundle")
        return HeldoutClaim(UNKNOWN, f"it is not known whether training kept off the held-out recordings: {where}")
    return HeldoutClaim(REPRODUCED)


def _same(folder: _Folder, splits: Sequence[Split]) -> bool:
    return any(split.heldout_digest == folder.split.heldout_digest for split in splits)


def _refuse_trained_on(name: str, splits: Sequence[Split], folder: _Folder, flags: str, unseen: bool) -> None:
    """UserError where files would be called held out that a training had on its train side."""
    heard = list(dict.fromkeys(key for split in splits for key in split.trained_on(folder.keys)))
    if not heard:
        return
    how = "--unseen" if unseen else flags
    raise UserError(
        f"{name} was trained on {heard[0]}" + (f" and {len(heard) - 1} more recordings" if len(heard) > 1 else "")
        + f" of {folder.name} that {how} would call held out; it was trained with {_words(splits)}: give the same"
    )


def _words(splits: Sequence[Split]) -> str:
    return "; ".join(dict.fromkeys(split.in_words() for split in splits))
