"""Sizes of the one Transformer that serves all three stages."""

import dataclasses
from typing import Annotated, Literal

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Range, Share

DTYPES = ("float32", "bfloat16")
REMAT_POLICIES = ("none", "dots", "full")
ATTENTIONS = ("auto", "xla", "pallas_tpu", "pallas_gpu")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A decoder-only Transformer (AudioLM, section IV-B).

    Attributes:
        num_layers: blocks of attention and feed-forward.
        num_heads: attention heads.
        embed_dim: width D of the residual stream.
        mlp_dim: hidden width of the feed-forward.
        head_dim: width K of one head; 0 stands for `embed_dim / num_heads`.
        dropout: rate on the embeddings, on both branches of every block and inside the feed-forward. Attention
            weights are not dropped, so that the fast attention and its reference stay the same function.
        gated_mlp: GELU-gated feed-forward (T5 1.1) with two input projections, in place of the plain one.
        relative_buckets: buckets of the relative position bias (T5).
        relative_max_distance: distance in tokens from which on all positions share the last bucket.
        param_dtype: "float32" or "bfloat16", of the stored parameters.
        compute_dtype: "float32" or "bfloat16", of activations and matrix products. Norms, softmax and the loss are
            float32 in either.
        remat: what the backward pass recomputes: "none"; "dots" keeps matrix products and the result of an attention
            kernel; "full" keeps only the input of every layer.
        attention: what computes attention in training: "auto" for the kernel of the platform that is compiled for and
            XLA where there is none (CPU); "xla", "pallas_tpu" or "pallas_gpu" (see `lm.flash_attention`).
        unroll: layers are a Python loop rather than one scan; compiles longer, runs faster on CPU.
    """

    num_layers: Count
    num_heads: Count
    embed_dim: Count
    mlp_dim: Count
    head_dim: int = 0
    dropout: Share = 0.1
    gated_mlp: bool = False
    relative_buckets: Annotated[int, Range(2)] = 32
    relative_max_distance: Count = 128
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: str = "none"
    attention: str = "auto"
    unroll: bool = True

    def __post_init__(self):
        if min(self.num_layers, self.num_heads, self.embed_dim, self.mlp_dim) < 1:
            raise UserError(f"num_layers, num_heads, embed_dim and mlp_dim must be positive: {self}")
        if self.head_dim == 0:
            if self.embed_dim % self.num_heads:
                raise UserError(
                    f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}; set head_dim"
                )
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout must lie in 0 <= dropout < 1, got {self.dropout}")
        if self.relative_buckets < 2 or self.relative_max_distance <= self.relative_buckets // 2:
            raise UserError(
                f"relative_max_distance {self.relative_max_distance} must exceed half of relative_buckets "
                f"{self.relative_buckets}"
            )
        if self.param_dtype not in DTYPES or self.compute_dtype not in DTYPES:
            raise UserError(f"param_dtype and compute_dtype must be one of {', '.join(DTYPES)}: {self}")
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"remat is '{self.remat}', but must be one of {', '.join(REMAT_POLICIES)}")
        if self.attention not in ATTENTIONS:
            raise UserError(f"attention is '{self.attention}', but must be one of {', '.join(ATTENTIONS)}")
