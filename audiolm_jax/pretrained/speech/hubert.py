"""HuBERT (Hsu et al. 2021) and wav2vec 2.0 (Baevski et al. 2020): one network, told apart by how it was trained."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.weight_map import REVERSED, Derived, Weight, WeightMap
from audiolm_jax.pretrained.kind import ENCODER, ConfigReader, Kind
from audiolm_jax.pretrained.speech.speech_transformer import Block, PositionConv, WaveConv, masked
from audiolm_jax.semantic.network.conformer import LayerNorm, Linear
from audiolm_jax.semantic.network.encoder import Encoder

# Norms of the convolutions: of every channel over the time of its row, after the first one; of every step over the
# channels, after each.
GROUP, LAYER = "group", "layer"
_NORMALIZE_EPSILON = 1e-7
# Heads on top of the published models: of recognition, of classification, of speakers, and of pre-training.
_HEADS = (
    "lm_head.",
    "projector.",
    "classifier.",
    "layer_weights",
    "tdnn.",
    "feature_extractor.weight",
    "feature_extractor.bias",
    "objective.",
    "quantizer.",
    "project_hid.",
    "project_q.",
    "final_proj.",
    "label_embs_concat",
)


@dataclasses.dataclass(frozen=True)
class HubertConfig(Encoder):
    """A HuBERT or a wav2vec 2.0, and the `semantic.network.encoder.Encoder` that it is.

    The defaults are HuBERT base. Layer 0 is what the first block is given, layer n the output of block n; where the
    blocks normalise their input (`norm_first`), that is before the norm that stands behind the last block.

    Attributes:
        sample_rate_hz: rate of the waveform.
        normalize_samples: whether a recording is brought to mean 0 and variance 1 first.
        conv_widths, conv_kernels, conv_strides: the convolutions that read the waveform, without padding.
        conv_bias: whether they have biases.
        conv_norm: GROUP or LAYER.
        project_norm: whether there is a layer norm before the projection to `dim`.
        position_kernel_frames, position_groups: the convolution that tells frames their positions.
        position_batch_norm: whether its input is normalised by stored statistics.
        dim: width D of the blocks and of the features.
        num_layers: blocks.
        num_heads: attention heads.
        mlp_dim: inner width of the feed-forward modules.
        norm_first: whether the blocks normalise their input; they normalise their sums otherwise.
        norm_epsilon: added to the variance in the layer norms of projection and blocks.
        compute_dtype: "float32" or "bfloat16"; norms and softmax are float32 always.
    """

    sample_rate_hz: int = 16_000
    normalize_samples: bool = True
    conv_widths: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: str = GROUP
    project_norm: bool = True
    position_kernel_frames: int = 128
    position_groups: int = 16
    position_batch_norm: bool = False
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    norm_first: bool = False
    norm_epsilon: float = 1e-5
    compute_dtype: str = "float32"

    def __post_init__(self):
        if not 0 < len(self.conv_widths) == len(self.conv_kernels) == len(self.conv_strides):
            raise UserError(
                f"{len(self.conv_widths)} widths, {len(self.conv_kernels)} kernels and {len(self.conv_strides)} "
                "strides of convolutions must be equally many, and at least one"
            )
        if not all(1 <= stride <= kernel for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True)):
            raise UserError(f"conv_strides {self.conv_strides} must be 1 to the conv_kernels {self.conv_kernels}")
        if self.conv_norm not in (GROUP, LAYER):
            raise UserError(f"conv_norm is '{self.conv_norm}', but must be {GROUP} or {LAYER}")
        for name in ("num_heads", "position_groups"):
            if getattr(self, name) < 1 or self.dim % getattr(self, name):
                raise UserError(f"dim {self.dim} must be a multiple of {name} {getattr(self, name)}")
        if self.num_layers < 1:
            raise UserError(f"num_layers is {self.num_layers}, but must be at least 1")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise UserError(f"compute_dtype is '{self.compute_dtype}', but must be float32 or bfloat16")

    @classmethod
    def base(cls) -> "HubertConfig":
        """HuBERT base and wav2vec 2.0 base, 95M parameters."""
        return cls()

    @classmethod
    def large(cls) -> "HubertConfig":
        """HuBERT large and wav2vec 2.0 large of 60,000 hours, 317M parameters."""
        return cls(
            conv_bias=True, conv_norm=LAYER, dim=1024, num_layers=24, num_heads=16, mlp_dim=4096, norm_first=True
        )

    @property
    def hop_samples(self) -> int:
        """Samples of a frame; 320 in all published models."""
        return math.prod(self.conv_strides)

    @property
    def receptive_samples(self) -> int:
        """Samples that a frame sees before attention; 400 in all published models."""
        seen, hop = 1, 1
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            seen, hop = seen + (kernel - 1) * hop, hop * stride
        return seen

    def num_frames(self, num_samples: Any) -> Any:
        """Frames of a waveform as the reference counts them: those that it fills. int or int[B] in and out."""
        frames = (num_samples - self.receptive_samples) // self.hop_samples + 1
        return max(frames, 0) if isinstance(frames, int) else jnp.maximum(frames, 0)

    def init(self, rng: jax.Array) -> Any:
        """Random parameters, boxed with their logical axes."""
        return _Network(self).init(rng, jnp.zeros((1, self.receptive_samples)), None)["params"]

    @functools.partial(jax.jit, static_argnames=("self", "layer"))
    def features(
        self, params: Any, samples: jax.Array, num_samples: jax.Array | None = None, layer: int | None = None
    ) -> jax.Array:
        """What the reference says of every row alone, normalised as its feature extractor does it.

        Args:
            params: weights; those of layers above `layer` are not used.
            samples: float32[B, T] at `sample_rate_hz`.
            num_samples: int32[B] samples that belong to each row; None for all T.
            layer: 0 to `num_layers`; None for the last.

        Returns:
            float32[B, num_frames(T), D]; behind the `num_frames(num_samples)` frames of a row stand zeros.

        Raises:
            UserError: a layer that the model does not have.
        """
        samples = self._normalized(jnp.asarray(samples, jnp.float32), num_samples)
        return self._network(params, samples, num_samples, layer)

    @functools.partial(jax.jit, static_argnames=("self", "layer"))
    def frames(
        self, params: Any, samples: jax.Array, num_samples: jax.Array, layer: int, first_frame: jax.Array | int = 0
    ) -> jax.Array:
        """Features [B, ceil(T / hop), D]: a frame for every hop; see `semantic.network.encoder.Encoder`.

        They are the features of every row, normalised, then filled with zeros to a multiple of the hop, with 40 more
        zeros on either side: half of what a frame sees beyond its hop. So frame n is centred on hop n.
        """
        batch, length = samples.shape
        hop = self.hop_samples
        first = jnp.broadcast_to(jnp.asarray(first_frame), (batch,))
        own = jnp.maximum(jnp.asarray(num_samples) - first * hop, 0)
        samples = jnp.pad(jnp.asarray(samples, jnp.float32), ((0, 0), (0, -length % hop)))
        samples = self._normalized(jax.vmap(jnp.roll)(samples, -first * hop), own)
        around = self.receptive_samples - hop
        samples = jnp.pad(samples, ((0, 0), (around // 2, around - around // 2)))
        filled = jnp.where(own > 0, -(-own // hop) * hop + around, 0)
        made = self._network(params, samples, filled, layer)
        # Behind the frames of a row stand zeros: these come to its beginning.
        return jax.vmap(functools.partial(jnp.roll, axis=0))(made, first)

    def _normalized(self, samples: jax.Array, num_samples: jax.Array | None) -> jax.Array:
        """samples [B, T] as the feature extractor gives each row alone, zeros behind its end."""
        if num_samples is None:
            inside, count = None, samples.shape[1]
        else:
            inside = jnp.arange(samples.shape[1]) < jnp.asarray(num_samples)[:, None]
            count = jnp.maximum(jnp.asarray(num_samples), 1)[:, None]

        def kept(x):
            return x if inside is None else jnp.where(inside, x, 0.0)

        if not self.normalize_samples:
            return kept(samples)
        centred = samples - jnp.sum(kept(samples), axis=1, keepdims=True) / count
        variance = jnp.sum(kept(jnp.square(centred)), axis=1, keepdims=True) / count
        return kept(centred * jax.lax.rsqrt(variance + _NORMALIZE_EPSILON))

    def _network(self, params: Any, samples: jax.Array, num_samples: jax.Array | None, layer: int | None) -> jax.Array:
        """Layer float32[B, num_frames(T), D] of normalised samples [B, T]."""
        layer = self.num_layers if layer is None else layer
        if not 0 <= layer <= self.num_layers:
            raise UserError(f"layer {layer} is not among the layers 0 to {self.num_layers} of this model")
        steps = self.num_frames(samples.shape[1])
        if steps == 0:
            return jnp.zeros((samples.shape[0], 0, self.dim), jnp.float32)
        used = {name: value for name, value in params.items() if name != "blocks"}
        if layer > 0:
            used["blocks"] = jax.tree.map(lambda leaf: leaf[:layer], params["blocks"])
        return _Network(self, layer).apply({"params": used}, samples, num_samples)


class _Network(nn.Module):
    """Normalised samples [B, T] to one layer float32[B, num_frames(T), D]; zeros behind the end of every row.

    Attributes:
        config: of the model.
        upto: the layer; None for the last.
    """

    config: HubertConfig
    upto: int | None = None

    @nn.compact
    def __call__(self, samples: jax.Array, num_samples: jax.Array | None) -> jax.Array:
        config = self.config
        x = samples[..., None].astype(config.compute_dtype)
        ends, valid = num_samples, None
        shapes = zip(config.conv_widths, config.conv_kernels, config.conv_strides, strict=True)
        for index, (width, kernel, stride) in enumerate(shapes):
            norm = "layer" if config.conv_norm == LAYER else "row" if index == 0 else ""
            if ends is not None:
                ends = jnp.maximum((ends - kernel) // stride + 1, 0)
                valid = jnp.arange((x.shape[1] - kernel) // stride + 1) < ends[:, None]
            x = WaveConv(width, kernel, stride, config.conv_bias, norm, name=f"conv{index}")(x, valid)
        if config.project_norm:
            x = LayerNorm(config.norm_epsilon, name="project_norm")(x)
        x = masked(Linear(config.dim, ("mlp", "embed"), config.compute_dtype, name="project")(x), valid)
        position = (config.position_kernel_frames, config.position_groups, config.position_batch_norm)
        x = x + PositionConv(*position, name="position")(x, valid)
        # Where the blocks normalise their input, this norm stands behind the last block, where no layer is taken: it
        # is kept only so that an export has it.
        normed = LayerNorm(config.norm_epsilon, name="norm")(x)
        x = x if config.norm_first else normed
        upto = config.num_layers if self.upto is None else self.upto
        if upto > 0:
            blocks = nn.scan(
                Block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=upto,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            block = (config.num_heads, config.mlp_dim, config.norm_first, config.norm_epsilon, config.compute_dtype)
            x, _ = blocks(*block, name="blocks")(x, valid)
        return masked(x.astype(jnp.float32), valid)


def _norm(path: str, name: str, width: int, stacked: int | None = None) -> list[Weight]:
    """Scale and bias of a norm."""
    return [
        Weight(f"{path}.scale", f"{name}.weight", (width,), stacked=stacked),
        Weight(f"{path}.bias", f"{name}.bias", (width,), stacked=stacked),
    ]


def _linear(path: str, name: str, width_in: int, width_out: int, stacked: int | None = None) -> list[Weight]:
    """Kernel and bias of a matrix."""
    return [
        Weight(f"{path}.kernel", f"{name}.weight", (width_out, width_in), REVERSED, stacked=stacked),
        Weight(f"{path}.bias", f"{name}.bias", (width_out,), stacked=stacked),
    ]


def _weights(config: HubertConfig) -> list[Weight]:
    """All that the network is made of."""
    dim = config.dim
    weights, width_in = [], 1
    for index, (width, kernel) in enumerate(zip(config.conv_widths, config.conv_kernels, strict=True)):
        name = f"feature_extractor.conv_layers.{index}"
        weights.append(Weight(f"conv{index}.kernel", f"{name}.conv.weight", (width, width_in, kernel), REVERSED))
        if config.conv_bias:
            weights.append(Weight(f"conv{index}.bias", f"{name}.conv.bias", (width,)))
        if config.conv_norm == LAYER or index == 0:
            weights += _norm(f"conv{index}.norm", f"{name}.layer_norm", width)
        width_in = width
    if config.project_norm:
        weights += _norm("project_norm", "feature_projection.layer_norm", width_in)
    weights += _linear("project", "feature_projection.projection", width_in, dim)
    name = "encoder.pos_conv_embed"
    shape = (dim, dim // config.position_groups, config.position_kernel_frames)
    normed_axis = None if config.position_batch_norm else 2
    weights.append(Weight("position.kernel", f"{name}.conv.weight", shape, REVERSED, normed_axis))
    weights.append(Weight("position.bias", f"{name}.conv.bias", (dim,)))
    if config.position_batch_norm:
        weights += _norm("position.batch_norm", f"{name}.batch_norm", dim)
        weights.append(Weight("position.batch_norm.mean", f"{name}.batch_norm.running_mean", (dim,)))
        weights.append(Weight("position.batch_norm.variance", f"{name}.batch_norm.running_var", (dim,)))
    weights += _norm("norm", "encoder.layer_norm", dim)
    for index in range(config.num_layers):
        name = f"encoder.layers.{index}"
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj")):
            weights += _linear(f"blocks.attention.{ours}", f"{name}.attention.{theirs}", dim, dim, index)
        weights += _norm("blocks.attention_norm", f"{name}.layer_norm", dim, index)
        weights += _linear("blocks.widen", f"{name}.feed_forward.intermediate_dense", dim, config.mlp_dim, index)
        weights += _linear("blocks.narrow", f"{name}.feed_forward.output_dense", config.mlp_dim, dim, index)
        weights += _norm("blocks.mlp_norm", f"{name}.final_layer_norm", dim, index)
    return weights


def _weight_map(prefix: str, config: HubertConfig) -> WeightMap:
    """Of checkpoints of the model itself, and of it under `prefix` with heads on top."""
    # What stood in place of masked frames in training.
    derived = [Derived("masked_spec_embed", (config.dim,), lambda params: np.zeros(config.dim, np.float32))]
    if config.position_batch_norm:
        name = "encoder.pos_conv_embed.batch_norm.num_batches_tracked"
        derived.append(Derived(name, (), lambda params: np.zeros((), np.int64)))
    return WeightMap(tuple(_weights(config)), tuple(derived), ("", prefix), _HEADS)


def _read_config(model_type: str, config_json: Mapping[str, Any], preprocessor_json: Mapping[str, Any]) -> HubertConfig:
    """The configuration of a published model.

    Args:
        model_type: "hubert" or "wav2vec2"; the second knows less options.
        config_json: its config.json.
        preprocessor_json: its preprocessor_config.json.

    Raises:
        UserError: it has what we do not compute.
    """
    model = ConfigReader(config_json, "config.json")
    audio = ConfigReader(preprocessor_json, "preprocessor_config.json")
    for name in ("hidden_act", "feat_extract_activation"):
        model.require(name, "gelu", "gelu", "published models of this kind have no other activation")
    model.require("add_adapter", False, False, "layers are taken before the adapter; import the model without it")
    model.require("adapter_attn_dim", None, None, "adapters of single languages are not computed")
    extractor = "Wav2Vec2FeatureExtractor"
    audio.require("feature_extractor_type", extractor, extractor, "the model reads waveforms")
    audio.require("feature_size", 1, 1, "the model reads waveforms of one channel")
    is_hubert = model_type == "hubert"
    return HubertConfig(
        sample_rate_hz=audio.value("sampling_rate", int, 16_000),
        normalize_samples=audio.value("do_normalize", bool, True),
        conv_widths=model.integers("conv_dim", (512,) * 7),
        conv_kernels=model.integers("conv_kernel", (10, 3, 3, 3, 3, 2, 2)),
        conv_strides=model.integers("conv_stride", (5, 2, 2, 2, 2, 2, 2)),
        conv_bias=model.value("conv_bias", bool, False),
        conv_norm=model.value("feat_extract_norm", str, GROUP),
        project_norm=model.value("feat_proj_layer_norm", bool, True) if is_hubert else True,
        position_kernel_frames=model.value("num_conv_pos_embeddings", int, 128),
        position_groups=model.value("num_conv_pos_embedding_groups", int, 16),
        position_batch_norm=model.value("conv_pos_batch_norm", bool, False) if is_hubert else False,
        dim=model.value("hidden_size", int, 768),
        num_layers=model.count("num_hidden_layers", 12),
        num_heads=model.value("num_attention_heads", int, 12),
        mlp_dim=model.value("intermediate_size", int, 3072),
        norm_first=model.value("do_stable_layer_norm", bool, False),
        norm_epsilon=model.value("layer_norm_eps", float, 1e-5),
    )


def _kind(model_type: str) -> Kind:
    return Kind(
        name=model_type,
        part=ENCODER,
        config_class=HubertConfig,
        read_config=functools.partial(_read_config, model_type),
        weight_map=functools.partial(_weight_map, f"{model_type}."),
        make=lambda config: config,
    )


KIND = _kind("hubert")
WAV2VEC2_KIND = _kind("wav2vec2")
