"""The spectrum as the encoder's first layer and the decoder's last, in place of a strided convolution of the waveform.

Not SoundStream's: a network that begins with magnitudes, which the ear hears, need not learn to find them. After 80 s
on two CPU cores it is nearer to the sound than convolutions of the waveform after 25 minutes.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax import spectral
from audiolm_jax.codec.convolutions import CausalConv, down_scaled
from audiolm_jax.parallel.rows import by_rows

STEM_OVERLAP = 4  # window of the spectrum and kernel of a strided convolution in its place, in strides
LOOKAHEAD = STEM_OVERLAP - 1  # strides until all windows of a sample have been seen
_LOG_SHARE = 0.3  # brings logarithms to the range of the compressed spectrum
# Logarithms of the decoder's magnitudes. A full-scale sine has 4.6 at a window of 320 samples.
_LEAST_LEVEL, _MOST_LEVEL, _FIRST_LEVEL = -14.0, 6.0, -2.0


def _window(num_samples: int) -> np.ndarray:
    """Square root of a periodic Hann window: used twice, it adds up to a constant at a quarter of its length."""
    return np.sqrt(spectral.hann_window(num_samples)).astype(np.float32)


class SpectralAnalysis(nn.Module):
    """[B, T] -> [B, T / stride, C]: the spectrum of the last four strides, compressed, with its logarithm."""

    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, samples: jax.Array) -> jax.Array:
        window = STEM_OVERLAP * self.stride
        past = jnp.pad(samples.astype(jnp.float32), ((0, 0), (window - self.stride, 0)))
        spectrum = by_rows(jnp.fft.rfft, spectral.frame(past, window, self.stride) * _window(window))
        power = spectral.power(spectrum) + spectral.POWER_FLOOR
        gain = spectral.compression_gain(power)
        x = jnp.concatenate([spectrum.real * gain, spectrum.imag * gain, _LOG_SHARE * jnp.log(power)], axis=-1)
        return CausalConv(self.features, 1, name="channels")(x.astype(self.dtype))


class SpectralSynthesis(nn.Module):
    """[B, F, C] -> [B, F * stride]: magnitude and direction of every frequency, in windows that add up.

    The windows lie where the analysis has seen them: they end with their frame, so that its samples wait for the
    `LOOKAHEAD` frames after it. What a codec has to say of phases is then what the encoder saw.
    """

    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        """num_frames int32[B] of each row count; what a later one holds is not heard."""
        window = STEM_OVERLAP * self.stride
        bins = window // 2 + 1
        level = CausalConv(bins, 1, kernel_init=down_scaled(0.3), name="level")(x).astype(jnp.float32)
        direction = CausalConv(2 * bins, 1, name="direction")(x).astype(jnp.float32)
        real, imag = direction[..., :bins], direction[..., bins:]
        magnitude = jnp.exp(jnp.clip(level + _FIRST_LEVEL, _LEAST_LEVEL, _MOST_LEVEL))
        # The floor keeps the gradient finite where a direction has no length.
        scale = magnitude * jax.lax.rsqrt(jnp.square(real) + jnp.square(imag) + 1e-4)
        frames = by_rows(jnp.fft.irfft, jax.lax.complex(real * scale, imag * scale)) * _window(window)
        batch, steps, _ = frames.shape
        if num_frames is not None:
            frames *= (jnp.arange(steps) < num_frames[:, None])[..., None]
        hops = jnp.pad(frames, ((0, 0), (0, LOOKAHEAD), (0, 0))).reshape(batch, -1, STEM_OVERLAP, self.stride)
        added = sum(hops[:, LOOKAHEAD - k : LOOKAHEAD - k + steps, k] for k in range(STEM_OVERLAP))
        return added.reshape(batch, steps * self.stride)
