"""The three stages of inference on tokens alone (AudioLM, section III-D): what each is given, in which windows.

Semantic tokens are kept at their full rate throughout, int[T_s]. Where a stage learned on collapsed repeats, they are
collapsed after the cut to its window, as in training. A stage 1 that learned so says nothing of durations: the tokens
that it draws are spread evenly over the frames that were asked for. That spread only decides which of them fall into
which window of stage 2; within a window stage 2 finds the durations itself.

Samples of one call need not have one length: each has windows of its own, and rows of different samples share calls
of the decoder.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import jax
import numpy as np

from audiolm_jax.generation.decode import CACHE_MULTIPLE, PROMPT_MULTIPLE, StageDecoder, round_up
from audiolm_jax.generation.sampling import SamplingSettings
from audiolm_jax.generation.windows import Window, plan_windows
from audiolm_jax.tokens.alignment import collapse, expand
from audiolm_jax.tokens.stages import Stage

# Of a full window, this much is kept as the prompt of the next.
OVERLAP_SECONDS = 3
# A collapsed stage 1 may draw this many times the tokens that its frames would hold on average ...
TOKEN_MARGIN = Fraction(11, 10)
# Rows of one batch of the fine stage.
MOST_ROWS = 16
# Lengths that do not fill a coarse window are rounded up to this share of one, to compile for few shapes.
_COARSE_STEP = Fraction(1, 4)

# (tokens drawn so far, tokens to draw); the rows of a batch count once
OnTokens = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class StageSampler:
    """A stage ready to draw.

    Attributes:
        decoder: the stage's model.
        settings: how to draw.
        keys: [N] keys of the N samples, from `sampling.row_keys`.
        on_tokens: told of the progress.
        fixed_rows: rows of every call of the decoder, empty ones included, in calls whose shapes follow from each
            sample alone: then not even rounding depends on which samples are drawn together. None for as many rows
            as there are samples, which is faster for a single one.
    """

    decoder: StageDecoder
    settings: SamplingSettings
    keys: jax.Array
    on_tokens: OnTokens
    fixed_rows: int | None = None

    @property
    def stage(self) -> Stage:
        """The stage's description."""
        return self.decoder.model.stage


@dataclasses.dataclass(frozen=True)
class _Row:
    """A window of one sample, to be drawn in one row of a call.

    Attributes:
        sample: whose.
        view: its frames, or tokens in a collapsed stage 1.
        budget: ids to draw.
        position: of the first of them in the sample's target.
        room: longest prompt and largest budget to compile for.
        eos_from: first new id that may be EOS.
    """

    sample: int
    view: Window
    budget: int
    position: int
    room: tuple[int, int]
    eos_from: int | None = None


def continue_semantic(
    sampler: StageSampler,
    prompts: Sequence[np.ndarray],
    total_frames: Sequence[int],
    mean_run_frames: Sequence[float],
) -> list[np.ndarray]:
    """Stage 1: semantic tokens up to a number of frames.

    A stage that learned on full-rate tokens draws one token per missing frame. One that learned on collapsed tokens
    draws frames / mean_run_frames tokens; from there on EOS may end it, and at 1.1 times that it ends in any case.

    Args:
        sampler: the semantic stage, with one key per sample.
        prompts: of each sample int[T] full-rate tokens that are given; may be empty.
        total_frames: of each sample, frames in the end, at least its T.
        mean_run_frames: of each sample, mean length of a run of equal tokens; for collapsed stages only.

    Returns:
        For each sample int32[total_frames], the prompt first.
    """
    stage = sampler.stage
    known = [collapse(prompt)[0] if stage.collapse_repeats else prompt for prompt in prompts]
    streams = [np.asarray(codes, np.int32) for codes in known]
    rows = [
        _semantic_rows(stage, sample, len(codes), len(prompts[sample]), total_frames[sample], mean_run_frames[sample])
        for sample, codes in enumerate(known)
    ]

    def prompt_ids(row: _Row) -> np.ndarray:
        return stage.layout.encode(stage.target.stream, 0, streams[row.sample][row.view.start :])

    def keep(row: _Row, ids: np.ndarray) -> None:
        codes = stage.layout.decode(ids).code
        streams[row.sample] = np.concatenate([streams[row.sample], codes]).astype(np.int32)

    _draw(sampler, _turns(rows), prompt_ids, keep)
    return [
        np.concatenate([prompt, _spread(stream[len(codes) :], total - len(prompt))]).astype(np.int32)
        for prompt, codes, stream, total in zip(prompts, known, streams, total_frames, strict=True)
    ]


def _semantic_rows(
    stage: Stage, sample: int, known: int, prompt_frames: int, total_frames: int, mean_run_frames: float
) -> list[_Row]:
    """Windows of stage 1 after `known` tokens, in frames, or in collapsed tokens where the stage learned on those."""
    new_frames = total_frames - prompt_frames
    crop_frames = stage.max_target_length - int(stage.target_eos)
    window, expected, most = crop_frames, new_frames, new_frames
    overlap = OVERLAP_SECONDS * stage.target.frames_hz
    # In frames, so that it is the same for all prompts of one length.
    room = (min(max(prompt_frames, int(overlap)), crop_frames), min(new_frames, crop_frames))
    if stage.collapse_repeats and new_frames:
        window = max(2, int(crop_frames / mean_run_frames))
        expected = min(max(1, round(new_frames / mean_run_frames)), new_frames)
        most = min(math.ceil(expected * TOKEN_MARGIN), new_frames)
        overlap = overlap / Fraction(mean_run_frames)
    return [
        _Row(
            sample=sample,
            view=view,
            budget=view.stop - view.known,
            position=view.known,
            room=room,
            eos_from=max(expected - (view.known - known), 0) if stage.collapse_repeats else None,
        )
        for view in plan_windows(known, known + most, window, int(overlap))
    ]


def _spread(values: np.ndarray, num_frames: int) -> np.ndarray:
    """Values int[N], N <= num_frames, each held for about as long: int[num_frames]."""
    if not num_frames:
        return np.zeros(0, np.int32)
    borders = np.arange(len(values) + 1) * num_frames // len(values)
    return expand(values, np.diff(borders))


def continue_coarse(
    sampler: StageSampler,
    semantic: Sequence[np.ndarray],
    prompts: Sequence[np.ndarray],
    total_frames: Sequence[int],
) -> list[np.ndarray]:
    """Stage 2: coarse tokens for exactly a number of frames.

    Args:
        sampler: the coarse stage, with one key per sample.
        semantic: of each sample int[T_s], full rate, prompt and continuation.
        prompts: of each sample int[T, Q'] coarse codes that are given; may have no frames.
        total_frames: of each sample, acoustic frames in the end.

    Returns:
        For each sample int32[total_frames, Q'], the prompt first.
    """
    stage = sampler.stage
    semantic_per_acoustic = stage.prefix.frames_hz / stage.target.frames_hz
    streams = [np.asarray(prompt, np.int32) for prompt in prompts]

    def prompt_ids(row: _Row) -> np.ndarray:
        first = math.floor(row.view.start * semantic_per_acoustic)
        last = math.ceil(row.view.stop * semantic_per_acoustic)
        words = _semantic_ids(stage, semantic[row.sample][first:last])
        return np.concatenate([words, _target_ids(stage, streams[row.sample][row.view.start :])])

    def keep(row: _Row, ids: np.ndarray) -> None:
        streams[row.sample] = np.concatenate([streams[row.sample], _target_codes(stage, ids)])

    rows = [
        _coarse_rows(stage, sample, len(prompt), total)
        for sample, (prompt, total) in enumerate(zip(prompts, total_frames, strict=True))
    ]
    _draw(sampler, _turns(rows), prompt_ids, keep)
    return streams


def _coarse_rows(stage: Stage, sample: int, known: int, total_frames: int) -> list[_Row]:
    """Windows of stage 2."""
    rate = stage.target.frames_hz
    length = stage.max_target_length // stage.target.num_levels
    views = plan_windows(
        known, total_frames, length, int(OVERLAP_SECONDS * rate), multiple=int(stage.period_seconds * rate)
    )
    # As if the last window were a full one too; a single one is of its own length.
    step = math.ceil(length * _COARSE_STEP)
    full = [length if len(views) > 1 else min(-(-view.stop // step) * step, length) for view in views]
    return [
        _Row(
            sample=sample,
            view=view,
            budget=stage.target_length(view.stop - view.known),
            position=stage.target_length(view.known),
            # Rounded as the decoder does it, so that windows that differ by a frame share a program.
            room=(
                round_up(_prompt_tokens(stage, view, frames), PROMPT_MULTIPLE),
                round_up(stage.target_length(view.start + frames - view.known), CACHE_MULTIPLE),
            ),
        )
        for view, frames in zip(views, full, strict=True)
    ]


def _prompt_tokens(stage: Stage, view: Window, frames: int) -> int:
    """Most tokens that the prompt of a coarse window of `frames` frames can have: its semantic tokens at full rate, and
    its known frames."""
    semantic = math.ceil(frames * stage.prefix.frames_hz / stage.target.frames_hz) + 1
    return semantic + stage.target_length(view.known - view.start)


def add_fine(
    sampler: StageSampler, coarse: Sequence[np.ndarray], skip_frames: Sequence[int]
) -> list[np.ndarray]:
    """Stage 3: fine tokens, in chunks that do not overlap and know nothing of each other (AudioLM, section III-D).

    Args:
        sampler: the fine stage, with one key per sample.
        coarse: of each sample int[T, Q'].
        skip_frames: of each sample, frames at the start whose fine tokens are known, those of the prompt; chunks begin
            after them.

    Returns:
        For each sample int32[T - skip_frames, Q - Q'].
    """
    stage = sampler.stage
    levels = stage.target.num_levels
    chunk = stage.max_target_length // levels
    fine = [np.zeros((len(codes) - skip, levels), np.int32) for codes, skip in zip(coarse, skip_frames, strict=True)]
    rows = []
    for sample, (codes, skip) in enumerate(zip(coarse, skip_frames, strict=True)):
        for start in range(skip, len(codes), chunk):
            stop = min(start + chunk, len(codes))
            # A fixed shape for all chunks, and the shape that is needed for a single call.
            frames = stop - start if sampler.fixed_rows is None else chunk
            room = (stage.prefix_length(frames), stage.target_length(frames))
            view = Window(start, start, stop)
            rows.append(_Row(sample, view, stage.target_length(stop - start), stage.target_length(start), room))

    def prompt_ids(row: _Row) -> np.ndarray:
        codes = coarse[row.sample][row.view.start : row.view.stop]
        return stage.layout.encode_frames(stage.prefix.stream, codes, stage.prefix.first_level)

    def keep(row: _Row, ids: np.ndarray) -> None:
        skip = skip_frames[row.sample]
        fine[row.sample][row.view.start - skip : row.view.stop - skip] = _target_codes(stage, ids)

    _draw(sampler, [rows] if rows else [], prompt_ids, keep, MOST_ROWS)
    return fine


def _turns(rows: list[list[_Row]]) -> list[list[_Row]]:
    """Rows by sample to rows by turn: the first of every sample, then the second of those that have one."""
    num_turns = max(map(len, rows), default=0)
    return [[of_sample[turn] for of_sample in rows if turn < len(of_sample)] for turn in range(num_turns)]


def _draw(
    sampler: StageSampler,
    turns: list[list[_Row]],
    prompt_ids: Callable[[_Row], np.ndarray],
    keep: Callable[[_Row, np.ndarray], None],
    most_rows: int | None = None,
) -> None:
    """Draws all rows, turn after turn; a sample that has ended with EOS draws nothing in the turns that are left.

    Args:
        sampler: the stage.
        turns: rows that may be drawn together, those of earlier turns first.
        prompt_ids: ids of a row's prompt, asked for when all earlier turns are done.
        keep: is given what a row has drawn, a final EOS left out.
        most_rows: of a call; None for all samples at once.
    """
    groups = [group for rows in turns for group in _groups(sampler, rows, most_rows)]
    if not groups:
        return
    if sampler.fixed_rows is None:
        # One program for all calls, although their prompts differ and the last draws less.
        all_rows = [row for group, _ in groups for row in group]
        room = tuple(max(row.room[side] for row in all_rows) for side in (0, 1))
    to_draw = sum(max(row.budget for row in group) for group, _ in groups)
    drawn, ended = 0, np.zeros(len(sampler.keys), bool)
    for group, num_rows in groups:
        # Empty rows keep the compiled shape.
        padded = group + [group[0]] * (num_rows - len(group))
        if all(ended[row.sample] for row in group):
            continue
        prompts = [prompt_ids(row) for row in group]
        members = np.array([row.sample for row in padded])
        budgets = np.array([row.budget for row in padded])
        eos_from = np.array([row.eos_from or 0 for row in padded], np.int32)
        made = sampler.decoder.generate(
            prompts + [prompts[0]] * (num_rows - len(group)),
            np.where((np.arange(num_rows) < len(group)) & ~ended[members], budgets, 0),
            sampler.keys[members],
            sampler.settings,
            first_positions=np.array([row.position for row in padded], np.int32),
            eos_from=eos_from if group[0].eos_from is not None else None,
            on_progress=lambda step, drawn=drawn: sampler.on_tokens(drawn + step, to_draw),
            room=room if sampler.fixed_rows is None else group[0].room,
        )
        for index, row in enumerate(group):
            if not ended[row.sample]:
                keep(row, made.ids[index, : made.lengths[index]])
        ended[members[: len(group)]] |= made.ended[: len(group)]
        drawn += max(row.budget for row in group)
    sampler.on_tokens(to_draw, to_draw)


def _groups(sampler: StageSampler, rows: list[_Row], most_rows: int | None) -> list[tuple[list[_Row], int]]:
    """Rows of each call, and how many rows the call has with the empty ones."""
    if sampler.fixed_rows is not None:
        by_room: dict[tuple[int, int], list[_Row]] = {}
        # Those that draw about as much stay together, because a call ends with its longest row.
        for row in sorted(rows, key=lambda row: (row.room, -row.budget)):
            by_room.setdefault(row.room, []).append(row)
        size = sampler.fixed_rows
        return [(same[i : i + size], size) for same in by_room.values() for i in range(0, len(same), size)]
    if most_rows is None:
        return [(rows, len(sampler.keys))]
    # Groups of equal size, so that they share one program.
    size = -(-len(rows) // -(-len(rows) // most_rows))
    return [(rows[i : i + size], size) for i in range(0, len(rows), size)]


def _semantic_ids(stage: Stage, tokens: np.ndarray) -> np.ndarray:
    """Full-rate semantic tokens of a window to the ids of the stage's prefix."""
    return stage.layout.encode(stage.prefix.stream, 0, collapse(tokens)[0] if stage.collapse_repeats else tokens)


def _target_ids(stage: Stage, codes: np.ndarray) -> np.ndarray:
    return stage.layout.encode_frames(stage.target.stream, codes, stage.target.first_level)


def _target_codes(stage: Stage, ids: np.ndarray) -> np.ndarray:
    target = stage.target
    return stage.layout.decode_frames(target.stream, ids, target.first_level, target.num_levels)
