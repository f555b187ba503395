"""Filters in their order, distributions, and randomness that no neighbour can change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.generation.sampling import SamplingSettings, filtered_logits, row_keys, sample

LOGITS = np.log(np.array([[0.4, 0.3, 0.15, 0.1, 0.05]], np.float32))
ALL = np.ones(5, bool)


def kept(legal=ALL, **settings):
    logits = filtered_logits(jnp.asarray(LOGITS), jnp.asarray(legal), SamplingSettings(**settings))
    return np.flatnonzero(np.asarray(logits)[0] > -1e20).tolist()


def test_top_k_and_top_p_alone():
    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=2) == [0, 1]
    assert kept(top_k=9) == [0, 1, 2, 3, 4]
    assert kept(top_p=0.39) == [0]
    assert kept(top_p=0.41) == [0, 1]
    assert kept(top_p=0.86) == [0, 1, 2, 3]


def test_filters_compose_mask_then_temperature_then_k_then_p():
    # Of the three kept by k the shares are 0.47, 0.35, 0.18, so p = 0.8 keeps two; over all five it would keep three.
    assert kept(top_k=3, top_p=0.8) == [0, 1]
    assert kept(top_p=0.8) == [0, 1, 2]
    # Without the first id the others' shares are 0.5, 0.25, 0.17, 0.08.
    without_first = np.array([False, True, True, True, True])
    assert kept(without_first, top_k=2) == [1, 2]
    assert kept(without_first, top_p=0.6) == [1, 2]
    # A low temperature sharpens before p looks: 0.4^4 is 74 % of the sum of fourth powers.
    assert kept(temperature=0.25, top_p=0.7) == [0]


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_drawn_shares_are_those_of_the_softmax(temperature):
    draws = 20_000
    keys = row_keys(0, np.arange(draws), 1)
    logits = jnp.broadcast_to(jnp.asarray(LOGITS), (draws, 5))
    settings = SamplingSettings(temperature=temperature, top_k=4)
    drawn = np.asarray(jax.jit(sample, static_argnums=4)(logits, ALL, keys, jnp.zeros(draws, jnp.int32), settings))
    shares = np.exp(LOGITS[0, :4] / temperature)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / draws, [*(shares / shares.sum()), 0], atol=0.015)


def test_zero_temperature_is_the_most_likely_legal_id():
    legal = np.array([False, True, True, True, True])
    drawn = sample(jnp.asarray(LOGITS), legal, row_keys(0, [0], 1), jnp.zeros(1, jnp.int32), SamplingSettings(0.0))
    assert drawn.tolist() == [1]


def test_never_an_illegal_id():
    rng = np.random.default_rng(0)
    legal = rng.random((300, 17)) < 0.2
    legal[np.arange(300), rng.integers(0, 17, 300)] = True
    logits = np.where(legal, -50.0, 50.0) + rng.normal(0, 30, (300, 17))
    keys = row_keys(3, np.arange(300), 2)
    for numbers in ((1.0, 0, 1.0), (2.0, 3, 0.5), (0.1, 0, 0.01), (0.0, 2, 1.0)):
        settings = SamplingSettings(*numbers)
        drawn = np.asarray(sample(jnp.asarray(logits), legal, keys, jnp.arange(300), settings))
        assert legal[np.arange(300), drawn].all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-46, 1e-40, 1e-38, 1e-30, 1e-10, 1e10, 1e30, 1e38, 1e300])
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e30])
def test_no_temperature_draws_an_illegal_id(temperature, scale):
    rng = np.random.default_rng(4)
    legal = rng.random((300, 17)) < 0.2
    legal[np.arange(300), rng.integers(0, 17, 300)] = True
    logits = jnp.asarray(np.where(legal, -50.0, 50.0) + rng.normal(0, scale, (300, 17)), jnp.float32)
    keys = row_keys(3, np.arange(300), 2)
    likeliest = np.argmax(np.where(legal, logits, -np.inf), axis=1)
    for top_k, top_p in ((0, 1.0), (3, 0.5), (0, 0.01)):
        settings = SamplingSettings(temperature, top_k, top_p)
        drawn = np.asarray(sample(logits, legal, keys, jnp.arange(300), settings))
        assert legal[np.arange(300), drawn].all()
        if temperature <= 1e-10:
            np.testing.assert_array_equal(drawn, likeliest)


def test_a_huge_temperature_draws_all_legal_ids_alike():
    legal = np.array([True, False, True, True, False])
    draws = 20_000
    keys = row_keys(0, np.arange(draws), 1)
    logits = jnp.broadcast_to(jnp.asarray(LOGITS), (draws, 5))
    drawn = np.asarray(sample(logits, legal, keys, jnp.zeros(draws, jnp.int32), SamplingSettings(1e35)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / draws, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.015)


def test_a_row_draws_the_same_in_any_batch():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(6, 40)))
    positions = jnp.arange(6) * 7
    together = sample(logits, np.ones(40, bool), row_keys(5, np.arange(6), 2), positions, SamplingSettings())
    for row in (0, 5):
        keys = row_keys(5, [row], 2)
        alone = sample(logits[row][None], np.ones(40, bool), keys, positions[row][None], SamplingSettings())
        assert alone[0] == together[row]


def test_keys_differ_by_seed_sample_stage_and_position():
    logits = jnp.zeros((1, 1000))

    def draw(seed=0, index=0, stage=1, position=0):
        keys = row_keys(seed, [index], stage)
        return int(sample(logits, np.ones(1000, bool), keys, jnp.array([position]), SamplingSettings())[0])

    assert len({draw(), draw(seed=1), draw(index=1), draw(stage=2), draw(position=1)}) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("top_k", -1), ("top_k", 0.9), ("top_p", 0.0)],
)
def test_mistakes_are_told(name, value):
    with pytest.raises(UserError, match=name):
        SamplingSettings(**{name: value})
