"""Masked prediction of given classes: targets, what the encoder learns of them, and that k-means takes the encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.semantic import kmeans
from audiolm_jax.semantic.cluster_learner import ClusterPredictionLearner
from audiolm_jax.semantic.cluster_targets import ClusterTargets, MfccFrames, RandomProjectionTargets, TeacherFrames
from audiolm_jax.semantic.kmeans_learner import KMeansLearner
from audiolm_jax.semantic.perturbation import Perturbation
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.semantic.w2v_bert import features, pad_to_frames
from audiolm_jax.training.optimization.optimizers import adam
from tests.semantic.fitted import tokenizer_params
from tests.semantic.w2v_bert_test import TINY, batch_of, chirps

# Tones last five frames and come at random, so what is to be guessed is shorter than they are.
CONFIG = dataclasses.replace(TINY, mask_span_frames=2, mask_start_probability=0.2)
MFCC = ClusterTargets(MfccFrames(), num_clusters=(12, 6), start_frames=400, iterations=5)


def learner_of(targets, **changes):
    return ClusterPredictionLearner(CONFIG, targets, adam(5e-3, 10, 1000, "constant"), **changes)


def started(learner, seed=0):
    """The state with which the first step begins, as the loop makes it."""
    rng = np.random.default_rng(seed)
    batch = batch_of(rng)
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    coming = [batch_of(rng) for _ in range(learner.start_batches(0, batch))]
    if not coming:
        return state
    found = [jax.jit(learner.start_features)(state, each) for each in coming]
    return jax.jit(learner.start)(state, found, jax.random.key(1))


@pytest.fixture(scope="module")
def learner():
    return learner_of(MFCC, perturbation=Perturbation(warp=0.05), middle_weight=0.5)


@pytest.fixture(scope="module")
def state(learner):
    return started(learner)


@pytest.fixture(scope="module")
def trained(learner, state):
    rng, step = np.random.default_rng(6), jax.jit(learner.train_step)
    for index in range(60):
        state, metrics = step(state, batch_of(rng), jax.random.fold_in(jax.random.key(1), index))
    return state, metrics


def targets_of(learner, state, batch):
    samples, valid = pad_to_frames(batch["samples"], batch["num_samples"])
    return learner.targets.ids(state.collections["targets"], samples, batch["num_samples"], valid)


def test_targets_start_on_the_coming_batches_and_stay(learner, state, trained):
    assert learner.start_batches(0, batch_of(np.random.default_rng(0))) == 2  # 240 frames in a batch
    assert learner.start_batches(1, batch_of(np.random.default_rng(0))) == 0
    for ids, size in zip(targets_of(learner, state, batch_of(np.random.default_rng(3))), (12, 6), strict=True):
        assert ids.shape == (4, 60) and len(np.unique(ids)) > size // 2 and ids.max() < size
    after = trained[0].collections["targets"]
    jax.tree.map(np.testing.assert_array_equal, state.collections["targets"], after)
    # A run that goes on with the targets of another one keeps them.
    other = [jax.jit(learner.start_features)(state, batch_of(np.random.default_rng(9)))]
    again = jax.jit(learner.start)(state, other, jax.random.key(8))
    jax.tree.map(np.testing.assert_array_equal, state.collections["targets"], again.collections["targets"])


def test_it_learns_what_is_masked_better_than_the_most_frequent_class(learner, state, trained):
    heldout, evaluate = batch_of(np.random.default_rng(20), rows=8), jax.jit(learner.eval_step)
    before, after = ({k: m.value for k, m in evaluate(each, heldout).items()} for each in (state, trained[0]))
    assert after["loss"] < 0.8 * before["loss"]
    for ids, end in zip(targets_of(learner, state, heldout), ("", "_2"), strict=True):
        assert after[f"masked_accuracy{end}"] > np.bincount(np.asarray(ids).ravel()).max() / ids.size
        assert after[f"prediction_perplexity{end}"] > 1.3
    assert 0.25 < after["masked_share"] < 0.45 and trained[1]["gradient_norm"].value > 0


def test_the_targets_do_not_hear_the_perturbation(learner, state):
    batch = batch_of(np.random.default_rng(4))
    heard = jax.jit(learner.train_step)(state, batch, jax.random.key(5))[1]
    plain = dataclasses.replace(learner, perturbation=Perturbation(share=0.0))
    unheard = jax.jit(plain.train_step)(state, batch, jax.random.key(5))[1]
    assert heard["target_perplexity"].value == pytest.approx(unheard["target_perplexity"].value, rel=1e-5)
    assert heard["masked_share"].value == unheard["masked_share"].value  # by the same masks
    assert abs(heard["loss"].value - unheard["loss"].value) > 1e-5


def test_a_teacher_gives_the_clusters_of_its_layer(state):
    teacher = TeacherFrames(TINY, lambda: state.params, layer=1)
    learner = learner_of(ClusterTargets(teacher, (8,), start_frames=240, iterations=3), head="projection")
    second = started(learner)
    held = second.collections["targets"]
    assert "mlm_stack" not in held["source"] and "heads" not in held["source"]
    batch = batch_of(np.random.default_rng(5))
    frames = features(TINY, state.params, batch["samples"], layer=1).reshape(-1, TINY.dim)
    expected = kmeans.assign((frames - held["mean"]) / held["std"], held["centroids"]["codebook_0"])
    (ids,) = targets_of(learner, second, batch)
    assert np.mean(np.asarray(ids).ravel() == expected) > 0.99
    moved, metrics = jax.jit(learner.train_step)(second, batch, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, held, moved.collections["targets"])
    assert metrics["loss"].value == pytest.approx(np.log(8), rel=0.4)
    axes = learner.collection_axes(batch)["targets"]
    jax.tree.map(lambda leaf, names: np.testing.assert_equal(leaf.ndim, len(names)), held["source"], axes["source"])


def test_random_projections_need_no_start_and_hear_no_gain():
    learner = learner_of(RandomProjectionTargets(codebook_size=32, num_codebooks=2))
    state, batch = started(learner), batch_of(np.random.default_rng(7))
    ids = targets_of(learner, state, batch)
    quieter = targets_of(learner, state, batch | {"samples": 0.5 * batch["samples"]})
    for one, other in zip(ids, quieter, strict=True):
        assert len(np.unique(one)) > 6 and np.mean(np.asarray(one) == np.asarray(other)) > 0.97
    assert np.mean(np.asarray(ids[0]) == np.asarray(ids[1])) < 0.3
    metrics = jax.jit(learner.train_step)(state, batch, jax.random.key(0))[1]
    assert np.isfinite(metrics["loss"].value)


def test_k_means_takes_the_encoder_as_that_of_a_w2v_bert(trained):
    tokenizer = SemanticTokenizerConfig(TINY, layer=1, num_clusters=4, window_frames=40, margin_frames=5)
    fitting = KMeansLearner(tokenizer, lambda: trained[0].params, statistics_steps=1, start_frames=100)
    batch = batch_of(np.random.default_rng(8))
    state = jax.jit(fitting.init)(jax.random.key(0), batch)
    encoder = tokenizer_params(state)["encoder"]
    assert set(encoder) == {"front_end", "input_projection", "contrastive_stack"}
    samples = chirps(np.random.default_rng(9), 1, 12_800)
    np.testing.assert_allclose(
        features(TINY, encoder, samples, layer=1), features(TINY, trained[0].params, samples, layer=1), atol=1e-6
    )


def test_every_parameter_names_its_axes(learner, state):
    axes = learner.logical_axes(batch_of(np.random.default_rng(0)))
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf, names: len(names) == leaf.ndim, state.params, axes)))
    assert axes["heads"]["classes_1"] == ("vocab", "embed")


def test_padding_rows_count_nowhere_in_evaluation(learner, trained):
    batch = batch_of(np.random.default_rng(7), rows=2)
    weighted = batch | {"example_weights": np.array([1.0, 0.0], np.float32)}
    garbage = weighted | {"samples": np.stack([batch["samples"][0], np.ones_like(batch["samples"][1])])}
    evaluate, others = jax.jit(learner.eval_step), None
    found, others = evaluate(trained[0], weighted), evaluate(trained[0], garbage)
    for name, metric in found.items():
        assert metric.weight == others[name].weight == 60
        np.testing.assert_allclose(metric.total, others[name].total, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClusterTargets(MfccFrames(), ()), "num_clusters is empty"),
        (lambda: ClusterTargets(MfccFrames(), (100,), start_frames=50), "start_frames is 50, fewer than the 100"),
        (lambda: TeacherFrames(TINY, dict, layer=3), "layer 3 is not among the layers 0 to 2"),
        (
            lambda: ClusterPredictionLearner(
                dataclasses.replace(TINY, contrastive_layers=0), MFCC, adam(1e-3, 1, 2), middle_weight=1.0
            ),
            "contrastive_layers is 0",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(make, words):
    with pytest.raises(UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_masked_frames_alone_count(learner, state):
    """The gradient of the loss with respect to scores is zero wherever the encoder was shown the frame."""
    from audiolm_jax.semantic.cluster_learner import _loss

    scores, ids = [jnp.zeros((1, 6, 3))], [jnp.array([[0, 1, 2, 0, 1, 2]])]
    masked = jnp.array([[False, True, True, False, False, True]])
    gradient = jax.grad(lambda score: _loss([score], ids, masked))(scores[0])
    np.testing.assert_array_equal(np.abs(np.asarray(gradient)).sum(axis=-1)[0] > 0, masked[0])
