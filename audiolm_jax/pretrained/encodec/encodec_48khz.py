"""The stereo EnCodec (facebook/encodec_48khz): overlapping chunks, each with a scale of its own.

It is no `Codec`, for its frames lie on no uniform grid: those of an overlap come twice. Config and weights are read as
those of any EnCodec:

    config = encodec.KIND.read_config(config_json, preprocessor_json)
    params = read_weights(tensors, encodec.KIND.weight_map(config), where).params
    codes, scales = EncodecChunks(config).encode(params, samples)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from audiolm_jax.codec import quantizer
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.encodec.encodec_network import Decoder, EncodecConfig, Encoder

_SCALE_EPSILON = 1e-8
# Most chunks that are computed at a time; more take more memory and no less time.
_CHUNKS_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class EncodecChunks:
    """Waveform to tokens and scales of chunks, and back.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[levels, N, D]}.

    Raises:
        UserError: the configuration has no chunks, or chunks that are no whole number of frames.
    """

    config: EncodecConfig

    def __post_init__(self):
        config = self.config
        if config.chunk_length_s is None or config.chunk_overlap is None or not 0 <= config.chunk_overlap < 1:
            raise UserError(
                f"this EnCodec has chunk_length_s = {config.chunk_length_s} and overlap = {config.chunk_overlap}, so "
                "it has no chunks; use pretrained.encodec.Encodec for facebook/encodec_24khz"
            )
        if self.chunk_samples == 0 or self.chunk_samples % config.hop_samples:
            raise UserError(
                f"chunk_length_s is {config.chunk_length_s}, {self.chunk_samples} samples, but only a multiple of "
                f"{config.hop_samples} samples is supported; give the model's own config.json"
            )

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk."""
        return int(self.config.chunk_length_s * self.config.sample_rate_hz)

    @property
    def stride_samples(self) -> int:
        """Samples from the beginning of a chunk to that of the next."""
        return max(1, int((1.0 - self.config.chunk_overlap) * self.chunk_samples))

    @functools.partial(jax.jit, static_argnums=0)
    def encode(self, params: Any, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Codes int32[B, chunks, F, Q] and scales float32[B, chunks] of samples float32[B, C, T], T >= 1.

        There are ceil(T / stride_samples) chunks, the last one filled with zeros. What the reference encodes behind
        them lies after the end of every row.
        """
        batch, channels, length = samples.shape
        count = -(-length // self.stride_samples)
        total = (count - 1) * self.stride_samples + self.chunk_samples
        samples = jnp.pad(samples, ((0, 0), (0, 0), (0, total - length)))
        starts = jnp.arange(count) * self.stride_samples
        chunks = samples[:, :, starts[:, None] + jnp.arange(self.chunk_samples)]
        chunks = chunks.transpose(0, 2, 3, 1).reshape(batch * count, self.chunk_samples, channels)
        scales = jnp.ones(batch * count, jnp.float32)
        if self.config.is_normalized:
            scales = jnp.sqrt(jnp.mean(jnp.square(jnp.mean(chunks, axis=2)), axis=1)) + _SCALE_EPSILON
        codebooks = params["codebooks"][: self.config.num_quantizers]

        def encode_group(group):
            return quantizer.encode(Encoder(self.config).apply({"params": params["encoder"]}, group), codebooks)

        codes = _in_groups(encode_group, chunks / scales[:, None, None])
        return codes.reshape(batch, count, *codes.shape[1:]), scales.reshape(batch, count)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def decode(self, params: Any, codes: jax.Array, scales: jax.Array, num_samples: int) -> jax.Array:
        """Samples float32[B, C, num_samples] of codes int32[B, chunks, F, q] and scales float32[B, chunks].

        Where chunks overlap, they are faded into each other.

        Raises:
            UserError: the chunks hold fewer samples than that.
        """
        batch, count = scales.shape
        total = (count - 1) * self.stride_samples + self.chunk_samples
        if num_samples > total:
            raise UserError(f"num_samples is {num_samples}, but the {count} chunks hold {total}; ask for no more")
        latents = quantizer.decode(codes.reshape(batch * count, *codes.shape[2:]), params["codebooks"])

        def decode_group(group):
            return Decoder(self.config).apply({"params": params["decoder"]}, group)

        chunks = _in_groups(decode_group, latents) * scales.reshape(-1)[:, None, None]
        # A triangle that is nowhere zero. Divided by the sum of the triangles it is a linear fade.
        weight = 0.5 - jnp.abs(jnp.linspace(0.0, 1.0, self.chunk_samples + 2)[1:-1] - 0.5)
        chunks = chunks.reshape(batch, count, self.chunk_samples, -1) * weight[:, None]
        weights = jnp.broadcast_to(weight[:, None], (1, count, self.chunk_samples, 1))
        sound = self._added(chunks) / self._added(weights)
        return sound[:, :num_samples].transpose(0, 2, 1)

    def _added(self, chunks: jax.Array) -> jax.Array:
        """Chunks [B, N, S, C] added up where they stand, [B, at least (N - 1) * stride + S, C]."""
        batch, count, length, channels = chunks.shape
        stride = self.stride_samples
        parts = -(-length // stride)
        chunks = jnp.pad(chunks, ((0, 0), (0, 0), (0, parts * stride - length), (0, 0)))
        chunks = chunks.reshape(batch, count, parts, stride, channels)
        # Part j of a chunk falls on part 0 of the chunk j later.
        shifted = [
            jnp.pad(chunks[:, :, part], ((0, 0), (part, parts - 1 - part), (0, 0), (0, 0))) for part in range(parts)
        ]
        return sum(shifted).reshape(batch, (count + parts - 1) * stride, channels)


def _in_groups(function: Callable[[jax.Array], jax.Array], chunks: jax.Array) -> jax.Array:
    """The function of chunks [N, ...], in the memory of a few: groups of one size, the last one filled with zeros."""
    count = len(chunks)
    groups = -(-count // _CHUNKS_AT_ONCE)
    size = -(-count // groups)
    chunks = jnp.pad(chunks, ((0, groups * size - count), *((0, 0),) * (chunks.ndim - 1)))
    results = jax.lax.map(function, chunks.reshape(groups, size, *chunks.shape[1:]))
    return results.reshape(groups * size, *results.shape[2:])[:count]
