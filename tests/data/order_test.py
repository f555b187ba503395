"""The order of examples: a permutation in each pass, fair to speakers, with exact shares of corpora."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from audiolm_jax.data.feed.order import MIXTURE_BLOCK, ExampleOrder, hash_bits, hash_uniform, shuffled, speaker_ids
from audiolm_jax.errors import UserError

SPEAKERS = ("a",) * 7 + ("b",) * 2 + ("c",)
IDS = speaker_ids(SPEAKERS)


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


def test_orders_are_the_same_for_ever():
    # Written down once, before items were kept as arrays: a run that goes on must meet the examples it expects.
    mixed = ExampleOrder((speaker_ids(SPEAKERS[::-1]), speaker_ids(("x", "y", "x"))), seed=4, weights=(1.0, 3.0))
    found = [mixed.item(*mixed.slot(index)) for index in range(24)]
    assert found == [1, 0, 1, 2, 2, 1, 1, 0, 0, 0, 2, 3, 0, 1, 1, 2, 1, 0, 1, 2, 1, 2, 1, 0]
    plain = ExampleOrder((IDS,), seed=4, balance_speakers=False)
    found = [plain.item(0, index) for index in range(20)]
    assert found == [0, 8, 2, 1, 6, 9, 7, 4, 3, 5, 4, 9, 8, 7, 6, 3, 0, 5, 1, 2]


def test_a_million_items_take_a_few_bytes_each():
    ids = np.random.default_rng(0).integers(0, 7000, 1_000_000).astype(np.int32)
    tracemalloc.start()
    order = ExampleOrder((ids,))
    order.item(0, 12345)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 5 * len(ids) and peak < 20 * len(ids)


def test_speaker_ids_are_places_among_the_sorted_names():
    assert speaker_ids(("b", "a", "c", "a")).tolist() == [1, 0, 2, 0]
    # Ids that nobody has, as in a part of a corpus, change nothing.
    some = ExampleOrder((np.asarray([5, 2, 5, 9], np.int32),))
    same = ExampleOrder((np.asarray([1, 0, 1, 2], np.int32),))
    assert [some.item(0, n) for n in range(12)] == [same.item(0, n) for n in range(12)]


def test_balanced_order_gives_every_speaker_a_turn_in_each_pass():
    order = ExampleOrder((IDS,), seed=1)
    items = [order.item(0, n) for n in range(3 * 14)]
    for start in range(0, len(items), 3):
        assert sorted(SPEAKERS[item] for item in items[start : start + 3]) == ["a", "b", "c"]
    # In seven passes the speaker with seven recordings was heard with all of them.
    assert {item for item in items[:21] if item < 7} == set(range(7))


def test_unbalanced_order_gives_every_recording_once_in_each_pass():
    order = ExampleOrder((IDS,), seed=1, balance_speakers=False)
    first, second = ([order.item(0, n) for n in range(start, start + 10)] for start in (0, 10))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_corpora_are_mixed_by_their_weights_and_each_keeps_its_own_order():
    order = ExampleOrder((IDS, speaker_ids(("x", "y"))), seed=4, weights=(1.0, 3.0))
    slots = [order.slot(index) for index in range(2 * MIXTURE_BLOCK)]
    assert Counter(corpus for corpus, _ in slots) == {0: MIXTURE_BLOCK // 2, 1: 3 * MIXTURE_BLOCK // 2}
    for corpus in (0, 1):
        ordinals = [ordinal for found, ordinal in slots if found == corpus]
        assert ordinals == list(range(len(ordinals)))
    assert [order.shares[0] / sum(order.shares), order.shares[1]] == [0.25, 0.75 * MIXTURE_BLOCK]


def test_default_shares_are_by_speakers_or_recordings():
    assert ExampleOrder((IDS, speaker_ids(("x",)))).shares == (768.0, 256.0)
    shares = ExampleOrder((IDS, speaker_ids(("x",))), balance_speakers=False).shares
    assert shares[1] == round(MIXTURE_BLOCK / 11) and sum(shares) == MIXTURE_BLOCK


def test_mistakes_raise():
    with pytest.raises(ValueError, match="at least one item"):
        ExampleOrder((speaker_ids(()),))
    for weights, message in (
        ((0.0,), r"the weights are \(0.0,\); each must be above 0"),
        ((1.0, 2.0), "2 weights for 1 folder of data; give one for each --data, in order"),
    ):
        with pytest.raises(UserError, match=message):
            ExampleOrder((IDS,), weights=weights)
    with pytest.raises(ValueError, match="outside"):
        shuffled(5, 5, 0, "test")
