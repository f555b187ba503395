"""The layers of Lyra V2 in the order in which its files compute them, and where their parameters stand.

A checkpoint is what `lyra_files` reads from the published files: dequantised kernels as LiteRT lays them out, and the
grids of the int8 tensors.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from audiolm_jax.pretrained.files.weight_map import PLAIN, Layout, Weight, WeightMap
from audiolm_jax.pretrained.lyra.lyra_network import ACTIVATION, INPUT, POINTWISE, LyraConfig, group_count, rounds_from

CONV, DEPTHWISE, TRANSPOSED, GRID = "conv", "depthwise", "transposed", "grid"
CODEBOOKS = "codebooks"
# Kernels [out, K, in] to [K, in, out].
_OUT_LAST = Layout(lambda array: array.transpose(1, 2, 0), lambda array: array.transpose(2, 0, 1))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution, or the grid of what another layer gives.

    Attributes:
        kind: CONV, DEPTHWISE, TRANSPOSED or GRID.
        path: of the layer's parameters; of a GRID what stands before "_scale".
        shape: of the kernel in the file: [out, K, in]; [K, C] of a DEPTHWISE one, () of a GRID.
        is_int8: whether it is computed in int8.
        group: of a TRANSPOSED one, whose groups are layers of their own in the file.
        stride: of a TRANSPOSED one.
    """

    kind: str
    path: str
    shape: tuple[int, ...] = ()
    is_int8: bool = True
    group: int = 0
    stride: int = 1

    @property
    def name(self) -> str:
        """What stands before the names of its tensors in a checkpoint."""
        return f"{self.path}.group{self.group}" if self.kind == TRANSPOSED else self.path

    @property
    def features(self) -> int:
        """Channels of what it gives."""
        return self.shape[-1] if self.kind == DEPTHWISE else self.shape[0]

    @property
    def scales(self) -> int:
        """Scales of an int8 kernel: one a channel, or one for all of a transposed convolution."""
        return 1 if self.kind == TRANSPOSED else self.features


def encoder_layers(config: LyraConfig) -> Iterator[Layer]:
    """The layers of the encoder's file."""
    edge = config.edge_kernel_strides * config.strides[0]
    yield Layer(CONV, "encoder.first", (config.widths[0], edge, 1), is_int8=False)
    is_int8 = False
    for block, stride in enumerate(config.strides[1:]):
        width, path = config.widths[block], f"encoder.block{block}"
        yield from _units(config, "encoder", block, width)
        is_int8 = rounds_from(config, "encoder", block, len(config.dilations) - 1) is not None
        if is_int8:
            yield Layer(GRID, f"{path}_down_input")
        shape = (config.widths[block + 1], 2 * stride, width // group_count(config, width))
        yield Layer(CONV, f"{path}_down", shape, is_int8)
    if is_int8:
        yield Layer(GRID, "encoder.last_input")
    shape = (config.latent_dim, config.latent_kernel, config.widths[-1] // config.latent_groups)
    yield Layer(CONV, "encoder.last", shape, is_int8)


def decoder_layers(config: LyraConfig) -> Iterator[Layer]:
    """The layers of the decoder's file."""
    shape = (config.widths[-1], config.latent_kernel, config.latent_dim // config.latent_groups)
    yield Layer(CONV, "decoder.first", shape, is_int8=False)
    is_int8, wide = True, config.widths[-1]
    mirrored = zip(reversed(config.strides[1:]), reversed(config.widths[:-1]), strict=True)
    for block, (stride, width) in enumerate(mirrored):
        path, groups = f"decoder.block{block}_up", group_count(config, width)
        if is_int8:
            yield Layer(GRID, f"{path}_input")
        for group in range(groups):
            shape = (width // groups, 2 * stride, wide // groups)
            yield Layer(TRANSPOSED, path, shape, is_int8, group, stride)
        yield from _units(config, "decoder", block, width)
        is_int8 = rounds_from(config, "decoder", block, len(config.dilations) - 1) is not None
        wide = width
    stride = config.strides[0]
    shape = (1, config.edge_kernel_strides * stride, wide)
    yield Layer(TRANSPOSED, "decoder.last", shape, is_int8=False, stride=stride)


def _units(config: LyraConfig, part: str, block: int, width: int) -> Iterator[Layer]:
    for unit in range(len(config.dilations)):
        path, start = f"{part}.block{block}_unit{unit}", rounds_from(config, part, block, unit)
        if start in (INPUT, ACTIVATION):
            yield Layer(GRID, f"{path}.input")
        is_int8 = start in (INPUT, ACTIVATION)
        yield Layer(DEPTHWISE, f"{path}.depthwise", (config.unit_kernel, width), is_int8)
        yield Layer(CONV, f"{path}.pointwise", (width, 1, width), is_int8)
        if start == POINTWISE:
            yield Layer(GRID, f"{path}.pointwise")
        if start is not None:
            yield Layer(GRID, f"{path}.inner")
        yield Layer(CONV, f"{path}.grouped", (width, 1, width // group_count(config, width)), start is not None)
        if start is not None:
            yield Layer(GRID, f"{path}.sum")


def weight_map(config: LyraConfig) -> WeightMap:
    """Every tensor of a checkpoint of this shape."""
    weights = []
    for layer in (*encoder_layers(config), *decoder_layers(config)):
        weights += _grid(layer) if layer.kind == GRID else _convolution(layer)
    shape = (config.num_codebooks, config.level_size, config.latent_dim)
    return WeightMap((*weights, Weight(CODEBOOKS, CODEBOOKS, shape)))


def _grid(layer: Layer) -> list[Weight]:
    return [Weight(f"{layer.path}_{each}", f"{layer.name}_{each}", (1,)) for each in ("scale", "zero_point")]


def _convolution(layer: Layer) -> list[Weight]:
    layouts = {CONV: _OUT_LAST, DEPTHWISE: PLAIN, TRANSPOSED: _folded(layer.stride)}
    stacked = layer.group if layer.kind == TRANSPOSED else None
    shapes = {"bias": (layer.features,)}
    if layer.is_int8:
        shapes |= {"kernel_scale": (layer.scales,), "output_scale": (1,), "output_zero_point": (1,)}
    path, name = f"{layer.path}.kernel", f"{layer.name}.kernel"
    weights = [Weight(path, name, layer.shape, layouts[layer.kind], stacked=stacked)]
    for name, shape in shapes.items():
        weights.append(Weight(f"{layer.path}.{name}", f"{layer.name}.{name}", shape, stacked=stacked))
    return weights


def _folded(stride: int) -> Layout:
    """A transposed convolution [out, M S, in] of stride S to the kernel [M, in, S * out] of a group of `UpConv`."""

    def read(array: np.ndarray) -> np.ndarray:
        width_out, size, width_in = array.shape
        taps = array.reshape(width_out, size // stride, stride, width_in)
        return taps.transpose(1, 3, 2, 0).reshape(size // stride, width_in, stride * width_out)

    def write(array: np.ndarray) -> np.ndarray:
        frames, width_in, folded = array.shape
        taps = array.reshape(frames, width_in, stride, folded // stride)
        return taps.transpose(3, 0, 2, 1).reshape(folded // stride, frames * stride, width_in)

    return Layout(read, write)
