"""Tokens of a recording do not depend on what it is computed with."""

import numpy as np
import pytest

from audiolm_jax.tokens import tokenizers as modules
from audiolm_jax.tokens.tokenizers import batch_tokens, padded_samples
from tests.tokens.tiny_tokenizers import load


@pytest.fixture(scope="module")
def tokenizers():
    return load()


def sounds(*lengths):
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.5, 0.5, length).astype(np.float32) for length in lengths]


def test_companions_and_empty_rows_change_nothing(tokenizers):
    rows = sounds(16_000, 3000, 9000)
    together = batch_tokens(tokenizers, rows, rows, batch_size=4)
    turned = batch_tokens(tokenizers, rows[::-1], rows[::-1], batch_size=4)[::-1]
    alone = [batch_tokens(tokenizers, [row], [row], batch_size=4)[0] for row in rows]
    for row, *found in zip(rows, together, turned, alone, strict=True):
        for acoustic, semantic in found:
            assert acoustic.shape == (-(-len(row) // 320), 3) and len(semantic) == -(-len(row) // 640)
            np.testing.assert_array_equal(acoustic, found[0][0])
            np.testing.assert_array_equal(semantic, found[0][1])


def test_long_recordings_are_encoded_in_windows_with_the_same_tokens(tokenizers, monkeypatch):
    rows = sounds(40_001)
    whole = batch_tokens(tokenizers, rows, rows, 1)
    monkeypatch.setattr(modules, "WHOLE_SECONDS", 1.0)
    windows = batch_tokens(tokenizers, rows, rows, 1)
    np.testing.assert_array_equal(windows[0][0], whole[0][0])
    np.testing.assert_array_equal(windows[0][1], whole[0][1])


def test_padded_lengths_are_few_and_hold_the_audio():
    found = set()
    for num_samples in [1, 319, 16_000, 16_001, *range(20_000, 640_001, 1237), 639_999, 640_000]:
        length = padded_samples(num_samples, 16_000, 320)
        assert length % 320 == 0 and num_samples <= length <= max(16_000, num_samples * 1.25) + 320
        found.add(length)
    assert len(found) == 18 and max(found) == 640_000
    assert padded_samples(640_001, 16_000, 320) == padded_samples(10**8, 16_000, 320) == 640_320
