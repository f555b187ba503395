"""Continuing token sequences of one stage: a compiled prefill, then a compiled token loop with a static cache.

Compiled in are the sizes of `shapes.Shape`, which are few. How long a prompt is, where drawing begins, how much is
drawn and how (temperature, top-k, top-p) are arguments.

On CPU a step is bound by reading the weights once, so the stacked weights are cut into layers before the loop (inside
it, XLA would copy them at every token), and each step reads only the legal rows of the embedding table. Logits are
those of training: normalised over the legal ids alone (see `lm.stage_model`).

Prompts of one batch may differ in length. They are prefilled left-aligned, where the causal mask is the only mask, and
their cache rows are then moved to end at one common column. From there all rows write the same column and share one
row of the relative bias; a row's unused first columns are masked. Distances, the only positions there are, are kept.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from audiolm_jax.generation.cache import constrain_rows, from_rows, to_rows
from audiolm_jax.generation.sampling import SamplingSettings, TracedSettings, sample
from audiolm_jax.generation.shapes import Shape, cache_size, prefill_size
from audiolm_jax.lm.attention import MASKED, causal_attention, distance_bias
from audiolm_jax.lm.stage_model import StageModel, legal_ids
from audiolm_jax.lm.transformer import block, embed, keep_all, rms_norm, stacked_layers, unstack_layers
from audiolm_jax.tokens.layout import EOS, PAD

# The loop comes back to Python this often, for the progress bar and for Ctrl-C.
STEPS_PER_CALL = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Continuations:
    """Sampled ids.

    Attributes:
        ids: int32[B, T], the new ids; PAD after a row's EOS or its budget.
        lengths: int32[B], new ids per row, a final EOS not counted.
        ended: bool[B], whether the row drew EOS.
    """

    ids: np.ndarray
    lengths: np.ndarray
    ended: np.ndarray


class StageDecoder:
    """A stage's model with its weights laid out for decoding."""

    def __init__(self, model: StageModel, params: dict[str, jax.Array]):
        """Casts and cuts the parameters once.

        Args:
            model: stage and sizes.
            params: as training leaves them, of any float dtype; they are computed with in `config.compute_dtype`.
        """
        self.model = model
        self._weights = _prepare(model, params)

    def generate(
        self,
        prompts: list[np.ndarray],
        budgets: np.ndarray,
        keys: jax.Array,
        settings: SamplingSettings,
        first_positions: np.ndarray | None = None,
        eos_from: np.ndarray | None = None,
        on_progress: Callable[[int], None] | None = None,
        shape: Shape | None = None,
    ) -> Continuations:
        """Samples new ids after each prompt.

        Args:
            prompts: B arrays int[S_b] of ids, prefix and any target so far, the target in whole frames; may be empty.
            budgets: int[B], new ids to draw per row; whole frames.
            keys: [B] keys of `sampling.row_keys`.
            settings: how to draw.
            first_positions: int[B], position of the first new id in the row's target, for the randomness; default 0.
            eos_from: int[B], first new id of the row that may be EOS, None if none may be. Only for stages with EOS.
            on_progress: called with the number of steps done, every now and then.
            shape: sizes to compile for, at least what this call needs; None for the least that hold it.

        Returns:
            `Continuations` with T = max(budgets).
        """
        budgets = np.asarray(budgets, np.int32)
        steps = int(budgets.max())
        if eos_from is not None and not self.model.stage.target_eos:
            raise ValueError(f"stage {self.model.stage.name} has no EOS")
        # The model reads PAD, then the prompt; the last of these inputs opens the loop, the others are prefilled.
        inputs = [np.concatenate([[PAD], prompt]).astype(np.int32) for prompt in prompts]
        lengths = np.array([len(row) - 1 for row in inputs], np.int32)
        shape = self._shape(int(lengths.max()), steps, shape)
        prefill = np.full((len(inputs), shape.prefill_tokens), PAD, np.int32)
        for row, values in enumerate(inputs):
            prefill[row, : lengths[row]] = values[:-1]
        if first_positions is None:
            first_positions = np.zeros(len(inputs), np.int32)
        rows = _Rows(
            start=np.int32(shape.start),
            lengths=lengths,
            budgets=budgets,
            keys=keys,
            first_positions=np.asarray(first_positions, np.int32),
            eos_from=np.asarray(np.full(len(inputs), steps) if eos_from is None else eos_from, np.int32),
        )
        first_inputs = np.array([row[-1] for row in inputs], np.int32)
        caches = _prefill(self.model, self._weights, prefill, lengths, rows.start)
        progress = _begin(shape.columns, caches, first_inputs, rows)
        traced = settings.traced()
        for until in range(STEPS_PER_CALL, steps + STEPS_PER_CALL, STEPS_PER_CALL):
            progress = _advance(self.model, self._weights, progress, rows, traced, np.int32(min(until, steps)))
            done = bool(np.all(progress.done))
            if on_progress is not None:
                on_progress(steps if done else int(progress.step))
            if done:
                break
        ids = np.asarray(progress.ids)[:, :steps]
        return Continuations(ids, (ids > EOS).sum(axis=1).astype(np.int32), (ids == EOS).any(axis=1))

    def _shape(self, longest: int, steps: int, shape: Shape | None) -> Shape:
        """The shape of a call, given or the least."""
        stage = self.model.stage
        if shape is None:
            return Shape(prefill_size(stage, longest), longest, cache_size(stage, longest + steps))
        if not longest <= shape.start <= shape.prefill_tokens <= shape.columns or shape.start + steps > shape.columns:
            raise ValueError(f"prompts of {longest} tokens and {steps} new ones do not fit {shape}")
        return shape


class _Rows(NamedTuple):
    """What stays the same for every row during decoding; see `StageDecoder.generate`."""

    start: Any  # int32[], cache column of the first new token
    lengths: Any  # int32[B]
    budgets: Any  # int32[B]
    keys: Any  # [B]
    first_positions: Any  # int32[B]
    eos_from: Any  # int32[B]


class _Progress(NamedTuple):
    """What a step changes."""

    step: Any  # int32[]
    inputs: Any  # int32[B], what each row reads next
    ids: Any  # int32[B, C], PAD where nothing is drawn yet
    caches: Any  # per layer, keys and values [R, C, K], see generation.cache
    done: Any  # bool[B]


@functools.partial(jax.jit, static_argnums=0)
def _prepare(model: StageModel, params: dict[str, jax.Array]) -> dict[str, Any]:
    """Weights by layer, in the compute dtype, the legal tables by place."""
    tables = model.legal_tables(params["embedding"])
    return {
        "embedding": params["embedding"].astype(model.config.compute_dtype),
        "tables": [tables[place] for place in range(tables.shape[0])],
        "relative_bias": params["relative_bias"],
        "layers": unstack_layers(model.config, stacked_layers(params)),
        "final_norm_scale": params["final_norm_scale"],
    }


def prefill_cache(
    model: StageModel, weights: dict[str, Any], inputs: jax.Array, lengths: jax.Array, start: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
    """Keys and values of left-aligned inputs, moved to end in front of column `start` of the cache.

    Args:
        model, weights: the model and its prepared weights.
        inputs: int32[B, P]; only the first `lengths` of a row count.
        lengths: int32[B].
        start: int32[], at least the greatest of the lengths and at most P.

    Returns:
        Per layer, keys and values [R, P, K], R = B * H rows as in `generation.cache`; columns start - length ..
        start - 1 of a row are filled, and what stands in the others is not to be seen.
    """
    config = model.config
    width = inputs.shape[1]
    bias = distance_bias(
        weights["relative_bias"], width, config.relative_buckets, config.relative_max_distance
    )
    source = jnp.clip(jnp.arange(width) - (start - lengths)[:, None], 0, width - 1)[:, None, :, None]
    caches = []

    def attend(q, k, v):
        moved = (jnp.take_along_axis(x, jnp.broadcast_to(source, (*x.shape[:3], 1)), axis=2) for x in (k, v))
        caches.append(tuple(to_rows(x) for x in moved))
        return causal_attention(q, k, v, bias)

    x = embed(config, weights["embedding"], inputs)
    for layer in weights["layers"]:
        x = block(config, layer, x, attend, keep_all)
    return caches


def cached_step(
    model: StageModel,
    weights: dict[str, Any],
    caches: list[tuple[jax.Array, jax.Array]],
    ids: jax.Array,
    column: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """One input per row through all layers.

    Args:
        model, weights: the model and its prepared weights.
        caches: per layer, keys and values [R, C, K].
        ids: int32[B], the inputs.
        column: int32[], the cache column they take.
        bias: float32[B, H, C], relative bias of every column, masked where there is nothing to see.

    Returns:
        Hidden states [B, D] after the final norm, and the caches.
    """
    config = model.config
    written = []
    row_bias = to_rows(bias[:, :, None])

    def attend(q, k, v):
        keys, values = caches[len(written)]
        keys = lax.dynamic_update_slice_in_dim(keys, to_rows(k).astype(keys.dtype), column, axis=1)
        values = lax.dynamic_update_slice_in_dim(values, to_rows(v).astype(values.dtype), column, axis=1)
        written.append((keys, values))
        scores = jnp.einsum("rqd,rcd->rqc", to_rows(q), keys, preferred_element_type=jnp.float32) + row_bias
        shares = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        return from_rows(jnp.einsum("rqc,rcd->rqd", shares, values), config.num_heads)

    x = embed(config, weights["embedding"], ids[:, None])
    for layer in weights["layers"]:
        x = block(config, layer, x, attend, keep_all)
    return rms_norm(x[:, 0], weights["final_norm_scale"]), written


def _bias_of_column(by_distance: jax.Array, column: jax.Array, first: jax.Array) -> jax.Array:
    """by_distance float32[H, C] to the bias float32[B, H, C] of a query at `column`; row b sees columns from first[b].

    The bias of column c is that of distance column - c; later columns do not exist yet.
    """
    length = by_distance.shape[1]
    future = jnp.full_like(by_distance, MASKED)
    reversed_then_future = jnp.concatenate([jnp.flip(by_distance, axis=1), future], axis=1)
    row = lax.dynamic_slice_in_dim(reversed_then_future, length - 1 - column, length, axis=1)
    visible = jnp.arange(length) >= first[:, None]
    return jnp.where(visible[:, None], row[None], MASKED)


_prefill = jax.jit(prefill_cache, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _begin(columns: int, caches: list[tuple[jax.Array, jax.Array]], first_inputs: jax.Array, rows: _Rows) -> _Progress:
    """Caches of P columns to those of C = `columns`.

    A program of its own, which is compiled in no time: so the prefill is compiled for each P and the token loop for
    each C, and neither for each of their pairs.
    """
    num_heads = caches[0][0].shape[0] // first_inputs.shape[0]
    empty = columns - caches[0][0].shape[1]
    padded = [
        tuple(constrain_rows(jnp.pad(x, ((0, 0), (0, empty), (0, 0))), num_heads) for x in layer) for layer in caches
    ]
    ids = jnp.full((first_inputs.shape[0], columns), PAD, jnp.int32)
    return _Progress(jnp.int32(0), jnp.asarray(first_inputs), ids, padded, rows.budgets <= 0)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _advance(
    model: StageModel,
    weights: dict[str, Any],
    progress: _Progress,
    rows: _Rows,
    settings: TracedSettings,
    until: jax.Array,
) -> _Progress:
    """Draws until step `until`, or until every row is done. Shapes are compiled in, and nothing else."""
    config, legal = model.config, legal_ids(model.stage)
    levels, num_rows = legal.legal.shape
    columns = progress.caches[0][0].shape[1]
    by_distance = distance_bias(
        weights["relative_bias"], columns, config.relative_buckets, config.relative_max_distance
    )
    is_legal = jnp.asarray(legal.legal)
    is_eos = jnp.asarray(np.stack([legal.id_of(place, np.arange(num_rows)) == EOS for place in range(levels)]))
    logits_at = [functools.partial(_table_logits, table) for table in weights["tables"]]

    def go_on(now: _Progress):
        return (now.step < until) & ~jnp.all(now.done)

    def draw(now: _Progress):
        column = rows.start + now.step
        bias = _bias_of_column(by_distance, column, rows.start - rows.lengths)
        hidden, caches = cached_step(model, weights, now.caches, now.inputs, column, bias)
        place = now.step % levels
        logits = lax.switch(place, logits_at, hidden)
        may = is_legal[place] & ((now.step >= rows.eos_from)[:, None] | ~is_eos[place])
        drawn = legal.id_of(place, sample(logits, may, rows.keys, rows.first_positions + now.step, settings))
        drawn = jnp.where(now.done, PAD, drawn)
        ids = lax.dynamic_update_slice_in_dim(now.ids, drawn[:, None], now.step, axis=1)
        done = now.done | (drawn == EOS) | (now.step + 1 >= rows.budgets)
        return _Progress(now.step + 1, drawn, ids, caches, done)

    return lax.while_loop(go_on, draw, progress)


def trace_decoding(
    model: StageModel, num_rows: int, prompt_tokens: int, new_tokens: int, sharding: jax.sharding.Sharding
) -> dict[str, jax.stages.Traced]:
    """The compiled functions of `StageDecoder.generate` for given lengths, traced and not run.

    Args:
        model: stage and sizes.
        num_rows: B, continuations at once.
        prompt_tokens, new_tokens: of the longest row.
        sharding: where all arrays lie; of a device that need not be there.

    Returns:
        "prefill", and "token", the loop of which draws one token per row each time.
    """

    def placed(tree):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_rows))
    per_row = jax.ShapeDtypeStruct((num_rows,), jnp.int32)
    weights = placed(jax.eval_shape(functools.partial(_prepare, model), jax.eval_shape(model.init, jax.random.key(0))))
    scalar = placed(jax.ShapeDtypeStruct((), jnp.int32))
    rows = placed(_Rows(scalar, per_row, per_row, keys, per_row, per_row))
    prompts = placed(jax.ShapeDtypeStruct((num_rows, prefill_size(model.stage, prompt_tokens)), jnp.int32))
    prefill = _prefill.trace(model, weights, prompts, rows.lengths, scalar)
    columns = cache_size(model.stage, prompt_tokens + new_tokens)
    begin = functools.partial(_begin, columns)
    progress = placed(jax.eval_shape(begin, placed(prefill.out_info), rows.lengths, rows))
    advance = _advance.trace(model, weights, progress, rows, placed(SamplingSettings().traced()), scalar)
    return {"prefill": prefill, "token": advance}


def _table_logits(table: jax.Array, hidden: jax.Array) -> jax.Array:
    """Hidden [B, D] and the legal rows [N, D] to float32[B, N]."""
    return jnp.einsum("bd,nd->bn", hidden, table, preferred_element_type=jnp.float32)
