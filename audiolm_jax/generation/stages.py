"""The three stages of inference on tokens alone (AudioLM, section III-D): what each is given, in which windows.

Semantic tokens are kept at their full rate throughout, int[T_s]. Where a stage learned on collapsed repeats, they are
collapsed after the cut to its window, as in training. A stage 1 that learned so says nothing of durations: the tokens
that it draws are spread evenly over the frames that were asked for. That spread only decides which of them fall into
which window of stage 2; within a window stage 2 finds the durations itself.
"""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import jax
import numpy as np

from audiolm_jax.generation.decode import StageDecoder
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

# (tokens drawn so far, tokens to draw)
OnTokens = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class StageSampler:
    """A stage ready to draw.

    Attributes:
        decoder: the stage's model.
        settings: how to draw.
        keys: [N] keys of the N samples, from `sampling.row_keys`.
        on_tokens: told of the progress.
    """

    decoder: StageDecoder
    settings: SamplingSettings
    keys: jax.Array
    on_tokens: OnTokens

    @property
    def stage(self) -> Stage:
        """The stage's description."""
        return self.decoder.model.stage


def continue_semantic(
    sampler: StageSampler, prompt: np.ndarray, total_frames: int, mean_run_frames: float
) -> list[np.ndarray]:
    """Stage 1: semantic tokens up to a number of frames.

    A stage that learned on full-rate tokens draws one token per missing frame. One that learned on collapsed tokens
    draws frames / mean_run_frames tokens; from there on EOS may end it, and at 1.1 times that it ends in any case.

    Args:
        sampler: the semantic stage, with one key per sample.
        prompt: int[T] full-rate tokens that are given; may be empty.
        total_frames: frames in the end, at least T.
        mean_run_frames: mean length of a run of equal tokens; for collapsed stages only.

    Returns:
        For each sample int32[total_frames], the prompt first.
    """
    stage, num_samples = sampler.stage, len(sampler.keys)
    new_frames = total_frames - len(prompt)
    if new_frames == 0:
        return [np.asarray(prompt, np.int32)] * num_samples
    crop_frames = stage.max_target_length - int(stage.target_eos)
    known, window, expected, most = prompt, crop_frames, new_frames, new_frames
    overlap = OVERLAP_SECONDS * stage.target.frames_hz
    if stage.collapse_repeats:
        known = collapse(prompt)[0]
        window = max(2, int(crop_frames / mean_run_frames))
        expected = min(max(1, round(new_frames / mean_run_frames)), new_frames)
        most = min(math.ceil(expected * TOKEN_MARGIN), new_frames)
        overlap = overlap / Fraction(mean_run_frames)
    streams = [known] * num_samples
    ended = np.zeros(num_samples, bool)
    for view in plan_windows(len(known), len(known) + most, window, int(overlap)):
        drawn = view.known - len(known)
        prompts = [stage.layout.encode(stage.target.stream, 0, stream[view.start :]) for stream in streams]
        made = sampler.decoder.generate(
            prompts,
            # A row that has ended keeps its place in the batch, so that the compiled shape stays the same.
            np.where(ended, 0, view.stop - view.known),
            sampler.keys,
            sampler.settings,
            first_positions=np.full(num_samples, view.known, np.int32),
            eos_from=max(expected - drawn, 0) if stage.collapse_repeats else None,
            on_progress=lambda step, drawn=drawn: sampler.on_tokens(drawn + step, most),
        )
        for row in range(num_samples):
            codes = stage.layout.decode(made.ids[row, : made.lengths[row]]).code
            streams[row] = np.concatenate([streams[row], codes]).astype(np.int32)
        ended |= made.ended
        if ended.all():
            break
    sampler.on_tokens(most, most)
    return [np.concatenate([prompt, _spread(s[len(known) :], new_frames)]).astype(np.int32) for s in streams]


def _spread(values: np.ndarray, num_frames: int) -> np.ndarray:
    """Values int[N], N <= num_frames, each held for about as long: int[num_frames]."""
    borders = np.arange(len(values) + 1) * num_frames // len(values)
    return expand(values, np.diff(borders))


def continue_coarse(
    sampler: StageSampler, semantic: list[np.ndarray], prompt: np.ndarray, total_frames: int
) -> list[np.ndarray]:
    """Stage 2: coarse tokens for exactly a number of frames.

    Args:
        sampler: the coarse stage, with one key per sample.
        semantic: of each sample int[T_s], full rate, prompt and continuation.
        prompt: int[T, Q'] coarse codes of the prompt; may have no frames.
        total_frames: acoustic frames in the end.

    Returns:
        For each sample int32[total_frames, Q'], the prompt first.
    """
    stage = sampler.stage
    levels, rate = stage.target.num_levels, stage.target.frames_hz
    semantic_per_acoustic = stage.prefix.frames_hz / rate
    period = int(stage.period_seconds * rate)
    streams = [np.asarray(prompt, np.int32)] * len(semantic)
    to_draw = stage.target_length(total_frames - len(prompt))
    length = stage.max_target_length // levels
    views = plan_windows(len(prompt), total_frames, length, int(OVERLAP_SECONDS * rate), period)
    # One compiled program for all windows, although their prompts differ and the last draws less.
    room = (
        max((_prompt_tokens(stage, view) for view in views), default=0),
        max((stage.target_length(view.stop - view.known) for view in views), default=0),
    )
    for view in views:
        first, last = math.floor(view.start * semantic_per_acoustic), math.ceil(view.stop * semantic_per_acoustic)
        prompts = [
            np.concatenate([_semantic_ids(stage, tokens[first:last]), _target_ids(stage, stream[view.start :])])
            for tokens, stream in zip(semantic, streams, strict=True)
        ]
        drawn = stage.target_length(view.known - len(prompt))
        made = sampler.decoder.generate(
            prompts,
            np.full(len(prompts), stage.target_length(view.stop - view.known)),
            sampler.keys,
            sampler.settings,
            first_positions=np.full(len(prompts), stage.target_length(view.known), np.int32),
            on_progress=lambda step, drawn=drawn: sampler.on_tokens(drawn + step, to_draw),
            room=room,
        )
        streams = [
            np.concatenate([stream, _target_codes(stage, ids)]) for stream, ids in zip(streams, made.ids, strict=True)
        ]
    return streams


def _prompt_tokens(stage: Stage, view: Window) -> int:
    """Most tokens that a coarse window's prompt can have: its semantic tokens at full rate, and its known frames."""
    semantic = math.ceil((view.stop - view.start) * stage.prefix.frames_hz / stage.target.frames_hz) + 1
    return semantic + stage.target_length(view.known - view.start)


def add_fine(sampler: StageSampler, coarse: list[np.ndarray], skip_frames: int) -> list[np.ndarray]:
    """Stage 3: fine tokens, in chunks that do not overlap and know nothing of each other (AudioLM, section III-D).

    Args:
        sampler: the fine stage, with one key per sample.
        coarse: of each sample int[T, Q'], all of one length.
        skip_frames: frames at the start whose fine tokens are known, those of the prompt; chunks begin after them.

    Returns:
        For each sample int32[T - skip_frames, Q - Q'].
    """
    stage = sampler.stage
    levels = stage.target.num_levels
    total = len(coarse[0])
    chunk = stage.max_target_length // levels
    starts = list(range(skip_frames, total, chunk))
    rows = [(sample, start, min(start + chunk, total)) for sample in range(len(coarse)) for start in starts]
    fine = [np.zeros((total - skip_frames, levels), np.int32) for _ in coarse]
    if not rows:
        return fine
    # Groups of equal size, so that they share one compiled program; the last is filled up with rows that draw nothing.
    num_groups = -(-len(rows) // MOST_ROWS)
    group_rows = -(-len(rows) // num_groups)
    to_draw = num_groups * stage.target_length(min(chunk, total - skip_frames))
    for group in range(num_groups):
        members = rows[group * group_rows : (group + 1) * group_rows]
        filled = members + [members[0]] * (group_rows - len(members))
        frames = np.array([stop - start for _, start, stop in filled])
        drawn = group * to_draw // num_groups
        made = sampler.decoder.generate(
            [_prefix_ids(stage, coarse[sample][start:stop]) for sample, start, stop in filled],
            np.where(np.arange(group_rows) < len(members), stage.target_length(1) * frames, 0),
            sampler.keys[np.array([sample for sample, _, _ in filled])],
            sampler.settings,
            first_positions=np.array([stage.target_length(start) for _, start, _ in filled], np.int32),
            on_progress=lambda step, drawn=drawn: sampler.on_tokens(drawn + step, to_draw),
        )
        for (sample, start, stop), ids in zip(members, made.ids, strict=False):
            codes = _target_codes(stage, ids[: stage.target_length(stop - start)])
            fine[sample][start - skip_frames : stop - skip_frames] = codes
    sampler.on_tokens(to_draw, to_draw)
    return fine


def _semantic_ids(stage: Stage, tokens: np.ndarray) -> np.ndarray:
    """Full-rate semantic tokens of a window to the ids of the stage's prefix."""
    return stage.layout.encode(stage.prefix.stream, 0, collapse(tokens)[0] if stage.collapse_repeats else tokens)


def _prefix_ids(stage: Stage, codes: np.ndarray) -> np.ndarray:
    """Acoustic codes int[T, Q'] to the ids of the stage's prefix."""
    return stage.layout.encode_frames(stage.prefix.stream, codes, stage.prefix.first_level)


def _target_ids(stage: Stage, codes: np.ndarray) -> np.ndarray:
    return stage.layout.encode_frames(stage.target.stream, codes, stage.target.first_level)


def _target_codes(stage: Stage, ids: np.ndarray) -> np.ndarray:
    target = stage.target
    return stage.layout.decode_frames(target.stream, ids, target.first_level, target.num_levels)
