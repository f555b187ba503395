"""Packed tokens are the tokens, whole and in parts, in as few bytes as they need."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiolm_jax.tokens.packed_tokens import PackedTokens

EDGES = st.one_of(st.none(), st.integers(-15, 15))


@given(st.integers(0, 12), st.integers(0, 40), st.integers(1, 25), st.tuples(EDGES, EDGES, EDGES, EDGES))
def test_any_part_is_that_of_the_tokens(num_frames, num_levels, bits, edges):
    tokens = np.random.default_rng(bits).integers(0, 1 << bits, (num_frames, num_levels))
    packed = PackedTokens.of(tokens)
    assert packed.shape == tokens.shape and len(packed) == num_frames
    np.testing.assert_array_equal(np.asarray(packed), tokens)
    frames, levels = slice(*edges[:2]), slice(*edges[2:])
    part = packed[frames, levels]
    assert part.dtype == np.int32
    np.testing.assert_array_equal(part, tokens[frames, levels])
    again = PackedTokens.from_bytes(packed.rows.tobytes(), packed.shape, packed.bits)
    np.testing.assert_array_equal(again, tokens)


def test_a_token_has_the_bits_that_the_highest_needs():
    tokens = np.full((50, 12), 1023)
    assert PackedTokens.of(tokens).rows.nbytes == 50 * 12 * 10 // 8
    tokens[3, 3] = 1024
    assert PackedTokens.of(tokens).rows.shape == (50, 17)  # 132 bits, from a whole byte on
    assert PackedTokens.of(np.zeros((2, 9), int)).rows.shape == (2, 2)


def test_tokens_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="got -1 to 0"):
        PackedTokens.of(np.array([[0, -1]]))
    with pytest.raises(ValueError, match="got 0 to 33554432"):
        PackedTokens.of(np.array([[0, 1 << 25]]))
    for shape, bits in (((2, 4), 10), ((1, 1), 0), ((1, 1), 26)):
        with pytest.raises(ValueError):
            PackedTokens.from_bytes(b"xxxx", shape, bits)
