"""Logits over the legal ids, and the nats of target tokens, against a full softmax under the stage's mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel, legal_ids
from audiolm_jax.tokens.layout import EOS, PAD
from audiolm_jax.tokens.stages import coarse_stage, fine_stage, semantic_stage

CONFIG = TransformerConfig(num_layers=1, num_heads=2, embed_dim=8, mlp_dim=8, dropout=0.0)
STAGES = {
    "semantic": semantic_stage(semantic_vocab=7, crop_seconds=0.4),
    "coarse": coarse_stage(semantic_vocab=7, codebook_size=5, num_coarse_quantizers=3, crop_seconds=0.2),
    "fine": fine_stage(codebook_size=5, num_coarse_quantizers=2, num_quantizers=5, crop_seconds=0.12),
}


def rows(stage):
    """Two sequences with prefixes and targets of different lengths, padded: ids, weights, where the targets begin."""
    rng = np.random.default_rng(0)
    length = stage.max_length + 3
    ids, weights = np.full((2, length), PAD, np.int32), np.zeros((2, length), np.float32)
    begins = []
    for row, cut in enumerate((0, 1)):
        prefix = np.zeros(0, np.int32)
        if stage.prefix is not None:
            frames = stage.max_prefix_length // stage.prefix.num_levels - cut
            size = 7 if stage.name == "coarse" else 5
            codes = rng.integers(0, size, (frames, stage.prefix.num_levels))
            prefix = stage.layout.encode_frames(stage.prefix.stream, codes, stage.prefix.first_level)
        frames = (stage.max_target_length - int(stage.target_eos)) // stage.target.num_levels - 2 * cut
        codes = rng.integers(0, 5, (frames, stage.target.num_levels))
        target = stage.layout.encode_frames(stage.target.stream, codes, stage.target.first_level)
        if stage.target_eos:
            target = np.append(target, EOS)
        whole = np.concatenate([prefix, target])
        ids[row, : len(whole)] = whole
        weights[row, len(prefix) : len(whole)] = 1
        begins.append(len(prefix))
    return ids, weights, begins


@pytest.mark.parametrize("name", STAGES)
def test_legal_ids_are_those_of_the_stage(name):
    stage = STAGES[name]
    legal = legal_ids(stage)
    levels, size = legal.legal.shape
    assert levels == stage.target.num_levels
    for place in range(levels):
        ids = legal.id_of(place, np.arange(size))[legal.legal[place]]
        assert ids.tolist() == np.flatnonzero(stage.allowed(np.int32(place), True)).tolist()
        assert legal.row_of(place, ids).tolist() == np.flatnonzero(legal.legal[place]).tolist()


@pytest.mark.parametrize("name", STAGES)
def test_nats_equal_a_masked_softmax_over_the_whole_vocabulary(name):
    stage = STAGES[name]
    model = StageModel(stage, CONFIG)
    params = model.init(jax.random.key(0))
    ids, weights, begins = rows(stage)
    found = jax.jit(model.target_nats)(params, ids, weights)
    logits = np.asarray(model.hidden(params, jnp.asarray(ids)) @ params["embedding"].T, np.float64)
    assert float(found.weights.sum()) == weights.sum()
    for row, begin in enumerate(begins):
        flat = np.asarray(found.nats[row]).reshape(-1)
        counts = np.asarray(found.weights[row]).reshape(-1)
        for position in range(int(weights[row].sum())):
            one = logits[row, begin + position]
            allowed = np.flatnonzero(stage.allowed(np.int32(position), True))
            log_total = np.log(np.exp(one[allowed] - one.max()).sum()) + one.max()
            np.testing.assert_allclose(flat[position], log_total - one[ids[row, begin + position]], atol=1e-4)
            assert counts[position] == 1
        assert not flat[int(weights[row].sum()) :].any()


def test_padding_changes_nothing():
    stage = STAGES["coarse"]
    model = StageModel(stage, CONFIG)
    params = model.init(jax.random.key(0))
    ids, weights, _ = rows(stage)
    wide = model.target_nats(params, np.pad(ids, ((0, 0), (0, 5))), np.pad(weights, ((0, 0), (0, 5))))
    np.testing.assert_allclose(wide.nats, model.target_nats(params, ids, weights).nats, atol=1e-5)
