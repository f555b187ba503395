"""Int8 arithmetic as LiteRT's kernels do it, in float32: for published networks that were trained to be run so.

A signal on a grid is counted in whole steps from the grid's zero point, so that silence is 0 like elsewhere. Products
with an int8 kernel and their sums stay below 2^24 in every network here, so float32 holds them exactly, in any order,
and only what is rounded on purpose is rounded.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# The multipliers of XNNPACK's kernels are whole numbers over a power of two: of a leaky ReLU over 256, of a sum such
# that the greater one has 21 bits.
_LEAKY_DENOMINATOR = 256.0
_SUM_BITS = 20


class Grid(NamedTuple):
    """Where the 256 values of an int8 tensor lie: `scale` between two of them, `zero_point` (-128 to 127) is 0.

    Both float32, broadcast against [B, T, C].
    """

    scale: jax.Array
    zero_point: jax.Array


class Signal(NamedTuple):
    """float32[B, T, C]: as it is, or on a grid and then in steps."""

    values: jax.Array
    grid: Grid | None = None


def real(signal: Signal) -> jax.Array:
    """float32[B, T, C] in the signal's own unit."""
    if signal.grid is None:
        return signal.values
    scale = signal.grid.scale
    # The ends change nothing, but they keep a compiler from making one rounding of this product and a sum behind it.
    low, high = _ends(signal.grid)
    return jnp.clip(signal.values * scale, low * scale, high * scale)


def on_grid(values: jax.Array, grid: Grid) -> Signal:
    """The nearest values of the grid, the even one of two; what lies beyond its ends becomes an end."""
    return Signal(_held(jnp.round(values * _ratio(jnp.ones_like(grid.scale), grid.scale)), grid), grid)


def from_products(sums: jax.Array, scale: jax.Array, grid: Grid) -> Signal:
    """What a convolution gives on a grid, of sums of products in steps of `scale`."""
    return Signal(_held(jnp.round(sums * _ratio(scale, grid.scale)), grid), grid)


def leaky_relu(x: Signal, slope: float, grid: Grid | None) -> Signal:
    """x where it is positive, slope * x elsewhere; of a signal on a grid on the given one."""
    if x.grid is None:
        return Signal(jnp.where(x.values >= 0, x.values, x.values * slope))
    ratio = _ratio(x.grid.scale, grid.scale)
    multiplier = jnp.where(x.values >= 0, ratio, ratio * jnp.float32(slope))
    multiplier = jnp.round(_LEAKY_DENOMINATOR * multiplier)
    return Signal(_held(jnp.floor(x.values * multiplier / _LEAKY_DENOMINATOR + 0.5), grid), grid)


def add(x: Signal, y: Signal, grid: Grid | None) -> Signal:
    """x + y, on the given grid where one of them is on one."""
    if grid is None:
        return Signal(x.values + y.values)
    if x.grid is None or y.grid is None:
        return on_grid(real(x) + real(y), grid)
    ratios = _ratio(x.grid.scale, grid.scale), _ratio(y.grid.scale, grid.scale)
    shift = _SUM_BITS + 1 - jnp.frexp(jnp.maximum(*ratios))[1]
    # Powers of two are made of whole numbers: what a device takes for exp2 need not be exact.
    power = jnp.left_shift(jnp.int32(1), shift)
    multipliers = [jnp.round(ratio * power.astype(jnp.float32)).astype(jnp.int32) for ratio in ratios]
    total = x.values.astype(jnp.int32) * multipliers[0] + y.values.astype(jnp.int32) * multipliers[1]
    rounded = jnp.right_shift(total + jnp.right_shift(power, 1), shift)
    return Signal(_held(rounded.astype(jnp.float32), grid), grid)


def _ratio(scale: jax.Array, other: jax.Array) -> jax.Array:
    """scale / other, rounded once: a compiler must not take the reciprocal of what it sees to be broadcast."""
    return scale / jax.lax.optimization_barrier(jnp.broadcast_to(other, jnp.broadcast_shapes(scale.shape, other.shape)))


def _held(steps: jax.Array, grid: Grid) -> jax.Array:
    return jnp.clip(steps, *_ends(grid))


def _ends(grid: Grid) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest value of a grid, in steps."""
    return -128.0 - grid.zero_point, 127.0 - grid.zero_point
