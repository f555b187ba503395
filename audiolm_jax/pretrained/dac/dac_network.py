"""The convolutions of DAC, which hear the past and the future alike, with edges as the reference implementation has.

All arrays are [B, T, C]. A row may end before its array does: `num_steps` int32[B] says where, and what stands behind
is heard as the zeros that a row alone is padded with. None means that every row fills its array.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.codec.contract import Context
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.dac.snake import Snake

EDGE_KERNEL = 7  # first layer of the encoder, first and last of the decoder
LATENT_KERNEL = 3  # last layer of the encoder
UNIT_KERNEL = 7
UNIT_DILATIONS = (1, 3, 9)
# Steps that the residual units of a block hear on either side.
_UNITS_REACH = (UNIT_KERNEL - 1) // 2 * sum(UNIT_DILATIONS)
_EDGE_REACH = (EDGE_KERNEL - 1) // 2


@dataclasses.dataclass(frozen=True)
class DacConfig:
    """Shape of a DAC; the defaults are descript/dac_16khz.

    Attributes:
        sample_rate_hz: rate of the waveform.
        strides: down-sampling of each encoder block; the decoder mirrors them.
        encoder_channels: width before the first block of the encoder; every block doubles it.
        decoder_channels: width before the first block of the decoder; every block halves it.
        latent_dim: width D of a latent frame.
        num_quantizers: levels that `encode` gives.
        num_codebooks: levels that the weights hold.
        codebook_size: entries N of each level.
        codebook_dim: width of an entry, to which the latents are projected.
    """

    sample_rate_hz: int = 16_000
    strides: tuple[int, ...] = (2, 4, 5, 8)
    encoder_channels: int = 64
    decoder_channels: int = 1536
    latent_dim: int = 1024
    num_quantizers: int = 12
    num_codebooks: int = 12
    codebook_size: int = 1024
    codebook_dim: int = 8

    def __post_init__(self):
        if not self.strides or min(self.strides) < 2:
            raise UserError(f"the strides of a DAC are {self.strides}; each must be at least 2")
        if self.decoder_channels % 2 ** len(self.strides):
            raise UserError(f"a width of {self.decoder_channels} cannot be halved {len(self.strides)} times")
        if not 1 <= self.num_quantizers <= self.num_codebooks:
            raise UserError(f"num_quantizers is {self.num_quantizers}; set 1 to {self.num_codebooks}")

    @property
    def hop_samples(self) -> int:
        return math.prod(self.strides)


def pad_steps(stride: int) -> int:
    """Steps of padding before a strided convolution, and cut off before what a transposed one gives."""
    return -(-stride // 2)


def upsampled(num_steps, stride: int):
    """Steps that a transposed convolution gives of num_steps: one less than stride * num_steps where that is odd."""
    return num_steps * stride + stride - 2 * pad_steps(stride)


def encoder_context(config: DacConfig) -> Context:
    """What the tokens of a frame depend on."""
    # First and last step that frame 0 hears, at the rate at hand, from the last layer to the first.
    first, last = -(LATENT_KERNEL // 2), LATENT_KERNEL // 2
    for stride in reversed(config.strides):
        first = first * stride - pad_steps(stride) - _UNITS_REACH
        last = last * stride - pad_steps(stride) + 2 * stride - 1 + _UNITS_REACH
    first, last = first - _EDGE_REACH, last + _EDGE_REACH
    return Context(past_frames=-(first // config.hop_samples), future_frames=last // config.hop_samples)


def decoder_context(config: DacConfig) -> Context:
    """What the samples of a frame depend on."""
    first, last = -_EDGE_REACH, config.hop_samples - 1 + _EDGE_REACH
    for stride in config.strides:
        first = (first - _UNITS_REACH + pad_steps(stride)) // stride - 1
        last = (last + _UNITS_REACH + pad_steps(stride)) // stride
    return Context(past_frames=-(first - _EDGE_REACH), future_frames=last + _EDGE_REACH)


def masked(x: jax.Array, num_steps: jax.Array | None) -> jax.Array:
    """x [B, T, C] with zeros behind the end of every row."""
    if num_steps is None:
        return x
    return jnp.where((jnp.arange(x.shape[1]) < num_steps[:, None])[..., None], x, 0)


class Conv(nn.Module):
    """Convolution [B, T, C_in] -> [B, T / S, C_out] that hears both sides alike; kernel [K, C_in, C_out], bias [C_out].

    T is a multiple of the stride S. With S > 1 the kernel has 2 S steps.
    """

    features: int
    kernel_size: int
    dilation: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None) -> jax.Array:
        width, size = x.shape[-1], self.kernel_size
        kernel = self.param("kernel", _kernel_init(), (size, width, self.features)).astype(x.dtype)
        bias = self.param("bias", _bias_init(), (self.features,)).astype(x.dtype)
        if size == 1:
            return x @ kernel[0] + bias
        x = masked(x, num_steps)
        reach = size // 2 * self.dilation
        if self.stride > 1:
            before = pad_steps(self.stride)
            pads = (before, self.stride - before)
        elif width == 1 or self.features == 1:
            return _thin(x, kernel, self.dilation) + bias
        else:
            pads = (reach, reach)
        y = jax.lax.conv_general_dilated(
            x, kernel, (self.stride,), (pads,), rhs_dilation=(self.dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y + bias


def _thin(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """A convolution from or to one channel as one product, twice as fast on CPU."""
    size, width, _ = kernel.shape
    reach = size // 2 * dilation
    places = [slice(tap * dilation, tap * dilation + x.shape[1]) for tap in range(size)]
    pads = ((0, 0), (reach, reach), (0, 0))
    if width == 1:
        x = jnp.pad(x, pads)
        return jnp.stack([x[:, place, 0] for place in places], axis=-1) @ kernel[:, 0]
    taps = jnp.pad(x @ kernel[..., 0].T, pads)
    return sum(taps[:, place, tap, None] for tap, place in enumerate(places))


class UpConv(nn.Module):
    """Transposed convolution of kernel 2 S and stride S, [B, T, C_in] -> [B, `upsampled(T, S)`, C_out].

    As a convolution of kernel 2 to S * C_out channels and a reshape, see `weight_map.folded_transposed`, of which both
    ends are cut off.
    """

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None) -> jax.Array:
        batch, steps, width = x.shape
        kernel = self.param("kernel", _kernel_init(), (2, width, self.stride * self.features)).astype(x.dtype)
        bias = self.param("bias", _bias_init(), (self.features,)).astype(x.dtype)
        y = jax.lax.conv_general_dilated(
            masked(x, num_steps), kernel, (1,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC")
        )
        y = y.reshape(batch, (steps + 1) * self.stride, self.features)
        before = pad_steps(self.stride)
        return y[:, before : before + upsampled(steps, self.stride)] + bias


def _kernel_init():
    return nn.with_logical_partitioning(nn.initializers.lecun_normal(), (None, "conv_in", "conv_out"))


def _bias_init():
    return nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",))


class ResidualUnit(nn.Module):
    """x + pointwise(Snake(dilated(Snake(x))))."""

    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array, num_steps: jax.Array | None = None) -> jax.Array:
        width = x.shape[-1]
        y = Conv(width, UNIT_KERNEL, self.dilation, name="dilated")(Snake(name="dilated_snake")(x), num_steps)
        return x + Conv(width, 1, name="pointwise")(Snake(name="pointwise_snake")(y))


class Encoder(nn.Module):
    """Waveform [B, T] to latents [B, T / hop, D]; T and num_samples int32[B] are multiples of the hop."""

    config: DacConfig

    @nn.compact
    def __call__(self, samples: jax.Array, num_samples: jax.Array | None = None) -> jax.Array:
        config, steps, width = self.config, num_samples, self.config.encoder_channels
        x = Conv(width, EDGE_KERNEL, name="first")(samples[..., None], steps)
        for block, stride in enumerate(config.strides):
            for dilation in UNIT_DILATIONS:
                x = ResidualUnit(dilation, name=f"block{block}_dilation{dilation}")(x, steps)
            x, width = Snake(name=f"block{block}_snake")(x), 2 * width
            x = Conv(width, 2 * stride, stride=stride, name=f"block{block}_down")(x, steps)
            steps = None if steps is None else steps // stride
        return Conv(config.latent_dim, LATENT_KERNEL, name="last")(Snake(name="last_snake")(x), steps)


class Decoder(nn.Module):
    """Latents [B, F, D] to waveform [B, F * hop]; num_frames int32[B] of each row count.

    Each odd stride shortens what is given to the next layer by a step. The waveform of the reference ends there; ours
    has zeros up to F * hop.
    """

    config: DacConfig

    @nn.compact
    def __call__(self, latents: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        config, steps, width = self.config, num_frames, self.config.decoder_channels
        x = Conv(width, EDGE_KERNEL, name="first")(latents, steps)
        for block, stride in enumerate(reversed(config.strides)):
            x, width = Snake(name=f"block{block}_snake")(x), width // 2
            x = UpConv(width, stride, name=f"block{block}_up")(x, steps)
            steps = None if steps is None else upsampled(steps, stride)
            for dilation in UNIT_DILATIONS:
                x = ResidualUnit(dilation, name=f"block{block}_dilation{dilation}")(x, steps)
        x = Conv(1, EDGE_KERNEL, name="last")(Snake(name="last_snake")(x), steps)
        samples = masked(jnp.tanh(x), steps)[..., 0]
        return jnp.pad(samples, ((0, 0), (0, latents.shape[1] * config.hop_samples - samples.shape[1])))
