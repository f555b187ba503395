"""w2v-BERT: size, axes, independence of padding, features without masking, and that it learns."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.semantic import objectives, w2v_bert
from audiolm_jax.semantic.learner import W2vBertLearner
from audiolm_jax.semantic.w2v_bert import W2vBert, W2vBertConfig, pad_to_frames
from audiolm_jax.training.optimization.optimizers import adam
from tests.gin_sizes import learner_of

TINY = W2vBertConfig(
    dim=16,
    num_heads=2,
    mlp_dim=32,
    contrastive_layers=1,
    mlm_layers=1,
    frontend_channels=4,
    codebook_size=16,
    code_dim=8,
    dropout=0.0,
    num_distractors=20,
    gumbel_end=0.5,
    gumbel_decay=0.98,
    diversity_weight=1.0,
)

features = jax.jit(w2v_bert.features, static_argnums=0, static_argnames="layer")


def chirps(rng, rows, num_samples):
    """Steady tones that jump to another pitch every 0.2 s: float32[rows, num_samples]."""
    notes = rng.integers(0, 8, (rows, num_samples // 3200 + 1))
    pitch_hz = 200.0 * 1.5 ** np.repeat(notes, 3200, axis=1)[:, :num_samples]
    tone = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch_hz, axis=1) / 16_000)
    return (tone + 0.01 * rng.standard_normal(tone.shape)).astype(np.float32)


def batch_of(rng, rows=4, num_samples=38_400):
    return {"samples": chirps(rng, rows, num_samples), "num_samples": np.full(rows, num_samples, np.int32)}


@pytest.fixture(scope="module")
def learner():
    return W2vBertLearner(TINY, adam(5e-3, 10, 1000, "constant"))


@pytest.fixture(scope="module")
def state(learner):
    return jax.jit(learner.init)(jax.random.key(0), batch_of(np.random.default_rng(0)))


def num_parameters(config):
    shape = {"samples": jnp.zeros((1, 6400)), "num_samples": jnp.array([6400])}
    params = jax.eval_shape(W2vBertLearner(config, optax.sgd(0.1)).init, jax.random.key(0), shape).params
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_sizes():
    assert num_parameters(learner_of("w2v_bert_xl_librilight_paper").config) == 588_220_800  # the paper says 0.6B
    assert 1_500_000 < num_parameters(learner_of("w2v_bert_small").config) < 4_000_000


def test_every_parameter_names_its_axes(learner, state):
    axes = learner.logical_axes(batch_of(np.random.default_rng(0)))
    named = jax.tree.map(lambda leaf, names: len(names) == leaf.ndim, state.params, axes)
    assert all(jax.tree.leaves(named))
    block = axes["mlm_stack"]["layers"]["block"]
    assert block["attention"]["query_kernel"] == ("layers", "embed", "heads", "head_dim")
    assert block["first_feed_forward"]["widen"]["kernel"] == ("layers", "embed", "mlp")
    assert axes["front_end"]["kernel_1"] == (None, None, "conv_in", "conv_out")
    assert not any(isinstance(leaf, nn.LogicallyPartitioned) for leaf in jax.tree.leaves(state.params))


def test_padding_changes_no_feature_of_a_row(state):
    rng = np.random.default_rng(1)
    lengths = np.array([9_000, 19_200, 640, 25_601])
    samples = rng.standard_normal((4, 25_601)).astype(np.float32)  # loud noise where the padding is
    batched = features(TINY, state.params, samples, lengths)
    assert batched.shape == (4, 41, TINY.dim)
    for row, length in enumerate(lengths):
        frames = w2v_bert.num_frames(int(length))
        alone = features(TINY, state.params, samples[row : row + 1, :length])
        np.testing.assert_allclose(batched[row, :frames], alone[0], atol=2e-5)


def test_frames_before_the_first_are_padding_too(state):
    samples = np.random.default_rng(2).standard_normal((1, 12_800)).astype(np.float32)
    shifted = features(TINY, state.params, samples, first_frame=5)
    alone = features(TINY, state.params, samples[:, 5 * 640 :])
    # An even shift of the stride-2 convolutions only: 5 frames of 25 Hz are 20 mel frames.
    np.testing.assert_allclose(shifted[0, 5:], alone[0], atol=2e-5)


def test_features_are_deterministic_and_of_the_layer_asked_for(state):
    samples = chirps(np.random.default_rng(3), 2, 12_800)
    last = features(TINY, state.params, samples)
    np.testing.assert_array_equal(last, features(TINY, state.params, samples, layer=2))
    middle = features(TINY, state.params, samples, layer=1)
    assert not np.allclose(last, middle)
    # Layer 1 does not depend on the blocks above it.
    silenced = state.params | {"mlm_stack": jax.tree.map(jnp.zeros_like, state.params["mlm_stack"])}
    np.testing.assert_array_equal(middle, features(TINY, silenced, samples, layer=1))
    with pytest.raises(UserError, match="layer 3"):
        features(TINY, state.params, samples, layer=3)


def test_scan_unroll_changes_no_value(state):
    samples = chirps(np.random.default_rng(4), 1, 6_400)
    deep = dataclasses.replace(TINY, contrastive_layers=3)
    init = jax.jit(W2vBertLearner(deep, optax.sgd(0.1)).init)
    params = init(jax.random.key(0), batch_of(np.random.default_rng(0))).params
    unrolled = dataclasses.replace(deep, scan_unroll=3)
    np.testing.assert_allclose(
        features(deep, params, samples), features(unrolled, params, samples), atol=1e-5
    )


def test_remat_changes_no_update(learner, state):
    # By plain descent: Adam makes as much of a gradient that is zero but for rounding as of any other.
    batch, descent = batch_of(np.random.default_rng(7)), optax.sgd(1.0)
    state = state.replace(opt_state=descent.init(state.params))
    keeps, recomputes = (
        jax.jit(dataclasses.replace(learner, optimizer=descent, remat=remat).train_step)(
            state, batch, jax.random.key(2)
        )[0].params
        for remat in ("none", "full")
    )
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), keeps, state.params)
    assert max(jax.tree.leaves(moved)) > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), keeps, recomputes)
    with pytest.raises(UserError, match="remat is 'dots'"):
        dataclasses.replace(learner, remat="dots")


def test_distractors_are_told_from_the_code_that_was_drawn(state, monkeypatch):
    """With Gumbel noise the code of a frame is often not its likeliest one."""
    seen = {}

    def contrastive(context, quantized, chosen_ids, *others):
        seen.update(quantized=quantized, chosen_ids=chosen_ids)
        return real(context, quantized, chosen_ids, *others)

    real = objectives.contrastive
    monkeypatch.setattr(objectives, "contrastive", contrastive)
    batch = batch_of(np.random.default_rng(8))
    samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
    W2vBert(TINY).apply(
        {"params": state.params}, samples, valid, jnp.zeros((), jnp.int32), jax.random.key(3),
        rngs={"dropout": jax.random.key(4)},
    )
    codes = state.params["quantizer"]["codes"]
    np.testing.assert_allclose(seen["quantized"], codes[seen["chosen_ids"]], atol=1e-5)
    frames = W2vBert(TINY).apply({"params": state.params}, samples, valid, method="front")
    likeliest = jnp.argmax(frames @ state.params["quantizer"]["kernel"] + state.params["quantizer"]["bias"], axis=-1)
    assert np.mean(seen["chosen_ids"] != likeliest) > 0.02


def test_quantizer_starts_with_many_codes_in_use(learner, state):
    metrics = jax.jit(learner.eval_step)(state, batch_of(np.random.default_rng(5)))
    assert metrics["code_perplexity"].value > 0.3 * TINY.codebook_size


def test_it_learns_and_does_not_collapse(learner, state):
    rng = np.random.default_rng(6)
    heldout = batch_of(rng, rows=8)
    evaluate, step = jax.jit(learner.eval_step), jax.jit(learner.train_step)
    before = {name: metric.value for name, metric in evaluate(state, heldout).items()}
    for index in range(60):
        state, metrics = step(state, batch_of(rng), jax.random.fold_in(jax.random.key(1), index))
    after = {name: metric.value for name, metric in evaluate(state, heldout).items()}
    assert int(state.step) == 60
    assert after["contrastive_loss"] < 0.8 * before["contrastive_loss"]
    assert after["masked_prediction_loss"] < 0.8 * before["masked_prediction_loss"]
    assert after["code_perplexity"] > 4.0  # eight tones and their transitions; 1 would be collapse


def test_padding_rows_count_nowhere_in_evaluation(learner, state):
    batch = batch_of(np.random.default_rng(7), rows=2)
    weighted = batch | {"example_weights": np.array([1.0, 0.0], np.float32)}
    garbage = weighted | {"samples": batch["samples"].copy()}
    garbage["samples"][1] = 1.0
    evaluate = jax.jit(learner.eval_step)
    others = evaluate(state, garbage)
    for name, metric in evaluate(state, weighted).items():
        other = others[name]
        assert metric.weight == other.weight == 60
        np.testing.assert_allclose(metric.total, other.total, rtol=1e-5)


def test_bfloat16_stays_close(state):
    samples = chirps(np.random.default_rng(8), 1, 6_400)
    exact = features(TINY, state.params, samples)
    rounded = features(dataclasses.replace(TINY, compute_dtype="bfloat16"), state.params, samples)
    assert rounded.dtype == jnp.bfloat16
    assert np.mean(np.square(exact - rounded.astype(jnp.float32))) < 0.01


def test_a_dim_that_heads_do_not_divide_is_refused():
    with pytest.raises(UserError, match="multiple of num_heads"):
        W2vBertConfig(dim=100, num_heads=8)
