"""Tensors of a checkpoint to parameters and back: each is used once, differences are told together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.weight_map import (
    REVERSED,
    Derived,
    Weight,
    WeightMap,
    folded_transposed,
    read_weights,
    write_weights,
)

RNG = np.random.default_rng(0)
MAP = WeightMap(
    weights=(
        Weight("projection.kernel", "projection.weight", (5, 3), REVERSED),
        Weight("projection.bias", "projection.bias", (5,)),
        Weight("conv.kernel", "conv.weight", (4, 3, 2), REVERSED, normed_axis=0),
        Weight("up.kernel", "up.weight", (3, 2, 4), folded_transposed(2), normed_axis=0),
        Weight("blocks.scale", "blocks.0.scale", (2,), stacked=0),
        Weight("blocks.scale", "blocks.1.scale", (2,), stacked=1),
    ),
    derived=(Derived("count", (5,), lambda params: np.ones(5, np.float32)),),
    prefixes=("", "model."),
    heads=("head.",),
)


def checkpoint(prefix="", normed=("weight_g", "weight_v")):
    """Random tensors of MAP."""
    shapes = {"projection.weight": (5, 3), "projection.bias": (5,), "blocks.0.scale": (2,), "blocks.1.scale": (2,),
              "count": (5,), f"conv.{normed[0]}": (4, 1, 1), f"conv.{normed[1]}": (4, 3, 2),
              f"up.{normed[0]}": (3, 1, 1), f"up.{normed[1]}": (3, 2, 4)}  # fmt: skip
    return {prefix + name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(
    "normed", [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
)
def test_names_of_every_version_are_read(prefix, normed):
    tensors = checkpoint(prefix, normed) | {"head.weight": np.zeros(2, np.float32)}
    read = read_weights(tensors, MAP, "here")
    assert read.left_out == ("head.weight",)
    np.testing.assert_array_equal(read.params["projection"]["kernel"], tensors[f"{prefix}projection.weight"].T)
    direction = tensors[f"{prefix}conv.{normed[1]}"].astype(np.float64)
    weight = tensors[f"{prefix}conv.{normed[0]}"] * direction / np.sqrt((direction**2).sum((1, 2), keepdims=True))
    np.testing.assert_allclose(read.params["conv"]["kernel"], weight.T, rtol=1e-6)
    scales = [tensors[f"{prefix}blocks.{layer}.scale"] for layer in (0, 1)]
    np.testing.assert_array_equal(read.params["blocks"]["scale"], scales)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), zero=st.booleans(), scale=st.sampled_from([1e-20, 1.0, 1e10]))
def test_what_was_read_comes_back_to_the_last_bit(seed, zero, scale):
    rng = np.random.default_rng(seed)
    tensors = {
        name: (rng.normal(size=array.shape) * scale).astype(np.float32) for name, array in checkpoint().items()
    }
    if zero:
        tensors["conv.weight_g"][1] = 0
    first = read_weights(tensors, MAP, "here").params
    written = write_weights(first, MAP)
    second = read_weights(written, MAP, "here").params
    for part in first:
        for name in first[part]:
            np.testing.assert_array_equal(second[part][name], first[part][name])
    assert written["count"].tolist() == [1] * 5


def test_a_folded_kernel_is_the_transposed_convolution():
    # theirs [in, out, 2 S]: the result at step t S + j is x[t] @ theirs[:, :, j] + x[t - 1] @ theirs[:, :, j + S].
    theirs, x, stride = RNG.normal(size=(3, 2, 8)), RNG.normal(size=(6, 3)), 4
    full = np.zeros((6 * stride + stride, 2))
    for step in range(6):
        full[step * stride : step * stride + 2 * stride] += np.einsum("i,iok->ko", x[step], theirs)
    kernel = folded_transposed(stride).read(theirs)
    past = np.concatenate([np.zeros((1, 3)), x[:-1]])
    np.testing.assert_allclose((past @ kernel[0] + x @ kernel[1]).reshape(-1, 2), full[: 6 * stride], atol=1e-12)


def test_differences_are_told_together_in_one_line():
    tensors = checkpoint()
    del tensors["projection.bias"]
    tensors["blocks.0.scale"] = np.zeros(3, np.float32)
    tensors["blocks.2.scale"] = np.zeros(2, np.float32)
    tensors["count"] = np.zeros(4, np.float32)
    with pytest.raises(UserError) as caught:
        read_weights(tensors, MAP, "DIR")
    told = str(caught.value)
    assert "\n" not in told and told.startswith("DIR does not hold the model that its config.json describes")
    for part in ("missing projection.bias [5]", "blocks.0.scale is [3], not [2]", "unknown blocks.2.scale [2]",
                 "count is [4], not [5]"):  # fmt: skip
        assert part in told


def test_many_differences_are_counted():
    with pytest.raises(UserError, match=r"; and 2 more; give the config.json"):
        read_weights({"a": np.zeros(1), "b": np.zeros(1)}, MAP, "DIR")


def test_values_that_are_not_finite_are_refused():
    tensors = checkpoint()
    tensors["projection.weight"][0, 0] = np.nan
    with pytest.raises(UserError, match="projection.weight holds values that are not finite"):
        read_weights(tensors, MAP, "DIR")


def test_parameters_of_another_model_are_not_written():
    params = read_weights(checkpoint(), MAP, "here").params
    with pytest.raises(UserError, match="no conv.kernel"):
        write_weights({name: value for name, value in params.items() if name != "conv"}, MAP)
    with pytest.raises(UserError, match="projection.kernel becomes"):
        write_weights(params | {"projection": {"kernel": np.zeros((2, 2)), "bias": np.zeros(5)}}, MAP)


def test_names_and_shapes_of_others_are_told_in_short():
    tensors = checkpoint() | {"w" * 5000: np.zeros((1,) * 40), "projection.bias": np.zeros((1,) * 64)}
    with pytest.raises(UserError, match=r"projection.bias is \[1, .*unknown www.* \.\.\. \[1, ") as caught:
        read_weights(tensors, MAP, "x")
    assert len(str(caught.value)) < 1000
