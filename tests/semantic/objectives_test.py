"""Masks, distractors and loss terms of w2v-BERT, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.semantic import objectives


def test_span_mask_covers_the_expected_share_and_no_padding():
    valid = jnp.arange(400) < jnp.array([400] * 1200 + [123] * 4)[:, None]
    masked = np.asarray(objectives.span_mask(jax.random.key(0), valid, 0.065, 10))
    assert not masked[~np.asarray(valid)].any()
    share = masked[:1200, 10:].mean()
    assert abs(share - (1 - (1 - 0.065) ** 10)) < 0.01
    for row in masked[:60]:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        runs = edges[1::2] - edges[::2]
        assert all(runs[:-1] >= 10)  # the last one may be cut by the end of the row


def test_distractors_are_other_masked_frames_of_the_row_drawn_evenly():
    masked = np.zeros((3, 30), bool)
    masked[0, [2, 5, 11, 29]] = True
    masked[1, 7] = True
    positions, usable = objectives.distractors(jax.random.key(0), jnp.asarray(masked), 900)
    positions, usable = np.asarray(positions), np.asarray(usable)
    np.testing.assert_array_equal(usable[0], masked[0])
    assert not usable[1:].any()  # one masked frame has nothing to be told from
    for frame in (2, 5, 11, 29):
        others = sorted({2, 5, 11, 29} - {frame})
        found, counts = np.unique(positions[0, frame], return_counts=True)
        assert found.tolist() == others
        assert np.all(np.abs(counts - 300) < 75)
    assert positions.min() >= 0 and positions.max() < 30


def test_contrastive_loss_by_hand():
    context = jnp.array([[[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]])
    quantized = jnp.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    code_ids = jnp.array([[4, 9, 4]])
    # Frame 0 meets frame 1 (wrong code, cosine 0) and frame 2 (its own code, which is left out).
    positions = jnp.array([[[1, 2], [0, 2], [1, 0]]])
    usable = jnp.array([[True, False, False]])
    loss, accuracy = objectives.contrastive(context, quantized, code_ids, positions, usable, 0.5)
    np.testing.assert_allclose(loss, np.log(np.exp(2.0) + np.exp(0.0)) - 2.0, rtol=1e-5)
    assert accuracy == 1.0


def test_diversity_is_zero_for_even_use_and_one_code_is_nearly_one():
    valid = jnp.ones((1, 8), bool)
    even = 50.0 * jax.nn.one_hot(jnp.arange(8)[None], 8)
    loss, perplexity = objectives.diversity(even, valid)
    np.testing.assert_allclose([loss, perplexity], [0.0, 8.0], atol=1e-3)
    collapsed = 50.0 * jax.nn.one_hot(jnp.zeros((1, 8), int), 8)
    loss, perplexity = objectives.diversity(collapsed, valid)
    np.testing.assert_allclose([loss, perplexity], [7 / 8, 1.0], atol=1e-3)
    np.testing.assert_allclose(objectives.code_perplexity(jnp.arange(8)[None], valid, 8), 8.0, atol=1e-3)


def test_masked_prediction_counts_masked_frames_only():
    logits = jnp.array([[[2.0, 0.0], [0.0, 5.0], [7.0, 0.0]]])
    masked = jnp.array([[True, False, True]])
    loss, accuracy = objectives.masked_prediction(logits, jnp.array([[0, 0, 1]]), masked)
    expected = (np.log(np.exp(2) + 1) - 2 + np.log(np.exp(7) + 1)) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert accuracy == 0.5
