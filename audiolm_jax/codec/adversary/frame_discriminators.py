"""Discriminators whose every layer is a product of matrices, for machines where convolutions of few channels are slow.

Neither is SoundStream's. Both judge as much of the signal as its own do (`codec.adversary.discriminators`) for a
fraction of the time on a CPU: one sees spectra frame by frame, with all frequencies as channels; the other sees the
waveform at one sample in `period`, as HiFi-GAN's does (Kong et al. 2020, section 2.3).
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax import spectral
from audiolm_jax.codec.adversary.conv1d import Conv1D, Judgement, activation
from audiolm_jax.ranges import Range

SpectrogramWindow = Annotated[int, Range(4, multiple_of=4)]  # in samples; the hop is a quarter
SPECTROGRAM_LAYERS = 3
SPECTROGRAM_JUDGES = 8  # logits of a frame
PERIOD_KERNEL = 5
PERIOD_STRIDE = 3
PERIOD_WIDTHS = (1, 4, 8, 16)  # of the layers, in widths of the first


class SpectrogramDiscriminator(nn.Module):
    """Judges compressed complex spectra of one window length by convolutions over time.

    Attributes:
        window_samples: of the STFT; the hop is a quarter of it.
        channels: of every layer.
        compute_dtype: of activations; the spectrum and the logits are float32.
    """

    window_samples: int
    channels: int
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> Judgement:
        """samples float32[B, T] -> (logits float32[B, F, 8], maps [B, F, C])."""
        window = self.window_samples
        samples = jnp.pad(samples, ((0, 0), (window // 2, window // 2)))
        spectrum = spectral.stft(samples, window, window // 4)[..., :-1]
        # White noise of unit variance gets a spectrum of unit power: the squared window sums to 3/8 of its length.
        power = spectral.power(spectrum) / (window * 3 / 8)
        gain = spectral.compression_gain(power + spectral.POWER_FLOOR) * (window * 3 / 8) ** -0.5
        x = jnp.concatenate([spectrum.real * gain, spectrum.imag * gain], axis=-1).astype(self.compute_dtype)
        maps = []
        for layer in range(SPECTROGRAM_LAYERS):
            x = activation(Conv1D(self.channels, 3, name=f"layer{layer}")(x))
            maps.append(x)
        return Conv1D(SPECTROGRAM_JUDGES, 3, name="last")(x).astype(jnp.float32), maps


class PeriodDiscriminator(nn.Module):
    """Judges the `period` interleaved signals that a waveform holds, each on its own, by the same weights.

    Attributes:
        period: in samples.
        channels: of the first layer; later ones are 4, 8 and 16 times as wide.
        compute_dtype: of activations; logits are float32.
    """

    period: int
    channels: int
    compute_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> Judgement:
        """samples float32[B, T] -> (logits float32[B * P, ceil(T / P / 81)], maps [B * P, T', C])."""
        samples = jnp.pad(samples, ((0, 0), (0, -samples.shape[1] % self.period)))
        signals = samples.reshape(samples.shape[0], -1, self.period).swapaxes(1, 2)
        x = signals.reshape(-1, signals.shape[-1], 1).astype(self.compute_dtype)
        maps = []
        for layer, width in enumerate(PERIOD_WIDTHS):
            conv = Conv1D(width * self.channels, PERIOD_KERNEL, PERIOD_STRIDE, name=f"layer{layer}")
            x = activation(conv(x))
            maps.append(x)
        return Conv1D(1, 3, name="last")(x)[..., 0].astype(jnp.float32), maps
