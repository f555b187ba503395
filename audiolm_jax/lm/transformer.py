"""The decoder-only Transformer of all three stages (AudioLM, section IV-B).

Pre-norm blocks (RMSNorm without bias), T5 relative position bias shared by the layers, no other position information,
plain or gated feed-forward, embeddings tied to the output. The paper leaves norm, activation and tying open.

Parameters are stored stacked, layer axis first, whichever way the layers are run. The blocks are plain functions of a
layer's parameters, so that training, prefill and the cached step of generation run the same lines; `Transformer` is
the linen module that declares the parameters with their logical axes and runs the whole sequence.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from audiolm_jax.lm.attention import distance_bias
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.flash_attention import SAVED_NAMES, distance_attention

LayerParams = dict[str, jax.Array]
# q, k, v [B, H, S, K] -> [B, H, S, K]
Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Drop = Callable[[jax.Array, int], jax.Array]


@jax.custom_vjp
def linear(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., I] @ kernel [I, O].

    The gradient of the kernel needs one of its two factors transposed. Left alone, JAX takes the incoming gradient;
    here it is the narrower of the two, which on CPU is a visible part of a step.
    """
    return x @ kernel


def _linear_fwd(x, kernel):
    return x @ kernel, (x, kernel)


def _linear_bwd(residuals, d_out):
    x, kernel = residuals
    rows, d_rows = x.reshape(-1, x.shape[-1]), d_out.reshape(-1, d_out.shape[-1])
    contract_rows = (((0,), (0,)), ((), ()))
    if kernel.shape[0] <= kernel.shape[1]:
        d_kernel = lax.dot_general(rows, d_rows, contract_rows)
    else:
        d_kernel = lax.dot_general(d_rows, rows, contract_rows).T
    return d_out @ kernel.T, d_kernel


linear.defvjp(_linear_fwd, _linear_bwd)


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x / rms(x) * scale over the last axis, computed in float32, in x's dtype."""
    wide = x.astype(jnp.float32)
    inverse = lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-6)
    return (wide * inverse * scale.astype(jnp.float32)).astype(x.dtype)


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Drops elements with probability `rate` to the nearest 1/256, and scales the rest up by the exact share kept.

    Eight random bits per element, cut from words of 32: random numbers are a visible part of a training step, and
    JAX draws a whole word for every byte that it is asked for.
    """
    threshold = round(rate * 256)
    *rows, length, width = x.shape
    words = jax.random.bits(key, (*rows, -(-length // 4), width), jnp.uint32)
    quarters = [(words >> shift).astype(jnp.uint8) for shift in (0, 8, 16, 24)]
    drawn = jnp.concatenate(quarters, axis=-2)[..., :length, :]
    keep = drawn >= threshold
    return jnp.where(keep, x * (256 / (256 - threshold)), 0).astype(x.dtype)


def attention_projections(config: TransformerConfig, layer: LayerParams, x: jax.Array) -> tuple[jax.Array, ...]:
    """x [B, S, D] -> q (scaled), k, v, each [B, H, S, K]."""
    batch, length, _ = x.shape
    hidden = rms_norm(x, layer["attention_norm_scale"])
    qkv = linear(hidden, layer["qkv"].reshape(config.embed_dim, -1))

    def heads(flat):
        flat = flat.reshape(batch, length, config.num_heads, config.head_dim)
        return nn.with_logical_constraint(flat.transpose(0, 2, 1, 3), ("act_batch", "act_heads", "act_length", None))

    # Cut and scaled before the heads are: a kernel wants [B, S, H * K], and then the transpositions cancel.
    q, k, v = jnp.split(qkv, 3, axis=-1)
    return heads(q * config.head_dim**-0.5), heads(k), heads(v)


def attention_output(config: TransformerConfig, layer: LayerParams, mixed: jax.Array) -> jax.Array:
    """mixed [B, H, S, K] -> [B, S, D]."""
    batch, _, length, _ = mixed.shape
    flat = mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1)
    return linear(flat, layer["attention_out"].reshape(-1, config.embed_dim))


def feed_forward(config: TransformerConfig, layer: LayerParams, x: jax.Array, drop: Drop) -> jax.Array:
    """x [B, S, D] -> [B, S, D]."""
    batch, length, _ = x.shape
    hidden = rms_norm(x, layer["mlp_norm_scale"])
    if config.gated_mlp:
        both = linear(hidden, layer["mlp_in"].reshape(config.embed_dim, -1)).reshape(batch, length, 2, config.mlp_dim)
        hidden = nn.gelu(both[:, :, 0]) * both[:, :, 1]
    else:
        hidden = nn.gelu(linear(hidden, layer["mlp_in"]))
    hidden = nn.with_logical_constraint(hidden, ("act_batch", "act_length", "act_mlp"))
    return linear(drop(hidden, 1), layer["mlp_out"])


def block(config: TransformerConfig, layer: LayerParams, x: jax.Array, attend: Attend, drop: Drop) -> jax.Array:
    """One pre-norm block.

    Args:
        config: sizes.
        layer: one layer's parameters, in the compute dtype (norm scales in any).
        x: [B, S, D] in the compute dtype.
        attend: attention over q, k, v; holds mask, bias and, in generation, the cache.
        drop: dropout of (activation, place 0..2), the identity where nothing is dropped.

    Returns:
        [B, S, D].
    """
    q, k, v = attention_projections(config, layer, x)
    x = x + drop(attention_output(config, layer, attend(q, k, v)), 0)
    x = x + drop(feed_forward(config, layer, x, drop), 2)
    return nn.with_logical_constraint(x, ("act_batch", "act_length", "act_embed"))


def keep_all(x: jax.Array, place: int) -> jax.Array:
    """The `drop` of evaluation and generation."""
    del place
    return x


def unstack_layers(config: TransformerConfig, layers: LayerParams) -> list[LayerParams]:
    """Stacked parameters [L, ...] to one dict per layer, in the types they are computed with.

    `lax.split`, because its gradient is one concatenation; indexing's would add up L arrays of full size.
    """
    parts = {name: lax.split(value, [1] * config.num_layers) for name, value in computed_with(config, layers).items()}
    return [{name: part[i][0] for name, part in parts.items()} for i in range(config.num_layers)]


def computed_with(config: TransformerConfig, layers: LayerParams) -> LayerParams:
    """Parameters of layers in the compute dtype, norm scales as they are.

    Norms are computed in float32, and an update of a scale near 1 that is below 0.4 % of it would vanish in bfloat16.
    """
    return {
        name: value if name.endswith("_scale") else value.astype(config.compute_dtype)
        for name, value in layers.items()
    }


def embed(config: TransformerConfig, embedding: jax.Array, ids: jax.Array) -> jax.Array:
    """ids int32[...] -> [..., D] in the compute dtype.

    Not scaled up: the table is also the output's, and a residual stream that is mostly the current token's embedding
    would begin training by predicting that token again.
    """
    # Gathered over `fsdp` before it is read: left alone, XLA may gather what was read, which is far more.
    table = nn.with_logical_constraint(embedding, ("vocab", "act_embed"))
    return jnp.take(table, ids, axis=0).astype(config.compute_dtype)


def _remat(config: TransformerConfig, function: Callable) -> Callable:
    if config.remat == "none":
        return function
    if config.remat == "full":
        return jax.checkpoint(function)
    policies = jax.checkpoint_policies
    policy = policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(*SAVED_NAMES)
    )
    return jax.checkpoint(function, policy=policy)


class Transformer(nn.Module):
    """Ids to hidden states.

    Attributes:
        config: sizes.
        vocab_rows: rows of the embedding table, the layout's `padded_vocab_size`.
    """

    config: TransformerConfig
    vocab_rows: int

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool = True) -> jax.Array:
        """Hidden states of every position.

        Args:
            inputs: int32[B, S], the sequence shifted right by one with PAD in the first place. PAD at the end needs
                no mask: no earlier position sees it.
            deterministic: False to apply dropout, with the rng named "dropout".

        Returns:
            [B, S, D] in the compute dtype, after the final norm; logits are products with rows of the embedding.
        """
        config = self.config
        params = self._declare()
        apply_dropout = config.dropout > 0 and not deterministic
        key = self.make_rng("dropout") if apply_dropout else None

        # All distances from the greatest on share a bucket.
        distances = min(inputs.shape[1], config.relative_max_distance + 1)
        bias = distance_bias(
            params["relative_bias"], distances, config.relative_buckets, config.relative_max_distance
        )

        def attend(q, k, v):
            return distance_attention(q, k, v, bias, config.attention)

        def run_layer(x, layer, index):
            drop = keep_all
            if apply_dropout:
                layer_key = jax.random.fold_in(key, index)

                def drop(value, place):
                    return dropout(value, config.dropout, jax.random.fold_in(layer_key, place))

            return block(config, layer, x, attend, drop)

        run_layer = _remat(config, run_layer)
        x = embed(config, params["embedding"], inputs)
        if apply_dropout:
            x = dropout(x, config.dropout, jax.random.fold_in(key, config.num_layers))
        x = nn.with_logical_constraint(x, ("act_batch", "act_length", "act_embed"))
        if config.unroll:
            for index, layer in enumerate(unstack_layers(config, params["layers"])):
                x = run_layer(x, layer, index)
        else:
            layers = computed_with(config, params["layers"])

            def step(carry, layer_and_index):
                return run_layer(carry, *layer_and_index), None

            x, _ = lax.scan(step, x, (layers, jnp.arange(config.num_layers)))
        return rms_norm(x, params["final_norm_scale"])

    def _declare(self) -> dict[str, Any]:
        config = self.config
        count, width, heads, head = config.num_layers, config.embed_dim, config.num_heads, config.head_dim
        # Outputs of branches start smaller by the depth, so that the residual stream does not grow with it.
        residual = (2 * count) ** -0.5
        layers = {
            "attention_norm_scale": self._ones("attention_norm_scale", (count, width), ("layers", "embed")),
            "qkv": self._normal(
                "qkv", (count, width, 3, heads, head), ("layers", "embed", None, "heads", "head_dim"), width**-0.5
            ),
            "attention_out": self._normal(
                "attention_out",
                (count, heads, head, width),
                ("layers", "heads", "head_dim", "embed"),
                residual * (heads * head) ** -0.5,
            ),
            "mlp_norm_scale": self._ones("mlp_norm_scale", (count, width), ("layers", "embed")),
            "mlp_in": self._normal(
                "mlp_in",
                (count, width, 2, config.mlp_dim) if config.gated_mlp else (count, width, config.mlp_dim),
                ("layers", "embed", None, "mlp") if config.gated_mlp else ("layers", "embed", "mlp"),
                width**-0.5,
            ),
            "mlp_out": self._normal(
                "mlp_out", (count, config.mlp_dim, width), ("layers", "mlp", "embed"), residual * config.mlp_dim**-0.5
            ),
        }
        return {
            "embedding": self._normal("embedding", (self.vocab_rows, width), ("vocab", "embed"), width**-0.5),
            "relative_bias": self._normal("relative_bias", (config.relative_buckets, heads), (None, "heads"), 0.1),
            "layers": layers,
            "final_norm_scale": self._ones("final_norm_scale", (width,), ("embed",)),
        }

    def _normal(self, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...], scale: float) -> jax.Array:
        init = nn.initializers.truncated_normal(scale, jnp.dtype(self.config.param_dtype))
        return self.param(name, nn.with_logical_partitioning(init, axes), shape)

    def _ones(self, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> jax.Array:
        init = nn.initializers.ones_init()
        return self.param(
            name, nn.with_logical_partitioning(init, axes), shape, jnp.dtype(self.config.param_dtype)
        )


def stacked_layers(params: dict[str, jax.Array]) -> LayerParams:
    """The stacked per-layer parameters of a flat parameter dict."""
    return {name: params[name] for name in LAYER_PARAMETERS}


LAYER_PARAMETERS = ("attention_norm_scale", "qkv", "attention_out", "mlp_norm_scale", "mlp_in", "mlp_out")
