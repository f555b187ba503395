"""Causal layers: edges as the reference pads them, rows of their own length, windows, transposed convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.pretrained.files.weight_map import folded_transposed
from audiolm_jax.pretrained.stream import (
    REFLECT,
    REPLICATE,
    STREAM,
    ZERO,
    Conv,
    Cut,
    UpConv,
    ends,
    left_edge,
    start_state,
)

MODES = (ZERO, REFLECT, REPLICATE)
# (kernel, stride, dilation): plain, dilated, down with kernel 2 S.
SHAPES = ((5, 1, 1), (3, 1, 3), (8, 4, 1), (6, 3, 1))
WIDTH, FEATURES, WINDOW = 3, 4, 12


def noise(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@functools.cache
def conv(kernel_size, stride, dilation, mode):
    """The layer, its parameters, and the layer jitted for windows."""
    module = Conv(FEATURES, kernel_size, stride, dilation, pad_mode=mode)
    params = {"kernel": noise(kernel_size, WIDTH, FEATURES), "bias": noise(FEATURES)}

    @jax.jit
    def window(state, x, num_steps, is_first):
        cut = Cut(is_window=True, is_first=is_first)
        return module.apply({"params": params, STREAM: state}, x, num_steps, cut, mutable=[STREAM])

    return module, params, window


def padded_by_numpy(row, kernel_size, stride, dilation, mode):
    """A row [T, C] as the reference pads it: reflections of a short row see zeros behind it."""
    left = (kernel_size - 1) * dilation + 1 - stride
    right = -len(row) % stride
    if mode == ZERO:
        return np.pad(row, ((left, right), (0, 0)))
    if mode == REPLICATE:
        return np.pad(row, ((left, right), (0, 0)), mode="edge")
    more = max(max(left, right) + 1 - len(row), 0)
    padded = np.pad(np.pad(row, ((0, more), (0, 0))), ((left, right), (0, 0)), mode="reflect")
    return padded[: len(padded) - more]


def by_numpy(row, params, kernel_size, stride, dilation, mode):
    padded = padded_by_numpy(row, kernel_size, stride, dilation, mode).astype(np.float64)
    span = (kernel_size - 1) * dilation + 1
    frames = [
        np.einsum("kc,kcf->f", padded[start : start + span : dilation], params["kernel"])
        for start in range(0, len(padded) - span + 1, stride)
    ]
    return np.stack(frames) + params["bias"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_recording_alone(shape, mode):
    module, params, _ = conv(*shape, mode)
    run = jax.jit(module.apply)
    for length in (1, 4, 5, 23):
        x = noise(1, length, WIDTH)
        ours = run({"params": params}, x)[0]
        assert len(ours) == -(-length // shape[1])
        np.testing.assert_allclose(ours, by_numpy(x[0], params, *shape, mode), atol=1e-5, err_msg=str(length))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_a_padded_batch_are_those_alone(shape, mode):
    module, params, _ = conv(*shape, mode)
    lengths = np.int32([23, 1, 2, 3, 8, 9, 12, 17])
    x = 9 + noise(len(lengths), 23, WIDTH)
    ours = jax.jit(module.apply)({"params": params}, x, lengths)
    for row, length, result in zip(x, lengths, ours, strict=True):
        wanted = by_numpy(row[:length], params, *shape, mode)
        np.testing.assert_allclose(result[: len(wanted)], wanted, atol=2e-5, err_msg=str(length))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_windows_together_are_the_whole(shape, mode):
    _, params, run = conv(*shape, mode)
    stride = shape[1]
    # Of every row the last window holds another share, down to one step: what it reflects is in the window before.
    lengths = np.int32([3 * WINDOW, 2 * WINDOW + 1, 2 * WINDOW + 2, 2 * WINDOW + 5, 2 * WINDOW, WINDOW + 1, 2])
    x = noise(len(lengths), 3 * WINDOW, WIDTH)
    state = start_state(conv(*shape, mode)[0], params, x[:, :WINDOW], lengths)
    parts = []
    for begin in range(0, 3 * WINDOW, WINDOW):
        counted = np.clip(lengths - begin, 0, WINDOW)
        part, after = run(state, x[:, begin : begin + WINDOW], counted, begin == 0)
        state = after.get(STREAM, {})
        parts.append(part)
    ours = np.concatenate(parts, axis=1)
    for row, length, result in zip(x, lengths, ours, strict=True):
        wanted = by_numpy(row[:length], params, *shape, mode)
        assert len(wanted) == -(-length // stride)
        np.testing.assert_allclose(result[: len(wanted)], wanted, atol=1e-5, err_msg=str(length))


def test_a_waveform_without_a_bias():
    """One channel runs other code than many."""
    module = Conv(FEATURES, 7, pad_mode=REFLECT, use_bias=False)
    x = noise(2, 20, 1)
    params = {"kernel": noise(7, 1, FEATURES)}
    for row, ours in zip(x, module.apply({"params": params}, x), strict=True):
        wanted = by_numpy(row, {"kernel": params["kernel"], "bias": 0.0}, 7, 1, 1, REFLECT)
        np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_left_edge_of_a_row_that_ends_in_it():
    x = jnp.arange(1.0, 7.0)[None, :, None]
    edge = left_edge(jnp.repeat(x, 2, axis=0), 4, REFLECT, jnp.int32([6, 3]))
    np.testing.assert_array_equal(edge[..., 0], [[5, 4, 3, 2], [0, 0, 3, 2]])


def test_ends_round_up():
    np.testing.assert_array_equal(ends(jnp.int32([1, 4, 5]), 4), [1, 1, 2])
    assert ends(None, 4) is None


@pytest.mark.parametrize("stride", [2, 5])
def test_transposed_convolution(stride):
    module = UpConv(FEATURES, stride)
    x, theirs = noise(2, 6, WIDTH), noise(WIDTH, FEATURES, 2 * stride)
    params = {"kernel": folded_transposed(stride).read(theirs), "bias": noise(FEATURES)}
    # A transposed convolution is one of the input with zeros between its steps, by the kernel backwards.
    wanted = jax.lax.conv_general_dilated(
        x, theirs[:, :, ::-1].transpose(2, 0, 1), (1,), ((2 * stride - 1, 2 * stride - 1),), lhs_dilation=(stride,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )  # fmt: skip
    wanted = wanted[:, : 6 * stride] + params["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, x), wanted, atol=1e-5)
    np.testing.assert_array_equal(folded_transposed(stride).write(params["kernel"]), theirs)

    state, parts = start_state(module, params, x[:, :2]), []
    for begin in range(0, 6, 2):
        cut = Cut(is_window=True, is_first=begin == 0)
        part, after = module.apply({"params": params, STREAM: state}, x[:, begin : begin + 2], cut, mutable=[STREAM])
        state = after[STREAM]
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, atol=1e-5)
