"""The semantic tokenizer and the learner that fits it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.semantic.kmeans_learner import KMeansLearner
from audiolm_jax.semantic.learner import W2vBertLearner
from audiolm_jax.semantic.tokenizer import SemanticTokenizer, SemanticTokenizerConfig
from audiolm_jax.semantic.w2v_bert import W2vBertConfig, features
from tests.semantic.fitted import tokenizer_params

ENCODER = W2vBertConfig(
    dim=16,
    num_heads=2,
    mlp_dim=32,
    contrastive_layers=1,
    mlm_layers=1,
    frontend_channels=4,
    codebook_size=8,
    code_dim=8,
    dropout=0.0,
)
CONFIG = SemanticTokenizerConfig(encoder=ENCODER, layer=1, num_clusters=12, window_frames=50, margin_frames=5)


def batch_of(rng, rows=3, num_samples=19_200):
    samples = (
        0.1
        * rng.standard_normal((rows, num_samples))
        * rng.uniform(0.1, 1.0, (rows, num_samples // 640)).repeat(640, axis=1)
    )
    lengths = rng.integers(num_samples // 2, num_samples + 1, rows).astype(np.int32)
    return {"samples": samples.astype(np.float32), "num_samples": lengths}


@pytest.fixture(scope="module")
def encoder_params():
    batch = batch_of(np.random.default_rng(0))
    return jax.jit(W2vBertLearner(ENCODER, optax.sgd(0.1)).init)(jax.random.key(0), batch).params


@pytest.fixture(scope="module")
def learner(encoder_params):
    return KMeansLearner(CONFIG, lambda: encoder_params, statistics_steps=4, start_frames=300, restart_every_steps=3)


def run(learner, state, first, last):
    step = jax.jit(learner.train_step, static_argnames="phase")
    metrics = {}
    for index in range(first, last):
        batch = batch_of(np.random.default_rng(index))
        rng = jax.random.fold_in(jax.random.key(1), index)
        coming = [batch_of(np.random.default_rng(index + ahead)) for ahead in range(4)]
        if count := learner.start_batches(index, batch):
            features = [learner.start_features(state, each) for each in coming[:count]]
            state = learner.start(state, features, rng)
        state, metrics = step(state, batch, rng, phase=learner.phase(index))
    return state, metrics


@pytest.fixture(scope="module")
def fitted(learner):
    state = jax.jit(learner.init)(jax.random.key(0), batch_of(np.random.default_rng(0)))
    return run(learner, state, 0, 20)


@pytest.fixture(scope="module")
def params(fitted):
    return tokenizer_params(fitted[0])


def test_standardisation_equals_numpy_over_the_first_pass(learner, fitted, encoder_params):
    frames = []
    for index in range(learner.statistics_steps):
        batch = batch_of(np.random.default_rng(index))
        rows = np.asarray(features(ENCODER, encoder_params, batch["samples"], batch["num_samples"], CONFIG.layer))
        frames += [row[: -(-n // 640)] for row, n in zip(rows, batch["num_samples"], strict=True)]
    frames = np.concatenate(frames).astype(np.float64)
    params = tokenizer_params(fitted[0])
    np.testing.assert_allclose(params["mean"], frames.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(params["std"], frames.std(0), rtol=1e-3)


def test_the_fit_uses_every_cluster_and_lowers_the_error(learner, fitted):
    state, metrics = fitted
    assert metrics["clusters_in_batch"].value > 0.8
    heldout = batch_of(np.random.default_rng(99))
    assert learner.eval_step(state, heldout)["loss"].value < 0.8
    one = learner.eval_step(state, heldout | {"example_weights": np.array([1, 0, 0], np.float32)})["loss"]
    assert one.weight == -(-heldout["num_samples"][0] // 640)


def test_resumed_equals_straight_bit_for_bit(learner, fitted):
    state = jax.jit(learner.init)(jax.random.key(0), batch_of(np.random.default_rng(0)))
    for first, last in ((0, 3), (3, 5), (5, 20)):  # breaks in both passes and at the start of the centroids
        state, _ = run(learner, jax.tree.map(np.asarray, state), first, last)
    jax.tree.map(np.testing.assert_array_equal, state, fitted[0])


def test_centroids_start_on_distinct_frames_of_a_batch_that_holds_more(learner, fitted):
    few = dataclasses.replace(learner, start_frames=40)
    batch = batch_of(np.random.default_rng(5))
    assert few.start_batches(few.statistics_steps, batch) == 1 and few.start_batches(0, batch) == 0
    frames, valid = (np.asarray(part) for part in few.start_features(fitted[0], batch))
    rows = features(ENCODER, fitted[0].params["encoder"], batch["samples"], batch["num_samples"], CONFIG.layer)
    rows = np.asarray(rows).reshape(-1, rows.shape[-1])
    assert frames.shape == (40, rows.shape[1]) and valid.shape == (40,)
    assert 20 < valid.sum() < 40, "padding of the batch is told"
    places = [int(np.abs(rows - frame).max(axis=1).argmin()) for frame in frames[valid]]
    assert places == sorted(set(places)), "each frame once, whole"
    np.testing.assert_allclose(frames[valid], rows[places], atol=1e-5)
    assert places[0] == 0 and places[-1] > 2 / 3 * len(rows), "from the whole batch"


def test_state_keeps_the_encoder_and_names_its_axes(learner, fitted, encoder_params):
    used = ENCODER.used_params(encoder_params, CONFIG.layer)
    jax.tree.map(np.testing.assert_array_equal, fitted[0].params["encoder"], used)
    axes = learner.logical_axes(batch_of(np.random.default_rng(0)))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.ndim == len(b), fitted[0].params, axes)))


def test_a_padded_batch_gives_every_row_its_own_tokens(params):
    tokenizer = SemanticTokenizer(CONFIG)
    rng = np.random.default_rng(3)
    samples = rng.standard_normal((4, 90_001)).astype(np.float32)  # noise where the padding is
    lengths = np.array([90_001, 31_000, 1, 640 * 45])
    tokens = tokenizer.tokenize(params, samples, lengths)
    assert tokens.shape == (4, 141) and tokens.dtype == np.int32
    assert tokens.min() >= 0 and tokens.max() < tokenizer.vocab_size and len(np.unique(tokens)) > 4
    for row, length in enumerate(lengths):
        alone = tokenizer.tokenize(params, samples[row : row + 1, :length])
        assert alone.shape == (1, -(-length // tokenizer.hop_samples))
        np.testing.assert_array_equal(tokens[row, : alone.shape[1]], alone[0])
        assert not tokens[row, alone.shape[1] :].any()


def test_windows_of_a_long_file_are_what_the_definition_says(params):
    tokenizer = SemanticTokenizer(CONFIG)
    samples = np.random.default_rng(4).standard_normal((1, 640 * 95)).astype(np.float32)
    whole = tokenizer.tokenize(params, samples)[0]
    # Window 1 sees frames 35 to 85 and gives 40 to 80.
    frames = np.asarray(features(ENCODER, params["encoder"], samples[:, 35 * 640 : 85 * 640], layer=CONFIG.layer))[0]
    standardised = (frames - np.asarray(params["mean"])) / np.asarray(params["std"])
    expected = np.square(standardised[:, None] - np.asarray(params["centroids"])).sum(2).argmin(1)
    assert np.mean(whole[40:80] == expected[5:45]) > 0.97  # another program than the tokenizer's: ties may differ
    # What lies beyond a window changes nothing in it.
    changed = samples.copy()
    changed[:, 46 * 640 :] = 0.0
    np.testing.assert_array_equal(tokenizer.tokenize(params, changed)[0, :40], whole[:40])


def test_fingerprint_knows_layer_weights_and_windows(params):
    tokenizer = SemanticTokenizer(CONFIG)
    prints = {tokenizer.fingerprint(params), tokenizer.fingerprint(params | {"std": params["std"] * 2})}
    prints.add(SemanticTokenizer(dataclasses.replace(CONFIG, layer=2)).fingerprint(params))
    prints.add(SemanticTokenizer(dataclasses.replace(CONFIG, window_frames=60)).fingerprint(params))
    assert len(prints) == 4
    assert tokenizer.fingerprint(jax.tree.map(jnp.array, params)) == tokenizer.fingerprint(params)


def test_wrong_input_is_told(params):
    tokenizer = SemanticTokenizer(CONFIG)
    with pytest.raises(UserError, match="shape"):
        tokenizer.tokenize(params, np.zeros(1000, np.float32))
    with pytest.raises(UserError, match="num_samples"):
        tokenizer.tokenize(params, np.zeros((1, 1000), np.float32), [1001])
    with pytest.raises(UserError, match="layer 5"):
        SemanticTokenizerConfig(encoder=ENCODER, layer=5)
    with pytest.raises(UserError, match="margins"):
        SemanticTokenizerConfig(encoder=ENCODER, layer=1, window_frames=50, margin_frames=25)
    assert tokenizer.tokenize(params, np.zeros((1, 0), np.float32)).shape == (1, 0)
