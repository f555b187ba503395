"""Ids are disjoint, reversible, and legal only where a whole frame needs them; on NumPy and inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_jax.tokens.layout import (
    ACOUSTIC,
    ACOUSTIC_STREAM,
    EOS,
    PAD,
    SEMANTIC,
    SEMANTIC_STREAM,
    SPECIAL_STREAM,
    TokenLayout,
)

layouts = st.builds(
    lambda semantic, size, levels: TokenLayout(semantic, size * (levels > 0), levels),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 6),
)
acoustic_layouts = st.builds(TokenLayout, st.integers(0, 40), st.integers(1, 20), st.integers(1, 6))


@given(layouts)
def test_ranges_are_disjoint_and_cover_the_vocabulary(layout):
    ids = [i for part in layout.ranges for i in range(part.start, part.stop)]
    assert sorted([PAD, EOS, *ids]) == list(range(layout.vocab_size))
    assert layout.padded_vocab_size % 128 == 0
    assert 0 <= layout.padded_vocab_size - layout.vocab_size < 128


@given(layouts)
def test_every_id_decodes_to_what_encodes_to_it(layout):
    ids = np.arange(layout.vocab_size)
    stream, level, code = layout.decode(ids)
    assert list(stream[:2]) == [SPECIAL_STREAM] * 2 and list(code[:2]) == [PAD, EOS]
    for part in layout.ranges:
        inside = slice(part.start, part.stop)
        number = SEMANTIC_STREAM if part.stream == SEMANTIC else ACOUSTIC_STREAM
        assert set(stream[inside]) == {number} and set(level[inside]) == {part.level}
        np.testing.assert_array_equal(layout.encode(part.stream, part.level, code[inside]), ids[inside])
    assert code.min() >= 0


def test_jit_gives_what_numpy_gives():
    layout = TokenLayout(5, 4, 3)
    ids = np.arange(layout.vocab_size)
    for ours, theirs in zip(layout.decode(ids), jax.jit(layout.decode)(ids), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert theirs.dtype == jnp.int32
    codes = np.array([[[0, 1], [2, 3], [3, 0]]])
    flat = layout.encode_frames(ACOUSTIC, codes, 1)
    np.testing.assert_array_equal(flat, jax.jit(lambda c: layout.encode_frames(ACOUSTIC, c, 1))(codes))
    np.testing.assert_array_equal(codes, jax.jit(lambda i: layout.decode_frames(ACOUSTIC, i, 1, 2))(flat))
    for allow_eos in (True, False, np.array([True, False, True])):
        ours = layout.allowed(ACOUSTIC, np.arange(3), 1, 2, allow_eos)
        theirs = jax.jit(lambda p, e: layout.allowed(ACOUSTIC, p, 1, 2, e))(np.arange(3), allow_eos)
        np.testing.assert_array_equal(ours, theirs)


@given(acoustic_layouts, st.integers(0, 7), st.data())
def test_frames_flatten_time_major_and_come_back(layout, num_frames, data):
    first = data.draw(st.integers(0, layout.num_quantizers - 1))
    num_levels = data.draw(st.integers(1, layout.num_quantizers - first))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    codes = rng.integers(0, layout.codebook_size, (2, num_frames, num_levels))
    ids = layout.encode_frames(ACOUSTIC, codes, first)
    assert ids.shape == (2, num_frames * num_levels)
    if num_frames:
        level = layout.decode(ids).level[0, :num_levels]
        assert list(level) == list(range(first, first + num_levels))
    np.testing.assert_array_equal(layout.decode_frames(ACOUSTIC, ids, first, num_levels), codes)


@settings(max_examples=30)
@given(acoustic_layouts, st.booleans(), st.data())
def test_whatever_is_sampled_under_the_mask_is_whole_frames(layout, allow_eos, data):
    first = data.draw(st.integers(0, layout.num_quantizers - 1))
    num_levels = layout.num_quantizers - first
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ids = []
    for position in range(3 * num_levels):
        allowed = np.flatnonzero(layout.allowed(ACOUSTIC, position, first, num_levels, allow_eos))
        assert PAD not in allowed and allowed.max() < layout.vocab_size
        assert (EOS in allowed) == (allow_eos and position % num_levels == 0)
        ids.append(rng.choice(allowed))
        if ids[-1] == EOS:
            break
    body = [i for i in ids if i != EOS]
    assert len(body) % num_levels == 0
    codes = layout.decode_frames(ACOUSTIC, np.array(body, np.int32), first, num_levels)
    assert codes.size == 0 or (codes.min() >= 0 and codes.max() < layout.codebook_size)


def test_split_drops_eos_and_padding_once():
    layout = TokenLayout(8, 4, 2)
    prefix = layout.encode(SEMANTIC, 0, np.array([7, 0, 3]))
    frames = np.array([[1, 2], [3, 0]])
    target = layout.encode_frames(ACOUSTIC, frames)
    for tail, ended in (([], False), ([PAD, PAD], False), ([EOS], True), ([EOS, 5, PAD], True)):
        found = layout.split(np.concatenate([prefix, target, np.array(tail, np.int32)]))
        assert list(found.semantic) == [7, 0, 3] and found.ended == ended
        np.testing.assert_array_equal(found.acoustic, frames)


def test_split_joins_coarse_and_fine_levels():
    layout = TokenLayout(0, 4, 5)
    codes = np.random.default_rng(0).integers(0, 4, (6, 5))
    parts = [layout.encode_frames(ACOUSTIC, codes[:, :2]), layout.encode_frames(ACOUSTIC, codes[:, 2:], 2)]
    ids = np.concatenate(parts)
    np.testing.assert_array_equal(layout.split(ids).acoustic, codes)
    with pytest.raises(ValueError, match="incomplete frames"):
        layout.split(ids[:-1])


def test_mistakes_raise():
    layout = TokenLayout(8, 4, 2)
    with pytest.raises(ValueError, match="codes must lie"):
        layout.encode(SEMANTIC, 0, np.array([8]))
    with pytest.raises(ValueError, match="codes must lie"):
        layout.encode(ACOUSTIC, 0, np.array([-1]))
    with pytest.raises(ValueError, match="levels must lie"):
        layout.encode(ACOUSTIC, 2, np.array([0]))
    with pytest.raises(ValueError, match="ids must lie"):
        layout.decode(np.array([layout.vocab_size]))
    with pytest.raises(ValueError, match="not whole frames"):
        layout.decode_frames(ACOUSTIC, np.array([10, 14, 11]), 0, 2)
    with pytest.raises(ValueError, match="not acoustic frames"):
        layout.decode_frames(ACOUSTIC, np.array([14, 10]), 0, 2)
    with pytest.raises(ValueError, match="no acoustic stream"):
        TokenLayout(8).encode(ACOUSTIC, 0, np.array([0]))
    with pytest.raises(ValueError, match="unknown stream"):
        layout.num_levels("text")
    for wrong in ((0, 0, 0), (8, 4, 0), (8, 0, 2), (-1, 4, 2)):
        with pytest.raises(ValueError):
            TokenLayout(*wrong)
