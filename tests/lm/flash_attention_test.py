"""The attention kernels, interpreted, against the definition; and which of them runs where."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from audiolm_jax.errors import UserError
from audiolm_jax.lm import flash_attention, flash_gpu, flash_tpu
from audiolm_jax.lm.attention import reference_attention
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.flash_attention import chosen_implementation, distance_attention
from audiolm_jax.lm.transformer import Transformer

# Interpreted kernels are long programs of little work.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KERNELS = {"tpu": flash_tpu, "gpu": flash_gpu}
# batch, heads, length, head width, distances with a bias of their own, block.
SIZES = {
    "one token": (1, 1, 1, 4, 1, 16),
    "a shorter last block": (2, 1, 41, 8, 14, 16),
    "every distance and more, odd width": (1, 6, 40, 24, 44, 16),
    "groups of heads, far tiles without bias": (2, 4, 100, 64, 10, 32),
    "blocks of several cells": (1, 1, 700, 64, 129, 256),
}


def inputs(batch, heads, length, width, distances, dtype="float32"):
    key = jax.random.key(length)
    q, k, v, d_out = (
        jax.random.normal(jax.random.fold_in(key, i), (batch, heads, length, width)).astype(dtype) for i in range(4)
    )
    return (q * width**-0.5, k, v, jax.random.normal(key, (heads, distances))), d_out


def definition(q, k, v, bias):
    further = jnp.broadcast_to(bias[:, -1:], (bias.shape[0], max(0, q.shape[2] - bias.shape[1])))
    return reference_attention(q, k, v, jnp.concatenate([bias[:, : q.shape[2]], further], axis=1))


def flat(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def kernel_results(kernel, arguments, d_out, block):
    """Output and gradients, flat, of the kernels."""
    q, k, v = (flat(x) for x in arguments[:3])
    bias = arguments[3]

    @jit
    def run(q, k, v, bias, d_out):
        out, log_sum = kernel.forward(q, k, v, bias, block=block, interpret=True)
        return out, *kernel.backward(q, k, v, bias, out, log_sum, d_out, block=block, interpret=True)

    return run(q, k, v, bias, flat(d_out))


def definition_results(arguments, d_out):
    @jit
    def run(*arguments):
        out, transposed = jax.vjp(definition, *arguments)
        return out, *transposed(d_out)

    out, d_q, d_k, d_v, d_bias = run(*arguments)
    return flat(out), flat(d_q), flat(d_k), flat(d_v), d_bias


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_values_and_gradients_are_those_of_the_definition(kernel, name):
    batch, heads, length, width, distances, block = SIZES[name]
    arguments, d_out = inputs(batch, heads, length, width, distances)
    ours = kernel_results(KERNELS[kernel], arguments, d_out, block)
    for got, wanted in zip(ours, definition_results(arguments, d_out), strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_is_within_one_percent_of_float32(kernel):
    arguments, d_out = inputs(1, 1, 70, 64, 20, "bfloat16")
    ours = kernel_results(KERNELS[kernel], arguments, d_out, 32)
    exact = definition_results([x.astype(jnp.float32) for x in arguments], d_out.astype(jnp.float32))
    for got, wanted in zip(ours, exact, strict=True):
        assert got.dtype == (jnp.float32 if wanted.ndim == 2 else jnp.bfloat16)
        np.testing.assert_allclose(got.astype(jnp.float32), wanted, atol=0.01 * jnp.abs(wanted).max())


def test_large_scores_stay_finite():
    (q, k, v, bias), d_out = inputs(1, 1, 20, 8, 5)
    for kernel in KERNELS.values():
        results = kernel_results(kernel, (q * 1e4, k, v, bias), d_out, 16)
        assert all(np.isfinite(result).all() for result in results)


@pytest.mark.parametrize(("platform", "wanted"), [("tpu", "pallas_tpu"), ("gpu", "pallas_gpu"), ("cpu", "xla")])
def test_auto_is_the_platform_of_the_mesh_in_context(platform, wanted):
    device = AbstractDevice(device_kind="any", num_cores=1, platform=platform)
    with use_abstract_mesh(AbstractMesh((2,), ("data",), abstract_device=device)):
        assert chosen_implementation("auto") == wanted
        assert chosen_implementation("xla") == "xla"


def test_auto_without_a_mesh_is_the_platform_of_jax(monkeypatch):
    assert chosen_implementation("auto") == "xla"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chosen_implementation("auto") == "pallas_gpu"


def test_an_unknown_attention_is_a_users_error():
    with pytest.raises(UserError, match="attention is 'flash', but must be one of auto, xla"):
        TransformerConfig(num_layers=1, num_heads=1, embed_dim=8, mlp_dim=8, attention="flash")


def test_a_sequence_beyond_the_memory_of_a_core_is_a_users_error():
    x = jax.ShapeDtypeStruct((1, 2**20, 128), jnp.bfloat16)
    with pytest.raises(UserError, match="1048576 tokens .* set ATTENTION to 'xla'"):
        jax.eval_shape(flash_tpu.forward, x, x, x, jax.ShapeDtypeStruct((2, 129), jnp.float32))


def transformer(attention, remat):
    config = TransformerConfig(
        num_layers=2,
        num_heads=2,
        embed_dim=16,
        mlp_dim=16,
        dropout=0.1,
        relative_max_distance=20,
        attention=attention,
        remat=remat,
        unroll=False,
    )
    return Transformer(config, 16)


def compiled_gradients(network, params, ids):
    """The compiled function of parameters that gives a loss and its gradients."""

    def loss(params):
        rngs = {"dropout": jax.random.key(2)}
        return jnp.mean(jnp.square(network.apply(params, ids, deterministic=False, rngs=rngs)[..., :3] - 1))

    return jit(jax.value_and_grad(loss)).lower(params).compile()


@pytest.mark.parametrize(("remat", "again"), [("dots", False), ("full", True)])
def test_a_transformer_is_the_same_with_and_without_a_kernel(remat, again):
    ids = jax.random.randint(jax.random.key(1), (2, 40), 0, 16)
    plain, fast = transformer("xla", "none"), transformer("pallas_gpu", remat)
    params = jit(plain.init)(jax.random.key(0), ids)
    wanted, fast = compiled_gradients(plain, params, ids)(params), compiled_gradients(fast, params, ids)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(fast(params)), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6, rtol=2e-4)
    # Whether anything of attention's forward pass is left in what the backward pass computes again.
    assert bool(re.search("rematted_computation[^\"]*/distance_attention_forward", fast.as_text())) == again


def avals(jaxpr):
    """Shapes of every value in a jaxpr and those inside it, but for kernels' own."""
    for equation in jaxpr.eqns:
        yield from (value.aval.shape for value in equation.outvars)
        if equation.primitive.name != "pallas_call":
            for inner in jaxprs_in_params(equation.params):
                yield from avals(inner)


@pytest.mark.parametrize("attention", ["pallas_tpu", "pallas_gpu"])
def test_no_array_grows_with_the_square_of_the_length(attention):
    def largest(length):
        arguments, d_out = inputs(1, 2, length, 64, 129)

        def both(*arguments):
            return jax.vjp(lambda *x: distance_attention(*x, attention), *arguments)[1](d_out)

        return max(np.prod(shape, dtype=int) for shape in avals(jax.make_jaxpr(both)(*arguments).jaxpr))

    assert largest(3072) <= 2.01 * largest(1536)


def test_the_names_to_keep_are_the_names_given():
    (q, k, v, bias), _ = inputs(1, 2, 20, 8, 5)
    text = str(jax.make_jaxpr(lambda *x: distance_attention(*x, "pallas_gpu"))(q, k, v, bias))
    assert all(f"name={name}" in text for name in flash_attention.SAVED_NAMES)
