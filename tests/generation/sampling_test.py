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
    logits = filtered_logits(jnp.asarray(LOGITS), jnp.asarray(legal), SamplingSettings(**settings).traced())
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
    drawn = np.asarray(jax.jit(sample)(logits, ALL, keys, jnp.zeros(draws, jnp.int32), settings.traced()))
    shares = np.exp(LOGITS[0, :4] / temperature)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / draws, [*(shares / shares.sum()), 0], atol=0.015)


def test_zero_temperature_is_the_most_likely_legal_id():
    legal = np.array([False, True, True, True, True])
    settings = SamplingSettings(0.0).traced()
    drawn = sample(jnp.asarray(LOGITS), legal, row_keys(0, [0], 1), jnp.zeros(1, jnp.int32), settings)
    assert drawn.tolist() == [1]


def test_never_an_illegal_id():
    rng = np.random.default_rng(0)
    legal = rng.random((300, 17)) < 0.2
    legal[np.arange(300), rng.integers(0, 17, 300)] = True
    logits = np.where(legal, -50.0, 50.0) + rng.normal(0, 30, (300, 17))
    keys = row_keys(3, np.arange(300), 2)
    for numbers in ((1.0, 0, 1.0), (2.0, 3, 0.5), (0.1, 0, 0.01), (0.0, 2, 1.0)):
        settings = SamplingSettings(*numbers)
        drawn = np.asarray(sample(jnp.asarray(logits), legal, keys, jnp.arange(300), settings.traced()))
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
        drawn = np.asarray(sample(logits, legal, keys, jnp.arange(300), settings.traced()))
        assert legal[np.arange(300), drawn].all()
        if temperature <= 1e-10:
            np.testing.assert_array_equal(drawn, likeliest)


def test_a_huge_temperature_draws_all_legal_ids_alike():
    legal = np.array([True, False, True, True, False])
    draws = 20_000
    keys = row_keys(0, np.arange(draws), 1)
    logits = jnp.broadcast_to(jnp.asarray(LOGITS), (draws, 5))
    settings = SamplingSettings(1e35).traced()
    drawn = np.asarray(sample(logits, legal, keys, jnp.zeros(draws, jnp.int32), settings))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / draws, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.015)


def test_a_row_draws_the_same_in_any_batch():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(6, 40)))
    positions = jnp.arange(6) * 7
    settings = SamplingSettings().traced()
    together = sample(logits, np.ones(40, bool), row_keys(5, np.arange(6), 2), positions, settings)
    for row in (0, 5):
        keys = row_keys(5, [row], 2)
        alone = sample(logits[row][None], np.ones(40, bool), keys, positions[row][None], settings)
        assert alone[0] == together[row]


def test_keys_differ_by_seed_sample_stage_and_position():
    logits = jnp.zeros((1, 1000))

    def draw(seed=0, index=0, stage=1, position=0):
        keys = row_keys(seed, [index], stage)
        return int(sample(logits, np.ones(1000, bool), keys, jnp.array([position]), SamplingSettings().traced())[0])

    assert len({draw(), draw(seed=1), draw(index=1), draw(stage=2), draw(position=1)}) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("top_k", -1), ("top_k", 0.9), ("top_p", 0.0)],
)
def test_mistakes_are_told(name, value):
    with pytest.raises(UserError, match=name):
        SamplingSettings(**{name: value})


def with_constants(settings, logits, legal, keys, positions):
    """`sample` with the settings compiled into it, and its filtered logits."""
    logits = jnp.where(legal, logits.astype(jnp.float32), -jnp.inf)
    if settings.temperature == 0:
        return jnp.argmax(logits, axis=-1), logits
    logits -= jnp.max(logits, axis=-1, keepdims=True)
    logits = jnp.where(legal, logits / settings.temperature, -jnp.inf)
    if 0 < settings.top_k < logits.shape[-1]:
        logits = jnp.where(logits >= jax.lax.top_k(logits, settings.top_k)[0][:, -1:], logits, -jnp.inf)
    if settings.top_p < 1:
        descending = -jnp.sort(-logits, axis=-1)
        shares = jax.nn.softmax(descending, axis=-1)
        kept = jnp.cumsum(shares, axis=-1) - shares < settings.top_p
        logits = jnp.where(
            logits >= jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True), logits, -jnp.inf
        )
    step_keys = jax.vmap(jax.random.fold_in)(keys, positions)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[-1:], jnp.float32))(step_keys)
    return jnp.argmax(logits + noise, axis=-1), logits


def test_settings_as_arguments_give_what_they_give_as_constants():
    """To the bit, by one program for all of them."""
    rng = np.random.default_rng(6)
    logits = jnp.asarray(rng.normal(0, 4, (64, 100)), jnp.float32).at[:, 7].set(3.0).at[:, 9].set(3.0)
    legal = jnp.asarray(rng.random((64, 100)) < 0.7).at[:, 0].set(True)
    keys, positions = row_keys(1, np.arange(64), 3), jnp.arange(64)
    traced = []

    @jax.jit
    def draw(settings):
        traced.append(settings)
        return sample(logits, legal, keys, positions, settings), filtered_logits(logits, legal, settings)

    for numbers in (
        (1.0, 0, 1.0), (0.6, 0, 1.0), (0.83, 0, 1.0), (1.7, 5, 1.0), (0.6, 1, 1.0), (1.3, 0, 0.9), (0.9, 0, 0.01),
        (0.7, 40, 0.95), (2.3, 99, 0.5), (1.0, 100, 1.0), (1.0, 500, 0.8), (0.0, 0, 1.0), (0.0, 5, 0.5),
    ):  # fmt: skip
        settings = SamplingSettings(*numbers)
        expected = jax.jit(with_constants, static_argnums=0)(settings, logits, legal, keys, positions)
        drawn, filtered = draw(settings.traced())
        np.testing.assert_array_equal(drawn, expected[0], err_msg=str(settings))
        if settings.temperature > 0:
            np.testing.assert_array_equal(filtered, expected[1], err_msg=str(settings))
    assert len(traced) == 1


def test_the_smallest_share_still_keeps_the_likeliest():
    legal = np.array([False, True, True, True, True])
    assert kept(legal, top_p=1e-300) == [1] and kept(legal, top_p=0.1, top_k=2**40) == [1]
