"""Muon: which weights it orthogonalises, and that it descends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.tokens.stages import semantic_stage
from audiolm_jax.training.optimization.muon import (
    MatrixAxes,
    convolution_matrices,
    muon,
    orthogonal_momentum,
    orthogonalised,
    transformer_matrices,
)


def test_first_update_of_a_kernel_is_orthogonal_and_of_adams_size():
    kernel = jax.random.normal(jax.random.key(0), (3, 8, 16))
    optimizer = muon(peak_learning_rate=1.0, warmup_steps=1, total_steps=10, schedule="constant")
    update, _ = optimizer.update({"kernel": kernel}, optimizer.init({"kernel": kernel}), {"kernel": kernel})
    singular_values = np.linalg.svd(np.asarray(update["kernel"]).reshape(24, 16), compute_uv=False)
    # Newton-Schulz leaves singular values within a third of one another; those of the gradient differ fivefold.
    assert singular_values.max() / singular_values.min() < 2.0
    assert 0.1 < float(jnp.sqrt(jnp.mean(update["kernel"] ** 2))) < 0.3


def test_edge_layers_and_biases_stay_with_adam():
    params = {"first": jnp.zeros((7, 1, 8)), "last": jnp.zeros((7, 8, 1)), "bias": jnp.zeros(8)}
    assert jax.tree.leaves(convolution_matrices(params), is_leaf=lambda leaf: leaf is None) == [None, None, None]


def test_transformer_weights_are_matrices_and_the_rest_is_not():
    model = StageModel(semantic_stage(), TransformerConfig(num_layers=2, num_heads=2, embed_dim=16, mlp_dim=32))
    matrices = transformer_matrices(jax.eval_shape(model.init, jax.random.key(0)))
    assert {name for name, found in matrices.items() if found is not None} == {
        "qkv", "attention_out", "mlp_in", "mlp_out",
    }  # fmt: skip


def test_it_descends():
    target = jax.random.normal(jax.random.key(1), (1, 4, 6))
    params = {"kernel": jnp.zeros((1, 4, 6)), "bias": jnp.zeros(6)}
    optimizer = muon(peak_learning_rate=0.2, warmup_steps=5, total_steps=200)

    def loss(params):
        return jnp.mean(jnp.square(params["kernel"] + params["bias"] - target))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, first = optimizer.init(params), float(loss(params))
    for _ in range(200):
        params, state = step(params, state)
    assert float(loss(params)) < 0.05 * first


def newton_schulz(matrix, iterations):
    """The iteration as it is written in its paper, on the matrix itself."""
    matrix = matrix / np.linalg.norm(matrix)
    for _ in range(iterations):
        gram = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * gram + 2.0315 * gram @ gram) @ matrix
    return matrix


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (16, 16)])
@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_the_gram_matrix_gives_what_the_iteration_on_the_matrix_gives(shape, iterations):
    matrix = np.random.default_rng(0).normal(size=shape)
    expected = newton_schulz(matrix, iterations)
    np.testing.assert_allclose(orthogonalised(jnp.asarray(matrix, jnp.float32), iterations), expected, atol=1e-5)


def test_axes_that_are_no_inputs_or_outputs_count_matrices():
    gradient = jax.random.normal(jax.random.key(2), (2, 4, 3, 5))  # two layers; inputs are axes 1 and 3
    transformation = orthogonal_momentum(0.0, 5, lambda tree: jax.tree.map(lambda _: MatrixAxes((1, 3), 2), tree))
    update = transformation.update(gradient, transformation.init(gradient))[0]
    for layer in range(2):
        matrix = np.asarray(gradient[layer]).transpose(0, 2, 1).reshape(20, 3)
        expected = 0.2 * 20**0.5 * np.asarray(orthogonalised(jnp.asarray(matrix), 5))
        np.testing.assert_allclose(np.asarray(update[layer]).transpose(0, 2, 1).reshape(20, 3), expected, atol=1e-5)
