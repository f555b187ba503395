"""LSTM: the equations step by step, several layers, windows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.pretrained.encodec.lstm import Lstm
from audiolm_jax.pretrained.stream import STREAM, Cut, start_state

WIDTH, LAYERS, BATCH, STEPS = 5, 2, 3, 12


def network():
    module = Lstm(WIDTH, LAYERS)
    x = np.random.default_rng(0).normal(size=(BATCH, STEPS, 7)).astype(np.float32)
    params = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return module, params, x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_by_step(params, x):
    for layer in range(LAYERS):
        part = {name: params[f"layer{layer}_{name}"].astype(np.float64) for name in (
            "input_kernel", "recurrent_kernel", "input_bias", "recurrent_bias")}  # fmt: skip
        h, c, outputs = np.zeros((BATCH, WIDTH)), np.zeros((BATCH, WIDTH)), []
        for t in range(x.shape[1]):
            gates = x[:, t] @ part["input_kernel"] + part["input_bias"]
            gates = gates + h @ part["recurrent_kernel"] + part["recurrent_bias"]
            i, f, g, o = (gates[:, gate * WIDTH : (gate + 1) * WIDTH] for gate in range(4))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs, axis=1)
    return x


def test_the_equations():
    module, params, x = network()
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x), step_by_step(params, x), atol=1e-6)


def test_windows_go_on_where_the_last_one_stopped():
    module, params, x = network()
    whole = step_by_step(params, x)
    state = start_state(module, params, x[:, :4])
    run = jax.jit(lambda state, x, first: module.apply(
        {"params": params, STREAM: state}, x, Cut(True, first), mutable=[STREAM]))  # fmt: skip
    parts = []
    for begin in range(0, STEPS, 4):
        part, after = run(state, x[:, begin : begin + 4], begin == 0)
        state = after[STREAM]
        parts.append(part)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-6)
    # A first window forgets what the state holds of another recording.
    again, _ = run(state, x[:, :4], True)
    np.testing.assert_array_equal(again, parts[0])


def test_parameters_of_large_matrices_name_their_axes():
    boxed = jax.eval_shape(Lstm(4).init, jax.random.key(0), jnp.zeros((1, 2, 3)))["params"]
    assert boxed["layer0_recurrent_kernel"].names == ("embed", "mlp")
