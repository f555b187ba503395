"""Counts and perplexity of codes."""

import numpy as np
import pytest

from audiolm_jax.evaluation.code_usage import code_counts, code_perplexity, code_usage, entropy_nats


def test_code_statistics():
    tokens = np.stack([np.arange(8) % 4, np.zeros(8, int)], axis=-1)[None]  # [1, 8, 2]
    counts = code_counts(tokens, 8)
    np.testing.assert_array_equal(counts[0], [2, 2, 2, 2, 0, 0, 0, 0])
    np.testing.assert_allclose(code_usage(counts), [0.5, 0.125])
    np.testing.assert_allclose(code_perplexity(counts), [4, 1])
    np.testing.assert_allclose(entropy_nats(counts), [np.log(4), 0])
    assert entropy_nats(np.zeros(4)) == 0
    with pytest.raises(ValueError, match="0..3"):
        code_counts(tokens + 1, 4)
