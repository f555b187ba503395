"""What every self-supervised encoder of waveforms offers: w2v-BERT, and the published ones in `pretrained`."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Encoder(Protocol):
    """A frozen dataclass of plain values, whose methods are pure functions of its parameters.

    What is said of a row does not depend on other rows, nor on what stands behind the end of it.
    """

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveform."""

    @property
    def hop_samples(self) -> int:
        """Samples of a frame."""

    @property
    def dim(self) -> int:
        """Width D of the features."""

    @property
    def num_layers(self) -> int:
        """Blocks; their outputs are layers 1 to `num_layers`, layer 0 is what the first block is given."""

    def init(self, rng: jax.Array) -> Any:
        """Random parameters, boxed with their logical axes."""

    def frames(
        self, params: Any, samples: jax.Array, num_samples: jax.Array, layer: int, first_frame: jax.Array | int = 0
    ) -> jax.Array:
        """Features [B, ceil(T / hop), D] of samples float32[B, T]: a frame for every hop, the last one perhaps padded.

        Args:
            params: weights; those of layers above `layer` are not used.
            samples: at `sample_rate_hz`, T a multiple of the hop.
            num_samples: int32[B] of each row, counted from the first of the array, that belong to it.
            layer: 0 to `num_layers`.
            first_frame: whole frames at the beginning of every row that do not belong to it.
        """

    def used_params(self, params: Any, layer: int) -> Any:
        """Those of the parameters that the features of a layer depend on; all of them where that is not worked out."""
        del layer
        return params


def whole_frames(encoder: Encoder, samples: jax.Array, num_samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """samples float32[B, T] with zeros up to a multiple of the hop, and which frames bool[B, ceil(T / hop)] belong."""
    missing = -samples.shape[1] % encoder.hop_samples
    samples = jnp.pad(jnp.asarray(samples, jnp.float32), ((0, 0), (0, missing)))
    ends = -(-jnp.asarray(num_samples) // encoder.hop_samples)
    return samples, jnp.arange(samples.shape[1] // encoder.hop_samples) < ends[:, None]
