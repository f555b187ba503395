"""The counter of multiplications and additions against counts by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl

from audiolm_jax.check.flops import Flops, count_flops, kernel_flops
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.tokens.stages import coarse_stage
from audiolm_jax.training.optimization.optimizers import adam

LAYERS, ROWS, WIDTH = 3, 8, 16
ONE = 2 * ROWS * WIDTH * WIDTH


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def count(function, *args) -> Flops:
    return count_flops(jax.make_jaxpr(function)(*args))


def layers(weights, x, remat=False, scanned=True):
    def layer(x, weight):
        return jnp.tanh(x @ weight), None

    layer = jax.checkpoint(layer) if remat else layer
    if scanned:
        return lax.scan(layer, x, weights)[0].sum()
    for weight in weights:
        x = layer(x, weight)[0]
    return x.sum()


def test_a_product():
    assert count(jnp.matmul, shape(3, 4), shape(4, 5)).other == 2 * 3 * 4 * 5
    batched = count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), shape(7, 3, 4), shape(7, 4, 5))
    assert batched.hardware == 2 * 7 * 3 * 4 * 5


@pytest.mark.parametrize("scanned", [True, False])
def test_a_loop_counts_as_often_as_it_runs(scanned):
    flops = count(functools.partial(layers, scanned=scanned), shape(LAYERS, WIDTH, WIDTH), shape(ROWS, WIDTH))
    assert flops == Flops(other=LAYERS * ONE)


@pytest.mark.parametrize("scanned", [True, False])
def test_a_gradient_is_two_products_for_one(scanned):
    loss = functools.partial(layers, scanned=scanned)
    flops = count(jax.jit(jax.value_and_grad(loss, (0, 1))), shape(LAYERS, WIDTH, WIDTH), shape(ROWS, WIDTH))
    assert flops == Flops(forward=LAYERS * ONE, backward=2 * LAYERS * ONE)
    assert flops.model == flops.hardware == 3 * LAYERS * ONE


@pytest.mark.parametrize("scanned", [True, False])
def test_what_is_computed_again_is_hardware_and_not_model(scanned):
    loss = functools.partial(layers, remat=True, scanned=scanned)
    flops = count(jax.value_and_grad(loss, (0, 1)), shape(LAYERS, WIDTH, WIDTH), shape(ROWS, WIDTH))
    assert flops.model == 3 * LAYERS * ONE
    assert flops.hardware == 4 * LAYERS * ONE and flops.recomputed == LAYERS * ONE


def test_a_backward_pass_of_our_own_counts_twice_the_forward_at_most():
    @jax.custom_vjp
    def product(a, b):
        return a @ b

    def backward(kept, d_out):
        a, b = kept
        again = (a @ b).sum() * 0  # recomputation without the mark of rematerialisation
        return d_out @ b.T + again, a.T @ d_out

    product.defvjp(lambda a, b: (a @ b, (a, b)), backward)
    flops = count(jax.grad(lambda a, b: product(a, b).sum(), (0, 1)), shape(ROWS, WIDTH), shape(WIDTH, WIDTH))
    assert flops.hardware == 4 * ONE and flops.model == 3 * ONE


def test_a_convolution_and_its_gradients():
    def convolve(x, kernel):
        return lax.conv_general_dilated(x, kernel, (2,), [(0, 0)], dimension_numbers=("NWC", "WIO", "NWC"))

    x, kernel = shape(2, 20, 6), shape(4, 6, 10)
    outputs = 2 * 9 * 10
    assert count(convolve, x, kernel).other == 2 * outputs * 4 * 6
    # The gradients are dilated or have a window as long as the signal; only what meets an element counts.
    flops = count(jax.grad(lambda x, k: convolve(x, k).sum(), (0, 1)), x, kernel)
    assert flops.backward == 2 * 2 * outputs * 4 * 6


def test_padding_does_not_count():
    def convolve(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    # Of 5 outputs with 3 taps each, the first and the last reach over the end by one.
    assert count(convolve, shape(1, 5, 2), shape(3, 2, 4)).other == 2 * (5 * 3 - 2) * 2 * 4


def test_groups_divide_the_work():
    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=4
        )

    assert count(convolve, shape(1, 8, 16), shape(1, 4, 16)).other == 2 * 8 * 4 * 16


def test_the_costliest_branch_counts():
    def choose(flag, a):
        return lax.cond(flag, lambda: a @ a @ a, lambda: a)

    assert count(choose, jax.ShapeDtypeStruct((), bool), shape(4, 4)).other == 2 * 2 * 4**3


def test_a_kernel_counts_once_for_every_step_of_its_grid():
    def kernel(x, out):
        out[...] = x[...] @ x[...]

    call = pl.pallas_call(
        kernel,
        grid=(5, 3),
        in_specs=[pl.BlockSpec((8, 8), lambda i, j: (0, 0))],
        out_specs=pl.BlockSpec((8, 8), lambda i, j: (0, 0)),
        out_shape=shape(8, 8),
        name="square",
    )
    jaxpr = jax.make_jaxpr(call)(shape(8, 8))
    assert count_flops(jaxpr).other == 15 * 2 * 8**3
    assert kernel_flops(jaxpr) == {"square": 15 * 2 * 8**3}


def test_conditional_parts_of_a_kernel_exclude_one_another():
    def kernel(x, out):
        step = pl.program_id(0)
        pl.when(step < 2)(lambda: out.__setitem__(..., x[...] @ x[...]))
        pl.when(step >= 2)(lambda: out.__setitem__(..., x[...] @ x[...] + 1))

    call = pl.pallas_call(kernel, grid=(5,), out_shape=shape(8, 8), name="either")
    assert kernel_flops(jax.make_jaxpr(call)(shape(8, 8))) == {"either": 5 * 2 * 8**3}
    stated = pl.CostEstimate(flops=123, transcendentals=0, bytes_accessed=0)
    call = pl.pallas_call(kernel, grid=(5,), out_shape=shape(8, 8), name="stated", cost_estimate=stated)
    assert kernel_flops(jax.make_jaxpr(call)(shape(8, 8))) == {"stated": 123}


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_a_stage_has_the_model_flops_of_its_formula(remat):
    config = TransformerConfig(
        num_layers=2, num_heads=2, embed_dim=32, mlp_dim=64, dropout=0.0, remat=remat, unroll=False, attention="xla"
    )
    stage = coarse_stage(semantic_vocab=30, codebook_size=30, num_coarse_quantizers=2, crop_seconds=0.48)
    learner = StageLearner(stage, config, adam(1e-3, 1, 10))
    rows, length = 4, stage.sequence_length
    batch = {
        "ids": jax.ShapeDtypeStruct((rows, length), jnp.int32),
        "loss_weights": jax.ShapeDtypeStruct((rows, length), jnp.float32),
    }
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key, batch)
    flops = count(learner.train_step, state, batch, key)
    dense = 2 * (4 * 32 * 32 + 2 * 32 * 64) * rows * length
    # Up to 64 positions the attention of XLA is one block, the whole square.
    assert length <= 64
    attention = 2 * 2 * rows * 2 * length * length * 16 * 2
    logits = 2 * rows * stage.max_target_length * 32 * 30
    forward = 2 * dense + attention + logits
    assert flops.forward == pytest.approx(forward, rel=0.01)
    assert flops.model == pytest.approx(3 * forward, rel=0.01)
    assert (flops.recomputed > 0) == (remat != "none")
