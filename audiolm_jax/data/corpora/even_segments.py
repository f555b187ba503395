"""Long recordings without voices, cut into even segments: MAESTRO's, and those of any folder of music."""

import functools
from collections.abc import Sequence
from pathlib import Path

from audiolm_jax.audio import read_header
from audiolm_jax.data.corpora.segment_index import FileSegments, SegmentIndex, Stamp, index_path, up_to_date_index
from audiolm_jax.data.corpora.utterances import LeftOut, UtteranceTable
from audiolm_jax.data.corpora.voice_activity import cut_evenly


def segments_of(path: Path, segment_seconds: float) -> FileSegments:
    """The segments of a recording, or why there are none; never raises for a damaged file."""
    try:
        return FileSegments.of(cut_evenly(*read_header(path), segment_seconds))
    except Exception as error:  # noqa: BLE001 (decoders have errors of their own)
        return FileSegments.unusable(path, error)


def even_segments(
    kind: str, root: Path, files: Sequence[str], segment_seconds: float, cache_dir: str | Path | None, *settings: object
) -> SegmentIndex:
    """The segments of recordings, of which only the new and the changed are opened.

    Args:
        kind: of the corpus; begins the name of its index.
        root: the corpus's folder.
        files: paths below it.
        segment_seconds: of a segment, at most.
        cache_dir: of the index; None for the user's cache.
        settings: that `files` depend on.
    """
    return up_to_date_index(
        index_path(cache_dir, kind, root, *settings, segment_seconds),
        {name: _stamp(root / name) for name in files},
        functools.partial(_segments_below, root, segment_seconds),
    )


def cut(
    kind: str, whole: UtteranceTable, segment_seconds: float, cache_dir: str | Path | None
) -> tuple[UtteranceTable, tuple[LeftOut, ...]]:
    """A table of whole recordings with its recordings cut, and those of them that cannot be used."""
    index = even_segments(kind, whole.root, whole.files, segment_seconds, cache_dir)
    left_out = tuple(
        LeftOut(whole.files[file], whole.file_key(file), whole.speakers[file], reason)
        for file, reason in enumerate(index.reasons)
        if reason
    )
    table = UtteranceTable(
        whole.root, whole.files, whole.speakers, index.first_segment, index.first_range, index.ranges
    )
    return table, left_out


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, -1, -1


def _segments_below(root: Path, segment_seconds: float, name: str) -> FileSegments:
    return segments_of(root / name, segment_seconds)
