"""Where the parameters of Mimi stand in a checkpoint, the published one and those that the reference saves."""

import numpy as np

from audiolm_jax.pretrained.files.weight_map import (
    PLAIN,
    REVERSED,
    Derived,
    Layout,
    Weight,
    WeightMap,
    folded_transposed,
)
from audiolm_jax.pretrained.mimi import mimi_quantizer
from audiolm_jax.pretrained.mimi.mimi_network import MimiConfig

# A 1x1 convolution [out, in, 1] to a matrix [in, out].
_POINTWISE = Layout(lambda array: array[..., 0].T, lambda array: array.T[..., None])


def _folded_depthwise(stride: int) -> Layout:
    """A transposed convolution of every channel alone, [D, 1, 2 S], to the kernel [2, S, D] of `Upsample`."""
    return Layout(
        lambda array: array.reshape(-1, 2, stride)[:, ::-1].transpose(1, 2, 0),
        lambda array: array.transpose(2, 0, 1)[:, ::-1].reshape(-1, 1, 2 * stride),
    )


def weight_map(config: MimiConfig) -> WeightMap:
    """Every tensor of a checkpoint of this shape."""
    weights = [*_encoder(config), *_decoder(config), *_quantizer(config)]
    # Always true in what is published: the codebooks have been started.
    initialized = [
        Derived(f"{_codebook_name(config, level)}.initialized", (1,), lambda params: np.ones(1, np.float32))
        for level in range(config.num_codebooks)
    ]
    return WeightMap(tuple(weights), tuple(initialized))


def _conv(path: str, name: str, width_in: int, width_out: int, kernel_size: int) -> list[Weight]:
    return [
        Weight(f"{path}.kernel", f"{name}.conv.weight", (width_out, width_in, kernel_size), REVERSED),
        Weight(f"{path}.bias", f"{name}.conv.bias", (width_out,)),
    ]


def _units(config: MimiConfig, part: str, block: int, first_layer: int, width: int) -> list[Weight]:
    """The residual units of a block; each is one entry of their list of layers."""
    inner = width // config.unit_squeeze
    weights = []
    for unit in range(config.num_units):
        path, name = f"{part}.block{block}_unit{unit}", f"{part}.layers.{first_layer + unit}.block"
        weights += _conv(f"{path}.dilated", f"{name}.1", width, inner, config.unit_kernel)
        weights += _conv(f"{path}.pointwise", f"{name}.3", inner, width, 1)
    return weights


def _encoder(config: MimiConfig) -> list[Weight]:
    # Their list of layers counts the activations too: one before each strided and before the last convolution.
    width, latent_dim, layer = config.base_channels, config.latent_dim, 1
    weights = _conv("encoder.first", "encoder.layers.0", 1, width, config.edge_kernel)
    for block, stride in enumerate(config.strides):
        weights += _units(config, "encoder", block, layer, width)
        layer += config.num_units + 1
        weights += _conv(f"encoder.block{block}_down", f"encoder.layers.{layer}", width, 2 * width, 2 * stride)
        width, layer = 2 * width, layer + 1
    weights += _conv("encoder.last", f"encoder.layers.{layer + 1}", width, latent_dim, config.last_kernel)
    weights += _transformer(config, "encoder")
    shape = (latent_dim, latent_dim, 2 * config.latent_stride)
    return [*weights, Weight("encoder.downsample.kernel", "downsample.conv.weight", shape, REVERSED)]


def _decoder(config: MimiConfig) -> list[Weight]:
    latent_dim, stride = config.latent_dim, config.latent_stride
    layout = _folded_depthwise(stride)
    weights = [Weight("decoder.upsample.kernel", "upsample.conv.weight", (latent_dim, 1, 2 * stride), layout)]
    weights += _transformer(config, "decoder")
    width, layer = config.base_channels * 2 ** len(config.strides), 2
    weights += _conv("decoder.first", "decoder.layers.0", latent_dim, width, config.edge_kernel)
    for block, stride in enumerate(reversed(config.strides)):
        path, name = f"decoder.block{block}_up", f"decoder.layers.{layer}.conv"
        shape = (width, width // 2, 2 * stride)
        weights += [
            Weight(f"{path}.kernel", f"{name}.weight", shape, folded_transposed(stride)),
            Weight(f"{path}.bias", f"{name}.bias", (width // 2,)),
        ]
        width //= 2
        weights += _units(config, "decoder", block, layer + 1, width)
        layer += config.num_units + 2
    return weights + _conv("decoder.last", f"decoder.layers.{layer}", width, 1, config.last_kernel)


def _transformer(config: MimiConfig, part: str) -> list[Weight]:
    dim, inner, mlp_dim = config.latent_dim, config.num_heads * config.head_dim, config.mlp_dim
    tensors = (
        ("attention_norm.scale", "input_layernorm.weight", (dim,), PLAIN),
        ("attention_norm.bias", "input_layernorm.bias", (dim,), PLAIN),
        ("attention.query.kernel", "self_attn.q_proj.weight", (inner, dim), REVERSED),
        ("attention.key.kernel", "self_attn.k_proj.weight", (inner, dim), REVERSED),
        ("attention.value.kernel", "self_attn.v_proj.weight", (inner, dim), REVERSED),
        ("attention.out.kernel", "self_attn.o_proj.weight", (dim, inner), REVERSED),
        ("attention_scale", "self_attn_layer_scale.scale", (dim,), PLAIN),
        ("mlp_norm.scale", "post_attention_layernorm.weight", (dim,), PLAIN),
        ("mlp_norm.bias", "post_attention_layernorm.bias", (dim,), PLAIN),
        ("widen.kernel", "mlp.fc1.weight", (mlp_dim, dim), REVERSED),
        ("narrow.kernel", "mlp.fc2.weight", (dim, mlp_dim), REVERSED),
        ("mlp_scale", "mlp_layer_scale.scale", (dim,), PLAIN),
    )
    return [
        Weight(f"{part}.transformer.layer{layer}.{ours}", f"{part}_transformer.layers.{layer}.{theirs}", shape, layout)
        for layer in range(config.num_layers)
        for ours, theirs, shape, layout in tensors
    ]


def _codebook_name(config: MimiConfig, level: int) -> str:
    if level < config.num_semantic:
        return f"quantizer.semantic_residual_vector_quantizer.layers.{level}.codebook"
    return f"quantizer.acoustic_residual_vector_quantizer.layers.{level - config.num_semantic}.codebook"


def _quantizer(config: MimiConfig) -> list[Weight]:
    dim, entry_dim = config.latent_dim, config.codebook_dim
    weights = []
    for which in (mimi_quantizer.SEMANTIC, mimi_quantizer.ACOUSTIC):
        path, name = f"projections.{which}", f"quantizer.{which}_residual_vector_quantizer"
        weights += [
            Weight(f"{path}.input", f"{name}.input_proj.weight", (entry_dim, dim, 1), _POINTWISE),
            Weight(f"{path}.output", f"{name}.output_proj.weight", (dim, entry_dim, 1), _POINTWISE),
        ]
    shape = (config.codebook_size, entry_dim)
    for level in range(config.num_codebooks):
        name = _codebook_name(config, level)
        weights.append(
            Weight("codebooks", f"{name}.embed_sum", shape, stacked=level, counts=f"{name}.cluster_usage")
        )
    return weights
