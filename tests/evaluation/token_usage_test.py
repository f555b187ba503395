"""How tokens are used, against counts by hand."""

import numpy as np
import pytest

from audiolm_jax.evaluation.language.token_usage import stream_usage, token_runs


def test_rows_by_level():
    rows = stream_usage("acoustic", [np.array([[0, 1], [0, 2]]), np.array([[0, 3], [4, 0]])], 8)
    assert [(row["stream"], row["level"], row["num_tokens"], row["num_codes"]) for row in rows] == [
        ("acoustic", 0, 4, 8), ("acoustic", 1, 4, 8),
    ]  # fmt: skip
    assert [row["share_in_use"] for row in rows] == [2 / 8, 4 / 8]
    assert [row["most_frequent_share"] for row in rows] == [3 / 4, 1 / 4]
    assert rows[1]["perplexity"] == pytest.approx(4) and rows[1]["entropy_nats"] == pytest.approx(np.log(4))
    assert rows[0]["entropy_nats"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))


def test_nothing_and_strange_codes_are_errors():
    with pytest.raises(ValueError, match="no semantic tokens"):
        stream_usage("semantic", [np.zeros((0, 1), int)], 8)
    with pytest.raises(ValueError, match="0..7"):
        stream_usage("semantic", [np.array([[8]])], 8)


def test_runs():
    assert token_runs(np.array([5, 5, 5, 2, 5])) == (5, 3)
    assert token_runs(np.zeros(0, int)) == (0, 0)
