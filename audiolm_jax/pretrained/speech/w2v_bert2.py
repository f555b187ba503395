"""w2v-BERT 2.0 (Seamless Communication 2023): Kaldi log-mel frames and conformers, 50 frames a second.

A conformer here is half feed-forward, self-attention, a causal convolution, half feed-forward and a layer norm. Two mel
frames side by side are one frame of the network.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.weight_map import PLAIN, REVERSED, Layout, Weight, WeightMap
from audiolm_jax.pretrained.kind import ENCODER, ConfigReader, Kind
from audiolm_jax.pretrained.speech import distance_attention, kaldi_mel
from audiolm_jax.pretrained.speech.distance_attention import NO_POSITION, POSITIONS, RELATIVE, RELATIVE_KEY, ROTARY
from audiolm_jax.semantic.network.conformer import LayerNorm, Linear
from audiolm_jax.semantic.network.encoder import Encoder

_HOP_SAMPLES = 2 * kaldi_mel.HOP_SAMPLES
# Zeros that `frames` puts at either end, so that a mel frame is centred on every hop of 160 samples.
_SIDE_SAMPLES = (kaldi_mel.WINDOW_SAMPLES - kaldi_mel.HOP_SAMPLES) // 2


@dataclasses.dataclass(frozen=True)
class W2vBert2Config(Encoder):
    """An encoder of the w2v-BERT 2.0 family. Fulfils `semantic.network.encoder.Encoder`; its methods are jitted.

    Attributes:
        dim: width D of the conformers and of the features.
        num_layers: conformers.
        num_heads: attention heads.
        mlp_dim: inner width of the feed-forward modules.
        num_mels: of the front end.
        conv_kernel_frames: kernel of the causal depthwise convolution.
        position: how attention knows where a frame is. "relative_key": a learnt vector for every distance, the far ones
            clipped; "relative": a projected sinusoid for every distance; "rotary"; or "none".
        past_frames, future_frames: largest distances with a vector of their own ("relative_key").
        rotary_base: of the wavelengths ("rotary").
        norm_epsilon: of the layer norms.
        compute_dtype: "float32" or "bfloat16"; mels, norms and softmax are float32 always.
    """

    dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_dim: int = 4096
    num_mels: int = 80
    conv_kernel_frames: int = 31
    position: str = RELATIVE_KEY
    past_frames: int = 64
    future_frames: int = 8
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5
    compute_dtype: str = "float32"

    def __post_init__(self):
        if self.dim % self.num_heads:
            raise UserError(f"dim {self.dim} must be a multiple of num_heads {self.num_heads}")
        if self.position not in POSITIONS:
            raise UserError(f"position is '{self.position}', but must be relative_key, relative, rotary or none")
        if self.position == ROTARY and self.dim // self.num_heads % 2:
            raise UserError(f"heads of width {self.dim // self.num_heads} cannot be rotated; the width must be even")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise UserError(f"compute_dtype is '{self.compute_dtype}', but must be float32 or bfloat16")

    @property
    def sample_rate_hz(self) -> int:
        return kaldi_mel.SAMPLE_RATE_HZ

    @property
    def hop_samples(self) -> int:
        return _HOP_SAMPLES

    def num_frames(self, num_samples):
        """Frames that `features` gives of a waveform; an int, or an array of them. Less than 400 samples give none."""
        return (kaldi_mel.num_mel_frames(num_samples) + 1) // 2

    def init(self, rng: jax.Array) -> Any:
        """Random parameters, boxed with their logical axes; those of the conformers are stacked [layers, ...]."""
        first, rest = jax.random.split(rng)
        stack = nn.vmap(
            ConformerBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(None, None, None),
            axis_size=self.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        pair = jnp.zeros((1, 1, 2 * self.num_mels))
        frame = jnp.zeros((1, 1, self.dim))
        return {
            "projection": Projection(self).init(first, pair)["params"],
            "layers": stack(self).init(rest, frame, None, _positions(self, 1))["params"],
        }

    @functools.partial(jax.jit, static_argnames=("self", "layer"))
    def features(self, params: Any, samples: jax.Array, num_samples=None, layer: int | None = None) -> jax.Array:
        """What the published model gives of every row alone, behind its own feature extractor.

        Of an odd number of mel frames, the last is paired with nothing: the other frames do not see that pair, and
        what is returned for it does not depend on its sound, as in the published model.

        Args:
            params: weights; those of layers above `layer` are not used.
            samples: float32[B, T] at 16 kHz.
            num_samples: int32[B] that belong to each row, or None for all.
            layer: 0 (the projected mel frames) to `num_layers`; None for the last.

        Returns:
            float32[B, num_frames(T), D], zeros behind the frames of a row.

        Raises:
            UserError: a layer that the model does not have.
        """
        layer = _checked(self, layer)
        mel = kaldi_mel.log_mel(samples, self.num_mels)
        count = mel.shape[1]
        if count == 0:
            return jnp.zeros((len(samples), 0, self.dim))
        if num_samples is None:
            whole_pairs = np.arange((count + 1) // 2)[None] < count // 2
            pairs = kaldi_mel.paired(kaldi_mel.standardised(mel))
            return _encoded(self, params, pairs, None if count % 2 == 0 else whole_pairs, layer)
        counts = kaldi_mel.num_mel_frames(jnp.asarray(num_samples))
        pairs = kaldi_mel.paired(kaldi_mel.standardised(mel, counts))
        frame = jnp.arange(pairs.shape[1])
        x = _encoded(self, params, pairs, frame < (counts // 2)[:, None], layer)
        return jnp.where((frame < ((counts + 1) // 2)[:, None])[..., None], x, 0.0)

    @functools.partial(jax.jit, static_argnames=("self", "layer"))
    def frames(
        self, params: Any, samples: jax.Array, num_samples: jax.Array, layer: int, first_frame: jax.Array | int = 0
    ) -> jax.Array:
        """Features with a frame for every hop of 320 samples.

        As `features` of the row with 120 zeros before and behind it, so that the mel frames are centred on their hops.
        Every hop of 160 samples that holds one of the row has a mel frame; if their number is odd, the last one is
        paired with itself.

        Args:
            params: weights; those of layers above `layer` are not used.
            samples: float32[B, T] at 16 kHz.
            num_samples: int32[B] of each row, counted from the first of the array, that belong to it.
            layer: 0 to `num_layers`.
            first_frame: int or int32[B], whole frames at the beginning of every row that do not belong to it.

        Returns:
            float32[B, ceil(T / 320), D], zeros outside a row.
        """
        layer = _checked(self, layer)
        batch, total = samples.shape
        count = -(-total // _HOP_SAMPLES)
        first = jnp.broadcast_to(jnp.asarray(first_frame, jnp.int32), batch)
        num_samples = jnp.asarray(num_samples) - first * _HOP_SAMPLES
        rows = jax.vmap(jnp.roll)(samples.astype(jnp.float32), -first * _HOP_SAMPLES)
        rows = jnp.where(jnp.arange(total) < num_samples[:, None], rows, 0.0)
        behind = count * _HOP_SAMPLES - total + _SIDE_SAMPLES
        mel = kaldi_mel.log_mel(jnp.pad(rows, ((0, 0), (_SIDE_SAMPLES, behind))), self.num_mels)
        counts = jnp.maximum(-(-num_samples // kaldi_mel.HOP_SAMPLES), 0)[:, None, None]
        mel = kaldi_mel.standardised(mel, counts[:, 0, 0])
        place = jnp.arange(2 * count)[:, None]
        mel = jnp.where((place == counts) & (place % 2 == 1), jnp.roll(mel, 1, axis=1), mel)
        valid = jnp.arange(count) < ((counts[..., 0] + 1) // 2)
        x = _encoded(self, params, kaldi_mel.paired(mel), valid, layer)
        return jax.vmap(lambda row, steps: jnp.roll(row, steps, axis=0))(jnp.where(valid[..., None], x, 0.0), first)


def _checked(config: W2vBert2Config, layer: int | None) -> int:
    layer = config.num_layers if layer is None else layer
    if not 0 <= layer <= config.num_layers:
        raise UserError(f"layer {layer} is not among the layers 0 to {config.num_layers} of this w2v-BERT 2.0")
    return layer


def _encoded(config: W2vBert2Config, params: Any, pairs: jax.Array, valid, layer: int) -> jax.Array:
    """Output float32[B, T, D] of a layer for pairs of mel frames [B, T, 2 C]; valid bool [B or 1, T], or None."""
    x = Projection(config).apply({"params": params["projection"]}, pairs)
    if valid is not None:
        x = jnp.where(valid[..., None], x, 0)
    positions = _positions(config, x.shape[1])
    block = ConformerBlock(config)

    def one_layer(index, x):
        weights = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), params["layers"])
        return block.apply({"params": weights}, x, valid, positions)

    return jax.lax.fori_loop(0, layer, one_layer, x).astype(jnp.float32)


def _positions(config: W2vBert2Config, num_frames: int) -> np.ndarray | None:
    return distance_attention.position_arrays(
        config.position, num_frames, config.dim, config.num_heads, config.rotary_base
    )


class Projection(nn.Module):
    """Layer norm of pairs of mel frames and their projection. [B, T, 2 C] -> [B, T, D] in the compute dtype."""

    config: W2vBert2Config

    @nn.compact
    def __call__(self, pairs):
        normed = LayerNorm(self.config.norm_epsilon, name="norm")(pairs)
        return Linear(self.config.dim, (None, "embed"), self.config.compute_dtype, name="linear")(normed)


class ConformerBlock(nn.Module):
    """One conformer.

    Args of the call:
        x: [B, T, D].
        valid: bool [B or 1, T], False where a frame is not to be seen by others; None if all are.
        positions: of `distance_attention.position_arrays`.

    Returns:
        [B, T, D]. Frames that are not valid hold finite values.
    """

    config: W2vBert2Config

    @nn.compact
    def __call__(self, x, valid, positions):
        config = self.config
        x = x + 0.5 * FeedForward(config, name="first_feed_forward")(x)
        distances = (config.position, config.past_frames, config.future_frames)
        attention = distance_attention.SelfAttention(
            config.num_heads, *distances, config.norm_epsilon, config.compute_dtype, name="attention"
        )
        x = x + attention(x, valid, positions)
        x = x + ConvolutionModule(config, name="convolution")(x, valid)
        x = x + 0.5 * FeedForward(config, name="second_feed_forward")(x)
        return LayerNorm(config.norm_epsilon, name="norm")(x)


class FeedForward(nn.Module):
    """Layer norm, widen, swish, narrow. [B, T, D] -> [B, T, D]."""

    config: W2vBert2Config

    @nn.compact
    def __call__(self, x):
        config = self.config
        y = LayerNorm(config.norm_epsilon, name="norm")(x)
        y = nn.swish(Linear(config.mlp_dim, ("embed", "mlp"), config.compute_dtype, name="widen")(y))
        return Linear(config.dim, ("mlp", "embed"), config.compute_dtype, name="narrow")(y)


class ConvolutionModule(nn.Module):
    """Layer norm, gated widening, causal depthwise convolution, layer norm, swish, mixing. [B, T, D] -> [B, T, D]."""

    config: W2vBert2Config

    @nn.compact
    def __call__(self, x, valid):
        config, dim, size = self.config, self.config.dim, self.config.conv_kernel_frames
        dtype = config.compute_dtype

        def kernel(name, shape, axes):
            init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes)
            return self.param(name, init, shape, jnp.float32).astype(dtype)

        y = LayerNorm(config.norm_epsilon, name="norm")(x).astype(dtype)
        if valid is not None:
            y = jnp.where(valid[..., None], y, 0)
        y = y @ kernel("gate_kernel", (dim, 2 * dim), ("embed", "mlp"))
        y = y[..., :dim] * nn.sigmoid(y[..., dim:])
        # A sum of shifted products: XLA runs it as one loop, and a convolution in groups very slowly on CPU.
        taps = kernel("depthwise_kernel", (size, dim), (None, "embed"))
        padded = jnp.pad(y, ((0, 0), (size - 1, 0), (0, 0)))
        y = sum(padded[:, tap : tap + x.shape[1]] * taps[tap] for tap in range(size))
        y = nn.swish(LayerNorm(config.norm_epsilon, name="conv_norm")(y))
        return y @ kernel("mix_kernel", (dim, dim), ("mlp", "embed"))


def _read_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> W2vBert2Config:
    """From config.json and preprocessor_config.json; see `kind.Kind`."""
    model = ConfigReader(config, "config.json")
    extractor = ConfigReader(preprocessor, "preprocessor_config.json")
    swish = "the feed-forward and convolution modules are computed with swish"
    if config.get("hidden_act") != "silu":  # another name of swish
        model.require("hidden_act", "swish", "swish", swish)
    extractor.require("feature_extractor_type", "SeamlessM4TFeatureExtractor", "SeamlessM4TFeatureExtractor",
                      "the network hears Kaldi mel frames")
    extractor.require("sampling_rate", kaldi_mel.SAMPLE_RATE_HZ, kaldi_mel.SAMPLE_RATE_HZ, "mels are of 16 kHz")
    extractor.require("stride", 2, 2, "two mel frames make one frame")
    extractor.require("padding_side", "right", "right", "an odd mel frame is padded behind")
    num_mels = extractor.value("num_mel_bins", int, 80)
    extractor.require("feature_size", num_mels, 80, "it must be num_mel_bins")
    model.require("feature_projection_input_dim", 2 * num_mels, 160, "it must be twice num_mel_bins")
    position = config.get("position_embeddings_type", RELATIVE_KEY) or NO_POSITION
    if position not in POSITIONS:
        raise UserError(
            f"config.json: position_embeddings_type is {position!r}, but only relative_key, relative, rotary and null "
            "are supported: attention would not know where a frame is"
        )
    return W2vBert2Config(
        dim=model.value("hidden_size", int, 1024),
        num_layers=model.count("num_hidden_layers", 24),
        num_heads=model.value("num_attention_heads", int, 16),
        mlp_dim=model.value("intermediate_size", int, 4096),
        num_mels=num_mels,
        conv_kernel_frames=model.value("conv_depthwise_kernel_size", int, 31),
        position=position,
        past_frames=model.value("left_max_position_embeddings", int, 64),
        future_frames=model.value("right_max_position_embeddings", int, 8),
        rotary_base=model.value("rotary_embedding_base", float, 10000.0),
        norm_epsilon=model.value("layer_norm_eps", float, 1e-5),
    )


# Tensors that no hidden state depends on; older versions stored the constants of positions.
_HEADS = ("masked_spec_embed", "encoder.embed_positions.", "intermediate_ffn.", "adapter.", "lm_head.", "layer_weights",
          "projector.", "classifier.", "tdnn.", "feature_extractor.", "objective.")  # fmt: skip
# A convolution of kernel 1 [out, in, 1] as a matrix [in, out], and one of a channel each [C, 1, K] as [K, C].
_POINTWISE = Layout(lambda array: array[:, :, 0].T, lambda array: array.T[:, :, None])
_DEPTHWISE = Layout(lambda array: array[:, 0].T, lambda array: array.T[:, None])


def _block_weights(config: W2vBert2Config, index: int) -> list[Weight]:
    """All tensors of one conformer."""
    dim, mlp = config.dim, config.mlp_dim
    found = []

    def one(ours, theirs, shape, layout=PLAIN):
        found.append(Weight(f"layers.{ours}", f"encoder.layers.{index}.{theirs}", shape, layout, stacked=index))

    def norm(ours, theirs):
        one(f"{ours}.scale", f"{theirs}.weight", (dim,))
        one(f"{ours}.bias", f"{theirs}.bias", (dim,))

    def linear(ours, theirs, shape):
        one(f"{ours}.kernel", f"{theirs}.weight", shape, REVERSED)
        one(f"{ours}.bias", f"{theirs}.bias", shape[:1])

    for ours, theirs in (("first_feed_forward", "ffn1"), ("second_feed_forward", "ffn2")):
        norm(f"{ours}.norm", f"{theirs}_layer_norm")
        linear(f"{ours}.widen", f"{theirs}.intermediate_dense", (mlp, dim))
        linear(f"{ours}.narrow", f"{theirs}.output_dense", (dim, mlp))
    norm("attention.norm", "self_attn_layer_norm")
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("mix", "out")):
        linear(f"attention.{ours}", f"self_attn.linear_{theirs}", (dim, dim))
    width = dim // config.num_heads
    if config.position == RELATIVE_KEY:
        distances = config.past_frames + 1 + config.future_frames
        one("attention.distances", "self_attn.distance_embedding.weight", (distances, width))
    elif config.position == RELATIVE:
        one("attention.distance_kernel", "self_attn.linear_pos.weight", (dim, dim), REVERSED)
        one("attention.content_bias", "self_attn.pos_bias_u", (config.num_heads, width))
        one("attention.distance_bias", "self_attn.pos_bias_v", (config.num_heads, width))
    norm("convolution.norm", "conv_module.layer_norm")
    norm("convolution.conv_norm", "conv_module.depthwise_layer_norm")
    one("convolution.gate_kernel", "conv_module.pointwise_conv1.weight", (2 * dim, dim, 1), _POINTWISE)
    size = config.conv_kernel_frames
    one("convolution.depthwise_kernel", "conv_module.depthwise_conv.weight", (dim, 1, size), _DEPTHWISE)
    one("convolution.mix_kernel", "conv_module.pointwise_conv2.weight", (dim, dim, 1), _POINTWISE)
    norm("norm", "final_layer_norm")
    return found


def _weight_map(config: W2vBert2Config) -> WeightMap:
    """All tensors; see `weight_map.WeightMap`. The adapter stands behind all hidden states, so it is a head here."""
    width = 2 * config.num_mels
    weights = [
        Weight("projection.norm.scale", "feature_projection.layer_norm.weight", (width,)),
        Weight("projection.norm.bias", "feature_projection.layer_norm.bias", (width,)),
        Weight("projection.linear.kernel", "feature_projection.projection.weight", (config.dim, width), REVERSED),
        Weight("projection.linear.bias", "feature_projection.projection.bias", (config.dim,)),
    ]
    for index in range(config.num_layers):
        weights += _block_weights(config, index)
    return WeightMap(tuple(weights), prefixes=("", "wav2vec2_bert."), heads=_HEADS)


KIND = Kind(
    name="wav2vec2-bert",
    part=ENCODER,
    config_class=W2vBert2Config,
    read_config=_read_config,
    weight_map=_weight_map,
    make=lambda config: config,
)
