"""What a stage will draw, before anything is drawn: the windows of every sample, and a row for each of them.

A stage that learned on crops of a bounded length continues further window by window (AudioLM, section III-D). Which
windows there are, how much each draws and how long its prompt can be follows from lengths alone: nothing here knows a
model or a token.

Samples of one call need not have one length: each has windows of its own, and rows of different samples share calls of
the decoder, turn by turn.
"""

import dataclasses
import math
from fractions import Fraction

from audiolm_jax.tokens.stages import Stage

# Of a full window, this much is kept as the prompt of the next.
OVERLAP_SECONDS = 3
# A collapsed stage 1 may draw this many times the tokens that its frames would hold on average.
TOKEN_MARGIN = Fraction(11, 10)
# A single window that is not full counts as if it were of the next of these shares, so that lengths are few.
_WINDOW_STEP = Fraction(1, 4)


@dataclasses.dataclass(frozen=True)
class Window:
    """Frames start .. stop - 1 are in view, those before `known` are given and the others are drawn."""

    start: int
    known: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Row:
    """A window of one sample, to be drawn in one row of a call of the decoder.

    Attributes:
        sample: whose.
        view: its frames, or tokens in a collapsed stage 1.
        budget: ids to draw.
        position: of the first of them in the sample's target.
        longest_prompt, longest_budget: ids that rows like this one have at most; they follow from the lengths of this
            sample alone, and rows for which they are equal can share a program.
        eos_from: first new id that may be EOS; None if none may be.
    """

    sample: int
    view: Window
    budget: int
    position: int
    longest_prompt: int
    longest_budget: int
    eos_from: int | None = None


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


def semantic_rows(
    stage: Stage, sample: int, known: int, prompt_frames: int, total_frames: int, mean_run_frames: float
) -> list[Row]:
    """Rows of stage 1, in frames, or in collapsed tokens where the stage learned on those.

    A stage that learned on full-rate tokens draws one token per missing frame. One that learned on collapsed tokens
    draws frames / mean_run_frames tokens; from there on EOS may end it, and at 1.1 times that it ends in any case.

    Args:
        stage: the semantic stage.
        sample: whose rows.
        known: tokens of the prompt, collapsed where the stage is.
        prompt_frames: frames that these tokens are.
        total_frames: frames in the end, at least `prompt_frames`.
        mean_run_frames: mean length of a run of equal tokens; for collapsed stages only.
    """
    new_frames = total_frames - prompt_frames
    crop_frames = stage.max_target_length - int(stage.target_eos)
    window, expected, most = crop_frames, new_frames, new_frames
    overlap = OVERLAP_SECONDS * stage.target.frames_hz
    # In frames, so that it is the same for all prompts of one length.
    longest_prompt = min(max(prompt_frames, int(overlap)), crop_frames)
    if stage.collapse_repeats and new_frames:
        window = max(2, int(crop_frames / mean_run_frames))
        expected = min(max(1, round(new_frames / mean_run_frames)), new_frames)
        most = min(math.ceil(expected * TOKEN_MARGIN), new_frames)
        overlap = overlap / Fraction(mean_run_frames)
    return [
        Row(
            sample=sample,
            view=view,
            budget=view.stop - view.known,
            position=view.known,
            longest_prompt=longest_prompt,
            longest_budget=min(new_frames, crop_frames),
            eos_from=max(expected - (view.known - known), 0) if stage.collapse_repeats else None,
        )
        for view in plan_windows(known, known + most, window, int(overlap))
    ]


def coarse_rows(stage: Stage, sample: int, known: int, total_frames: int) -> list[Row]:
    """Rows of stage 2, which has `known` acoustic frames and draws those up to `total_frames`."""
    rate = stage.target.frames_hz
    length = stage.max_target_length // stage.target.num_levels
    views = plan_windows(
        known, total_frames, length, int(OVERLAP_SECONDS * rate), multiple=int(stage.period_seconds * rate)
    )
    semantic_per_acoustic = stage.prefix.frames_hz / rate if stage.prefix is not None else 0
    frames = _counted_frames(views, length)
    return [
        Row(
            sample=sample,
            view=view,
            budget=stage.target_length(view.stop - view.known),
            position=stage.target_length(view.known),
            # Semantic tokens at their full rate; windows begin with a joint period, so there is no part of one more.
            longest_prompt=math.ceil(frames * semantic_per_acoustic) + stage.target_length(view.known - view.start),
            longest_budget=stage.target_length(view.start + frames - view.known),
        )
        for view in views
    ]


def fine_rows(stage: Stage, sample: int, skip: int, total_frames: int) -> list[Row]:
    """Rows of stage 3, in chunks after the first `skip` frames that do not overlap (AudioLM, section III-D)."""
    length = stage.max_target_length // stage.target.num_levels
    views = [Window(start, start, min(start + length, total_frames)) for start in range(skip, total_frames, length)]
    frames = _counted_frames(views, length)
    return [
        Row(
            sample=sample,
            view=view,
            budget=stage.target_length(view.stop - view.start),
            position=stage.target_length(view.start),
            longest_prompt=stage.prefix_length(frames),
            longest_budget=stage.target_length(frames),
        )
        for view in views
    ]


def _counted_frames(views: list[Window], length: int) -> int:
    """Frames that each window of a sample counts as: of several, the last counts as a full one too."""
    if len(views) != 1:
        return length
    step = math.ceil(length * _WINDOW_STEP)
    return min(-(-(views[0].stop - views[0].start) // step) * step, length)


def turns(rows: list[list[Row]]) -> list[list[Row]]:
    """Rows by sample to rows by turn: the first of every sample, then the second of those that have one."""
    num_turns = max(map(len, rows), default=0)
    return [[of_sample[turn] for of_sample in rows if turn < len(of_sample)] for turn in range(num_turns)]
