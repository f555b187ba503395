"""Codecs that only hear the past and take a recording in windows, each with the state that the one before has left."""

import dataclasses
import functools
from abc import abstractmethod
from typing import Any

import flax.linen as nn
import jax

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.contract import Codec
from audiolm_jax.pretrained.stream import STREAM, Cut, start_state


@dataclasses.dataclass(frozen=True)
class StreamedCodec(Codec):
    """The codec contract over two networks of causal layers of `stream`.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": ...} and what else `tokens_of` and `embed` need.
    """

    config: Any

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Network (waves [B, T, 1], num_samples, cut) -> latents [B, ceil(T / hop), D]."""

    @abstractmethod
    def decoder(self) -> nn.Module:
        """Network (latents [B, F, D], num_frames, cut) -> waves [B, F * hop, 1]."""

    def tokens_of(self, params: Any, latents: jax.Array) -> jax.Array:
        """Tokens int32[B, F, Q] of latents [B, F, D]."""
        return quantizer.encode(latents, params["codebooks"][: self.num_quantizers])

    @functools.partial(jax.jit, static_argnums=0)
    def encode(self, params: Any, samples: jax.Array, num_samples: jax.Array | None = None) -> jax.Array:
        """Tokens int32[B, ceil(T / hop), Q] of samples float32[B, T]; num_samples int32[B] of each row count."""
        latents = self.encoder().apply({"params": params["encoder"]}, samples[..., None], num_samples)
        return self.tokens_of(params, latents)

    @functools.partial(jax.jit, static_argnums=0)
    def decode(self, params: Any, tokens: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        """Samples float32[B, F * hop] of tokens int32[B, F, q], q <= Q; num_frames int32[B] of each row count."""
        latents = self.embed(params, tokens)
        return self.decoder().apply({"params": params["decoder"]}, latents, num_frames)[..., 0]

    def encode_next(
        self, params: Any, state: Any, samples: jax.Array, num_samples: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Tokens int32[B, W / hop, Q] of the next window, samples float32[B, W], and the next state; see `Codec`."""
        is_first = state is None
        if is_first:
            window = jax.ShapeDtypeStruct((*samples.shape, 1), samples.dtype)
            state = start_state(self.encoder(), params["encoder"], window, num_samples)
        return self._encode_window(params, state, samples, num_samples, is_first)

    def decode_next(self, params: Any, state: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        """Samples float32[B, W * hop] of the next window of tokens int32[B, W, q], and the next state."""
        is_first = state is None
        if is_first:
            latents = jax.eval_shape(self.embed, params, tokens)
            state = start_state(self.decoder(), params["decoder"], latents, None)
        return self._decode_window(params, state, tokens, is_first)

    @functools.partial(jax.jit, static_argnums=0)
    def _encode_window(self, params, state, samples, num_samples, is_first):
        cut, variables = Cut(is_window=True, is_first=is_first), {"params": params["encoder"], STREAM: state}
        latents, after = self.encoder().apply(variables, samples[..., None], num_samples, cut, mutable=[STREAM])
        return self.tokens_of(params, latents), after[STREAM]

    @functools.partial(jax.jit, static_argnums=0)
    def _decode_window(self, params, state, tokens, is_first):
        cut, variables = Cut(is_window=True, is_first=is_first), {"params": params["decoder"], STREAM: state}
        waves, after = self.decoder().apply(variables, self.embed(params, tokens), None, cut, mutable=[STREAM])
        return waves[..., 0], after[STREAM]
