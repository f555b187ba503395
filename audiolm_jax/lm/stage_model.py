"""A stage's language model: the Transformer, and logits over the ids that are legal.

At every place of a target exactly one level's codes are legal (plus EOS, in the semantic stage), and sampling can
never leave them. So the model normalises over those ids only, in training, in scoring and in generation alike: the
logits are products with the legal rows of the embedding table, 1024 of them rather than the whole vocabulary's 12290
in the fine stage. Nothing is spent on learning which level comes next, and perplexities are those of the codes.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.lm.attention import MASKED
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.transformer import Transformer
from audiolm_jax.tokens.layout import PAD
from audiolm_jax.tokens.stages import Stage


class LegalIds(NamedTuple):
    """Which ids the rows of a stage's logits stand for.

    Row n at place l (position in the target modulo its levels) is the id `first_id + l * stride + n`, and may be drawn
    where `legal[l, n]`.
    """

    first_id: int
    stride: int
    legal: np.ndarray  # bool[L, N]

    def id_of(self, place: Any, row: Any) -> Any:
        """Id of a row of the logits."""
        return self.first_id + place * self.stride + row

    def row_of(self, place: Any, ids: Any) -> Any:
        """The inverse of `id_of`; out of 0 .. N - 1 for ids that have no row at the place."""
        return ids - self.first_id - place * self.stride


def legal_ids(stage: Stage) -> LegalIds:
    """The legal ids of every place of a frame of the stage's target."""
    levels = stage.target.num_levels
    if stage.target_eos:
        # EOS lies outside the level's range: keep the whole (small) vocabulary, and mask.
        return LegalIds(0, 0, np.asarray(stage.allowed(np.arange(levels), True)))
    ranges = [r for r in stage.layout.ranges if r.stream == stage.target.stream]
    first = ranges[stage.target.first_level]
    size = first.stop - first.start
    return LegalIds(first.start, size, np.ones((levels, size), bool))


class TargetNats(NamedTuple):
    """Of every target token, frame by frame; all float32[B, F, L], L the levels of a frame.

    `nats` is -log p(token | everything before it), `weights` is 0 where there is no target token, `correct` is 1
    where no legal id was more likely.
    """

    nats: jax.Array
    weights: jax.Array
    correct: jax.Array


@dataclasses.dataclass(frozen=True)
class StageModel:
    """The language model of one stage; pure functions of its parameters.

    Attributes:
        stage: streams, ids and lengths.
        config: sizes of the Transformer.
    """

    stage: Stage
    config: TransformerConfig

    @property
    def network(self) -> Transformer:
        """The linen module."""
        return Transformer(self.config, self.stage.layout.padded_vocab_size)

    def init(self, rng: jax.Array) -> dict[str, jax.Array]:
        """Parameters at the start of training, without boxes."""
        return nn.unbox(self.network.init(rng, jnp.zeros((1, 8), jnp.int32))["params"])

    def logical_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Names of every parameter's axes, in a dict like the parameters."""
        boxed = jax.eval_shape(self.network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8), jnp.int32))
        specs = nn.get_partition_spec(boxed)["params"]
        return {name: tuple(spec) for name, spec in specs.items()}

    def legal_tables(self, embedding: jax.Array) -> jax.Array:
        """Rows of the embedding that give the logits: [V, D] -> [L, N, D] in the compute dtype."""
        legal = legal_ids(self.stage)
        levels, size = legal.legal.shape
        embedding = embedding.astype(self.config.compute_dtype)
        if legal.stride == 0:
            return jnp.broadcast_to(embedding[None], (levels, *embedding.shape))
        return embedding[legal.first_id : legal.first_id + levels * size].reshape(levels, size, -1)

    def hidden(self, params: dict[str, jax.Array], ids: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        """Hidden states that predict each of `ids`: int32[B, S] -> [B, S, D]."""
        inputs = jnp.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        return self.network.apply({"params": params}, inputs, deterministic=dropout_key is None, rngs=rngs)

    def target_nats(
        self,
        params: dict[str, jax.Array],
        ids: jax.Array,
        loss_weights: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> TargetNats:
        """How well every target token is predicted.

        Args:
            params: parameters.
            ids: int32[B, S], prefix, target, PAD. The target begins where the first weight is.
            loss_weights: float32[B, S], 1 on target tokens, 0 on prefix and PAD.
            dropout_key: None for no dropout.

        Returns:
            `TargetNats` of [B, F, L], F the frames of the stage's longest target.
        """
        stage, legal = self.stage, legal_ids(self.stage)
        levels = stage.target.num_levels
        frames = min(-(-stage.max_target_length // levels), -(-ids.shape[1] // levels))
        hidden = self.hidden(params, ids, dropout_key)
        start = jnp.zeros(ids.shape[0], jnp.int32)
        if stage.prefix is not None:
            start = jnp.argmax(loss_weights > 0, axis=1).astype(jnp.int32)
        hidden, ids, weights = _take_target(hidden, ids, loss_weights, start, frames * levels)

        hidden = hidden.reshape(hidden.shape[0], frames, levels, hidden.shape[-1])
        logits = jnp.einsum(
            "bfld,lnd->bfln", hidden, self.legal_tables(params["embedding"]), preferred_element_type=jnp.float32
        )
        logits = nn.with_logical_constraint(logits, ("act_batch", "act_length", None, "act_vocab"))
        if not legal.legal.all():
            logits = jnp.where(legal.legal, logits, MASKED)
        row = legal.row_of(np.arange(levels), ids.reshape(-1, frames, levels))
        weights = weights.reshape(row.shape)

        highest = jnp.max(logits, axis=-1)
        log_total = jax.lax.stop_gradient(highest) + jnp.log(
            jnp.sum(jnp.exp(logits - jax.lax.stop_gradient(highest)[..., None]), axis=-1)
        )
        # A comparison rather than a gather: its gradient is not a scatter.
        picked = jnp.sum(jnp.where(row[..., None] == np.arange(logits.shape[-1]), logits, 0.0), axis=-1)
        nats = jnp.where(weights > 0, log_total - picked, 0.0)
        return TargetNats(nats, weights, (picked >= highest).astype(jnp.float32))


def _take_target(hidden, ids, weights, start, length):
    """Rows start .. start + length - 1 of every sequence; beyond its end zeros, with weight 0."""
    # Padding first, because a dynamic slice that does not fit would silently begin earlier.
    pad = ((0, 0), (0, length))

    def cut(row, begin):
        return jax.lax.dynamic_slice_in_dim(row, begin, length, axis=0)

    cut = jax.vmap(cut)
    hidden = jnp.pad(hidden, (*pad, (0, 0)))
    return cut(hidden, start), cut(jnp.pad(ids, pad), start), cut(jnp.pad(weights, pad), start)
