"""The three stages of inference on tokens alone (AudioLM, section III-D): what each is given, and what is kept of it.

Semantic tokens are kept at their full rate throughout, int[T_s]. Where a stage learned on collapsed repeats, they are
collapsed after the cut to its window, as in training. A stage 1 that learned so says nothing of durations: the tokens
that it draws are spread evenly over the frames that were asked for. That spread only decides which of them fall into
which window of stage 2; within a window stage 2 finds the durations itself.

In which windows a stage draws is planned in `plan`, which of them share a call of the decoder in `batching`.
"""

import math
from collections.abc import Sequence

import numpy as np

from audiolm_jax.generation.batching import MOST_ROWS
from audiolm_jax.generation.plan import Row, coarse_rows, fine_rows, semantic_rows, turns
from audiolm_jax.generation.stage_sampler import StageSampler
from audiolm_jax.tokens.alignment import collapse, expand
from audiolm_jax.tokens.stages import Stage


def continue_semantic(
    sampler: StageSampler,
    prompts: Sequence[np.ndarray],
    total_frames: Sequence[int],
    mean_run_frames: Sequence[float],
) -> list[np.ndarray]:
    """Stage 1: semantic tokens up to a number of frames.

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
        semantic_rows(stage, sample, len(codes), len(prompts[sample]), total_frames[sample], mean_run_frames[sample])
        for sample, codes in enumerate(known)
    ]

    def prompt_ids(row: Row) -> np.ndarray:
        return stage.layout.encode(stage.target.stream, 0, streams[row.sample][row.view.start :])

    def keep(row: Row, ids: np.ndarray) -> None:
        codes = stage.layout.decode(ids).code
        streams[row.sample] = np.concatenate([streams[row.sample], codes]).astype(np.int32)

    sampler.draw(turns(rows), prompt_ids, keep)
    return [
        np.concatenate([prompt, _spread(stream[len(codes) :], total - len(prompt))]).astype(np.int32)
        for prompt, codes, stream, total in zip(prompts, known, streams, total_frames, strict=True)
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
        sampler: the coarse stage, or the acoustic one, with one key per sample.
        semantic: of each sample int[T_s], full rate, prompt and continuation; the acoustic stage does not look at them.
        prompts: of each sample int[T, Q'] coarse codes that are given; may have no frames.
        total_frames: of each sample, acoustic frames in the end.

    Returns:
        For each sample int32[total_frames, Q'], the prompt first.
    """
    stage = sampler.stage
    streams = [np.asarray(prompt, np.int32) for prompt in prompts]
    rows = [
        coarse_rows(stage, sample, len(prompt), total)
        for sample, (prompt, total) in enumerate(zip(prompts, total_frames, strict=True))
    ]

    def prompt_ids(row: Row) -> np.ndarray:
        given = _target_ids(stage, streams[row.sample][row.view.start :])
        if stage.prefix is None:
            return given
        semantic_per_acoustic = stage.prefix.frames_hz / stage.target.frames_hz
        first = math.floor(row.view.start * semantic_per_acoustic)
        last = math.ceil(row.view.stop * semantic_per_acoustic)
        return np.concatenate([_semantic_ids(stage, semantic[row.sample][first:last]), given])

    def keep(row: Row, ids: np.ndarray) -> None:
        streams[row.sample] = np.concatenate([streams[row.sample], _target_codes(stage, ids)])

    sampler.draw(turns(rows), prompt_ids, keep)
    return streams


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
    fine = [np.zeros((len(codes) - skip, levels), np.int32) for codes, skip in zip(coarse, skip_frames, strict=True)]
    rows = [
        row
        for sample, (codes, skip) in enumerate(zip(coarse, skip_frames, strict=True))
        for row in fine_rows(stage, sample, skip, len(codes))
    ]

    def prompt_ids(row: Row) -> np.ndarray:
        codes = coarse[row.sample][row.view.start : row.view.stop]
        return stage.layout.encode_frames(stage.prefix.stream, codes, stage.prefix.first_level)

    def keep(row: Row, ids: np.ndarray) -> None:
        skip = skip_frames[row.sample]
        fine[row.sample][row.view.start - skip : row.view.stop - skip] = _target_codes(stage, ids)

    sampler.draw([rows], prompt_ids, keep, MOST_ROWS)
    return fine


def _semantic_ids(stage: Stage, tokens: np.ndarray) -> np.ndarray:
    """Full-rate semantic tokens of a window to the ids of the stage's prefix."""
    return stage.layout.encode(stage.prefix.stream, 0, collapse(tokens)[0] if stage.collapse_repeats else tokens)


def _target_ids(stage: Stage, codes: np.ndarray) -> np.ndarray:
    return stage.layout.encode_frames(stage.target.stream, codes, stage.target.first_level)


def _target_codes(stage: Stage, ids: np.ndarray) -> np.ndarray:
    target = stage.target
    return stage.layout.decode_frames(target.stream, ids, target.first_level, target.num_levels)
