"""The Transformer: its parameters, its two ways of running the layers, causality, dropout."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.lm.transformer import Transformer, dropout, unstack_layers
from audiolm_jax.parallel.rules import LOGICAL_AXIS_RULES
from audiolm_jax.tokens.stages import coarse_stage
from tests.gin_sizes import learner_of

GOLDEN = Path(__file__).parents[1] / "golden" / "transformer_parameters.json"
PLAIN = TransformerConfig(num_layers=2, num_heads=2, embed_dim=16, mlp_dim=24, dropout=0.2)
GATED = dataclasses.replace(PLAIN, gated_mlp=True)
IDS = jax.random.randint(jax.random.key(1), (2, 9), 0, 128)


def run(config, params, ids=IDS, dropout_key=None):
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    network = Transformer(config, 128)
    return network.apply({"params": params}, ids, deterministic=dropout_key is None, rngs=rngs)


def start(config):
    return jax.jit(StageModel(coarse_stage(codebook_size=16, semantic_vocab=16), config).init)(jax.random.key(0))


def parameters(config):
    model = StageModel(coarse_stage(), config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    axes = model.logical_axes()
    return {name: {"shape": list(shapes[name].shape), "axes": list(axes[name])} for name in sorted(shapes)}


def test_shapes_and_axes_are_the_golden_ones():
    small = TransformerConfig(num_layers=6, num_heads=4, embed_dim=256, mlp_dim=1024)
    found = {
        "paper": parameters(learner_of("coarse_librilight_paper").config),
        "small": parameters(small),
        "small_gated": parameters(dataclasses.replace(small, gated_mlp=True)),
    }
    assert found == json.loads(GOLDEN.read_text())


def test_every_axis_has_a_rule_and_layers_come_first():
    rules = dict(LOGICAL_AXIS_RULES)
    for name, parameter in parameters(GATED).items():
        assert all(axis is None or axis in rules for axis in parameter["axes"]), name
        assert "layers" not in parameter["axes"][1:]


def test_paper_size_count():
    config = learner_of("coarse_librilight_paper").config
    shapes = jax.eval_shape(StageModel(coarse_stage(), config).init, jax.random.key(0))
    body = sum(np.prod(s.shape) for name, s in shapes.items() if name not in ("embedding", "relative_bias"))
    # 12 * (4 * 1024^2 + 2 * 1024 * 4096) and the scales of 25 norms.
    assert body == 12 * 12_582_912 + 25 * 1024


@pytest.mark.parametrize("config", [PLAIN, GATED], ids=["plain", "gated"])
def test_scan_unrolled_and_remat_are_one_function(config):
    params = start(config)
    key = jax.random.key(3)

    def loss(one):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(run(one, p, dropout_key=key)))))(params)

    value, grads = loss(config)
    for other in ({"unroll": False}, {"remat": "full"}):
        other_value, other_grads = loss(dataclasses.replace(config, **other))
        np.testing.assert_allclose(other_value, value, rtol=1e-5)
        for name in grads:
            np.testing.assert_allclose(other_grads[name], grads[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("unroll", [False, True])
def test_a_small_step_of_a_norm_scale_counts_in_bfloat16(unroll):
    config = dataclasses.replace(PLAIN, compute_dtype="bfloat16", unroll=unroll)
    params = start(config)
    scale = params["mlp_norm_scale"] * 1.001
    assert jnp.array_equal(jnp.bfloat16(scale), jnp.bfloat16(params["mlp_norm_scale"]))
    layers = {name: params[name] for name in ("mlp_norm_scale", "attention_norm_scale", "qkv")}
    for layer in unstack_layers(config, layers):
        assert {name: str(value.dtype) for name, value in layer.items()} == {
            "mlp_norm_scale": "float32", "attention_norm_scale": "float32", "qkv": "bfloat16",
        }
    assert not jnp.array_equal(run(config, params), run(config, params | {"mlp_norm_scale": scale}))


def test_no_position_sees_the_future():
    params = start(PLAIN)
    before = run(PLAIN, params)
    after = run(PLAIN, params, IDS.at[:, 5].set((IDS[:, 5] + 1) % 128))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=-1).all()


def test_dropout_keeps_the_mean_and_drops_its_share():
    out = dropout(jnp.ones((400, 500)), 0.1, jax.random.key(0))
    assert abs(float(out.mean()) - 1) < 0.005
    assert abs(float((out == 0).mean()) - 0.1) < 0.01


def test_dropout_only_with_a_key():
    params = start(PLAIN)
    plain = run(PLAIN, params)
    assert (run(PLAIN, params, dropout_key=jax.random.key(1)) != plain).any()
    none = dataclasses.replace(PLAIN, dropout=0.0)
    np.testing.assert_array_equal(run(none, params, dropout_key=jax.random.key(1)), plain)


@pytest.mark.parametrize(
    "change",
    [{"num_heads": 3}, {"dropout": 1.0}, {"remat": "some"}, {"compute_dtype": "float16"}, {"num_layers": 0}],
    ids=lambda change: next(iter(change)),
)
def test_mistaken_sizes_are_told(change):
    with pytest.raises(UserError, match=next(iter(change))):
        dataclasses.replace(PLAIN, **({"head_dim": 0} | change))
