"""Clips for TensorBoard: reconstructions of the codec, continuations of an acoustic stage."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.generation import clips as stage_clips
from audiolm_jax.training.clips import codec_clips
from audiolm_jax.training.state import TrainState
from tests.multi_device.tiny_learners import codec_learner, stage_learner


class OneBatch:
    """A feed whose held-out data is one batch, or none."""

    def __init__(self, batch):
        self._batch = batch

    def eval_batches(self):
        yield from [] if self._batch is None else [self._batch]


@pytest.fixture(scope="module")
def codec():
    learner, batch = codec_learner()
    # Noise in place of an initialisation, which would compile the discriminators too.
    abstract = jax.eval_shape(learner.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    return learner, batch, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype) * 0.1, abstract)


def test_the_codec_is_heard_from_a_third_and_from_all_of_its_levels(codec):
    learner, batch, state = codec
    clips = codec_clips(learner, OneBatch(batch), state, jax.random.key(0))
    names = [f"{row}/{name}" for name in ("original", "1_levels", "2_levels") for row in range(2)]
    assert [clip.name for clip in clips] == names
    assert all(clip.samples.shape == (512,) and clip.sample_rate_hz == 16_000 for clip in clips)
    np.testing.assert_array_equal(clips[0].samples, batch["samples"][0])
    assert codec_clips(learner, OneBatch(None), state, jax.random.key(0)) == []


def test_a_stage_is_heard_continuing_the_beginning_of_held_out_crops(monkeypatch):
    learner, batch = stage_learner()
    params = learner.model.init(jax.random.key(0))
    state = TrainState.create(params, ())
    batch["example_weights"] = np.array([0, 1, 1, 1, 1, 1, 1, 1], np.float32)
    # A codec whose sound is its tokens, so that what was decoded can be seen.
    codec = types.SimpleNamespace(sample_rate_hz=16_000, decode=lambda _, tokens: jnp.asarray(tokens).reshape(1, -1))
    bundle = types.SimpleNamespace(codec=codec, codec_params=None)
    monkeypatch.setattr(stage_clips.Bundle, "load", lambda folder: bundle)

    assert stage_clips.StageClips(None)(learner, OneBatch(batch), state, jax.random.key(0)) == []
    true, drawn = stage_clips.StageClips("folder", num_clips=1)(learner, OneBatch(batch), state, jax.random.key(0))
    assert (true.name, drawn.name) == ("0/true", "0/drawn")
    # Row 0 is padding; row 1 has 10 frames of 2 levels, of which 3 are given.
    expected = learner.stage.layout.split(batch["ids"][1]).acoustic.reshape(-1)
    np.testing.assert_array_equal(true.samples, expected)
    assert drawn.samples.shape == true.samples.shape == (20,)
    np.testing.assert_array_equal(drawn.samples[:6], expected[:6])
    assert not np.array_equal(drawn.samples, expected)
