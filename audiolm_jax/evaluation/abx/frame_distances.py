"""Distances of frames: in one fixed order of rounding, that of Libri-light's evaluator on a CPU.

With quantised features most comparisons of ABX are ties in exact arithmetic, and rounding decides them; with others
it decides one in a million. So the sums here run in the order of PyTorch's sum over the last axis, with every product
rounded. It makes a distance also the same number wherever, and in whatever batch, two frames meet, which a matrix
product does not. What is left is the last bit of the arccosine, where libraries differ.
"""

import dataclasses
import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.errors import UserError

# The angle over pi, the length of the difference, and of frames that are ids whether they are the same.
DISTANCES = ("cosine", "euclidian", "identity")
# Zero and pi as `between` needs them, handed over as an argument: what compilers know they compute with beforehand.
CONSTANTS = np.array([0.0, np.pi], np.float32)

_LANES, _SUMS, _CASCADE = 8, 4, 16  # see `_SumOrder`
# (arcsin(sqrt(z)) / sqrt(z) - 1) / z for z up to 1/4: a Chebyshev fit.
_ARCSIN_SERIES = (
    1.6666666317e-01, 7.5000987654e-02, 4.4598031628e-02, 3.1116161936e-02, 1.7077837392e-02, 3.3805780269e-02,
)  # fmt: skip
_PI_REST = np.float32(np.pi - np.float64(np.float32(np.pi)))


def prepared(features: np.ndarray, distance: str) -> np.ndarray:
    """Frames as a distance takes them: `unit_frames`, and ids [T, 1] as they are.

    Raises:
        UserError: frames are no ids that float32 holds.
    """
    if distance != "identity":
        return unit_frames(features)
    ids = features.astype(np.float32)
    if features.shape[1] != 1 or np.any(ids != features) or np.any(ids != np.rint(ids)):
        raise UserError("the distance identity takes frames that are whole numbers [T, 1]")
    return ids


def unit_frames(features: np.ndarray) -> np.ndarray:
    """Frames of length 1 with one more column, as the distances expect them.

    The column keeps silence apart: a frame of zeros, which has no direction, becomes 1 / sqrt(D) with -2e12 in the
    column, the others have 1e-12 there. So it is as far as can be from every other frame, and at distance 0 from
    another frame of zeros.

    Args:
        features: float32[T, D] or float64[T, D], normalised in the precision they have.

    Returns:
        float32[T, D + 1].
    """
    order = _SumOrder.of(features.shape[1])
    squares = order.sum([np.square(features[:, dim]) for dim in order.dims])[:, None]
    silent = squares[:, 0] == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = features / np.sqrt(squares)
    unit[silent] = 1 / math.sqrt(features.shape[1])
    column = np.where(silent, -2e12, 1e-12)[:, None]
    return np.concatenate([unit, column], axis=1).astype(np.float32)


def dims_first(frames: np.ndarray) -> np.ndarray:
    """Frames float32[T, D] as `between` takes them: float32[D, T], the dimensions in the order of the sum."""
    return frames.T[_SumOrder.of(frames.shape[1]).dims]


def between(rows: jax.Array, columns: jax.Array, constants: jax.Array, distance: str) -> jax.Array:
    """Distances of all frames of pairs of segments.

    Args:
        rows, columns: float32[P, D, I] and float32[P, D, J], of frames of `dims_first`.
        constants: `CONSTANTS`.
        distance: one of `DISTANCES`.

    Returns:
        float32[P, I, J].

    Raises:
        ValueError: another distance.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance {distance!r} is not one of {', '.join(DISTANCES)}")
    if distance == "identity":  # the angle between vectors with a single 1, over pi
        return jnp.where(rows[:, 0, :, None] == columns[:, 0, None, :], 0.0, 0.5)
    zero, pi = constants

    def term(dim):
        x = jax.lax.dynamic_index_in_dim(rows, dim, 1, False)[:, :, None]
        y = jax.lax.dynamic_index_in_dim(columns, dim, 1, False)[:, None, :]
        # Joined with this sum, products are rounded; joined with the next, as the compiler would, they are not.
        return (x * y if distance == "cosine" else jnp.square(x - y)) + zero

    order = _SumOrder.of(rows.shape[1])
    single = _chained([term(dim) for dim in range(order.num_single)])

    def add_lane(lane, total):
        first = order.num_single + lane * order.num_lane
        return total + order.lane([term(first + place) for place in range(order.num_lane)])

    total = single[0] if single else jnp.zeros((len(rows), rows.shape[2], columns.shape[2]))
    if order.num_lane:
        total = jax.lax.fori_loop(0, _LANES, add_lane, total)
    if distance == "euclidian":
        return jnp.sqrt(total)
    # A division as it should be: XLA multiplies by the inverse, which rounds twice.
    angle = _arccos(jnp.clip(total, -1.0, 1.0))
    share = angle * (1.0 / pi)
    return share + (angle - share * pi) * (1.0 / pi)


@dataclasses.dataclass(frozen=True, eq=False)
class _SumOrder:
    """The order in which D terms are added: that of PyTorch's sum over the last axis, with vectors of 8 lanes.

    First the terms that fill no vector; then the sum of each lane, one after another.

    Attributes:
        dims: the D terms in the order they are taken.
        num_single: of these, the terms at the beginning that fill no vector.
        num_lane: terms of each lane.
    """

    dims: np.ndarray
    num_single: int
    num_lane: int

    @classmethod
    def of(cls, num_dims: int) -> "_SumOrder":
        num_lane, num_single = divmod(num_dims, _LANES)
        # The vectors are dealt to four sums, and what is left over goes to the first.
        dealt = num_lane - num_lane % _SUMS
        sums = [list(range(first, dealt, _SUMS)) for first in range(_SUMS)]
        vectors = [*sums[0], *range(dealt, num_lane), *sums[1], *sums[2], *sums[3]]
        lanes = [vector * _LANES + lane for lane in range(_LANES) for vector in vectors]
        return cls(np.array([*range(num_lane * _LANES, num_dims), *lanes]), num_single, num_lane)

    def lane(self, terms: list):
        """Sum of the terms of one lane, at least one."""
        share, rest = divmod(self.num_lane, _SUMS)
        first = [*_cascade(terms[:share]), *terms[share : share + rest]]
        others = [_cascade(terms[begin : begin + share]) for begin in range(share + rest, self.num_lane, share or 1)]
        return _chain([_chain(first), *(_chain(other) for other in others)])

    def sum(self, terms: list):
        """Of all terms, in the order of `dims`."""
        firsts = range(self.num_single, len(terms), self.num_lane or 1)
        lanes = [self.lane(terms[first : first + self.num_lane]) for first in firsts]
        return _chain(_chained(terms[: self.num_single]) + lanes)


def _cascade(terms: list) -> list:
    """What is left over of the terms, and what whole blocks of 16 sum to, each as one number, if there are any."""
    whole = len(terms) - len(terms) % _CASCADE
    blocks = [_chain(terms[first : first + _CASCADE]) for first in range(0, whole, _CASCADE)]
    return _chained(_chained(terms[whole:]) + _chained(blocks))


def _chained(terms: list) -> list:
    """Their sum from the first to the last as a list of one; of none an empty list."""
    return [_chain(terms)] if terms else []


def _chain(terms: list):
    return functools.reduce(operator.add, terms)


def _arccos(x: jax.Array) -> jax.Array:
    """arccos float32, nearly always the nearest float32; XLA's own takes ten times as long on a CPU.

    arccos(x) = pi / 2 - arcsin(x) for small x; near 1 and -1, with r = sqrt((1 - |x|) / 2), it is 2 arcsin(r) and
    pi - 2 arcsin(r). arcsin(r) = r + r z P(z) with z = r^2 up to 1/4, where P is fitted to 4e-9. What rounding takes
    from the root and from the difference to pi is put back at the end.
    """
    size = jnp.abs(x)
    outer = size > 0.5
    square = jnp.where(outer, 0.5 * (1.0 - size), size * size)
    root = jnp.sqrt(square)
    # The root's 12 leading bits and the rest: their products are exact, so what is left of the square is too.
    leading = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(root, jnp.int32) & -4096, jnp.float32)
    rest = root - leading
    left_over = ((square - leading * leading) - 2.0 * leading * rest) - rest * rest
    series = jnp.float32(_ARCSIN_SERIES[-1])
    for coefficient in _ARCSIN_SERIES[-2::-1]:
        series = series * square + coefficient
    sign = jnp.where(x < 0, 1.0, -1.0)
    main = jnp.where(outer, sign * (2.0 * root), x)
    correction = left_over / jnp.maximum(2.0 * root, 1e-30) + root * (square * series)
    tail = jnp.where(outer, sign * (2.0 * correction), x * (square * series))
    turn = jnp.where(outer, jnp.where(x < 0, np.float32(np.pi), 0.0), np.float32(np.pi / 2))
    turn_rest = jnp.where(outer, jnp.where(x < 0, _PI_REST, 0.0), _PI_REST / 2)
    angle = turn - main
    return angle + ((((turn - angle) - main) + turn_rest) - tail)
