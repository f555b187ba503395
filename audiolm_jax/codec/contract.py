"""What every codec offers: SoundStream, and the published ones in `pretrained`."""

import dataclasses
import math
from typing import Any, Protocol

import jax

from audiolm_jax import fingerprint
from audiolm_jax.codec import quantizer


@dataclasses.dataclass(frozen=True)
class Context:
    """Frames before and after a frame that can change what is said of it."""

    past_frames: int
    future_frames: int = 0


class Codec(Protocol):
    """Waveform to acoustic tokens and back.

    A frozen dataclass around `config`, which holds rates and sizes by the names that they have here. Every method is
    pure, and jitted.

    What is said of a row does not depend on other rows, nor on what stands behind the end of it.
    """

    config: Any

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveform."""
        return self.config.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        """Samples of a frame."""
        return self.config.hop_samples

    @property
    def num_quantizers(self) -> int:
        """Levels Q of a frame."""
        return self.config.num_quantizers

    @property
    def codebook_size(self) -> int:
        """Entries of each level."""
        return self.config.codebook_size

    @property
    def encoder_context(self) -> Context | None:
        """What the tokens of a frame depend on; None for all of the past, then there is `encode_next`."""
        return None

    @property
    def decoder_context(self) -> Context | None:
        """What the samples of a frame depend on; None for all of the past, then there is `decode_next`."""
        return None

    def encode(self, params: Any, samples: jax.Array, num_samples: jax.Array | None = None) -> jax.Array:
        """Tokens int32[B, ceil(T / hop), Q] of samples float32[B, T]; num_samples int32[B] of each row count."""

    def decode(self, params: Any, tokens: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        """Samples float32[B, F * hop] of tokens int32[B, F, q], q <= Q; num_frames int32[B] of each row count."""

    def embed(self, params: Any, tokens: jax.Array) -> jax.Array:
        """What the tokens int32[B, F, q] stand for, float32[B, F, D]: the sum of their codebook entries."""
        return quantizer.decode(tokens, params["codebooks"])

    def encode_next(
        self, params: Any, state: Any, samples: jax.Array, num_samples: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Tokens of the next window of a recording, and what the window after it needs.

        Args:
            params: weights.
            state: of the window before; None for the first.
            samples: float32[B, W], W a multiple of the hop and the same for every window.
            num_samples: int32[B] that count; less than W in the last window only.
        """

    def decode_next(self, params: Any, state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        """Samples float32[B, W * hop] of the next window of tokens int32[B, W, q], and the next state."""

    def bitrate_bps(self, num_quantizers: int | None = None) -> float:
        """Bits per second with the first `num_quantizers` levels (all by default)."""
        levels = num_quantizers or self.num_quantizers
        return levels * math.log2(self.codebook_size) * self.sample_rate_hz / self.hop_samples

    def fingerprint(self, params: Any) -> str:
        """Hash of configuration and weights; two codecs with the same one give the same tokens on one kind of device.

        Accelerators round the encoder's products otherwise than a CPU, and a latent between two codes may get either.
        """
        return fingerprint.fingerprint(self.config, params)
