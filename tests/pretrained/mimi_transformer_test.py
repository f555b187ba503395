"""The sliding attention of Mimi against one that scores every pair of steps, whole and in windows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.pretrained.mimi.mimi_transformer import SlidingAttention, turns
from audiolm_jax.pretrained.stream import STREAM, WHOLE, Cut

HEADS, HEAD_DIM, WINDOW, WIDTH, BASE = 2, 4, 6, 5, 50.0
ATTENTION = SlidingAttention(HEADS, HEAD_DIM, WINDOW)


def parameters():
    """Kernels at which attention is far from even."""
    x, angles = jnp.zeros((1, 1, WIDTH)), turns(jnp.arange(1), HEAD_DIM, BASE)
    shapes = jax.eval_shape(lambda: nn.unbox(ATTENTION.init(jax.random.key(0), x, angles, 0, WHOLE))["params"])
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda shape: rng.normal(size=shape.shape).astype(np.float32), shapes)


def recording(steps):
    return np.random.default_rng(0).normal(size=(2, steps, WIDTH)).astype(np.float32)


@jax.jit
def whole(params, x):
    angles = turns(jnp.arange(x.shape[1]), HEAD_DIM, BASE)
    return ATTENTION.apply({"params": params}, x, angles, 0, WHOLE)


@jax.jit
def part(params, state, x, begin):
    cut = Cut(is_window=True, is_first=begin == 0)
    angles = turns(begin + jnp.arange(x.shape[1]), HEAD_DIM, BASE)
    return ATTENTION.apply({"params": params, STREAM: state}, x, angles, begin, cut, mutable=[STREAM])


def every_pair(params, x):
    """The same by its definition."""
    split = (*x.shape[:2], HEADS, HEAD_DIM)
    query, key, value = ((x @ params[name]["kernel"]).reshape(split) for name in ("query", "key", "value"))
    # Coordinates i and i + HEAD_DIM / 2 are one complex number.
    half = HEAD_DIM // 2
    speeds = BASE ** (-2 * np.arange(half) / HEAD_DIM)
    turn = np.exp(1j * np.arange(x.shape[1])[:, None] * speeds)[:, None]
    query, key = ((each[..., :half] + 1j * each[..., half:]) * turn for each in (query, key))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key.conj()).real / HEAD_DIM**0.5
    behind = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1])
    weights = np.exp(np.where((behind >= 0) & (behind < WINDOW), scores, -np.inf))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*x.shape[:2], -1) @ params["out"]["kernel"]


@pytest.mark.parametrize("steps", [6, 20])
def test_a_whole_recording(steps):
    x, params = recording(steps), parameters()
    np.testing.assert_allclose(whole(params, x), every_pair(params, x), atol=1e-4)


@pytest.mark.parametrize("window", [1, 9])
def test_windows_of_a_recording(window):
    x, params = recording(36), parameters()
    past = np.zeros((2, WINDOW, HEADS, HEAD_DIM), np.float32)
    state, parts = {"keys": past, "values": past}, []
    for begin in range(0, 36, window):
        made, after = part(params, state, x[:, begin : begin + window], begin)
        state = after[STREAM]
        parts.append(np.asarray(made))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), every_pair(params, x), atol=1e-4)


def test_long_recordings_have_no_score_for_every_pair():
    steps = 50 * WINDOW
    program = jax.make_jaxpr(whole)(parameters(), recording(steps)).jaxpr.eqns[0].params["jaxpr"]
    sizes = [out.aval.size for equation in program.eqns for out in equation.outvars]
    assert max(sizes) <= 2 * HEADS * steps * 2 * WINDOW
