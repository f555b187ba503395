"""Where the parameters of EnCodec stand in a checkpoint."""

import functools
from typing import Any

import numpy as np

from audiolm_jax.pretrained.encodec.encodec_network import EncodecConfig
from audiolm_jax.pretrained.files.weight_map import REVERSED, Derived, Weight, WeightMap, folded_transposed


def weight_map(config: EncodecConfig) -> WeightMap:
    """Every tensor of a checkpoint of this shape."""
    weights = [*_encoder(config), *_decoder(config)]
    derived: list[Derived] = []
    size, dim = config.codebook_size, config.latent_dim
    for level in range(config.num_codebooks):
        name = f"quantizer.layers.{level}.codebook"
        weights.append(Weight("codebooks", f"{name}.embed", (size, dim), stacked=level))
        # Averages of training. One vector for every entry: the entries are then the averages themselves.
        derived += [
            Derived(f"{name}.inited", (1,), lambda params: np.ones(1, np.float32)),
            Derived(f"{name}.cluster_size", (size,), lambda params: np.ones(size, np.float32)),
            Derived(f"{name}.embed_avg", (size, dim), functools.partial(_codebook, level=level)),
        ]
    return WeightMap(tuple(weights), tuple(derived))


def _codebook(params: Any, level: int) -> np.ndarray:
    return np.asarray(params["codebooks"][level], np.float32)


def _conv(config: EncodecConfig, path: str, name: str, width_in: int, width_out: int, kernel_size: int) -> list[Weight]:
    shape = (width_out, width_in, kernel_size)
    return [
        Weight(f"{path}.kernel", f"{name}.conv.weight", shape, REVERSED, _normed_axis(config)),
        Weight(f"{path}.bias", f"{name}.conv.bias", (width_out,)),
        *_norm(config, path, name, width_out),
    ]


def _up_conv(config: EncodecConfig, path: str, name: str, width_in: int, width_out: int, stride: int) -> list[Weight]:
    shape, layout = (width_in, width_out, 2 * stride), folded_transposed(stride)
    return [
        Weight(f"{path}.kernel", f"{name}.conv.weight", shape, layout, _normed_axis(config)),
        Weight(f"{path}.bias", f"{name}.conv.bias", (width_out,)),
        *_norm(config, path, name, width_out),
    ]


def _normed_axis(config: EncodecConfig) -> int | None:
    return None if config.has_group_norm else 0


def _norm(config: EncodecConfig, path: str, name: str, width: int) -> list[Weight]:
    if not config.has_group_norm:
        return []
    return [
        Weight(f"{path}.scale", f"{name}.norm.weight", (width,)),
        Weight(f"{path}.shift", f"{name}.norm.bias", (width,)),
    ]


def _units(config: EncodecConfig, part: str, block: int, first_layer: int, width: int) -> list[Weight]:
    """The residual units of a block; each is one entry of their list of layers."""
    inner, weights = width // config.unit_squeeze, []
    for unit in range(config.num_units):
        path, name = f"{part}.block{block}_unit{unit}", f"{part}.layers.{first_layer + unit}"
        weights += _conv(config, f"{path}.dilated", f"{name}.block.1", width, inner, config.unit_kernel)
        weights += _conv(config, f"{path}.pointwise", f"{name}.block.3", inner, width, 1)
        if config.has_shortcut:
            weights += _conv(config, f"{path}.shortcut", f"{name}.shortcut", width, width, 1)
    return weights


def _lstm(config: EncodecConfig, part: str, at_layer: int) -> list[Weight]:
    width = config.widths[-1]
    tensors = (
        ("input_kernel", "weight_ih", (4 * width, width)),
        ("recurrent_kernel", "weight_hh", (4 * width, width)),
        ("input_bias", "bias_ih", (4 * width,)),
        ("recurrent_bias", "bias_hh", (4 * width,)),
    )
    return [
        Weight(f"{part}.lstm.layer{layer}_{ours}", f"{part}.layers.{at_layer}.lstm.{theirs}_l{layer}", shape, REVERSED)
        for layer in range(config.num_lstm_layers)
        for ours, theirs, shape in tensors
    ]


def _encoder(config: EncodecConfig) -> list[Weight]:
    # Their list of layers counts the activations too: one before each strided and before the last convolution.
    layer, weights = 1, _conv(
        config, "encoder.first", "encoder.layers.0", config.num_channels, config.base_channels, config.edge_kernel
    )
    for block, (stride, width) in enumerate(zip(config.strides, config.widths[:-1], strict=True)):
        weights += _units(config, "encoder", block, layer, width)
        layer += config.num_units + 1
        down = f"encoder.block{block}_down"
        weights += _conv(config, down, f"encoder.layers.{layer}", width, 2 * width, 2 * stride)
        layer += 1
    weights += _lstm(config, "encoder", layer)
    last = f"encoder.layers.{layer + 2}"
    return weights + _conv(config, "encoder.last", last, config.widths[-1], config.latent_dim, config.last_kernel)


def _decoder(config: EncodecConfig) -> list[Weight]:
    weights = _conv(
        config, "decoder.first", "decoder.layers.0", config.latent_dim, config.widths[-1], config.edge_kernel
    )
    weights += _lstm(config, "decoder", 1)
    layer, width = 3, config.widths[-1]
    for block, stride in enumerate(reversed(config.strides)):
        weights += _up_conv(
            config, f"decoder.block{block}_up", f"decoder.layers.{layer}", width, width // 2, stride
        )
        width //= 2
        weights += _units(config, "decoder", block, layer + 1, width)
        layer += config.num_units + 2
    last = f"decoder.layers.{layer}"
    return weights + _conv(config, "decoder.last", last, width, config.num_channels, config.last_kernel)
