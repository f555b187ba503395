"""Unigrams and bigrams of target tokens, against probabilities written out by hand."""

import numpy as np
import pytest

from audiolm_jax.evaluation.language.ngrams import NOTHING, LevelTokens, Ngrams, level_tokens, own_unigram_nats
from audiolm_jax.evaluation.language.perplexity import stage_batches
from audiolm_jax.evaluation.sound.code_usage import unbiased_entropy_nats
from audiolm_jax.lm.stage_model import legal_ids
from tests.data.tiny_records import STAGES, make_record
from tests.evaluation.counted_figures import target_counts

SEMANTIC, COARSE, FINE = STAGES
RECORDS = [make_record(f"a/{n}", "a", samples, n) for n, samples in enumerate((320, 39_000, 17_111))]


def tokens(*sequences):
    """Sequences of ids as tokens of one level, each beginning anew."""
    previous = [before for sequence in sequences for before in (NOTHING, *sequence[:-1])]
    owners = [owner for owner, sequence in enumerate(sequences) for _ in sequence]
    return LevelTokens(np.array(previous), np.array([i for s in sequences for i in s]), np.array(owners))


def test_witten_bell_by_hand():
    legal = np.array([True, True, True, False])
    ngrams = Ngrams.count(tokens([0, 1, 0, 1, 0, 2], [1, 1]), legal)
    unigram = np.array([3 + 1, 4 + 1, 1 + 1]) / (8 + 3)
    np.testing.assert_allclose(ngrams.unigram_nats(tokens([2, 0, 1])), -np.log(unigram[[2, 0, 1]]))
    # After 0 came 1, 1 and 2: three tokens of two types. After 1 came 0, 0 and 1. After 2 nothing ever came.
    after_0 = (np.array([0, 2, 1]) + 2 * unigram) / 5
    after_1 = (np.array([2, 1, 0]) + 2 * unigram) / 5
    found = ngrams.bigram_nats(tokens([0, 1, 1, 2, 0, 0, 2], [1]))
    expected = [unigram[0], after_0[1], after_1[1], after_1[2], unigram[0], after_0[0], after_0[2], unigram[1]]
    np.testing.assert_allclose(found, -np.log(expected))
    for context in (NOTHING, 0, 1, 2):
        following = LevelTokens(np.full(3, context), np.arange(3), np.zeros(3, int))
        assert np.exp(-ngrams.bigram_nats(following)).sum() == pytest.approx(1)


def test_without_training_tokens_all_legal_ids_are_alike():
    nothing = LevelTokens(*(np.zeros(0, np.int32) for _ in range(3)))
    ngrams = Ngrams.count(nothing, np.array([False, True, True, True]))
    np.testing.assert_allclose(ngrams.unigram_nats(tokens([1, 2])), np.log(3))
    np.testing.assert_allclose(ngrams.bigram_nats(tokens([1, 2])), np.log(3))


def test_bigrams_tell_order_from_chance():
    rng = np.random.default_rng(0)
    cycle, noise = np.arange(4000) % 8, rng.integers(0, 8, 4000)
    ngrams = Ngrams.count(tokens(cycle), np.ones(8, bool))
    assert ngrams.bigram_nats(tokens(cycle[:100])).mean() < 0.05
    assert ngrams.bigram_nats(tokens(noise[:100])).mean() > np.log(8)
    ngrams = Ngrams.count(tokens(noise), np.ones(8, bool))
    assert ngrams.bigram_nats(tokens(rng.integers(0, 8, 2000))).mean() == pytest.approx(np.log(8), abs=0.02)


def test_own_frequencies_are_the_entropy():
    """Of tokens that occur three times or more nothing is hidden but the bias of logarithms; rare codes hide more."""
    level = tokens([3, 3, 4, 1] * 50)
    frequencies = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))
    assert own_unigram_nats(level, np.ones(8, bool)).mean() == pytest.approx(frequencies + 2 / (2 * 200), abs=1e-3)
    counts = np.bincount([3, 3, 4, 1], minlength=8)
    few = own_unigram_nats(tokens([3, 3, 4, 1]), np.ones(8, bool))
    assert few.mean() == pytest.approx(unbiased_entropy_nats(counts)) and few.mean() > frequencies + 0.3
    assert few[0] == few[1] and few[2] - few[0] == pytest.approx(np.log(2))
    # What may not stand at this level is no code that was missed.
    assert own_unigram_nats(tokens([3, 3, 4, 1]), np.arange(8) < 5).mean() <= np.log(5)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_tokens_are_those_of_the_batches(stage):
    levels = level_tokens(stage, RECORDS)
    counts = target_counts(stage, stage_batches(RECORDS, stage, 3))
    size = legal_ids(stage).legal.shape[1]
    for level, expected in zip(levels, counts, strict=True):
        np.testing.assert_array_equal(np.bincount(level.current, minlength=size), expected)


def test_the_token_before_is_of_the_frame_before_and_crops_begin_anew():
    record = RECORDS[1]
    levels = level_tokens(FINE, [record])
    codes = record.acoustic_tokens
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(level.current, codes[:, 2 + number])
        expected = np.concatenate([[NOTHING], codes[:-1, 2 + number]])
        expected[::10] = NOTHING  # crops of 0.2 s at 50 Hz
        np.testing.assert_array_equal(level.previous, expected)
    owners = level_tokens(COARSE, RECORDS)[0].owner
    np.testing.assert_array_equal(np.bincount(owners), [len(r.acoustic_tokens) for r in RECORDS])


def test_semantic_tokens_are_collapsed_and_ended():
    level = level_tokens(SEMANTIC, RECORDS[1:2])[0]
    assert level.current[-1] == 1  # EOS
    repeats = (level.previous == level.current).sum()
    assert repeats == 0 and (level.previous == NOTHING).sum() == 3  # 61 frames in crops of 25


def test_no_records_give_no_tokens():
    assert [len(level.current) for level in level_tokens(FINE, [])] == [0, 0]
