"""SoundStream (Zeghidour et al. 2021): waveform to acoustic tokens and back, causal, one model for every bitrate."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.contract import Codec, Context
from audiolm_jax.codec.convolutions import CausalConv, DepthwiseConv, DownConv, UpConv, down_scaled
from audiolm_jax.codec.spectral_stem import LOOKAHEAD, STEM_OVERLAP, SpectralAnalysis, SpectralSynthesis
from audiolm_jax.errors import UserError
from audiolm_jax.fingerprint import unhashed_default
from audiolm_jax.ranges import Count

RESIDUAL_DILATIONS = (1, 3, 9)
# Kernel of the dilated layer of a residual unit, by the kind of the unit.
RESIDUAL_KERNELS = {"full": 7, "separable": 3}
EDGE_KERNEL = 7  # first layer of the encoder, first and last of the decoder
LATENT_KERNEL = 3  # last layer of the encoder


@dataclasses.dataclass(frozen=True)
class SoundStreamConfig:
    """Shape of a SoundStream.

    Attributes:
        sample_rate_hz: rate of the waveform.
        strides: down-sampling of each encoder block; the decoder mirrors them.
        stem_stride: down-sampling of the first layer, and up-sampling of the last, by a convolution of four strides
            before any residual unit. 1 is the paper's, whose first units run on every sample; with 16 they run a
            thousand times a second, and the codec takes a fraction of the arithmetic (Lyra V2 is built so).
        stem: "waveform", the paper's; "spectrum", analysis and synthesis in windows of four `stem_stride` in place of
            the first and last layer (see `codec.spectral_stem`), with which the decoder looks three of them ahead.
        residual_unit: "full", the paper's; "separable", a depthwise dilated layer of kernel 3 and a pointwise one.
        main_path: "elu", the paper's, bends the signal before every layer that changes the rate; "linear" does not, and
            these layers start orthogonal: only the residual units bend, and the codec conveys the signal from the first
            steps on.
        encoder_channels: width before the first block and after each block; the paper's C_enc * (1, 2, 4, 8, 16).
        decoder_channels: the same for the decoder, from the waveform inwards.
        embed_dim: width D of a latent frame and of a codebook entry.
        num_quantizers: levels of the residual quantizer.
        codebook_size: entries of each level.
        compute_dtype: "float32" or "bfloat16"; the quantizer and the output are float32 always.
    """

    sample_rate_hz: Count = 16_000
    strides: tuple[Count, ...] = (2, 4, 5, 8)
    encoder_channels: tuple[Count, ...] = (32, 64, 128, 256, 512)
    decoder_channels: tuple[Count, ...] = (32, 64, 128, 256, 512)
    embed_dim: Count = 256
    num_quantizers: Count = 12
    codebook_size: Count = 1024
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    stem_stride: Count = unhashed_default(1)
    residual_unit: Literal["full", "separable"] = unhashed_default("full")
    stem: Literal["waveform", "spectrum"] = unhashed_default("waveform")
    main_path: Literal["elu", "linear"] = unhashed_default("elu")

    def __post_init__(self):
        for channels in (self.encoder_channels, self.decoder_channels):
            if len(channels) != len(self.strides) + 1:
                raise UserError(f"{len(self.strides)} strides need {len(self.strides) + 1} widths, not {channels}")
        if self.stem == "spectrum" and self.stem_stride == 1:
            raise UserError("STEM 'spectrum' needs a STEM_STRIDE above 1; 80, for example, is 5 ms at 16 kHz")

    @property
    def hop_samples(self) -> int:
        return self.stem_stride * math.prod(self.strides)

    @property
    def residual_past_steps(self) -> int:
        """How far the three units of a block look back, together."""
        return (RESIDUAL_KERNELS[self.residual_unit] - 1) * sum(RESIDUAL_DILATIONS)


def elu(x: jax.Array) -> jax.Array:
    """x where positive, exp(x) - 1 elsewhere.

    Not by expm1: its digits below 6e-8 matter to nothing here, and it took a fifth of the encoder's time on CPU.
    """
    return jnp.maximum(x, 0.0) + (jnp.exp(jnp.minimum(x, 0.0)) - 1.0)


class ResidualUnit(nn.Module):
    """x + pointwise(ELU(dilated(ELU(x)))) with half the width inside, which gives the paper's parameter counts.

    A separable unit has the whole width inside, and its dilated layer is depthwise. The branch starts ten times smaller
    than fan-in scaling would make it: a stack of such units is then close to the identity at first, and the decoder
    listens to its latents from the first steps on.
    """

    dilation: int
    kind: str = "full"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, kernel_size = x.shape[-1], RESIDUAL_KERNELS[self.kind]
        if self.kind == "separable":
            y = DepthwiseConv(kernel_size, self.dilation, name="dilated")(elu(x))
        else:
            y = CausalConv(width // 2, kernel_size, self.dilation, name="dilated")(elu(x))
        return x + CausalConv(width, 1, kernel_init=down_scaled(0.1), name="pointwise")(elu(y))


def _main_path(config: SoundStreamConfig) -> tuple[Callable, dict[str, Any]]:
    """What the signal passes before a layer that changes the rate, and how such layers start."""
    if config.main_path == "elu":
        return elu, {}
    return lambda x: x, {"kernel_init": nn.initializers.orthogonal()}


class Encoder(nn.Module):
    """Waveform [B, T] to latents [B, T / hop, D]; T is a multiple of the hop."""

    config: SoundStreamConfig

    @nn.compact
    def __call__(self, samples: jax.Array) -> jax.Array:
        config = self.config
        bend, straight = _main_path(config)
        x = self._stem(samples)
        for block, (stride, width) in enumerate(zip(config.strides, config.encoder_channels[1:], strict=True)):
            for dilation in RESIDUAL_DILATIONS:
                x = ResidualUnit(dilation, config.residual_unit, name=f"block{block}_dilation{dilation}")(x)
            x = DownConv(width, stride, name=f"block{block}_down", **straight)(bend(x))
        return CausalConv(config.embed_dim, LATENT_KERNEL, name="last", **straight)(bend(x)).astype(jnp.float32)

    def _stem(self, samples: jax.Array) -> jax.Array:
        """[B, T] -> [B, T / stem_stride, C]."""
        config, width = self.config, self.config.encoder_channels[0]
        if config.stem == "spectrum":
            return SpectralAnalysis(width, config.stem_stride, config.compute_dtype, name="first")(samples)
        x = samples[..., None].astype(config.compute_dtype)
        if config.stem_stride == 1:
            return CausalConv(width, EDGE_KERNEL, name="first")(x)
        return DownConv(width, config.stem_stride, STEM_OVERLAP, name="first")(x)


class Decoder(nn.Module):
    """Latents [B, F, D] to waveform [B, F * hop]; num_frames int32[B] of each row count."""

    config: SoundStreamConfig

    @nn.compact
    def __call__(self, latents: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        config = self.config
        bend, straight = _main_path(config)
        width = config.decoder_channels[-1]
        x = CausalConv(width, EDGE_KERNEL, name="first", **straight)(latents.astype(config.compute_dtype))
        mirrored = zip(reversed(config.strides), reversed(config.decoder_channels[:-1]), strict=True)
        for block, (stride, width) in enumerate(mirrored):
            x = UpConv(width, stride, name=f"block{block}_up", **straight)(bend(x))
            for dilation in RESIDUAL_DILATIONS:
                x = ResidualUnit(dilation, config.residual_unit, name=f"block{block}_dilation{dilation}")(x)
        return self._stem(bend(x), num_frames).astype(jnp.float32)

    def _stem(self, x: jax.Array, num_frames: jax.Array | None) -> jax.Array:
        """[B, T / stem_stride, C] -> [B, T]."""
        config, quiet = self.config, down_scaled(0.1)
        if config.stem == "spectrum":
            steps = None if num_frames is None else num_frames * math.prod(config.strides)
            return SpectralSynthesis(config.stem_stride, name="last")(x, steps)
        if config.stem_stride == 1:
            return CausalConv(1, EDGE_KERNEL, kernel_init=quiet, name="last")(x)[..., 0]
        return UpConv(1, config.stem_stride, STEM_OVERLAP, kernel_init=quiet, name="last")(x)[..., 0]


def pad_to_hop(samples: jax.Array, hop_samples: int) -> jax.Array:
    """samples [B, T] with zeros at the end, so that T is a multiple of the hop."""
    return jnp.pad(samples, ((0, 0), (0, -samples.shape[1] % hop_samples)))


@dataclasses.dataclass(frozen=True)
class SoundStream(Codec):
    """The codec contract over trained parameters.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[Q, N, D]}. Every method is pure; encode and decode
    are jitted, once per shape.
    """

    config: SoundStreamConfig

    @functools.cached_property
    def encoder_context(self) -> Context:
        """The encoder's receptive field on the past side; nothing after a frame changes its tokens."""
        past = LATENT_KERNEL - 1  # In steps of the rate at hand, from the last layer to the first.
        for stride in reversed(self.config.strides):
            past = (past + 1) * stride + self.config.residual_past_steps
        stem = self.config.stem_stride
        past = past + EDGE_KERNEL - 1 if stem == 1 else (past + STEM_OVERLAP - 1) * stem
        return Context(-(-past // self.hop_samples))

    @functools.cached_property
    def decoder_context(self) -> Context:
        """The decoder's receptive field: the past, and where it makes spectra what their windows wait for."""
        past = (EDGE_KERNEL if self.config.stem_stride == 1 else STEM_OVERLAP) - 1
        future = 0
        if self.config.stem == "spectrum":
            past, future = 0, -(-LOOKAHEAD * self.config.stem_stride // self.config.hop_samples)
        for stride in self.config.strides:
            past = -(-(past + self.config.residual_past_steps) // stride) + 1
        return Context(past + EDGE_KERNEL - 1, future)

    def latents(self, params: Any, samples: jax.Array) -> jax.Array:
        """Unquantised latents float32[B, ceil(T / hop), D] of samples float32[B, T]."""
        return Encoder(self.config).apply({"params": params["encoder"]}, pad_to_hop(samples, self.hop_samples))

    @functools.partial(jax.jit, static_argnums=0)
    def encode(self, params: Any, samples: jax.Array, num_samples: jax.Array | None = None) -> jax.Array:
        """Acoustic tokens int32[B, ceil(T / hop), Q] of samples float32[B, T]; the last frame is padded with zeros."""
        if num_samples is not None:
            samples = jnp.where(jnp.arange(samples.shape[1]) < num_samples[:, None], samples, 0)
        return quantizer.encode(self.latents(params, samples), params["codebooks"])

    @functools.partial(jax.jit, static_argnums=0)
    def decode(self, params: Any, tokens: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        """Samples float32[B, T_a * hop] of tokens int32[B, T_a, q]; q < Q decodes at a lower bitrate."""
        return Decoder(self.config).apply({"params": params["decoder"]}, self.embed(params, tokens), num_frames)

