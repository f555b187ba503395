"""Multiplications and additions of a traced function, counted product by product.

Counted are matrix products and convolutions: everything else is small beside them and not what a matrix unit does.
Loops count as often as they run, kernels (Pallas) once for every step of their grid. The figures are those of the whole
machine; what a compiler says of a compiled program is per chip.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

from jax.extend import core

from audiolm_jax.check.convolution import meetings

# Where JAX writes, in an equation's name stack, that it belongs to a backward pass, and what is computed a second time.
_BACKWARD = "transpose("
_RECOMPUTED = "rematted_computation"
_DIFFERENTIATED = "jvp("


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of one call of a traced function, over all chips.

    Attributes:
        forward: of what is differentiated.
        backward: of its gradient, without what is computed a second time under rematerialisation.
        recomputed: that.
        other: of everything outside differentiation: the optimizer, codebooks, evaluation, sampling.
    """

    forward: float = 0.0
    backward: float = 0.0
    recomputed: float = 0.0
    other: float = 0.0

    @property
    def model(self) -> float:
        """What the mathematics asks for: forward, backward at most twice as much, and the rest once.

        The gradient of a product is two products of its size. What a hand-written backward pass does beyond that is
        recomputation (attention's scores), which the usual definition of MFU does not count as useful.
        """
        return self.forward + min(self.backward, 2 * self.forward) + self.other

    @property
    def hardware(self) -> float:
        """What is executed, recomputation included."""
        return self.forward + self.backward + self.recomputed + self.other


def count_flops(jaxpr: core.ClosedJaxpr) -> Flops:
    """The products of a traced function (`jax.make_jaxpr`, or `jax.jit(...).trace(...).jaxpr`)."""
    totals = {"forward": 0.0, "backward": 0.0, "recomputed": 0.0, "other": 0.0}
    for stack, flops in _products(jaxpr.jaxpr.eqns, ""):
        if _RECOMPUTED in stack:
            totals["recomputed"] += flops
        elif _BACKWARD in stack:
            totals["backward"] += flops
        elif _DIFFERENTIATED in stack:
            totals["forward"] += flops
        else:
            totals["other"] += flops
    return Flops(**totals)


def kernel_flops(jaxpr: core.ClosedJaxpr) -> dict[str, float]:
    """Multiplications and additions of one call of every kernel (Pallas), by its name; a call is one chip's."""
    found, waiting = {}, [jaxpr.jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            if equation.primitive.name == "pallas_call":
                found[equation.params["name"]] = _kernel_call_flops(equation)
            else:
                waiting += core.jaxprs_in_params(equation.params)
    return found


def _products(equations: Iterable[core.JaxprEqn], outer: str) -> Iterator[tuple[str, float]]:
    """(name stack, multiplications and additions) of every product that equations execute."""
    for equation in equations:
        stack = f"{outer}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        if name == "dot_general":
            yield stack, _dot_flops(equation)
        elif name == "conv_general_dilated":
            yield stack, _convolution_flops(equation)
        elif name == "cond":
            branches = [list(_products(branch.jaxpr.eqns, stack)) for branch in _branches(equation)]
            yield from max(branches, key=lambda found: sum(flops for _, flops in found))
        elif name == "pallas_call":
            yield stack, _kernel_call_flops(equation)
        else:
            times = _times(equation)
            for inner in _inner(equation):
                for inner_stack, flops in _products(inner.eqns, stack):
                    yield inner_stack, flops * times


def _kernel_call_flops(equation: core.JaxprEqn) -> float:
    """What the kernel states; else its body for every step of its grid.

    A body's conditional parts (`pl.when`) exclude one another: of all of them the costliest counts.
    """
    stated = equation.params.get("cost_estimate")
    if stated is not None and stated.flops:
        return float(stated.flops)
    always, sometimes = 0.0, [0.0]
    for inner in equation.params["jaxpr"].eqns:
        if inner.primitive.name == "cond":
            sometimes += [sum(flops for _, flops in _products(each.jaxpr.eqns, "")) for each in _branches(inner)]
        else:
            always += sum(flops for _, flops in _products([inner], ""))
    return math.prod(int(size) for size in equation.params["grid_mapping"].grid) * (always + max(sometimes))


def _branches(equation: core.JaxprEqn) -> list[Any]:
    """Of a choice by platform those for TPU, of another one all."""
    branches = list(equation.params["branches"])
    platforms = equation.params.get("branches_platforms")
    if platforms:
        named = [branch for branch, names in zip(branches, platforms, strict=True) if names and "tpu" in names]
        return named or branches
    return branches


def _times(equation: core.JaxprEqn) -> int:
    name = equation.primitive.name
    if name == "scan":
        return equation.params["length"]
    if name == "shard_map":
        # Its body is what one of these devices does.
        mesh = equation.params["mesh"]
        return math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])
    return 1


def _inner(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The jaxprs that an equation runs."""
    params = equation.params
    if equation.primitive.name == "while":
        # As often as the condition says, which is not known: once, as one token of sampling.
        yield params["body_jaxpr"].jaxpr
        return
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            yield inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
            return


def _dot_flops(equation: core.JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: core.JaxprEqn) -> float:
    """Every output with every element of the kernel; zeros that padding and dilation put in do not count."""
    params = equation.params
    numbers = params["dimension_numbers"]
    left, right = equation.invars[0].aval.shape, equation.invars[1].aval.shape
    out = equation.outvars[0].aval.shape
    pairs = 1
    for axis in range(len(out) - 2):
        pairs *= meetings(
            left[numbers.lhs_spec[2 + axis]],
            right[numbers.rhs_spec[2 + axis]],
            out[numbers.out_spec[2 + axis]],
            params["window_strides"][axis],
            params["padding"][axis][0],
            params["lhs_dilation"][axis],
            params["rhs_dilation"][axis],
        )
    batch = left[numbers.lhs_spec[0]] // params["batch_group_count"]
    return 2.0 * pairs * batch * right[numbers.rhs_spec[1]] * out[numbers.out_spec[1]]
