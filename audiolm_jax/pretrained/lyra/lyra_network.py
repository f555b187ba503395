"""The networks of Lyra V2: residual units of depthwise and pointwise convolutions, everything causal.

Published with int8 weights and activations in the encoder's last block and the decoder's first; there the signals lie
on grids, see `int8`. With `rounds_activations` off the same weights run in float32.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.lyra import int8
from audiolm_jax.pretrained.lyra.int8 import Grid, Signal
from audiolm_jax.pretrained.stream import WHOLE, ZERO, Cut, carried, left_edge

# Sums of whole numbers are exact only in full float32, and what is rounded to a grid must not be coarse before.
_EXACT = jax.lax.Precision.HIGHEST
_UNROLLED_TERMS = 8
# A language model has to have a row for each; four levels of the published model are 65536.
MAX_CODEBOOK_SIZE = 65_536
# Where a residual unit begins to round: at what it is given, at its first activation, or behind its first pointwise
# convolution.
INPUT, ACTIVATION, POINTWISE = "input", "activation", "pointwise"


@dataclasses.dataclass(frozen=True)
class LyraConfig:
    """Defaults are those of the published model.

    Attributes:
        sample_rate_hz: of the waveform.
        strides: of the encoder; the first is that of its first convolution, the decoder goes back in reverse order.
        widths: channels behind each of them.
        edge_kernel_strides: kernel of the first convolution, and of the decoder's last, in strides of it.
        dilations: of the residual units of a block.
        unit_kernel: of their depthwise convolutions.
        group_width: output or input channels of a group in the convolutions that have groups.
        latent_kernel, latent_groups: of the convolutions on either side of the latents.
        latent_dim: width D of a latent frame and of a codebook entry.
        slope: of the leaky ReLUs.
        num_codebooks: levels that the weights hold.
        level_size: entries of each of these levels.
        join_levels: neighbouring levels that are one token together.
        num_quantizers: tokens Q of a frame that `encode` gives.
        rounds_activations: whether the int8 layers round what they give, as the published model does.
    """

    sample_rate_hz: int = 16_000
    strides: tuple[int, ...] = (16, 5, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    edge_kernel_strides: int = 4
    dilations: tuple[int, ...] = (1, 3, 9)
    unit_kernel: int = 3
    group_width: int = 64
    latent_kernel: int = 3
    latent_groups: int = 4
    latent_dim: int = 64
    slope: float = 0.3
    num_codebooks: int = 46
    level_size: int = 16
    join_levels: int = 1
    num_quantizers: int = 46
    rounds_activations: bool = True

    def __post_init__(self):
        if not 1 <= self.edge_kernel_strides <= math.prod(self.strides[1:]) + 1:
            raise UserError(
                f"edge_kernel_strides is {self.edge_kernel_strides}, but a kernel reaches over one frame at most; set "
                f"1 to {math.prod(self.strides[1:]) + 1}"
            )
        if not 1 <= self.join_levels <= self.num_codebooks or self.codebook_size > MAX_CODEBOOK_SIZE:
            most = int(math.log(MAX_CODEBOOK_SIZE, self.level_size))
            raise UserError(
                f"join_levels is {self.join_levels}, which makes codebooks of {self.level_size}^{self.join_levels} "
                f"entries; set 1 to {min(most, self.num_codebooks)}"
            )
        most = self.num_codebooks // self.join_levels
        if not 1 <= self.num_quantizers <= most:
            raise UserError(
                f"num_quantizers is {self.num_quantizers}, but the weights hold {most} levels (join_levels "
                f"{self.join_levels}); set 1 to {most}"
            )

    @property
    def hop_samples(self) -> int:
        return math.prod(self.strides)

    @property
    def codebook_size(self) -> int:
        """Values of a token."""
        return self.level_size**self.join_levels


def rounds_from(config: LyraConfig, part: str, block: int, unit: int) -> str | None:
    """Where a residual unit of the published model begins to round, None for a unit that does not.

    Args:
        config: of the model.
        part: "encoder" or "decoder".
        block, unit: counted from the part's input.
    """
    if part == "encoder":
        if block < len(config.strides) - 2:
            return None
        return INPUT if unit else POINTWISE
    if block > 0:
        return None
    return INPUT if unit else ACTIVATION


def group_count(config: LyraConfig, width: int) -> int:
    """Groups of a convolution whose groups are `group_width` wide."""
    return max(1, width // config.group_width)


class _OnGrids(nn.Module):
    """A module that keeps grids among its parameters."""

    def grid(self, name: str, shape: tuple[int, ...] = (1,)) -> Grid:
        """The grid NAME_scale, NAME_zero_point."""
        scale = self.param(f"{name}_scale", nn.initializers.ones, shape)
        return Grid(scale, self.param(f"{name}_zero_point", nn.initializers.zeros, shape))


class Conv(_OnGrids):
    """Causal convolution [B, T, C_in] -> [B, T / S, C_out]; of a signal on a grid another on `output`.

    The kernel is [K, C_in / groups, C_out], with K a multiple of S; [K, C] where it is depthwise.

    Attributes:
        is_ordered: whether a sum begins with its bias, and goes on product after product in the order of the kernel, as
            in LiteRT's kernels. A product of matrices adds in an order of its own, which depends on the length of the
            recording. What it rounds otherwise does no harm, except where a grid follows: then one in some thousands of
            frames would get other tokens.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    is_depthwise: bool = False
    is_ordered: bool = False

    @nn.compact
    def __call__(self, x: Signal, cut: Cut) -> Signal:
        width = x.values.shape[-1]
        shape = (self.kernel_size, width // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape[:2] if self.is_depthwise else shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        pad = (self.kernel_size - 1) * self.dilation + 1 - self.stride
        values = carried(self, x.values, left_edge(x.values, pad, ZERO), cut)
        if x.grid is None:
            return Signal(self._summed(values, kernel, bias))
        kernel_scale = self.param("kernel_scale", nn.initializers.ones, (self.features,))
        scale = x.grid.scale * kernel_scale
        # Sums of whole numbers are exact in any order.
        sums = self._summed(values, jnp.round(kernel / kernel_scale), jnp.round(bias / scale))
        return int8.from_products(sums, scale, self.grid("output"))

    def _summed(self, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        """The sums [B, T / S, C_out] of padded values [B, T, C_in]."""
        frames = x.shape[1] // self.stride - (self.kernel_size // self.stride - 1) * self.dilation
        if self.is_depthwise:
            total = jnp.broadcast_to(bias, (x.shape[0], frames, self.features))
            for tap in range(self.kernel_size):
                start = tap * self.dilation
                total = total + x[:, start : start + frames] * kernel[tap]
            return total
        columns = self._columns(x, frames)
        terms, features = columns.shape[-1], self.features // self.groups
        kernel = kernel.reshape(self.kernel_size, -1, self.groups, features).reshape(terms, self.groups, features)
        bias = bias.reshape(self.groups, features)
        if self.is_ordered:
            columns = jnp.moveaxis(columns, -1, 0)[..., None]
            start = jnp.broadcast_to(bias, (*columns.shape[1:4], features))
            total = jax.lax.fori_loop(
                0, terms, lambda term, total: total + columns[term] * kernel[term], start, unroll=_UNROLLED_TERMS
            )
        else:
            total = jnp.einsum("btgk,kgo->btgo", columns, kernel, precision=_EXACT) + bias
        return total.reshape(*total.shape[:2], self.features)

    def _columns(self, x: jax.Array, frames: int) -> jax.Array:
        """What each result is a sum over, [B, T, groups, K * C_in / groups]."""
        batch, _, width = x.shape
        x = x.reshape(batch, -1, self.stride, self.groups, width // self.groups)
        starts = [tap * self.dilation for tap in range(self.kernel_size // self.stride)]
        x = jnp.concatenate([x[:, start : start + frames] for start in starts], axis=2)
        return jnp.swapaxes(x, 2, 3).reshape(batch, frames, self.groups, -1)


class UpConv(_OnGrids):
    """Causal transposed convolution of kernel M S, [B, F * N, C_in] -> [B, F * N * S, C_out]; the result is on no grid.

    N are the steps that one frame of the codec has here, at least M - 1. The kernel is
    [groups, M, C_in / groups, S * C_out / groups]. The published model computes frame by frame: of a signal on a grid
    it rounds all that a frame gives, to its own steps and to the M - 1 steps behind them, and then adds the frames. A
    frame that was not there gives nothing, not even what zeros would be rounded to.
    """

    features: int
    stride: int
    kernel_strides: int
    frame_steps: int
    groups: int = 1

    @nn.compact
    def __call__(self, x: Signal, cut: Cut) -> Signal:
        batch, steps, width = x.values.shape
        groups, group_features = self.groups, self.features // self.groups
        shape = (groups, self.kernel_strides, width // groups, self.stride * group_features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(batch_axis=0), shape)
        bias = self.param("bias", nn.initializers.zeros, (groups, group_features))[:, None]
        if x.grid is None:
            given = self._sums(x.values, kernel) + bias
        else:
            kernel_scale = self.param("kernel_scale", nn.initializers.ones, (groups, 1))
            scale = (x.grid.scale * kernel_scale)[:, None]
            whole = jnp.round(kernel / kernel_scale[:, None, None])
            grid = Grid(*(array[:, None] for array in self.grid("output", (groups, 1))))
            given = int8.real(int8.from_products(self._sums(x.values, whole) + jnp.round(bias / scale), scale, grid))
        own, behind = given[:, :, : self.frame_steps], given[:, :, self.frame_steps :] - bias
        edge = jnp.zeros_like(behind[:, :1])
        own = own.at[:, :, : self.kernel_strides - 1].add(carried(self, behind, edge, cut)[:, :-1])
        # [B, F, N, G, S, C] to the order of time
        return Signal(jnp.swapaxes(own, 3, 4).reshape(batch, steps * self.stride, self.features))

    def _sums(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """What each frame gives, [B, F, N + M - 1, G, S, C_out / G]."""
        batch, later = x.shape[0], self.kernel_strides - 1
        x = x.reshape(batch, -1, self.frame_steps, self.groups, x.shape[-1] // self.groups)
        total = 0.0
        for step in range(self.kernel_strides):
            part = jnp.einsum("bfngi,gio->bfngo", x, kernel[:, step], precision=_EXACT)
            total += jnp.pad(part, ((0, 0), (0, 0), (step, later - step), (0, 0), (0, 0)))
        return total.reshape(*total.shape[:4], self.stride, -1)


class ResidualUnit(_OnGrids):
    """x + grouped(leaky(pointwise(depthwise(leaky(x))))), [B, T, C] -> [B, T, C].

    Attributes:
        rounds_from: INPUT, ACTIVATION or POINTWISE: from where on the signals are on grids; None for nowhere.
        is_ordered: of its convolutions that are on no grid, see `Conv`.
    """

    config: LyraConfig
    dilation: int
    rounds_from: str | None
    is_ordered: bool = False

    @nn.compact
    def __call__(self, x: Signal, cut: Cut) -> Signal:
        config, width = self.config, x.values.shape[-1]
        start = self.rounds_from
        y = int8.leaky_relu(x, config.slope, None if x.grid is None else self.grid("input"))
        if start == ACTIVATION:
            y = int8.on_grid(y.values, self.grid("input"))
        y = Conv(width, config.unit_kernel, 1, self.dilation, is_depthwise=True, name="depthwise")(y, cut)
        y = Conv(width, 1, is_ordered=self._orders(y), name="pointwise")(y, cut)
        if start == POINTWISE:
            y = int8.on_grid(y.values, self.grid("pointwise"))
        y = int8.leaky_relu(y, config.slope, None if y.grid is None else self.grid("inner"))
        groups = group_count(config, width)
        y = Conv(width, 1, groups=groups, is_ordered=self._orders(y), name="grouped")(y, cut)
        return int8.add(x, y, None if y.grid is None else self.grid("sum"))

    def _orders(self, x: Signal) -> bool:
        return self.is_ordered and x.grid is None


def _start(config: LyraConfig, part: str, block: int, unit: int) -> str | None:
    return rounds_from(config, part, block, unit) if config.rounds_activations else None


class Encoder(_OnGrids):
    """Waveform [B, T, 1] to latents [B, ceil(T / hop), D]; the last frame is filled with zeros."""

    config: LyraConfig

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        config = self.config
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % config.hop_samples), (0, 0)))
        if num_steps is not None:
            x = jnp.where((jnp.arange(x.shape[1]) < num_steps[:, None])[..., None], x, 0)
        first, *strides = config.strides
        is_ordered = config.rounds_activations
        edge = config.edge_kernel_strides * first
        x = Conv(config.widths[0], edge, first, is_ordered=is_ordered, name="first")(Signal(x), cut)
        for block, stride in enumerate(strides):
            for unit, dilation in enumerate(config.dilations):
                start = _start(config, "encoder", block, unit)
                x = ResidualUnit(config, dilation, start, is_ordered, name=f"block{block}_unit{unit}")(x, cut)
            x = self._activated(x, f"block{block}_down")
            x = Conv(
                config.widths[block + 1],
                2 * stride,
                stride,
                groups=group_count(config, config.widths[block]),
                is_ordered=is_ordered and x.grid is None,
                name=f"block{block}_down",
            )(x, cut)
        x = self._activated(x, "last")
        last = Conv(config.latent_dim, config.latent_kernel, groups=config.latent_groups, name="last")
        return int8.real(last(x, cut))

    def _activated(self, x: Signal, layer: str) -> Signal:
        return int8.leaky_relu(x, self.config.slope, None if x.grid is None else self.grid(f"{layer}_input"))


class Decoder(_OnGrids):
    """Latents [B, F, D] to waveform [B, F * hop, 1]."""

    config: LyraConfig

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        config = self.config
        first, *strides = config.strides
        x = Conv(
            config.widths[-1],
            config.latent_kernel,
            groups=config.latent_groups,
            is_ordered=config.rounds_activations,
            name="first",
        )(Signal(x), cut)
        mirrored = zip(reversed(strides), reversed(config.widths[:-1]), strict=True)
        frame_steps = 1
        for block, (stride, width) in enumerate(mirrored):
            name = f"block{block}_up"
            x = int8.leaky_relu(x, config.slope, None if x.grid is None else self.grid(f"{name}_input"))
            if block == 0 and config.rounds_activations:
                x = int8.on_grid(x.values, self.grid(f"{name}_input"))
            x = UpConv(width, stride, 2, frame_steps, group_count(config, width), name=name)(x, cut)
            frame_steps *= stride
            for unit, dilation in enumerate(config.dilations):
                start = _start(config, "decoder", block, unit)
                x = ResidualUnit(config, dilation, start, name=f"block{block}_unit{unit}")(x, cut)
        x = int8.leaky_relu(x, config.slope, None)
        return UpConv(1, first, config.edge_kernel_strides, frame_steps, name="last")(x, cut).values
