"""The LSTM (Hochreiter and Schmidhuber 1997) of published codecs: several layers, one direction."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.pretrained.stream import STREAM, WHOLE, Cut


class Lstm(nn.Module):
    """Layers one on the other, [B, T, D] -> [B, T, H], that start from zeros or where the last window stopped.

    Each has input_kernel [D, 4 H], recurrent_kernel [H, 4 H], input_bias and recurrent_bias [4 H], all with the gates
    in the order input, forget, cell, output. The two biases are only ever added to each other; they are kept apart
    because checkpoints hold both.
    """

    features: int
    num_layers: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, cut: Cut = WHOLE) -> jax.Array:
        gates = 4 * self.features
        kernel = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        bias = nn.with_logical_partitioning(nn.initializers.zeros, ("mlp",))
        for layer in range(self.num_layers):
            input_kernel = self.param(f"layer{layer}_input_kernel", kernel, (x.shape[-1], gates))
            recurrent_kernel = self.param(f"layer{layer}_recurrent_kernel", kernel, (self.features, gates))
            input_bias = self.param(f"layer{layer}_input_bias", bias, (gates,))
            recurrent_bias = self.param(f"layer{layer}_recurrent_bias", bias, (gates,))
            start = jnp.zeros((2, x.shape[0], self.features), x.dtype)
            if cut.is_window:
                past = self.variable(STREAM, f"layer{layer}", jnp.zeros_like, start)
                start = jnp.where(cut.is_first, start, past.value)
            # What comes from the input is one product for all steps; only the rest has to wait for the step before.
            inputs = x @ input_kernel + (input_bias + recurrent_bias)
            x, end = _recurrence(inputs, recurrent_kernel, start)
            if cut.is_window:
                past.value = end
        return x


def _recurrence(inputs: jax.Array, recurrent_kernel: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs [B, T, H] of one layer, and its state at the end.

    Args:
        inputs: [B, T, 4 H], what the input and the biases give to the gates.
        recurrent_kernel: [H, 4 H].
        start: [2, B, H], output and cell before the first step.
    """

    def step(state, now):
        output, cell = state
        # The product of output and kernel, as a convolution over rows of kernel 1: of a few rows, XLA on CPU takes two
        # to three times as long for a product.
        past = jax.lax.conv_general_dilated(
            output[None], recurrent_kernel[None], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )[0]
        into, forget, candidate, out = jnp.split(now + past, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(into) * jnp.tanh(candidate)
        output = jax.nn.sigmoid(out) * jnp.tanh(cell)
        return (output, cell), output

    end, outputs = jax.lax.scan(step, (start[0], start[1]), jnp.moveaxis(inputs, 1, 0))
    return jnp.moveaxis(outputs, 0, 1), jnp.stack(end)
