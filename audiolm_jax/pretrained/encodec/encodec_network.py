"""The encoder and the decoder of EnCodec (Défossez et al. 2022) around its quantizer: convolutions and an LSTM each."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax

from audiolm_jax.codec.soundstream import elu
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.encodec.lstm import Lstm
from audiolm_jax.pretrained.speech.centred import CentredConv, CentredUpConv
from audiolm_jax.pretrained.stream import REFLECT, WHOLE, Conv, Cut, UpConv, ends


@dataclasses.dataclass(frozen=True)
class EncodecConfig:
    """Shape of an EnCodec; the defaults are those of facebook/encodec_24khz.

    Attributes:
        sample_rate_hz: rate of the waveform.
        num_channels: 1 for mono, 2 for stereo.
        strides: down-sampling of each block of the encoder; the decoder mirrors them.
        base_channels: width before the first block; each block doubles it.
        num_units: residual units of a block; the dilation of unit j is dilation_growth ** j.
        dilation_growth: see num_units.
        unit_squeeze: how many times narrower a residual unit is inside.
        unit_kernel: of the residual units.
        has_shortcut: whether a residual unit has a product instead of the identity beside its branch.
        edge_kernel: of the first convolution of the encoder and of the decoder.
        last_kernel: of the last convolution of both.
        num_lstm_layers: of each of the two LSTMs.
        latent_dim: width D of a latent frame and of a codebook entry.
        pad_mode: what the convolutions see beyond the edges: "reflect", "replicate" or "zero".
        is_causal: whether the convolutions see the past only.
        has_group_norm: whether a norm over a whole chunk follows every convolution.
        is_normalized: whether every chunk is scaled to a root mean square of 1.
        chunk_length_s: seconds that are encoded at a time; None for the whole recording.
        chunk_overlap: share of a chunk that the next one holds too.
        num_quantizers: levels Q that `encode` gives.
        num_codebooks: levels that the weights hold.
        codebook_size: entries of each level.
    """

    sample_rate_hz: int = 24_000
    num_channels: int = 1
    strides: tuple[int, ...] = (2, 4, 5, 8)
    base_channels: int = 32
    num_units: int = 1
    dilation_growth: int = 2
    unit_squeeze: int = 2
    unit_kernel: int = 3
    has_shortcut: bool = True
    edge_kernel: int = 7
    last_kernel: int = 7
    num_lstm_layers: int = 2
    latent_dim: int = 128
    pad_mode: str = REFLECT
    is_causal: bool = True
    has_group_norm: bool = False
    is_normalized: bool = False
    chunk_length_s: float | None = None
    chunk_overlap: float | None = None
    num_quantizers: int = 32
    num_codebooks: int = 32
    codebook_size: int = 1024

    def __post_init__(self):
        if not 1 <= self.num_quantizers <= self.num_codebooks:
            raise UserError(
                f"num_quantizers is {self.num_quantizers}, but the weights hold {self.num_codebooks} levels; "
                f"set 1 to {self.num_codebooks}"
            )

    @property
    def hop_samples(self) -> int:
        return math.prod(self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first block of the encoder and after each."""
        return tuple(self.base_channels * 2**block for block in range(len(self.strides) + 1))

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of the residual units of a block."""
        return tuple(self.dilation_growth**unit for unit in range(self.num_units))


def _conv_of(config: EncodecConfig):
    """The convolution of this configuration, to be called with (features, kernel_size, stride, dilation, name=)."""
    if config.is_causal:
        return functools.partial(Conv, pad_mode=config.pad_mode)
    return functools.partial(CentredConv, pad_mode=config.pad_mode, has_norm=config.has_group_norm)


def _up_conv_of(config: EncodecConfig):
    """The transposed convolution, to be called with (features, stride, name=)."""
    return UpConv if config.is_causal else functools.partial(CentredUpConv, has_norm=config.has_group_norm)


class ResidualUnit(nn.Module):
    """shortcut(x) + pointwise(ELU(dilated(ELU(x)))), [B, T, C] -> [B, T, C]."""

    config: EncodecConfig
    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None, cut: Cut) -> jax.Array:
        config, width = self.config, x.shape[-1]
        conv = _conv_of(config)
        y = conv(width // config.unit_squeeze, config.unit_kernel, 1, self.dilation, name="dilated")(
            elu(x), num_steps, cut
        )
        y = conv(width, 1, name="pointwise")(elu(y), num_steps, cut)
        return y + (conv(width, 1, name="shortcut")(x, num_steps, cut) if config.has_shortcut else x)


class Encoder(nn.Module):
    """Waveform [B, T, C] to latents [B, ceil(T / hop), D]."""

    config: EncodecConfig

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        config = self.config
        conv = _conv_of(config)
        x = conv(config.widths[0], config.edge_kernel, name="first")(x, num_steps, cut)
        for block, (stride, width) in enumerate(zip(config.strides, config.widths[1:], strict=True)):
            for unit, dilation in enumerate(config.dilations):
                x = ResidualUnit(config, dilation, name=f"block{block}_unit{unit}")(x, num_steps, cut)
            x = conv(width, 2 * stride, stride, name=f"block{block}_down")(elu(x), num_steps, cut)
            num_steps = ends(num_steps, stride)
        x = x + Lstm(x.shape[-1], config.num_lstm_layers, name="lstm")(x, cut)
        return conv(config.latent_dim, config.last_kernel, name="last")(elu(x), num_steps, cut)


class Decoder(nn.Module):
    """Latents [B, F, D] to waveform [B, F * hop, C]."""

    config: EncodecConfig

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        config = self.config
        conv = _conv_of(config)
        x = conv(config.widths[-1], config.edge_kernel, name="first")(x, num_steps, cut)
        x = x + Lstm(x.shape[-1], config.num_lstm_layers, name="lstm")(x, cut)
        mirrored = zip(reversed(config.strides), reversed(config.widths[:-1]), strict=True)
        for block, (stride, width) in enumerate(mirrored):
            x = _up_conv_of(config)(width, stride, name=f"block{block}_up")(elu(x), cut=cut)
            num_steps = None if num_steps is None else num_steps * stride
            for unit, dilation in enumerate(config.dilations):
                x = ResidualUnit(config, dilation, name=f"block{block}_unit{unit}")(x, num_steps, cut)
        return conv(config.num_channels, config.last_kernel, name="last")(elu(x), num_steps, cut)
