"""The encoder and the decoder of Mimi around its quantizer: causal convolutions and a transformer each."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.codec.soundstream import elu
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.mimi.mimi_transformer import Transformer
from audiolm_jax.pretrained.stream import REPLICATE, WHOLE, ZERO, Conv, Cut, UpConv, carried, ends, left_edge


@dataclasses.dataclass(frozen=True)
class MimiConfig:
    """Shape of a Mimi; the defaults are those of kyutai/mimi.

    Attributes:
        sample_rate_hz: rate of the waveform.
        strides: down-sampling of each block of the encoder; the decoder mirrors them.
        latent_stride: down-sampling from the transformer's steps to frames.
        base_channels: width before the first block; each block doubles it.
        num_units: residual units of a block; the dilation of unit j is dilation_growth ** j.
        dilation_growth: see num_units.
        unit_squeeze: how many times narrower a residual unit is inside.
        edge_kernel: of the first convolution of the encoder and of the decoder.
        last_kernel: of the last convolution of both.
        unit_kernel: of the residual units.
        latent_dim: width D of a step of the transformers and of a latent frame.
        num_layers: of each of the two transformers.
        num_heads: of their attention.
        head_dim: width of a head.
        mlp_dim: inner width of their feed-forward layers.
        window_steps: steps that attention sees, the present one included.
        norm_epsilon: of their layer norms.
        rope_base: of their rotary positions.
        num_quantizers: levels Q that `encode` gives, the semantic ones first.
        num_codebooks: levels that the weights hold.
        num_semantic: levels of the semantic quantizer.
        codebook_size: entries of each level.
        codebook_dim: width of an entry.
    """

    sample_rate_hz: int = 24_000
    strides: tuple[int, ...] = (4, 5, 6, 8)
    latent_stride: int = 2
    base_channels: int = 64
    num_units: int = 1
    dilation_growth: int = 2
    unit_squeeze: int = 2
    edge_kernel: int = 7
    last_kernel: int = 3
    unit_kernel: int = 3
    latent_dim: int = 512
    num_layers: int = 8
    num_heads: int = 8
    head_dim: int = 64
    mlp_dim: int = 2048
    window_steps: int = 250
    norm_epsilon: float = 1e-5
    rope_base: float = 10_000.0
    num_quantizers: int = 32
    num_codebooks: int = 32
    num_semantic: int = 1
    codebook_size: int = 2048
    codebook_dim: int = 256

    def __post_init__(self):
        if not self.num_semantic <= self.num_quantizers <= self.num_codebooks:
            raise UserError(
                f"num_quantizers is {self.num_quantizers}; this Mimi has {self.num_semantic} (the semantic ones) "
                f"to {self.num_codebooks} levels"
            )

    @property
    def hop_samples(self) -> int:
        return math.prod(self.strides) * self.latent_stride

    def transformer(self) -> Transformer:
        """One of the two transformers, to be made inside of a module."""
        return Transformer(
            self.num_layers,
            self.num_heads,
            self.head_dim,
            self.mlp_dim,
            self.window_steps,
            self.norm_epsilon,
            self.rope_base,
            name="transformer",
        )


class ResidualUnit(nn.Module):
    """x + pointwise(ELU(dilated(ELU(x)))), narrower inside. [B, T, C] -> [B, T, C]."""

    kernel_size: int
    dilation: int
    squeeze: int

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        width = x.shape[-1]
        y = Conv(width // self.squeeze, self.kernel_size, dilation=self.dilation, name="dilated")(elu(x), cut=cut)
        return x + Conv(width, 1, name="pointwise")(elu(y), cut=cut)


def _units(config: MimiConfig, block: int, x: jax.Array, cut: Cut) -> jax.Array:
    """The residual units of a block, named for the module that calls."""
    for unit in range(config.num_units):
        dilation = config.dilation_growth**unit
        name = f"block{block}_unit{unit}"
        x = ResidualUnit(config.unit_kernel, dilation, config.unit_squeeze, name=name)(x, cut)
    return x


class Encoder(nn.Module):
    """Waveform [B, T, 1] to latents [B, ceil(T / hop), D]."""

    config: MimiConfig

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        config = self.config
        width = config.base_channels
        x = Conv(width, config.edge_kernel, name="first")(x.astype(jnp.float32), cut=cut)
        for block, stride in enumerate(config.strides):
            x = _units(config, block, x, cut)
            width *= 2
            x = Conv(width, 2 * stride, stride, name=f"block{block}_down")(elu(x), num_steps, cut)
            num_steps = ends(num_steps, stride)
        x = Conv(config.latent_dim, config.last_kernel, name="last")(elu(x), cut=cut)
        x = config.transformer()(x, cut)
        stride = config.latent_stride
        down = Conv(config.latent_dim, 2 * stride, stride, use_bias=False, pad_mode=REPLICATE, name="downsample")
        return down(x, num_steps, cut)


class Upsample(nn.Module):
    """Transposed convolution of kernel 2 S and stride S of every channel alone, [B, F, D] -> [B, F * S, D].

    Its kernel is [2, S, D]: what the frame before gives to the S steps of a frame, then what the frame itself gives.
    """

    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        batch, frames, width = x.shape
        init = nn.with_logical_partitioning(nn.initializers.normal(0.5), (None, None, "conv_out"))
        kernel = self.param("kernel", init, (2, self.stride, width))
        x = carried(self, x, left_edge(x, 1, ZERO), cut)[:, :, None]
        return (x[:, :-1] * kernel[0] + x[:, 1:] * kernel[1]).reshape(batch, frames * self.stride, width)


class Decoder(nn.Module):
    """Latents [B, F, D] to waveform [B, F * hop, 1]; no frame hears a later one, so `num_frames` changes nothing."""

    config: MimiConfig

    @nn.compact
    def __call__(self, latents: jax.Array, num_frames: jax.Array | None = None, cut: Cut = WHOLE) -> jax.Array:
        del num_frames
        config = self.config
        x = config.transformer()(Upsample(config.latent_stride, name="upsample")(latents, cut), cut)
        width = config.base_channels * 2 ** len(config.strides)
        x = Conv(width, config.edge_kernel, name="first")(x, cut=cut)
        for block, stride in enumerate(reversed(config.strides)):
            width //= 2
            x = UpConv(width, stride, name=f"block{block}_up")(elu(x), cut)
            x = _units(config, block, x, cut)
        return Conv(1, config.last_kernel, name="last")(elu(x), cut=cut)
