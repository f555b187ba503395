"""Counts and perplexity of codes."""

import math

import numpy as np
import pytest

from audiolm_jax.evaluation.sound.code_usage import (
    code_counts,
    code_perplexity,
    code_usage,
    entropy_nats,
    unbiased_entropy_nats,
)


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


def chao_wang_jost(counts) -> float:
    """The estimator as it is printed, term by term (Methods in Ecology and Evolution 4, 2013, equation 7)."""
    counts = [int(count) for count in counts if count]
    total, once, twice = sum(counts), counts.count(1), counts.count(2)
    entropy = sum(x / total * sum(1 / k for k in range(x, total)) for x in counts)
    if not once:
        return entropy
    if twice:
        share = 2 * twice / ((total - 1) * once + 2 * twice)
    else:
        share = 2 / ((total - 1) * (once - 1) + 2)
    if share == 1:
        return entropy
    rest = -math.log(share) - sum((1 - share) ** r / r for r in range(1, total))
    return entropy + once / total * (1 - share) ** (1 - total) * rest


@pytest.mark.parametrize(
    "counts", [[2, 1, 1, 0], [5, 3, 1], [1, 1, 1, 1, 0, 0, 0, 0], [4, 2, 2, 2, 1], [7, 7], [1, 9], [3, 2] * 4 + [1]]
)
def test_the_corrected_entropy_is_the_published_estimator(counts):
    padded = np.array([*counts, *[0] * 40])
    assert unbiased_entropy_nats(padded) == pytest.approx(min(chao_wang_jost(counts), np.log(len(padded))), rel=1e-9)


def test_the_corrected_entropy_is_bounded_by_the_codes_there_are():
    assert unbiased_entropy_nats(np.ones(8)) == np.log(8)
    assert unbiased_entropy_nats(np.zeros(8)) == unbiased_entropy_nats([1, 0]) == 0
    assert unbiased_entropy_nats([1000, 0]) == pytest.approx(0, abs=1e-12)
    assert np.isfinite(unbiased_entropy_nats([1, *[2] * 500, 10_000]))


@pytest.mark.parametrize("num_codes, num_tokens, most", [(16384, 20_000, 0.05), (16384, 5000, 0.2), (1024, 5000, 0.03)])
def test_few_tokens_of_many_codes_have_the_entropy_of_their_distribution(num_codes, num_tokens, most):
    """Flat, uneven and Zipf's: the frequencies alone are 0.3 to 1.4 nats too low for the larger codebook."""
    rng = np.random.default_rng(0)
    for weights in (np.ones(num_codes), rng.gamma(1, size=num_codes), 1 / np.arange(1, num_codes + 1) ** 0.5):
        shares = weights / weights.sum()
        true = -np.sum(shares * np.log(shares))
        counts = rng.multinomial(num_tokens, shares)
        assert unbiased_entropy_nats(counts) == pytest.approx(true, abs=most)
        assert true - entropy_nats(counts) > (0.3 if num_codes > 1024 else 0.08)
