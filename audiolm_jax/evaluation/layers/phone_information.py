"""What clusters of frames tell of phones: phone-normalised mutual information, purities (Hsu et al. 2021, V-B)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from audiolm_jax.evaluation.abx.item_file import ItemFile
from audiolm_jax.evaluation.sound.code_usage import entropy_nats


@dataclasses.dataclass(frozen=True, eq=False)
class PhoneSpans:
    """N phones with their times.

    Attributes:
        file, phone: int64[N], indices of the item file's names.
        onset_seconds, offset_seconds: float64[N].
    """

    file: np.ndarray
    phone: np.ndarray
    onset_seconds: np.ndarray
    offset_seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.file)

    def frames(self, num_frames: Sequence[int], feature_seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames whose centres lie in a phone.

        Args:
            num_frames: of every file.
            feature_seconds: from one frame to the next; frame k has its centre at (k + 0.5) times it.

        Returns:
            (file, frame, phone), int64 each, in the order of the phones.
        """
        last = np.asarray(num_frames)[self.file]
        start = np.clip(np.ceil(self.onset_seconds / feature_seconds - 0.5), 0, last).astype(np.int64)
        end = np.clip(np.ceil(self.offset_seconds / feature_seconds - 0.5), start, last).astype(np.int64)
        lengths = end - start
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(self.file, lengths), np.repeat(start, lengths) + place, np.repeat(self.phone, lengths)


def phone_spans(items: ItemFile) -> PhoneSpans:
    """The middle phones of an item file's rows with their own times.

    A row spans three phones, and says nothing of where the middle one begins and ends. Its neighbours do: the row of
    the next phone begins with the middle one, that of the phone before ends with it, and those one further begin or end
    at its borders. Rows whose neighbours are not in the file are left out.
    """
    contexts = [name.split("+", 1) for name in items.contexts.distinct]
    phones = items.phones.distinct
    order = np.lexsort((items.offset_seconds, items.onset_seconds, items.files.index))
    rows = [
        (
            items.files.index[row], items.onset_seconds[row], items.offset_seconds[row],
            contexts[items.contexts.index[row]][0], phones[items.phones.index[row]],
            contexts[items.contexts.index[row]][1],
        )
        for row in order
    ]  # fmt: skip
    found = []
    for place, (file, onset, offset, before, phone, after) in enumerate(rows):
        starts, ends = [], []
        for other_file, begins, stops, first, middle, last in rows[max(place - 3, 0) : place + 4]:
            if other_file != file:
                continue
            if onset < begins < offset and (first, middle) == (phone, after):
                starts.append(begins)
            if onset < stops < offset and last == before:
                starts.append(stops)
            if onset < stops < offset and (middle, last) == (before, phone):
                ends.append(stops)
            if onset < begins < offset and first == after:
                ends.append(begins)
        if starts and ends and (start := min(starts)) < (end := max(ends)):
            found.append((file, items.phones.index[order[place]], start, end))
    file, phone, start, end = zip(*found, strict=True) if found else ((), (), (), ())
    return PhoneSpans(np.array(file, np.int64), np.array(phone, np.int64), np.array(start, float), np.array(end, float))


def phone_information(phones: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """What the cluster of a frame tells of its phone.

    Args:
        phones, clusters: int[N], of each frame.

    Returns:
        "pnmi", the mutual information over the entropy of phones: 0 where clusters tell nothing, 1 where all;
        "phone_purity", the share of frames that would be right if every cluster were its most frequent phone;
        "cluster_purity", the share that would be right if every phone were its most frequent cluster.

    Raises:
        ValueError: there is no frame.
    """
    if not len(phones):
        raise ValueError("phone information of no frame")
    counts = np.zeros((int(phones.max()) + 1, int(clusters.max()) + 1), np.int64)
    np.add.at(counts, (phones, clusters), 1)
    phone_entropy = entropy_nats(counts.sum(axis=1))
    information = phone_entropy + entropy_nats(counts.sum(axis=0)) - entropy_nats(counts.ravel())
    return {
        "pnmi": float(max(information, 0.0) / phone_entropy) if phone_entropy > 0 else 0.0,
        "phone_purity": float(counts.max(axis=0).sum() / counts.sum()),
        "cluster_purity": float(counts.max(axis=1).sum() / counts.sum()),
    }
