"""Lyra V2 (google/lyra, 2022), a published SoundStream: 50 frames a second of up to 46 levels of 4 bits at 16 kHz."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from audiolm_jax.pretrained.kind import CODEC, ConfigReader, Kind
from audiolm_jax.pretrained.lyra import lyra_quantizer
from audiolm_jax.pretrained.lyra.lyra_network import Decoder, Encoder, LyraConfig
from audiolm_jax.pretrained.lyra.lyra_weights import CODEBOOKS, weight_map
from audiolm_jax.pretrained.streamed_codec import StreamedCodec

NAME = "lyra"


@dataclasses.dataclass(frozen=True)
class Lyra(StreamedCodec):
    """The codec contract over the weights of a Lyra V2.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[levels, K, D]}; a token is one level's code, or
    the codes of `join_levels` neighbouring levels as one number.
    """

    config: LyraConfig

    def encoder(self) -> Encoder:
        """See `StreamedCodec`."""
        return Encoder(self.config)

    def decoder(self) -> Decoder:
        """See `StreamedCodec`."""
        return Decoder(self.config)

    def tokens_of(self, params: Any, latents: jax.Array) -> jax.Array:
        """Tokens int32[B, F, Q] of latents float32[B, F, D]."""
        config = self.config
        return lyra_quantizer.encode(params[CODEBOOKS], latents, config.num_quantizers, config.join_levels)

    def embed(self, params: Any, tokens: jax.Array) -> jax.Array:
        """What the tokens int32[B, F, q] stand for, float32[B, F, D]: the sum of the entries of all their levels."""
        return lyra_quantizer.decode(params[CODEBOOKS], tokens, self.config.join_levels)


def read_config(config_json: Mapping[str, Any], preprocessor_json: Mapping[str, Any]) -> LyraConfig:
    """The configuration of a checkpoint.

    Args:
        config_json: what differs from the published model, by the names of `LyraConfig`.
        preprocessor_json: empty.

    Raises:
        UserError: a value is of another type.
    """
    reader, published = ConfigReader(config_json, "config.json"), LyraConfig()
    values = {}
    for field in dataclasses.fields(LyraConfig):
        default = getattr(published, field.name)
        if isinstance(default, tuple):
            values[field.name] = reader.integers(field.name, default)
        else:
            values[field.name] = reader.value(field.name, type(default), default)
    return LyraConfig(**values)


KIND = Kind(
    name=NAME,
    part=CODEC,
    config_class=LyraConfig,
    read_config=read_config,
    weight_map=weight_map,
    make=Lyra,
)
