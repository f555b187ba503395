"""SoundStream: the paper's size, causality, the folded convolutions, lengths, batches."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.codec.convolutions import DepthwiseConv, DownConv, UpConv
from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig, elu
from audiolm_jax.errors import UserError
from tests.gin_sizes import learner_of

TINY = SoundStreamConfig(
    strides=(2, 3), encoder_channels=(4, 8, 8), decoder_channels=(4, 8, 8), embed_dim=8, num_quantizers=3,
    codebook_size=16,
)
HOP = 6


@functools.cache
def tiny_codec():
    params = {
        "encoder": Encoder(TINY).init(jax.random.key(0), jnp.zeros((1, HOP)))["params"],
        "decoder": Decoder(TINY).init(jax.random.key(1), jnp.zeros((1, 1, TINY.embed_dim)))["params"],
        "codebooks": jax.random.normal(jax.random.key(2), (3, 16, 8)) * jnp.array([1.0, 0.5, 0.25])[:, None, None],
    }
    return SoundStream(TINY), nn.unbox(params)


def noise(batch, num_samples):
    return np.random.default_rng(0).normal(size=(batch, num_samples)).astype(np.float32)


def channels(width):
    return tuple(width * factor for factor in (1, 2, 4, 8, 16))


@pytest.mark.parametrize(
    ("encoder_width", "decoder_width", "millions"),
    [(32, 32, 8.40), (16, 16, 2.43), (16, 32, 5.55), (8, 32, 4.78), (32, 16, 5.29), (32, 8, 4.39)],
)
def test_parameter_counts_are_those_of_the_paper(encoder_width, decoder_width, millions):
    config = SoundStreamConfig(encoder_channels=channels(encoder_width), decoder_channels=channels(decoder_width))
    trees = (
        jax.eval_shape(Encoder(config).init, jax.random.key(0), jnp.zeros((1, 320))),
        jax.eval_shape(Decoder(config).init, jax.random.key(0), jnp.zeros((1, 1, 256))),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(trees))
    assert abs(count / 1e6 - millions) < 0.01


def test_elu_and_its_gradient():
    x = jnp.array([-1e30, -100.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 100.0, 1e30])
    np.testing.assert_allclose(elu(x), nn.elu(x), atol=2e-7, rtol=0)
    np.testing.assert_allclose(
        jax.grad(lambda x: elu(x).sum())(x), jax.grad(lambda x: nn.elu(x).sum())(x), atol=2e-7, rtol=0
    )


def test_paper_configuration():
    config = learner_of("codec_librilight_paper").config
    assert config.encoder_channels == config.decoder_channels == channels(32)
    assert config.hop_samples == 320
    codec = SoundStream(config)
    assert codec.bitrate_bps() == 6000
    assert codec.bitrate_bps(1) == 500


def test_widths_that_do_not_fit_the_strides_are_a_user_error():
    with pytest.raises(UserError, match="2 strides need 3 widths"):
        SoundStreamConfig(strides=(2, 3))


def test_a_spectrum_of_every_sample_is_a_user_error():
    with pytest.raises(UserError, match="needs a STEM_STRIDE above 1"):
        SoundStreamConfig(stem="spectrum")


@pytest.mark.parametrize("name", ["codec_librilight_paper", "codec_small"])
def test_every_parameter_names_its_axes(name):
    config = learner_of(name).config
    for variables in (
        jax.eval_shape(Encoder(config).init, jax.random.key(0), jnp.zeros((1, 320))),
        jax.eval_shape(Decoder(config).init, jax.random.key(0), jnp.zeros((1, 1, 256))),
    ):
        specs = jax.tree.leaves(nn.get_partition_spec(variables), is_leaf=lambda leaf: isinstance(leaf, tuple))
        for spec, leaf in zip(specs, jax.tree.leaves(nn.unbox(variables)), strict=True):
            assert len(spec) == leaf.ndim and spec[-1] == "conv_out"


def test_latents_do_not_depend_on_the_future():
    codec, params = tiny_codec()
    samples = noise(1, 10 * HOP)
    jacobian = jax.jit(jax.jacrev(lambda x: codec.latents(params, x)[0].sum(axis=-1)))(samples)[:, 0]
    reach = np.abs(np.asarray(jacobian)).reshape(10, 10, HOP).sum(axis=-1)  # [latent frame, sample frame]
    assert (reach[np.triu_indices(10, k=1)] == 0).all()
    assert (np.diagonal(reach) > 0).all()


def test_samples_do_not_depend_on_future_latents():
    _, params = tiny_codec()
    latents = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 8)), jnp.float32)
    decode = lambda x: Decoder(TINY).apply({"params": params["decoder"]}, x)[0].reshape(6, HOP).sum(axis=-1)  # noqa: E731
    reach = np.abs(np.asarray(jax.jit(jax.jacrev(decode))(latents)))[:, 0].sum(axis=-1)  # [sample frame, latent frame]
    assert (reach[np.triu_indices(6, k=1)] == 0).all()
    assert (np.diagonal(reach) > 0).all()


@pytest.mark.parametrize(("stride", "overlap"), [(2, 2), (5, 2), (3, 4)])
def test_up_conv_is_the_causal_transposed_convolution(stride, overlap):
    x = noise(2, 9 * 4).reshape(2, 9, 4)
    module = UpConv(3, stride, overlap)
    variables = nn.unbox(module.init(jax.random.key(0), x))
    taps = [tap.reshape(4, stride, 3) for tap in variables["params"]["folded"]["kernel"][::-1]]  # the present first
    kernel = jnp.concatenate(taps, axis=1).transpose(1, 0, 2)  # [overlap * stride, C_in, C_out]
    expected = jax.lax.conv_transpose(
        x, kernel[::-1], (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )[:, : 9 * stride]
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(("stride", "overlap"), [(2, 2), (5, 2), (3, 4)])
def test_down_conv_is_the_causal_strided_convolution(stride, overlap):
    x = noise(2, 4 * stride * 3).reshape(2, 4 * stride, 3)
    module = DownConv(5, stride, overlap)
    variables = nn.unbox(module.init(jax.random.key(0), x))
    kernel = variables["params"]["folded"]["kernel"].reshape(overlap * stride, 3, 5)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride,), [((overlap - 1) * stride, 0)], dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 3])
def test_depthwise_conv_is_the_causal_convolution_of_each_channel(dilation):
    x = noise(2, 20 * 6).reshape(2, 20, 6)
    module = DepthwiseConv(3, dilation)
    variables = nn.unbox(module.init(jax.random.key(0), x))
    variables["params"]["bias"] += jnp.arange(6.0)
    expected = jax.lax.conv_general_dilated(
        x, variables["params"]["kernel"][:, None], (1,), [(2 * dilation, 0)], rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=6,
    )
    np.testing.assert_allclose(module.apply(variables, x), expected + jnp.arange(6.0), atol=1e-5)


def test_number_of_frames_for_every_length_of_one_to_three_frames():
    codec, params = tiny_codec()
    for num_samples in range(1, 3 * HOP + 1):
        tokens = jax.eval_shape(codec.encode, params, jax.ShapeDtypeStruct((2, num_samples), jnp.float32))
        frames = -(-num_samples // HOP)
        assert tokens.shape == (2, frames, 3) and tokens.dtype == jnp.int32
        decoded = jax.eval_shape(codec.decode, params, tokens)
        assert decoded.shape == (2, frames * HOP) and decoded.dtype == jnp.float32


def test_the_last_frame_is_padded_with_silence():
    codec, params = tiny_codec()
    samples = noise(1, 2 * HOP + 1)
    padded = np.pad(samples, ((0, 0), (0, HOP - 1)))
    np.testing.assert_array_equal(codec.encode(params, samples), codec.encode(params, padded))


def test_a_batch_gives_each_row_the_tokens_it_gets_alone():
    codec, params = tiny_codec()
    samples = noise(3, 40 * HOP)
    together = np.asarray(codec.encode(params, samples))
    for row in range(3):
        np.testing.assert_array_equal(codec.encode(params, samples[row : row + 1])[0], together[row])
    decoded = np.asarray(codec.decode(params, together))
    for row in range(3):
        np.testing.assert_allclose(codec.decode(params, together[row : row + 1])[0], decoded[row], atol=1e-5)


def test_fewer_levels_decode_to_the_sum_of_fewer_entries():
    codec, params = tiny_codec()
    tokens = np.random.default_rng(0).integers(0, 16, (1, 5, 3))
    silent = {**params, "codebooks": params["codebooks"].at[1:].set(0.0)}
    np.testing.assert_allclose(codec.decode(params, tokens[:, :, :1]), codec.decode(silent, tokens), atol=1e-6)


def test_fingerprint_changes_with_weights_and_configuration():
    codec, params = tiny_codec()
    other = {**params, "codebooks": params["codebooks"] + 1e-6}
    assert codec.fingerprint(params) == codec.fingerprint(params)
    assert len({codec.fingerprint(params), codec.fingerprint(other)}) == 2
    assert SoundStream(SoundStreamConfig()).fingerprint(params) != codec.fingerprint(params)
