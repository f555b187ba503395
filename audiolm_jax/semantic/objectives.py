"""What w2v-BERT is trained on: span masks, distractors, and the contrastive, diversity and masked-prediction terms.

Pure functions of fixed shape. Sums are taken over whole arrays, so under jit with sharded batches they are global.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class ClassCounts(NamedTuple):
    """Of masked frames: how often each of V classes was the target and was predicted, float32[V], and how many were
    predicted right, float32[]. Sums of them belong to several batches."""

    targets: jax.Array
    predictions: jax.Array
    right: jax.Array


def codebook_ending(index: int) -> str:
    """How figures of a codebook end in their names: those of the first have no ending, then come _2, _3 ..."""
    return f"_{index + 1}" if index else ""


def span_mask(rng: jax.Array, valid: jax.Array, start_probability: float, span_frames: int) -> jax.Array:
    """Masked frames: every frame starts a span with `start_probability`; spans may overlap (w2v-BERT, wav2vec 2.0).

    Args:
        rng: key.
        valid: bool [B, T]; padding is never masked and starts no span.
        start_probability: 0.065 in the paper.
        span_frames: 10 in the paper, 400 ms; a share 1 - (1 - p)^10 = 49 % is then masked away from the row's start.

    Returns:
        bool [B, T].
    """
    starts = jax.random.bernoulli(rng, start_probability, valid.shape) & valid
    started = jnp.cumsum(starts.astype(jnp.int32), axis=1)
    before_span = jnp.pad(started, ((0, 0), (span_frames, 0)))[:, : valid.shape[1]]
    return (started > before_span) & valid


def distractors(rng: jax.Array, masked: jax.Array, num_distractors: int) -> tuple[jax.Array, jax.Array]:
    """For every frame, other masked frames of the same row, drawn uniformly with replacement.

    Args:
        rng: key.
        masked: bool [B, T].
        num_distractors: K, 100 in wav2vec 2.0.

    Returns:
        positions int32[B, T, K], never the frame itself where it is masked; and usable bool [B, T], True for masked
        frames whose row has at least one other masked frame.
    """
    num_rows, num_frames = masked.shape
    count = jnp.sum(masked, axis=1, dtype=jnp.int32)  # [B]
    masked_first = jnp.argsort(~masked, axis=1, stable=True)  # the first `count` entries are the masked positions
    rank = jnp.cumsum(masked, axis=1, dtype=jnp.int32) - 1
    others = jnp.maximum(count - 1, 1)[:, None, None]
    uniform = jax.random.uniform(rng, (num_rows, num_frames, num_distractors))
    drawn = jnp.minimum((uniform * others).astype(jnp.int32), others - 1)
    drawn = drawn + (drawn >= rank[:, :, None])  # step over the frame's own rank
    drawn = jnp.minimum(drawn, num_frames - 1).reshape(num_rows, -1)
    positions = jnp.take_along_axis(masked_first, drawn, axis=1).reshape(num_rows, num_frames, num_distractors)
    return positions.astype(jnp.int32), masked & (count > 1)[:, None]


def contrastive(
    context: jax.Array,
    quantized: jax.Array,
    chosen_ids: jax.Array,
    positions: jax.Array,
    usable: jax.Array,
    temperature: float,
) -> tuple[jax.Array, jax.Array]:
    """Tell the frame's own code from the codes of its distractors by cosine similarity (wav2vec 2.0, equation 3).

    A distractor that carries the same code as the frame is left out: it would be a right answer counted as wrong.

    Args:
        context: [B, T, C], from the masked input.
        quantized: [B, T, C], from the unmasked input.
        chosen_ids: int32[B, T], the codes that `quantized` is.
        positions: int32[B, T, K] from `distractors`.
        usable: bool [B, T].
        temperature: divides the cosine; 0.1.

    Returns:
        (mean loss over the usable frames in nats, share of them whose own code scored highest), float32[] each.
    """
    similarity = jnp.einsum("btc,bsc->bts", unit(context), unit(quantized)) / temperature  # [B, T, T]
    own = jnp.diagonal(similarity, axis1=1, axis2=2)
    negative = jnp.take_along_axis(similarity, positions, axis=2)
    flat_positions = positions.reshape(positions.shape[0], -1)
    negative_ids = jnp.take_along_axis(chosen_ids, flat_positions, axis=1).reshape(positions.shape)
    negative = jnp.where(negative_ids == chosen_ids[:, :, None], -1e9, negative)
    scores = jnp.concatenate([own[:, :, None], negative], axis=2)
    loss = jax.nn.logsumexp(scores, axis=2) - own
    right = own >= jnp.max(negative, axis=2)
    weights = usable.astype(jnp.float32)
    count = jnp.maximum(jnp.sum(weights), 1.0)
    return jnp.sum(loss * weights) / count, jnp.sum(right * weights) / count


def unit(vectors):
    """Vectors of length one along the last axis, float32; the floor keeps the gradient of a zero vector finite."""
    vectors = vectors.astype(jnp.float32)
    return vectors * jax.lax.rsqrt(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True) + 1e-8)


def diversity(logits: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How far the average use of the codebook is from uniform (wav2vec 2.0, equation 4, in its perplexity form).

    Args:
        logits: [B, T, V], before any Gumbel noise.
        valid: bool [B, T].

    Returns:
        (loss (V - perplexity) / V, perplexity of the mean softmax), float32[] each.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    perplexity = _perplexity(probabilities, valid)
    size = logits.shape[-1]
    return (size - perplexity) / size, perplexity


def code_perplexity(code_ids: jax.Array, valid: jax.Array, codebook_size: int) -> jax.Array:
    """Perplexity of the code ids [B, T] that were really chosen, float32[]: 1 when the codebook has collapsed."""
    return _perplexity(jax.nn.one_hot(code_ids, codebook_size, dtype=jnp.float32), valid)


def _perplexity(probabilities, valid):
    weights = valid.astype(jnp.float32)
    mean = jnp.einsum("btv,bt->v", probabilities, weights) / jnp.maximum(jnp.sum(weights), 1.0)
    return jnp.exp(-jnp.sum(mean * jnp.log(mean + 1e-7)))


def accuracy(predicted: jax.Array, code_ids: jax.Array, chosen: jax.Array) -> jax.Array:
    """Share of the chosen frames, bool[B, T], on which two arrays of ids int32[B, T] agree, float32[]."""
    weights = chosen.astype(jnp.float32)
    return jnp.sum((predicted == code_ids) * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def masked_prediction(logits: jax.Array, code_ids: jax.Array, masked: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of the code ids on masked frames only (w2v-BERT, the masked-prediction module).

    Args:
        logits: [B, T, V].
        code_ids: int32[B, T], targets without gradient.
        masked: bool [B, T].

    Returns:
        (mean loss over masked frames in nats, share of them predicted right), float32[] each.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    loss = -jnp.take_along_axis(log_probabilities, code_ids[:, :, None], axis=2)[:, :, 0]
    weights = masked.astype(jnp.float32)
    mean = jnp.sum(loss * weights) / jnp.maximum(jnp.sum(weights), 1.0)
    return mean, accuracy(jnp.argmax(logits, axis=-1), code_ids, masked)


def class_counts(logits: jax.Array, code_ids: jax.Array, masked: jax.Array) -> ClassCounts:
    """What was to be predicted on masked frames, and what was; arguments as of `masked_prediction`."""
    size, predicted = logits.shape[-1], jnp.argmax(logits, axis=-1)
    weights = masked.astype(jnp.float32)

    def counted(ids):
        return jnp.einsum("btv,bt->v", jax.nn.one_hot(ids, size, dtype=jnp.float32), weights)

    return ClassCounts(counted(code_ids), counted(predicted), jnp.sum((predicted == code_ids) * weights))
