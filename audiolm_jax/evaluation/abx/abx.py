"""ABX: how well features tell one phone from another (Libri-light, Kahn et al. 2019; Schatz 2016).

X and A are the same phone, B is another; all three stand between the same two neighbours. A triple is an error where X
is nearer to B than to A, and half of one where they tie. Within: all three by one speaker. Across: X by another. A cell
is all triples of a context, a phone A, a phone B and a speaker of A and B, and across one speaker of X. Errors are
averaged over the cells of a speaker and an ordered phone pair, then over speakers, then over pairs.
"""

import dataclasses
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx import dtw, frame_distances
from audiolm_jax.evaluation.abx.abx_cells import Cells, Groups, across_cells, group_rows, within_cells
from audiolm_jax.evaluation.abx.abx_errors import cell_errors
from audiolm_jax.evaluation.abx.frame_features import FrameFeatures
from audiolm_jax.evaluation.abx.item_file import ItemFile, frame_spans, read_item_file
from audiolm_jax.evaluation.interval import interval_settings, percentile_interval, resample_counts
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions

CONVENTIONS = (
    "frames from ceil(onset / s - 0.5) to floor(offset / s - 0.5), the end exclusive, in float64",
    "frames of length 1; a frame of zeros is as far as can be from all others",
    "dynamic time warping, cost over path length; ties: diagonal, then left",
    "a tie of distances is half an error",
    "mean over contexts and speakers of X of each speaker and phone pair, then over speakers, then over ordered pairs",
)
_BEYOND_SECONDS = 0.1  # rows may end so far behind the features before a note says so


@dataclasses.dataclass(frozen=True)
class AbxSettings:
    """What ABX depends on besides items and features.

    Attributes:
        max_group_size: tokens of a context, speaker and phone at most; 0 for no cap.
        max_x_across: speakers of X at most for each context, phone A and speaker of A; 0 for no cap.
        seed: decides which are left out, by names and times and not by the order of anything; also of the bootstrap.
        distance: of frames, "cosine" (the angle over pi) or "euclidian"; "identity" of frames that are ids [T, 1], the
            cosine of their one-hot vectors.
    """

    max_group_size: int = 10
    max_x_across: int = 5
    seed: int = 0
    distance: str = "cosine"

    def __post_init__(self):
        if self.max_group_size < 0 or self.max_x_across < 0:
            raise UserError("--max_group_size and --max_x_across are at least 0, which means no cap")
        if self.max_group_size == 1:
            raise UserError("--max_group_size 1 leaves no two tokens to compare; give 0 or at least 2")
        if self.distance not in frame_distances.DISTANCES:
            raise UserError(f"distance {self.distance!r} is not one of {', '.join(frame_distances.DISTANCES)}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Tokens:
    """Rows of an item file as frames.

    Attributes:
        frames: by file, float32[T, D] of `frame_distances.prepared`; None for a file that is missing.
        start, length: int64[N]; length 0 for a row without frames.
        missing: names of the files without features.
        of_missing: bool[N], the rows of these.
        beyond_seconds: float64[N], how far a row ends behind the features of its file.
    """

    frames: list[np.ndarray | None]
    start: np.ndarray
    length: np.ndarray
    missing: list[str]
    of_missing: np.ndarray
    beyond_seconds: np.ndarray

    def segments(self, items: ItemFile, groups: Groups) -> list[np.ndarray]:
        """The frames of every token of the groups."""
        spans = zip(items.files.index[groups.rows], self.start[groups.rows], self.length[groups.rows], strict=True)
        return [self.frames[file][start : start + length] for file, start, length in spans]


@dataclasses.dataclass(frozen=True, eq=False)
class _Table:
    """Errors of U units (speakers of A and B, or contexts where there is one speaker) on Q ordered phone pairs.

    Attributes:
        unit: "speaker" or "context".
        pairs: int64[Q, 2], phones A and B.
        errors, weights: float64[U, Q]; a speaker has a mean of cells and weight 1, a context a sum and their number.
    """

    unit: str
    pairs: np.ndarray
    errors: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, cells: Cells, groups: Groups, errors: np.ndarray) -> "_Table":
        num_phones = int(groups.phone.max(initial=0)) + 1
        pairs, pair = np.unique(groups.phone[cells.a] * num_phones + groups.phone[cells.b], return_inverse=True)

        def sums(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distinct, index = np.unique(names[cells.a], return_inverse=True)
            shape = len(distinct), len(pairs)
            place = index * len(pairs) + pair
            return tuple(
                np.bincount(place, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
                for values in (errors, np.ones(len(errors)))
            )

        phones = np.stack(np.divmod(pairs, num_phones), axis=1)
        total, count = sums(groups.speaker)
        if len(total) > 1:
            return cls("speaker", phones, total / np.maximum(count, 1), np.minimum(count, 1))
        return cls("context", phones, *sums(groups.context))

    def pair_means(self) -> np.ndarray:
        """Error of each pair, float64[Q]."""
        return self.errors.sum(axis=0) / self.weights.sum(axis=0)

    def mean(self) -> float | None:
        """Over pairs; None of none."""
        return exact_mean(self.pair_means()) if len(self.pairs) else None

    def interval(self, seed: int) -> tuple[float, float] | None:
        """Of the mean, over resampled units; None with fewer than two."""
        if len(self.errors) < 2:
            return None
        draws = resample_counts(len(self.errors), seed).astype(np.float64)
        weights = draws @ self.weights
        there = weights > 0
        means = np.where(there, draws @ self.errors / np.where(there, weights, 1), 0)
        return percentile_interval(means.sum(axis=1) / there.sum(axis=1))


def measure(
    item: str | Path, features: FrameFeatures, feature_seconds: Fraction, settings: AbxSettings | None = None
) -> Measurement:
    """ABX error of features on an item file.

    Args:
        item: an item file in Libri-light's format.
        features: of the files that it names. Files that are missing are named in a note and their rows left out.
        feature_seconds: from one frame to the next.
        settings: None for Libri-light's caps.

    Returns:
        Figures "within" and "across" as fractions, None where there is no cell. Intervals are bootstrapped over
        speakers of A and B, or over contexts where there is one speaker. `details` holds the error of each ordered pair
        of phones.

    Raises:
        UserError: the item file cannot be read, no file of it has features, features are not finite or of several
            widths, or no row has a frame.
    """
    settings = settings or AbxSettings()
    started = time.perf_counter()
    items = read_item_file(item)
    tokens = _load_tokens(items, features, feature_seconds, str(item), settings.distance)
    loaded = time.perf_counter()
    groups = group_rows(items, tokens.length > 0, settings.max_group_size, settings.seed)
    cells = {
        "within": within_cells(groups),
        "across": across_cells(groups, items, settings.max_x_across, settings.seed),
    }
    errors, num_distances = cell_errors(
        Cells.joined(list(cells.values())), groups, tokens.segments(items, groups), settings.distance
    )
    by_name = zip(cells, np.split(errors, [len(cells["within"])]), strict=True)
    tables = {name: _Table.of(cells[name], groups, part) for name, part in by_name}
    intervals = {name: table.interval(settings.seed) for name, table in tables.items()}
    return Measurement(
        metric="abx",
        figures={name: table.mean() for name, table in tables.items()},
        intervals={name: interval for name, interval in intervals.items() if interval is not None},
        counts={
            **_row_counts(items, tokens, groups),
            **{f"cells_{name}": len(part) for name, part in cells.items()},
            **{f"triples_{name}": int(part.triples(groups.sizes).sum()) for name, part in cells.items()},
            **{f"phone_pairs_{name}": len(table.pairs) for name, table in tables.items()},
            "distances": num_distances,
        },
        settings={
            "item": str(item),
            **features.settings,
            "feature_seconds": float(feature_seconds),
            **dataclasses.asdict(settings),
            "conventions": list(CONVENTIONS),
            **interval_settings(settings.seed),
            **{f"interval_unit_{name}": table.unit for name, table in tables.items()},
        },
        versions=versions(),
        notes=_notes(items, features, tokens, str(item)),
        details={
            "phone_pairs": _phone_pairs(items.phones.distinct, tables),
            "seconds": {"features": loaded - started, "distances": time.perf_counter() - loaded},
        },
    )


def _load_tokens(
    items: ItemFile, features: FrameFeatures, feature_seconds: Fraction, item: str, distance: str
) -> _Tokens:
    names = items.files.distinct
    there = set(features.names)
    missing = [name for name in names if name not in there]
    if len(missing) == len(names):
        raise UserError(
            f"none of the {len(names)} files that {item} names has features: no {names[0]} in "
            f"{features.settings.get('features', features.settings.get('audio'))}"
        )
    frames: list[np.ndarray | None] = []
    width, width_of = 0, ""
    for name in tqdm(names, desc="features", unit="file", disable=None):
        if name not in there:
            frames.append(None)
            continue
        loaded = features.load(name)
        if width not in (0, loaded.shape[1]):
            raise UserError(f"features of {name} have {loaded.shape[1]} dimensions, but those of {width_of} {width}")
        width, width_of = loaded.shape[1], name
        frames.append(frame_distances.prepared(loaded, distance))
    num_frames = np.array([0 if unit is None else len(unit) for unit in frames])[items.files.index]
    start, length = frame_spans(items.onset_seconds, items.offset_seconds, num_frames, float(feature_seconds))
    if not length.any():
        raise UserError(f"no row of {item} has a frame of {float(feature_seconds):g} s; check --feature_seconds")
    if length.max() > dtw.MAX_SEGMENT_FRAMES:
        long = int(np.argmax(length))
        raise UserError(
            f"a row of {item}, at {items.onset_seconds[long]:g} s of {names[items.files.index[long]]}, has "
            f"{length[long]} frames, more than {dtw.MAX_SEGMENT_FRAMES}; check --feature_seconds and the row"
        )
    beyond = np.where(num_frames > 0, items.offset_seconds - num_frames * float(feature_seconds), 0.0)
    of_missing = np.array([unit is None for unit in frames])[items.files.index]
    return _Tokens(frames, start, length, missing, of_missing, beyond)


def _notes(items: ItemFile, features: FrameFeatures, tokens: _Tokens, item: str) -> tuple[str, ...]:
    notes = []
    if tokens.missing:
        shown = ", ".join(tokens.missing[:3]) + (", ..." if len(tokens.missing) > 3 else "")
        notes.append(
            f"{len(tokens.missing)} of the {len(items.files.distinct)} files that {item} names have no features "
            f"({shown}): their {int(tokens.of_missing.sum())} rows were left out"
        )
    if (cut := tokens.beyond_seconds > _BEYOND_SECONDS).any():
        notes.append(
            f"{int(cut.sum())} rows end behind the features of their file, by up to {tokens.beyond_seconds.max():.2f} "
            "s; check the seconds per frame"
        )
    if features.resampled:
        count = len(items.files.distinct) - len(tokens.missing)
        notes.append(f"{len(features.resampled)} of {count} recordings had another sample rate; they were resampled")
    return tuple(notes)


def _row_counts(items: ItemFile, tokens: _Tokens, groups: Groups) -> dict[str, int]:
    return {
        "rows": len(items),
        "rows_of_missing_files": int(tokens.of_missing.sum()),
        "rows_without_frames": int(((tokens.length == 0) & ~tokens.of_missing).sum()),
        "rows_over_the_cap": int((tokens.length > 0).sum()) - len(groups.rows),
        "files": len(items.files.distinct),
        "files_missing": len(tokens.missing),
        "phones": len(items.phones.distinct),
        "contexts": len(items.contexts.distinct),
        "speakers": len(items.speakers.distinct),
        "groups": len(groups),
    }


def _phone_pairs(phones: tuple[str, ...], tables: dict[str, _Table]) -> list[dict]:
    """One row for each ordered pair: its phones and errors, None where there is no cell."""
    rows: dict[tuple[int, int], dict] = {}
    for name, table in tables.items():
        for (a, b), error in zip(table.pairs.tolist(), table.pair_means().tolist(), strict=True):
            row = rows.setdefault((a, b), {"a": phones[a], "b": phones[b], **dict.fromkeys(tables)})
            row[name] = error
    return [rows[pair] for pair in sorted(rows)]
