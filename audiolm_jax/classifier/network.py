"""The clip classifier of AudioLM's evaluation (section IV-C): log-mel and six separable convolution blocks.

The paper gives the log-mel (25 ms windows, 10 ms hop, 64 bins), one-second clips, and the blocks: a convolution along
time (3x1), one along frequency (1x3), ReLU, batch normalisation; 64, 128, 256, 256, 512, 512 channels, and max-pooling
by 2 in both axes whenever the channels grow. What it leaves open, and what is chosen here: the pooling follows the
block that makes the channels grow (the first one too, from 1); the head is the mean over time and frequency and one
linear layer; log-mel are natural logarithms of magnitudes, standardised by two constants; and a clip has 100 frames
because its ends are reflected by 7.5 ms.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax import spectral
from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Positive

# About the mean and deviation of the log-mel of LibriSpeech.
LOG_MEL_MEAN, LOG_MEL_DEVIATION = -7.0, 2.0
_KERNEL = 3
_KERNEL_AXES = (None, "conv_in", "conv_out")


@dataclasses.dataclass(frozen=True)
class ClipClassifierConfig:
    """Shape of a classifier.

    Attributes:
        class_names: what it tells apart, in the order of its outputs.
        channels: of the blocks.
        sample_rate_hz: of its input.
        num_mels: bins of the log-mel.
        window_seconds, hop_seconds: of the log-mel's frames.
        clip_seconds: length of its input.
        mel_floor: added to mel magnitudes (a full-scale sine gives 0.5) before the logarithm.
    """

    class_names: tuple[str, ...]
    channels: tuple[Count, ...] = (64, 128, 256, 256, 512, 512)
    sample_rate_hz: Count = 16000
    num_mels: int = 64
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    clip_seconds: Positive = 1.0
    mel_floor: Positive = 1e-5

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.class_names) < 2 or len(set(self.class_names)) != len(self.class_names):
            raise UserError(f"a classifier needs at least two classes of different names, got {self.class_names[:3]}")
        if not self.channels or min(self.channels) < 1:
            raise UserError(f"channels must be positive numbers, got {self.channels}")
        if self.hop_samples < 1:
            raise UserError(f"sample_rate_hz {self.sample_rate_hz} has no sample in a hop of {self.hop_seconds} s")
        if self.frames >> self._num_pools < 1 or self.num_mels >> self._num_pools < 1:
            raise UserError(
                f"{self._num_pools} growing blocks halve {self.frames} frames of {self.num_mels} mels to nothing; "
                "give longer clips, more mels, or fewer channels that grow"
            )

    @property
    def num_classes(self) -> int:
        """Outputs of the network."""
        return len(self.class_names)

    @property
    def clip_samples(self) -> int:
        """Samples of one input."""
        return round(self.clip_seconds * self.sample_rate_hz)

    @property
    def window_samples(self) -> int:
        """Samples of a frame's window."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples between frames."""
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def frames(self) -> int:
        """Frames of one input."""
        return self.clip_samples // self.hop_samples

    @property
    def _num_pools(self) -> int:
        return sum(wide > narrow for narrow, wide in zip((1, *self.channels), self.channels, strict=False))

    def to_plain(self) -> dict[str, Any]:
        """The fields as JSON values."""
        plain = dataclasses.asdict(self)
        return plain | {"class_names": list(self.class_names), "channels": list(self.channels)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "ClipClassifierConfig":
        """The configuration that `to_plain` wrote.

        Raises:
            UserError: the fields are those of another version.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if set(plain) != known:
            odd = sorted(set(plain) ^ known)[0]
            raise UserError(f"the classifier's configuration and this version differ in {odd!r}; train it again")
        return cls(**plain)


def log_mel(config: ClipClassifierConfig, samples: jax.Array) -> jax.Array:
    """Standardised log-mel [B, frames, mels] of samples [B, clip_samples]."""
    edge = config.window_samples - config.hop_samples
    samples = jnp.pad(samples, ((0, 0), (edge // 2, edge - edge // 2)), mode="reflect")
    mel = spectral.log_mel(
        samples,
        config.sample_rate_hz,
        config.window_samples,
        config.hop_samples,
        config.num_mels,
        fft_samples=1 << (config.window_samples - 1).bit_length(),
        floor=config.mel_floor,
    )
    return (mel - LOG_MEL_MEAN) / LOG_MEL_DEVIATION


class AxisConv(nn.Module):
    """Convolution of three taps along one axis of [B, T, F, C_in], zero-padded to its length.

    XLA's own convolution, forward and backward, reaches matrix-product speed for these kernels on a CPU too (50 GFLOP/s
    on the core where three shifted copies and one product reached 44), unlike that of 3x3 kernels.
    """

    features: int
    axis: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.he_normal(), _KERNEL_AXES),
            (_KERNEL, x.shape[-1], self.features),
        )
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)), (self.features,))
        kernel = jnp.expand_dims(kernel, 1 if self.axis == 1 else 0)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias


class ClipClassifier(nn.Module):
    """From log-mel to class logits and the pooled vector before them, which serves as embedding."""

    config: ClipClassifierConfig

    @nn.compact
    def __call__(self, mel: jax.Array, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        """One score for each class.

        Args:
            mel: float32[B, frames, mels], see `log_mel`.
            deterministic: True takes the running statistics of batch normalisation, False those of the batch (of all
                devices' rows together) and updates the running ones in the collection "batch_stats".

        Returns:
            (logits float32[B, classes], embedding float32[B, channels[-1]])
        """
        x, channels = mel[..., None], 1
        for number, features in enumerate(self.config.channels):
            x = AxisConv(features, axis=1, name=f"time_{number}")(x)
            x = AxisConv(features, axis=2, name=f"frequency_{number}")(x)
            x = nn.relu(x)
            x = nn.BatchNorm(use_running_average=deterministic, momentum=0.95, epsilon=1e-3, name=f"norm_{number}")(x)
            if features > channels:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            channels = features
        embedding = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.config.num_classes, name="head")(embedding), embedding


@functools.partial(jax.jit, static_argnums=0)
def clip_outputs(config: ClipClassifierConfig, variables: Any, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Class log-probabilities and embeddings of clips.

    Args:
        config: of the classifier.
        variables: {"params": ..., "batch_stats": ...}.
        samples: float32[B, clip_samples].

    Returns:
        (log-probabilities float32[B, classes], embeddings float32[B, channels[-1]]); rows do not depend on each other.
    """
    logits, embedding = ClipClassifier(config).apply(variables, log_mel(config, samples), deterministic=True)
    return jax.nn.log_softmax(logits), embedding
