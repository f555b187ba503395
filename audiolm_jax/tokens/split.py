"""The split of a corpus as it is stored with tokens, checkpoints and bundles: what was kept out of training.

Recordings are known by their keys, the paths below the corpus's folder without suffix. A split names what is held out;
of what was trained on it keeps a sample, large enough to notice a recording that is called held out and was not.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

# Names that are listed for people; `heldout_digest` is of all of them.
_MOST_NAMES = 200
# Keys of the train side that are kept: all of a corpus of so many files, and a random part of a larger one.
_SAMPLED_KEYS = 2048
_HASH_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class Split:
    """What of one corpus was held out.

    Attributes:
        kind: of the corpus, as `data.corpora.corpora.open_corpus` takes it.
        settings: that the split followed from, such as {"heldout_speakers": 20, "split_seed": 0}.
        num_train, num_heldout: files on either side.
        heldout: names of the speakers that are held out, or keys of the files where a speaker is on both sides; the
            first of them in alphabetical order.
        heldout_digest: 16 hexadecimal digits of all these names; equal for equal sets.
        train_sample: hashes of train files' keys, 12 hexadecimal digits each, joined: the lowest of them.
    """

    kind: str
    settings: dict[str, Any]
    num_train: int
    num_heldout: int
    heldout: tuple[str, ...]
    heldout_digest: str
    train_sample: str

    @classmethod
    def of(
        cls,
        kind: str,
        settings: dict[str, Any],
        keys: Sequence[str],
        speakers: Sequence[str],
        is_heldout: Sequence[bool],
    ) -> "Split":
        """From the key, the speaker and the side of every file of a corpus."""
        files = list(zip(keys, speakers, is_heldout, strict=True))
        names = {speaker for _, speaker, heldout in files if heldout}
        if any(speaker in names for _, speaker, heldout in files if not heldout):
            names = {key for key, _, heldout in files if heldout}
        trained = sorted(_hash(key) for key, _, heldout in files if not heldout)
        text = json.dumps(sorted(names))
        return cls(
            kind=kind,
            settings=dict(settings),
            num_train=len(trained),
            num_heldout=len(files) - len(trained),
            heldout=tuple(sorted(names)[:_MOST_NAMES]),
            heldout_digest=hashlib.sha256(text.encode()).hexdigest()[:16],
            train_sample="".join(trained[:_SAMPLED_KEYS]),
        )

    def trained_on(self, keys: Iterable[str]) -> list[str]:
        """Those of some files' keys that were trained on, as far as the sample of the train side tells, in order."""
        sample = self.train_sample
        known = {sample[start : start + _HASH_DIGITS] for start in range(0, len(sample), _HASH_DIGITS)}
        return [key for key in keys if _hash(key) in known]

    def in_words(self) -> str:
        """Kind and settings, for messages."""
        settings = "".join(f", {name} {value}" for name, value in self.settings.items())
        return f"corpus {self.kind}{settings}"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_DIGITS]
