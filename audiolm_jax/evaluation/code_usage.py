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


def code_perplexity(counts: np.ndarray) -> np.ndarray:
    """exp(entropy): the number of equally likely codes that would be as varied, at most N."""
    return np.exp(entropy_nats(counts))
