"""Token health: how many codes are used, how evenly, and how long a semantic token lasts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from audiolm_jax.evaluation.sound.code_usage import code_counts, code_perplexity, code_usage, entropy_nats
from audiolm_jax.tokens.alignment import collapse


def stream_usage(stream: str, tokens: Sequence[np.ndarray], num_codes: int) -> list[dict[str, Any]]:
    """One row for each level of a stream.

    Args:
        stream: its name, for the rows.
        tokens: int[T, Q] of every recording, repeats kept.
        num_codes: codes of every level.

    Returns:
        Rows with stream, level, num_tokens, num_codes, share_in_use (codes that occur at all), entropy_nats,
        perplexity (exp of the entropy: as varied as so many equally likely codes) and most_frequent_share.

    Raises:
        ValueError: there are no tokens, or one lies outside 0 .. num_codes - 1.
    """
    frames = np.concatenate([np.asarray(part) for part in tokens])
    if not len(frames):
        raise ValueError(f"there are no {stream} tokens")
    counts = code_counts(frames, num_codes)
    columns = {
        "share_in_use": code_usage(counts),
        "entropy_nats": entropy_nats(counts),
        "perplexity": code_perplexity(counts),
        "most_frequent_share": counts.max(axis=1) / len(frames),
    }
    return [
        {
            "stream": stream,
            "level": level,
            "num_tokens": len(frames),
            "num_codes": num_codes,
            **{name: float(column[level]) for name, column in columns.items()},
        }
        for level in range(len(counts))
    ]


class Runs(NamedTuple):
    """Neighbouring equal tokens of one recording: its frames, and the runs that they make."""

    frames: int
    runs: int


def token_runs(tokens: np.ndarray) -> Runs:
    """Runs of int[T]; frames / runs is the mean length of a run, 1 - runs / frames the share of repeats."""
    return Runs(len(tokens), len(collapse(tokens)[0]))
