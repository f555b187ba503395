"""How the codes of a codec, or any discrete tokens, are used: counts, entropy and perplexity."""

import numpy as np


def code_counts(tokens: np.ndarray, codebook_size: int) -> np.ndarray:
    """How often each code of each level occurs: tokens int[..., Q] -> int64[Q, N].

    Raises:
        ValueError: a token lies outside 0 .. N - 1.
    """
    tokens = np.asarray(tokens)
    rows = tokens.reshape(-1, tokens.shape[-1])
    if rows.size and (rows.min() < 0 or rows.max() >= codebook_size):
        raise ValueError(f"tokens must lie in 0..{codebook_size - 1}, got {rows.min()}..{rows.max()}")
    return np.stack([np.bincount(column, minlength=codebook_size) for column in rows.T])


def code_usage(counts: np.ndarray) -> np.ndarray:
    """Share of the codes that occur at all: counts int[..., N] -> float64[...]."""
    return np.mean(np.asarray(counts) > 0, axis=-1)


def entropy_nats(counts: np.ndarray) -> np.ndarray:
    """Entropy of the relative frequencies, in nats: counts int[..., N] -> float64[...]; 0 where there are none."""
    counts = np.asarray(counts, np.float64)
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=-1)


def unbiased_entropy_nats(counts: np.ndarray) -> float:
    """Estimated entropy of the distribution that counts int[N] were drawn from, in nats; 0 where there are none.

    The entropy of the frequencies themselves is too low by about (codes - 1) / (2 tokens) while tokens are many, and
    by far more where many codes have not occurred yet. This is the estimator of Chao, Wang and Jost (2013), which adds
    what the codes that occurred once and twice tell of those that have not. It is at most log N.
    """
    counts = np.asarray(counts, np.int64)
    seen = counts[counts > 0]
    total = int(seen.sum())
    if total < 2:
        return 0.0
    # sum of c / n (H(n - 1) - H(c - 1)) with harmonic numbers H: right but for codes that never occurred.
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total))])
    entropy = float(np.sum(seen / total * (harmonic[total - 1] - harmonic[seen - 1])))
    once, twice = int(np.sum(counts == 1)), int(np.sum(counts == 2))
    if once:
        entropy += once / total * _tail(total, _share_of_rare(total, once, twice))
    return min(entropy, float(np.log(counts.size)))


def _share_of_rare(total: int, once: int, twice: int) -> float:
    """Estimated share of a code that occurred once, by Good and Turing."""
    if twice:
        return 2 * twice / ((total - 1) * once + 2 * twice)
    return 2 / ((total - 1) * (once - 1) + 2)


def _tail(total: int, share: float) -> float:
    """The sum of (1 - a)^j / (n - 1 + j) over j > 0, or (1 - a)^(1 - n) (-log a - sum of (1 - a)^r / r over r < n)."""
    if share >= 1:
        return 0.0
    if share * total < 1:  # the series would be long, and the closed form loses no digits
        powers = np.arange(1, total)
        rest = -np.log(share) - np.sum(np.exp(powers * np.log1p(-share)) / powers)
        return float(np.exp((1 - total) * np.log1p(-share)) * rest)
    terms = np.arange(1, int(40 / share) + 2)  # e^-40 is left
    return float(np.sum(np.exp(terms * np.log1p(-share)) / (total - 1 + terms)))


def code_perplexity(counts: np.ndarray) -> np.ndarray:
    """exp(entropy): the number of equally likely codes that would be as varied, at most N."""
    return np.exp(entropy_nats(counts))
