"""One token record to one stage example, in plain NumPy: the single definition under the Grain feed and seqio."""

import jax
import numpy as np

from audiolm_jax.data.feed.batches import BatchShapes, Example
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.alignment import Crop, collapse, draw_crop, num_periods
from audiolm_jax.tokens.layout import EOS, PAD, SEMANTIC
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage, StreamSlice


def _total_periods(record: TokenRecord, stage: Stage) -> int:
    """Joint periods of the stage's streams in a record, a last partial one included."""
    frames = {}
    for part in stage.streams:
        tokens = record.semantic_tokens if part.stream == SEMANTIC else record.acoustic_tokens
        frames[part.frames_hz] = max(len(tokens), frames.get(part.frames_hz, 0))
    return num_periods(frames, stage.period_seconds)


def training_crop(record: TokenRecord, stage: Stage, uniform: float) -> Crop:
    """A crop of the stage's length whose start is decided by a number in [0, 1)."""
    return draw_crop(_total_periods(record, stage), stage.crop_periods, stage.period_seconds, uniform)


def evaluation_crops(record: TokenRecord, stage: Stage) -> list[Crop]:
    """Neighbouring crops of the stage's length that hold every frame of a record once; the last may be shorter."""
    total, length = _total_periods(record, stage), stage.crop_periods
    starts = range(0, total, length)
    return [Crop(start, length, stage.period_seconds, is_end=start + length >= total) for start in starts]


def _part_ids(record: TokenRecord, stage: Stage, part: StreamSlice, crop: Crop) -> np.ndarray:
    """Ids int32[N] of one stream of a crop, repeats collapsed after the crop where the stage says so."""
    frames = crop.frames(part.frames_hz)
    if part.stream == SEMANTIC:
        tokens = record.semantic_tokens[frames]
        return stage.layout.encode(part.stream, 0, collapse(tokens)[0] if stage.collapse_repeats else tokens)
    levels = slice(part.first_level, part.first_level + part.num_levels)
    codes = record.acoustic_tokens[frames, levels]
    if codes.shape[1] != part.num_levels:
        raise ValueError(f"{record.key} has {record.acoustic_tokens.shape[1]} levels, stage {stage.name} needs {part}")
    return stage.layout.encode_frames(part.stream, codes, part.first_level)


def prefix_and_target(record: TokenRecord, stage: Stage, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of a training sequence, ids int32[N] each, without padding.

    The target ends with EOS if the stage has one and the crop holds the real end of the utterance, and only then: a
    model that saw EOS at the end of every crop would learn to stop after a crop's length.

    Raises:
        UserError: the record has tokens, or levels, that the stage does not know.
    """
    try:
        prefix = np.zeros(0, np.int32) if stage.prefix is None else _part_ids(record, stage, stage.prefix, crop)
        target = _part_ids(record, stage, stage.target, crop)
    except ValueError as error:
        raise UserError(f"the tokens of {record.key} are not those of stage {stage.name} ({error}); run `audiolm "
                        "tokenize` again, with the tokenizers of the folder") from error
    if stage.target_eos and crop.is_end:
        target = np.append(target, np.int32(EOS))
    return prefix, target


def join(prefix: np.ndarray, target: np.ndarray, stage: Stage) -> Example:
    """Prefix, target and padding as one sequence of the stage.

    Args:
        prefix: int32[N] ids.
        target: int32[M] ids.
        stage: gives S = stage.sequence_length.

    Returns:
        {"ids": int32[S], "loss_weights": float32[S]}, the weight 1 on target ids and 0 elsewhere.

    Raises:
        ValueError: prefix and target are longer than S; nothing is ever cut off.
    """
    length = len(prefix) + len(target)
    if length > stage.sequence_length:
        raise ValueError(f"stage {stage.name}: {length} tokens do not fit a sequence of {stage.sequence_length}")
    ids = np.full(stage.sequence_length, PAD, np.int32)
    ids[: len(prefix)] = prefix
    ids[len(prefix) : length] = target
    loss_weights = np.zeros(stage.sequence_length, np.float32)
    loss_weights[len(prefix) : length] = 1
    return {"ids": ids, "loss_weights": loss_weights}


def stage_example(record: TokenRecord, stage: Stage, crop: Crop) -> Example:
    """One crop of a record as {"ids": int32[S], "loss_weights": float32[S]}."""
    return join(*prefix_and_target(record, stage, crop), stage)


def stage_batch_shapes(stage: Stage, batch_size: int) -> BatchShapes:
    """Shapes and types of a batch of a stage's examples."""
    shape = (batch_size, stage.sequence_length)
    return {"ids": jax.ShapeDtypeStruct(shape, np.int32), "loss_weights": jax.ShapeDtypeStruct(shape, np.float32)}


def stage_eval_batch_shapes(stage: Stage, batch_size: int) -> BatchShapes:
    """Shapes and types of a held-out batch, whose padding has `example_weights` 0."""
    return stage_batch_shapes(stage, batch_size) | {"example_weights": jax.ShapeDtypeStruct((batch_size,), np.float32)}
