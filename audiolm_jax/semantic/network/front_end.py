"""What our encoders hear: log-mel frames and two convolutions, 16 kHz to 25 frames a second."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax import spectral
from audiolm_jax.semantic.network.conformer import LayerNorm

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 640  # one feature frame, 40 ms
MEL_HOP_SAMPLES = 160  # two convolutions of stride 2 take the 100 Hz mel frames to 25 Hz
MEL_WINDOW_SAMPLES = 400
MEL_FFT_SAMPLES = 512
NUM_MELS = 80
# Natural log-mel magnitudes of speech lie around this mean with this spread. Constants, because statistics of the
# utterance would change with its length and so would the tokens of a prompt.
LOG_MEL_MEAN = -7.2
LOG_MEL_STD = 1.8


def log_mel_frames(samples) -> jax.Array:
    """Natural log-mel magnitudes [B, 4 T, 80], 100 a second, of samples float32[B, T * 640] at 16 kHz."""
    side = (MEL_WINDOW_SAMPLES - MEL_HOP_SAMPLES) // 2  # the window of mel frame k is centred on hop k
    padded = jnp.pad(jnp.asarray(samples, jnp.float32), ((0, 0), (side, side)))
    return spectral.log_mel(
        padded, SAMPLE_RATE_HZ, MEL_WINDOW_SAMPLES, MEL_HOP_SAMPLES, NUM_MELS, fft_samples=MEL_FFT_SAMPLES
    )


class FrontEnd(nn.Module):
    """Log-mel and two 3 x 3 convolutions of stride (2, 2), to 25 frames a second.

    Args of the call:
        samples: float32[B, T * 640] at 16 kHz, zero outside the row.
        valid: bool [B, T], frames of the row.
        perturb: of log-mel [B, 4 T, 80], before they are normalised; None for none.

    Returns:
        [B, T, 20 * channels], normalised per frame, zero where not valid.
    """

    channels: int
    compute_dtype: str

    @nn.compact
    def __call__(self, samples, valid, perturb: Callable[[jax.Array], jax.Array] | None = None):
        mel = log_mel_frames(samples)
        mel = mel if perturb is None else perturb(mel)
        x = ((mel - LOG_MEL_MEAN) / LOG_MEL_STD)[..., None].astype(self.compute_dtype)  # [B, 4 T, 80, 1]
        # The two convolutions lean one frame to either side, so that together they are centred.
        for index, (before, after) in enumerate(((0, 1), (1, 0))):
            mask = jnp.repeat(valid, x.shape[1] // valid.shape[1], axis=1)[:, :, None, None]
            axes = (None, None, "conv_in", "conv_out")
            kernel_init = nn.with_logical_partitioning(nn.initializers.he_normal(), axes)
            kernel = self.param(f"kernel_{index}", kernel_init, (3, 3, x.shape[-1], self.channels), jnp.float32)
            bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",))
            bias = self.param(f"bias_{index}", bias_init, (self.channels,), jnp.float32)
            x = jax.lax.conv_general_dilated(
                x * mask.astype(x.dtype),
                kernel.astype(self.compute_dtype),
                window_strides=(2, 2),
                padding=((before, after), (0, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = nn.relu(x + bias.astype(self.compute_dtype))
        # Split by rows only. Left alone, XLA splits the frames over `tensor` too, for the kernel that reads them, and
        # on a mesh of three axes (jax 0.10.2, CPU) then gets the gradient of the convolutions wrong.
        x = nn.with_logical_constraint(x.reshape(*x.shape[:2], -1), ("act_batch", "act_length", "act_embed"))
        x = LayerNorm(name="norm")(x) * valid[..., None].astype(x.dtype)
        return nn.with_logical_constraint(x, ("act_batch", "act_length", "act_embed"))
