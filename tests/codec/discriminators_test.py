"""Shapes, axes and gradients of the discriminators, and the grouped convolution against XLA's own."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.codec.adversary.discriminators import Discriminators, StftDiscriminator, WaveDiscriminators, half_rate
from audiolm_jax.codec.adversary.frame_discriminators import PeriodDiscriminator, SpectrogramDiscriminator
from audiolm_jax.codec.adversary.grouped_convolution import grouped_conv

TINY = Discriminators(channels=2, wave_channels=4, wave_max_channels=16)
FRAMES = Discriminators(
    0, 0, 0, spectrogram_windows=(64, 256), spectrogram_channels=8, periods=(2, 3), period_channels=4
)


def xla_conv(x, kernel, stride):
    before = (kernel.shape[0] - 1) // 2
    after = (-(-x.shape[1] // stride) - 1) * stride + kernel.shape[0] - x.shape[1] - before
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), [(before, after)], dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1] // kernel.shape[1],
    )


@pytest.mark.parametrize(
    ("steps", "kernel_size", "stride", "channels_in", "channels_out"),
    [(37, 41, 4, 16, 64), (64, 41, 4, 8, 8), (1, 41, 4, 8, 16), (5, 5, 1, 4, 8), (40, 15, 1, 1, 4), (3, 3, 1, 4, 1)],
)
def test_grouped_convolution_and_its_gradients_are_those_of_xla(steps, kernel_size, stride, channels_in, channels_out):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, steps, channels_in)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, min(channels_in, 4), channels_out)).astype(np.float32)
    expected, expected_vjp = jax.vjp(lambda x, kernel: xla_conv(x, kernel, stride), x, kernel)
    found, found_vjp = jax.vjp(lambda x, kernel: grouped_conv(x, kernel, stride), x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    direction = rng.normal(size=expected.shape).astype(np.float32)
    for ours, theirs in zip(found_vjp(direction), expected_vjp(direction), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def shapes(module, num_samples):
    """(logits shape, [map shapes]) of each judgement, and the parameters' shapes; nothing is computed."""
    judgements, variables = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((2, num_samples)))
    )
    judgements = judgements if isinstance(judgements, list) else [judgements]
    return [(logits.shape, [inner.shape for inner in maps]) for logits, maps in judgements], variables["params"]


def test_stft_discriminator_at_the_paper_size():
    [(logits, maps)], params = shapes(StftDiscriminator(), 16 * 2048)
    assert logits == (2, 16)
    assert maps == [
        (2, 128, 512, 32), (2, 128, 256, 64), (2, 64, 128, 128), (2, 64, 64, 128),
        (2, 32, 32, 256), (2, 32, 16, 256), (2, 16, 8, 512),
    ]
    kernels = [nn.unbox(params)[f"unit{unit}"]["second"]["kernel"].shape[:2] for unit in range(6)]
    assert kernels == [(3, 4), (4, 4), (3, 4), (4, 4), (3, 4), (4, 4)]
    assert nn.unbox(params)["first"]["kernel"].shape == (7, 7, 2, 32)


def test_wave_discriminators_at_the_paper_size():
    judgements, params = shapes(WaveDiscriminators(), 4096)
    for scale, (logits, maps) in enumerate(judgements):
        steps = 4096 >> scale
        assert logits == (2, steps // 256)
        assert maps == [
            (2, steps, 16), (2, steps // 4, 64), (2, steps // 16, 256), (2, steps // 64, 1024),
            (2, steps // 256, 1024), (2, steps // 256, 1024),
        ]
    assert len(judgements) == 3
    assert nn.unbox(params)["scale0"]["grouped3"]["kernel"].shape == (41, 4, 1024)


def test_any_length_is_judged():
    for num_samples in (1, 255, 2049):
        judgements, _ = shapes(TINY, num_samples)
        assert [logits[1] for logits, _ in judgements] == [
            math.ceil(num_samples / 2048),
            *(math.ceil(num_samples / (rate * 256)) for rate in (1, 2, 4)),
        ]


def test_frame_discriminators_judge_every_frame_and_every_phase():
    judgements, params = shapes(FRAMES, 1000)
    assert nn.unbox(params).keys() == {"spectrogram64", "spectrogram256", "period2", "period3"}
    for (logits, maps), frames in zip(judgements[:2], (63, 16), strict=True):  # hops of 16 and 64, padded by a window
        assert logits == (2, frames, 8) and maps == [(2, frames, 8)] * 3
    for (logits, maps), period, steps in zip(judgements[2:], (2, 3), (500, 334), strict=True):
        lengths = [math.ceil(steps / 3**layer) for layer in range(1, 5)]
        assert maps == [(2 * period, length, 4 * width) for length, width in zip(lengths, (1, 4, 8, 16), strict=True)]
        assert logits == (2 * period, lengths[-1])


def test_a_period_discriminator_judges_each_phase_alone():
    module = PeriodDiscriminator(3, 4)
    samples = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    variables = nn.unbox(jax.jit(module.init)(jax.random.key(0), samples))
    logits = module.apply(variables, samples)[0].reshape(2, 3, -1)
    changed = samples.copy()
    changed[0, 1::3] *= 2
    moved = module.apply(variables, changed)[0].reshape(2, 3, -1) != logits
    assert moved[0, 1].all() and not moved[0, [0, 2]].any() and not moved[1].any()


def test_a_spectrogram_discriminator_hears_quiet_bands_too():
    """Of a tone 40 dB below another, compressed spectra keep a sixth and not a hundredth."""
    module = SpectrogramDiscriminator(256, 8)
    time = np.arange(2048) / 16_000
    loud, quiet = (np.sin(2 * np.pi * pitch * time)[None].astype(np.float32) for pitch in (500, 4000))
    variables = nn.unbox(jax.jit(module.init)(jax.random.key(0), loud))

    def first(samples):
        return np.asarray(module.apply(variables, samples)[1][0])

    with_quiet = np.abs(first(loud + 0.01 * quiet) - first(loud)).mean()
    with_as_loud = np.abs(first(loud + quiet) - first(loud)).mean()
    assert with_quiet > 0.08 * with_as_loud


@pytest.mark.parametrize("discriminators", [TINY, FRAMES], ids=["paper", "frames"])
def test_every_parameter_names_its_axes(discriminators):
    _, params = shapes(discriminators, 4096)
    specs = jax.tree.leaves(nn.get_partition_spec(params), is_leaf=lambda leaf: isinstance(leaf, tuple))
    leaves = jax.tree.leaves(nn.unbox(params))
    assert len(specs) == len(leaves)
    for spec, leaf in zip(specs, leaves, strict=True):
        assert len(spec) == leaf.ndim
        assert spec[-1] == "conv_out" and (leaf.ndim == 1 or spec[-2] == "conv_in")


@pytest.mark.parametrize("discriminators", [TINY, FRAMES], ids=["paper", "frames"])
def test_every_discriminator_sees_the_waveform(discriminators):
    samples = jax.random.normal(jax.random.key(1), (1, 1024))
    variables = nn.unbox(jax.jit(discriminators.init)(jax.random.key(0), samples))

    def logits(samples):
        return jnp.stack([jnp.sum(logits) for logits, _ in discriminators.apply(variables, samples)])

    jacobian = np.asarray(jax.jit(jax.jacrev(logits))(samples))
    assert np.isfinite(jacobian).all()
    assert (np.abs(jacobian).sum(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize("num_samples", [1, 8, 11])
def test_half_rate_averages_four_samples_every_two(num_samples):
    samples = np.arange(1.0, num_samples + 1)
    padded = np.concatenate([[0.0], samples, np.zeros(3)])
    expected = [padded[2 * t : 2 * t + 4].mean() for t in range(-(-num_samples // 2))]
    np.testing.assert_allclose(half_rate(jnp.asarray(samples)[None])[0], expected, rtol=1e-6)
