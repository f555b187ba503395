"""Devices stand in a mesh as the network joins them, and states lie where their axes say."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from audiolm_jax.errors import UserError
from audiolm_jax.parallel.mesh import MESH_AXES, MeshSizes, arrange, state_shardings
from audiolm_jax.parallel.replication import LARGEST_WHOLE_BYTES, check_split
from audiolm_jax.parallel.rules import mesh_axes
from audiolm_jax.training.optimization.muon import muon, transformer_matrices
from audiolm_jax.training.optimization.optimizers import adam
from audiolm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class FakeDevice:
    """As much of a device as its place in a mesh depends on."""

    id: int
    platform: str = "tpu"
    device_kind: str = "TPU v4"
    coords: tuple[int, ...] = (0, 0, 0)
    core_on_chip: int = 0
    slice_index: int = 0
    process_index: int = 0


def tpu_slice(*extent, slice_index=0):
    """The chips of a torus, four to a host."""
    places = itertools.product(*(range(size) for size in reversed(extent)))
    return [
        FakeDevice(number, coords=place[::-1], slice_index=slice_index, process_index=number // 4)
        for number, place in enumerate(places, start=slice_index * int(np.prod(extent)))
    ]


def gpus(count):
    return [FakeDevice(number, "gpu", "NVIDIA H100", process_index=number // 8) for number in range(count)]


def abstract_mesh(data, fsdp, tensor):
    return AbstractMesh((data, fsdp, tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def ring_distance(one, other, extent):
    steps = (abs(a - b) for a, b in zip(one.coords, other.coords, strict=True))
    return sum(min(step, size - step) for step, size in zip(steps, extent, strict=True))


@pytest.mark.parametrize("shape", [(16, 1, 1), (1, 16, 1), (1, 4, 4), (2, 4, 2), (4, 2, 2), (1, 8, 2)])
def test_neighbours_along_tensor_are_neighbours_on_the_torus(shape):
    extent = (2, 2, 4)
    placed = arrange(MeshSizes(*shape), tpu_slice(*extent))
    assert placed.shape == shape
    assert len(set(placed.ravel())) == 16
    for row in placed.reshape(-1, shape[2]):  # two in a line, or four in a square
        assert max(ring_distance(row[0], other, extent) for other in row) <= shape[2] // 2


@pytest.mark.parametrize("shape", [(1, 64, 1), (4, 16, 1), (2, 16, 2), (1, 16, 4), (8, 4, 2)])
def test_larger_slices_can_be_laid_out(shape):
    placed = arrange(MeshSizes(*shape), tpu_slice(8, 8, 1))
    assert placed.shape == shape and len(set(placed.ravel())) == 64


def test_gpus_stand_in_order_with_tensor_on_one_host():
    placed = arrange(MeshSizes(data=2, fsdp=2, tensor=4), gpus(16))
    np.testing.assert_array_equal(np.vectorize(lambda device: device.id)(placed).ravel(), np.arange(16))
    assert all(len({device.process_index for device in row}) == 1 for row in placed.reshape(-1, 4))


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        (MeshSizes(), (32, 1, 1)),
        (MeshSizes(data=2, fsdp=-1, tensor=2), (2, 8, 2)),
        (MeshSizes(data=4, fsdp=4, tensor=2, slices=2), (4, 4, 2)),
        (MeshSizes(data=1, fsdp=16, tensor=2, slice_axis="fsdp"), (1, 16, 2)),
    ],
)
def test_one_axis_spans_the_slices_and_the_others_stay_within(sizes, shape):
    devices = tpu_slice(2, 2, 4, slice_index=0) + tpu_slice(2, 2, 4, slice_index=1)
    np.random.default_rng(0).shuffle(devices)
    placed = arrange(sizes, devices)
    assert placed.shape == shape
    slices = np.vectorize(lambda device: device.slice_index)(placed)
    axis = MESH_AXES.index(sizes.slice_axis)
    first, second = np.split(slices, 2, axis=axis)
    assert (first == 0).all() and (second == 1).all()


def test_devices_that_know_no_slices_are_cut_into_equal_parts():
    placed = arrange(MeshSizes(data=1, fsdp=-1, tensor=2, slices=2, slice_axis="fsdp"), gpus(16))
    hosts = np.vectorize(lambda device: device.process_index)(placed)
    assert (hosts[:, :4] == 0).all() and (hosts[:, 4:] == 1).all()


@pytest.mark.parametrize(
    ("sizes", "devices", "message"),
    [
        ({"data": -1, "fsdp": -1}, 8, "one of them at most may be -1; change MESH_DATA, MESH_FSDP or MESH_TENSOR"),
        ({"data": 0}, 8, "each must be positive"),
        ({"data": 7}, 8, "data=7, fsdp=1, tensor=1 do not fit 8"),
        ({"data": -1, "fsdp": 3}, 8, "data=-1, fsdp=3, tensor=1 do not fit 8"),
        ({"slices": 0}, 8, "MESH_SLICES is 0"),
        ({"slice_axis": "tensor"}, 8, "MESH_SLICE_AXIS is 'tensor', but must be data or fsdp"),
        ({"slices": 2}, 8, "MESH_SLICES is 2, but the 8 devices are of slices of 8"),
        ({"data": 1, "fsdp": -1}, 16, "data spans the 2 slices and must be a multiple of them; change MESH_DATA"),
    ],
)
def test_sizes_that_do_not_fit_name_the_macro(sizes, devices, message):
    with pytest.raises(UserError, match=message) as caught:
        extra = tpu_slice(2, 2, 2, slice_index=1) if devices == 16 else []
        arrange(MeshSizes(**sizes), tpu_slice(2, 2, 2) + extra)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "axes", "split"),
    [
        ((64, 32), ("vocab", "embed"), ("tensor", "fsdp")),
        ((64, 30), ("vocab", "embed"), (("tensor", "fsdp"), None)),  # 30 does not divide by 4, 64 by 2 * 4 does
        ((63, 30), ("vocab", "embed"), (None, None)),
        ((8, 3, 12), ("layers", "mlp", "embed"), (None, None, "fsdp")),
        ((8, 3, 13), ("layers", "mlp", "embed"), (None, None, None)),  # never the layers
        ((5, 16, 1), (None, "conv_in", "conv_out"), (None, "fsdp", None)),
        ((5,), ("heads",), (None,)),
        ((4, 4), (), ()),
    ],
)
def test_an_axis_that_does_not_divide_leaves_fsdp_to_the_largest_that_does(shape, axes, split):
    assert mesh_axes(shape, axes, {"data": 2, "fsdp": 4, "tensor": 2}) == split


def test_moments_lie_where_their_parameters_lie():
    params = {
        "one": {"mlp_in": np.zeros((2, 8, 16)), "scale": np.zeros(8)},
        "two": {"mlp_in": np.zeros((2, 8, 16)), "scale": np.zeros(8)},
    }
    axes = {
        "one": {"mlp_in": ("layers", "embed", "mlp"), "scale": ("embed",)},
        "two": {"mlp_in": ("layers", "mlp", "embed"), "scale": (None,)},
    }
    optimizers = {"one": muon(1e-3, 1, 10, matrices=transformer_matrices), "two": adam(1e-3, 1, 10)}
    opt_state = {name: optimizer.init(params[name]) for name, optimizer in optimizers.items()}
    state = jax.eval_shape(lambda: TrainState.create(params, opt_state, {"codes": np.zeros((4, 8)), "n": np.zeros(4)}))
    mesh = abstract_mesh(1, 4, 2)
    placed = state_shardings(mesh, state, axes, {"codes": (None, "embed")})
    assert placed.params["one"]["mlp_in"].spec == PartitionSpec(None, "fsdp", "tensor")
    assert placed.params["two"]["mlp_in"].spec == PartitionSpec(None, "tensor", "fsdp")
    assert placed.collections["codes"].spec == PartitionSpec(None, "fsdp")
    assert placed.collections["n"].spec == PartitionSpec()
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): sharding.spec
        for path, sharding in jax.tree_util.tree_flatten_with_path(placed.opt_state)[0]
    }
    for name, spec in found.items():
        network, leaf = name.split("/")[0], name.split("/")[-1]
        expected = placed.params[network][leaf].spec if leaf in ("mlp_in", "scale") else PartitionSpec()
        assert spec == expected, name
    assert sum(name.endswith("mlp_in") for name in found) == 3  # momentum of one, two moments of the other


def test_a_large_array_that_stays_whole_is_named():
    rows = LARGEST_WHOLE_BYTES // 4 // 16 + 1
    state = jax.eval_shape(lambda: {"params": {"small": np.zeros(3), "big": np.zeros((rows, 16), np.float32)}})
    mesh = abstract_mesh(1, 4, 2)

    def placed(**specs):
        return {
            "params": {
                name: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, specs.get(name, PartitionSpec()))
                )
                for name, leaf in state["params"].items()
            }
        }

    check_split(mesh, placed(big=PartitionSpec(None, "fsdp")))
    check_split(mesh, placed(big=PartitionSpec(None, ("tensor", "fsdp"))))
    check_split(mesh, placed(big=PartitionSpec(None, "tensor")))  # half of it is not large
    with pytest.raises(UserError, match=r"MESH_FSDP=4 .* 1.0 MB of params/big float32.*, 16\]: name its axes"):
        check_split(mesh, placed())
    check_split(abstract_mesh(8, 1, 1), placed())
