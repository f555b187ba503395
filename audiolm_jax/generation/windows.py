"""How a stage that learned on crops of a bounded length continues further: window by window."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Window:
    """Frames start .. stop - 1 are in view, those before `known` are given and the others are drawn."""

    start: int
    known: int
    stop: int


def plan_windows(known: int, total: int, length: int, overlap: int, multiple: int = 1) -> list[Window]:
    """Windows that draw every frame from `known` to `total` exactly once.

    What fits one window is done in one. Otherwise, whenever the window is full it slides, and keeps the last `overlap`
    frames as its prompt (SoundStorm's account of AudioLM: windows of 10 s, of which 3 s are reused).

    Args:
        known: frames that are given.
        total: frames in the end.
        length: most frames of a window.
        overlap: frames that a window reuses; at most half a window is.
        multiple: windows start at multiples of it.

    Returns:
        Windows in order; the last may be shorter. Empty if nothing is to be drawn.
    """
    if length < 2 * multiple:
        raise ValueError(f"a window of {length} frames holds no two steps of {multiple}")
    overlap = min(overlap, length // 2)
    windows = []
    while known < total:
        start = 0
        if total > length and known > length - overlap:
            start = max(known - overlap, 0) // multiple * multiple
        elif windows:
            start = max(known - overlap, 0) // multiple * multiple
        stop = min(start + length, total)
        windows.append(Window(start, known, stop))
        known = stop
    return windows
