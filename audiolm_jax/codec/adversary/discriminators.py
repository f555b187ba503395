"""The discriminators of SoundStream (sections III-D and III-E): one on the complex STFT, three on the waveform."""

from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax import spectral
from audiolm_jax.codec.adversary.conv1d import KERNEL_INIT, Conv1D, Judgement, activation
from audiolm_jax.codec.adversary.frame_discriminators import (
    PeriodDiscriminator,
    SpectrogramDiscriminator,
    SpectrogramWindow,
)
from audiolm_jax.ranges import Count, Range, Whole

STFT_WINDOW_SAMPLES = 1024
STFT_HOP_SAMPLES = 256
# (widening, stride over time, stride over frequency) of the six residual units.
STFT_UNITS = ((2, 1, 2), (2, 2, 2), (1, 1, 2), (2, 2, 2), (1, 1, 2), (2, 2, 2))
WAVE_SCALES = 3
WAVE_GROUPED_LAYERS = 4
WAVE_STRIDE = 4
WAVE_GROUP_CHANNELS = 4
WaveWidth = Annotated[int, Range(0, multiple_of=WAVE_GROUP_CHANNELS)]


def same_padding(kernel_size: int, stride: int, steps: int) -> tuple[int, int]:
    """Zeros before and after `steps` frames, so that a strided convolution gives ceil(steps / stride) frames."""
    total = max((-(-steps // stride) - 1) * stride + kernel_size - steps, 0)
    return total // 2, total - total // 2


class Conv2D(nn.Module):
    """Convolution over time and frequency, [B, T, F, C_in] -> [B, ceil(T / st), ceil(F / sf), C_out]."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    kernel_init: Callable = KERNEL_INIT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(self.kernel_init, (None, None, "conv_in", "conv_out")),
            (*self.kernel_size, x.shape[-1], self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        if self.kernel_size == (1, 1):
            y = x[:, :: self.strides[0], :: self.strides[1]] @ kernel[0, 0].astype(x.dtype)
        else:
            padding = [same_padding(*sizes) for sizes in zip(self.kernel_size, self.strides, x.shape[1:3], strict=True)]
            y = jax.lax.conv_general_dilated(
                x, kernel.astype(x.dtype), self.strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return y + bias.astype(x.dtype)


class StftResidualUnit(nn.Module):
    """Two convolutions, the second of which strides and widens, beside a strided 1x1 projection."""

    widening: int
    strides: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = Conv2D(width, (3, 3), name="first")(activation(x))
        kernel_size = (self.strides[0] + 2, self.strides[1] + 2)
        y = Conv2D(width * self.widening, kernel_size, self.strides, name="second")(activation(y))
        skip = Conv2D(width * self.widening, (1, 1), self.strides, nn.initializers.lecun_normal(), name="skip")(x)
        # Half the power from each branch, so that six units do not blow the activations up.
        return (y + skip) * 0.5**0.5


class StftDiscriminator(nn.Module):
    """Judges the real and imaginary parts of an STFT (SoundStream, section III-D, figure 4).

    Attributes:
        channels: width of the first layer; 32 in the paper, and 16 times that in the last.
        compute_dtype: of activations; parameters, logits and the STFT are float32.
    """

    channels: int = 32
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> Judgement:
        """samples float32[B, T] -> (logits float32[B, ceil(T / (8 * 256))], maps [B, T', F', C])."""
        frames = -(-samples.shape[1] // STFT_HOP_SAMPLES)
        overlap = STFT_WINDOW_SAMPLES - STFT_HOP_SAMPLES
        end = frames * STFT_HOP_SAMPLES - samples.shape[1]
        samples = jnp.pad(samples, ((0, 0), (overlap // 2, overlap - overlap // 2 + end)))
        spectrum = spectral.stft(samples, STFT_WINDOW_SAMPLES, STFT_HOP_SAMPLES)
        spectrum = spectrum[..., :-1]  # 512 bins: the one at half the sampling rate is left out.
        # White noise of unit variance gets a spectrum of unit variance: the squared window sums to 3/8 of its length.
        scale = (STFT_WINDOW_SAMPLES * 3 / 16) ** -0.5
        x = (jnp.stack([spectrum.real, spectrum.imag], axis=-1) * scale).astype(self.compute_dtype)
        x = Conv2D(self.channels, (7, 7), name="first")(x)
        maps = [x]
        for index, (widening, *strides) in enumerate(STFT_UNITS):
            x = StftResidualUnit(widening, tuple(strides), name=f"unit{index}")(x)
            maps.append(x)
        # A kernel over all remaining frequencies is a product with the flattened frame.
        flat = activation(x).reshape(*x.shape[:2], -1)
        kernel = self.param(
            "last_kernel", nn.with_logical_partitioning(KERNEL_INIT, ("conv_in", "conv_out")), (flat.shape[-1], 1)
        )
        bias = self.param("last_bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (1,))
        return (flat @ kernel.astype(x.dtype) + bias.astype(x.dtype))[..., 0].astype(jnp.float32), maps


class WaveDiscriminator(nn.Module):
    """Judges a waveform at one rate (MelGAN's window-based discriminator, SoundStream section III-E).

    Attributes:
        channels: width of the first layer (16); the grouped layers multiply it by 4 up to `max_channels`.
        max_channels: bound of the width (1024).
        compute_dtype: of activations; parameters and logits are float32.
    """

    channels: int = 16
    max_channels: int = 1024
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> Judgement:
        """samples float32[B, T] -> (logits float32[B, ceil(T / 256)], maps [B, T', C] of the six inner layers)."""
        x = activation(Conv1D(self.channels, 15, name="first")(samples[..., None].astype(self.compute_dtype)))
        maps = [x]
        for index in range(WAVE_GROUPED_LAYERS):
            width = min(x.shape[-1] * 4, self.max_channels)
            conv = Conv1D(width, 41, WAVE_STRIDE, WAVE_GROUP_CHANNELS, name=f"grouped{index}")
            x = activation(conv(x))
            maps.append(x)
        x = activation(Conv1D(x.shape[-1], 5, name="wide")(x))
        maps.append(x)
        return Conv1D(1, 3, name="last")(x)[..., 0].astype(jnp.float32), maps


def half_rate(samples: jax.Array) -> jax.Array:
    """samples [B, T] averaged over 4 samples every 2 (MelGAN's pooling between scales), [B, ceil(T / 2)]."""
    padded = jnp.pad(samples, ((0, 0), (1, 1 + samples.shape[1] % 2)))
    pairs = padded.reshape(samples.shape[0], -1, 2).sum(axis=-1)
    return 0.25 * (pairs[:, :-1] + pairs[:, 1:])


class WaveDiscriminators(nn.Module):
    """Three `WaveDiscriminator`s, on the waveform and on its halvings in rate."""

    channels: int = 16
    max_channels: int = 1024
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> list[Judgement]:
        """samples float32[B, T] -> one (logits, maps) for each scale."""
        judgements = []
        for scale in range(WAVE_SCALES):
            wave = WaveDiscriminator(self.channels, self.max_channels, self.compute_dtype, name=f"scale{scale}")
            judgements.append(wave(samples))
            if scale + 1 < WAVE_SCALES:
                samples = half_rate(samples)
        return judgements


class Discriminators(nn.Module):
    """All discriminators of a codec; the defaults are the four of SoundStream.

    Attributes:
        channels: width of the STFT discriminator, 32 in the paper; 0 for none.
        wave_channels: width of the wave discriminators' first layer; 0 for none.
        wave_max_channels: bound of their width.
        spectrogram_windows: one discriminator of spectra for each [samples].
        spectrogram_channels: their width.
        periods: one discriminator of every P-th sample for each.
        period_channels: width of their first layer.
        compute_dtype: of activations.
    """

    channels: Whole = 32
    wave_channels: WaveWidth = 16
    wave_max_channels: WaveWidth = 1024
    spectrogram_windows: tuple[SpectrogramWindow, ...] = ()
    spectrogram_channels: Count = 256
    periods: tuple[Count, ...] = ()
    period_channels: Count = 16
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> list[Judgement]:
        """samples float32[B, T] -> [(logits, inner feature maps)] of each: STFT, wave by scale, spectra, periods."""
        dtype, judgements = self.compute_dtype, []
        if self.channels:
            judgements.append(StftDiscriminator(self.channels, dtype, name="stft")(samples))
        if self.wave_channels:
            waves = WaveDiscriminators(self.wave_channels, self.wave_max_channels, dtype, name="wave")
            judgements += waves(samples)
        for window in self.spectrogram_windows:
            spectra = SpectrogramDiscriminator(window, self.spectrogram_channels, dtype, name=f"spectrogram{window}")
            judgements.append(spectra(samples))
        for period in self.periods:
            judgements.append(PeriodDiscriminator(period, self.period_channels, dtype, name=f"period{period}")(samples))
        return judgements
