"""DAC, the Descript Audio Codec (Kumar et al. 2023), for music too; it hears the future as well as the past."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from audiolm_jax.codec.contract import Codec, Context
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.dac import dac_network, dac_quantizer
from audiolm_jax.pretrained.dac.dac_network import EDGE_KERNEL, LATENT_KERNEL, UNIT_DILATIONS, UNIT_KERNEL, DacConfig
from audiolm_jax.pretrained.files.weight_map import REVERSED, Layout, Weight, WeightMap, folded_transposed
from audiolm_jax.pretrained.kind import CODEC, ConfigReader, Kind

NAME = "dac"
# The alphas [1, C, 1] of a Snake to [C], and a 1x1 convolution [out, in, 1] to a matrix [in, out].
_ALPHA = Layout(lambda array: array[0, :, 0], lambda array: array[None, :, None])
_POINTWISE = Layout(lambda array: array[..., 0].T, lambda array: array.T[..., None])


@dataclasses.dataclass(frozen=True)
class Dac(Codec):
    """The codec contract over the weights of a DAC.

    `params` is {"encoder": ..., "decoder": ..., "codebooks": float32[levels, N, d], "projections": ...}. The network
    hears a bounded stretch on either side of a frame.
    """

    config: DacConfig

    @property
    def encoder_context(self) -> Context | None:
        return dac_network.encoder_context(self.config)

    @property
    def decoder_context(self) -> Context | None:
        return dac_network.decoder_context(self.config)

    @functools.partial(jax.jit, static_argnums=0)
    def encode(self, params: Any, samples: jax.Array, num_samples: jax.Array | None = None) -> jax.Array:
        """Tokens int32[B, ceil(T / hop), Q] of samples float32[B, T]; num_samples int32[B] of each row count.

        The last frame of a row is filled with zeros.
        """
        hop = self.hop_samples
        samples = jnp.pad(samples, ((0, 0), (0, -samples.shape[1] % hop)))
        if num_samples is not None:
            samples = jnp.where(jnp.arange(samples.shape[1]) < num_samples[:, None], samples, 0)
            num_samples = -(-num_samples // hop) * hop
        latents = dac_network.Encoder(self.config).apply({"params": params["encoder"]}, samples, num_samples)
        return dac_quantizer.encode(params, latents, self.config.num_quantizers)

    @functools.partial(jax.jit, static_argnums=0)
    def decode(self, params: Any, tokens: jax.Array, num_frames: jax.Array | None = None) -> jax.Array:
        """Samples float32[B, F * hop] of tokens int32[B, F, q], q <= Q; num_frames int32[B] of each row count.

        With odd strides the last few samples of a recording are zeros, where the reference implementation gives
        nothing: 8 of them in descript/dac_16khz and descript/dac_24khz.
        """
        latents = self.embed(params, tokens)
        return dac_network.Decoder(self.config).apply({"params": params["decoder"]}, latents, num_frames)

    def embed(self, params: Any, tokens: jax.Array) -> jax.Array:
        """What the tokens int32[B, F, q] stand for, float32[B, F, D]: the sum of their projected entries."""
        return dac_quantizer.decode(params, tokens)


def read_config(config_json: Mapping[str, Any], preprocessor_json: Mapping[str, Any]) -> DacConfig:
    """The configuration of a checkpoint.

    Args:
        config_json: config.json of the model. Its hop_length is not used: the reference implementation does not use it
            either, and saves one that may be of another model.
        preprocessor_json: preprocessor_config.json, empty where there is none.

    Raises:
        UserError: the model has something that we do not compute.
    """
    reader = ConfigReader(config_json, "config.json")
    strides = reader.integers("downsampling_ratios", (2, 4, 8, 8))
    if reader.integers("upsampling_ratios", strides[::-1]) != strides[::-1]:
        raise UserError(
            f"config.json: upsampling_ratios are {list(config_json['upsampling_ratios'])}, but only "
            f"{list(strides[::-1])}, the reverse of downsampling_ratios, are supported; choose another checkpoint"
        )
    encoder_channels = reader.value("encoder_hidden_size", int, 64)
    num_codebooks = reader.count("n_codebooks", 9)
    config = DacConfig(
        sample_rate_hz=reader.value("sampling_rate", int, 16_000),
        strides=strides,
        encoder_channels=encoder_channels,
        decoder_channels=reader.value("decoder_hidden_size", int, 1536),
        latent_dim=reader.value("hidden_size", int, encoder_channels * 2 ** len(strides)),
        num_quantizers=num_codebooks,
        num_codebooks=num_codebooks,
        codebook_size=reader.value("codebook_size", int, 1024),
        codebook_dim=reader.value("codebook_dim", int, 8),
    )
    if preprocessor_json:
        _refuse_preparation(ConfigReader(preprocessor_json, "preprocessor_config.json"), config)
    return config


def _refuse_preparation(reader: ConfigReader, config: DacConfig) -> None:
    """Refuses a feature extractor that does more than fill the last frame with zeros."""
    reader.require("feature_size", 1, 1, "one channel is what the project works on")
    reader.require("sampling_rate", config.sample_rate_hz, 16_000, "it is the rate of the model's config.json")
    reader.require("hop_length", config.hop_samples, 512, "it is the product of the model's downsampling_ratios")
    reader.require("padding_value", 0.0, 0.0, "the last frame is filled with zeros")
    reader.require("padding_side", "right", "right", "the zeros stand behind a recording")


def weight_map(config: DacConfig) -> WeightMap:
    """Every tensor of a checkpoint of this shape."""
    return WeightMap((*_encoder(config), *_decoder(config), *_quantizer(config)))


def _normed(path: str, name: str, shape: tuple[int, ...], layout: Layout, stacked: int | None = None) -> Weight:
    """A weight that is normalised in training. Published models are plain, and so is what the reference reads."""
    return Weight(path, name, shape, layout, normed_axis=0, stacked=stacked, exported_normed=False)


def _conv(path: str, name: str, width_in: int, width_out: int, kernel_size: int) -> list[Weight]:
    return [
        _normed(f"{path}.kernel", f"{name}.weight", (width_out, width_in, kernel_size), REVERSED),
        Weight(f"{path}.bias", f"{name}.bias", (width_out,)),
    ]


def _snake(path: str, name: str, width: int) -> list[Weight]:
    return [Weight(f"{path}.alpha", f"{name}.alpha", (1, width, 1), _ALPHA)]


def _units(path: str, name: str, width: int) -> list[Weight]:
    """The residual units of a block."""
    weights = []
    for number, dilation in enumerate(UNIT_DILATIONS, start=1):
        ours, theirs = f"{path}_dilation{dilation}", f"{name}.res_unit{number}"
        weights += _snake(f"{ours}.dilated_snake", f"{theirs}.snake1", width)
        weights += _conv(f"{ours}.dilated", f"{theirs}.conv1", width, width, UNIT_KERNEL)
        weights += _snake(f"{ours}.pointwise_snake", f"{theirs}.snake2", width)
        weights += _conv(f"{ours}.pointwise", f"{theirs}.conv2", width, width, 1)
    return weights


def _encoder(config: DacConfig) -> list[Weight]:
    width = config.encoder_channels
    weights = _conv("encoder.first", "encoder.conv1", 1, width, EDGE_KERNEL)
    for block, stride in enumerate(config.strides):
        path, name = f"encoder.block{block}", f"encoder.block.{block}"
        weights += _units(path, name, width)
        weights += _snake(f"{path}_snake", f"{name}.snake1", width)
        weights += _conv(f"{path}_down", f"{name}.conv1", width, 2 * width, 2 * stride)
        width *= 2
    weights += _snake("encoder.last_snake", "encoder.snake1", width)
    return weights + _conv("encoder.last", "encoder.conv2", width, config.latent_dim, LATENT_KERNEL)


def _decoder(config: DacConfig) -> list[Weight]:
    width = config.decoder_channels
    weights = _conv("decoder.first", "decoder.conv1", config.latent_dim, width, EDGE_KERNEL)
    for block, stride in enumerate(reversed(config.strides)):
        path, name = f"decoder.block{block}", f"decoder.block.{block}"
        weights += _snake(f"{path}_snake", f"{name}.snake1", width)
        shape, layout = (width, width // 2, 2 * stride), folded_transposed(stride)
        weights += [
            _normed(f"{path}_up.kernel", f"{name}.conv_t1.weight", shape, layout),
            Weight(f"{path}_up.bias", f"{name}.conv_t1.bias", (width // 2,)),
        ]
        width //= 2
        weights += _units(path, name, width)
    weights += _snake("decoder.last_snake", "decoder.snake1", width)
    return weights + _conv("decoder.last", "decoder.conv2", width, 1, EDGE_KERNEL)


def _quantizer(config: DacConfig) -> list[Weight]:
    dim, narrow, weights = config.latent_dim, config.codebook_dim, []
    for level in range(config.num_codebooks):
        name = f"quantizer.quantizers.{level}"
        weights.append(Weight("codebooks", f"{name}.codebook.weight", (config.codebook_size, narrow), stacked=level))
        for ours, theirs, shape in (
            ("inward", "in_proj", (narrow, dim, 1)),
            ("outward", "out_proj", (dim, narrow, 1)),
        ):
            path = f"projections.{ours}"
            weights += [
                _normed(f"{path}.kernel", f"{name}.{theirs}.weight", shape, _POINTWISE, level),
                Weight(f"{path}.bias", f"{name}.{theirs}.bias", shape[:1], stacked=level),
            ]
    return weights


KIND = Kind(
    name=NAME,
    part=CODEC,
    config_class=DacConfig,
    read_config=read_config,
    weight_map=weight_map,
    make=Dac,
)
