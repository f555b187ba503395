"""The order of examples: a permutation in each pass, fair to speakers, with exact shares of corpora."""

from collections import Counter

import pytest

from audiolm_jax.data.order import MIXTURE_BLOCK, ExampleOrder, hash_bits, hash_uniform, shuffled

SPEAKERS = ("a",) * 7 + ("b",) * 2 + ("c",)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 217, 4097])
def test_shuffles_are_permutations_that_differ_by_index(size):
    passes = [[shuffled(position, size, 3, "test", number) for position in range(size)] for number in range(3)]
    assert all(sorted(found) == list(range(size)) for found in passes)
    assert size < 5 or passes[0] != passes[1] != passes[2]


def test_every_position_is_as_likely():
    counts = Counter(shuffled(0, 5, 0, "test", number) for number in range(5000))
    assert min(counts.values()) > 900 and max(counts.values()) < 1100


def test_hashes_are_the_same_for_ever():
    # Written down once: a change would silently give other splits and orders to old runs.
    assert hash_bits(0, "heldout", "ls19") == 0xEA2FA375D26EF8BE
    assert 0 <= hash_uniform(1, "crop", 5) < 1


def test_balanced_order_gives_every_speaker_a_turn_in_each_pass():
    order = ExampleOrder((SPEAKERS,), seed=1)
    items = [order.item(0, n) for n in range(3 * 14)]
    for start in range(0, len(items), 3):
        assert sorted(SPEAKERS[item] for item in items[start : start + 3]) == ["a", "b", "c"]
    # In seven passes the speaker with seven recordings was heard with all of them.
    assert {item for item in items[:21] if item < 7} == set(range(7))


def test_unbalanced_order_gives_every_recording_once_in_each_pass():
    order = ExampleOrder((SPEAKERS,), seed=1, balance_speakers=False)
    first, second = ([order.item(0, n) for n in range(start, start + 10)] for start in (0, 10))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_corpora_are_mixed_by_their_weights_and_each_keeps_its_own_order():
    order = ExampleOrder((SPEAKERS, ("x", "y")), seed=4, weights=(1.0, 3.0))
    slots = [order.slot(index) for index in range(2 * MIXTURE_BLOCK)]
    assert Counter(corpus for corpus, _ in slots) == {0: MIXTURE_BLOCK // 2, 1: 3 * MIXTURE_BLOCK // 2}
    for corpus in (0, 1):
        ordinals = [ordinal for found, ordinal in slots if found == corpus]
        assert ordinals == list(range(len(ordinals)))
    assert [order.shares[0] / sum(order.shares), order.shares[1]] == [0.25, 0.75 * MIXTURE_BLOCK]


def test_default_shares_are_by_speakers_or_recordings():
    assert ExampleOrder((SPEAKERS, ("x",))).shares == (768.0, 256.0)
    shares = ExampleOrder((SPEAKERS, ("x",)), balance_speakers=False).shares
    assert shares[1] == round(MIXTURE_BLOCK / 11) and sum(shares) == MIXTURE_BLOCK


def test_mistakes_raise():
    with pytest.raises(ValueError, match="at least one item"):
        ExampleOrder(((),))
    with pytest.raises(ValueError, match="positive weights"):
        ExampleOrder((SPEAKERS,), weights=(0.0,))
    with pytest.raises(ValueError, match="outside"):
        shuffled(5, 5, 0, "test")
