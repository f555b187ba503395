"""TPU slices by name, as devices that can be compiled for without being there.

XLA's TPU compiler is in the package `libtpu`, which needs no TPU to compile. Without the package the devices are
simulated on the CPU, in the same number: programs still build, shard and compile, but what they need of a TPU's memory
is then an estimate.
"""

import dataclasses
import importlib.util
import math
import os
import re
import signal
import threading
from typing import Any

import jax
import numpy as np

from audiolm_jax.errors import UserError

# The shapes that Google Cloud offers, by chip: https://docs.cloud.google.com/tpu/docs/v4, v5e, v5p-training, v6e.
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SHAPES = {
    "v4": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"),
    "v5e": _FLAT,
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"),
    "v6e": _FLAT,
}
CPU = "cpu"
# What libtpu would otherwise ask a TPU host for, and complain about on the user's screen.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Two of these compilers may run at once: no chip is opened.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class TopologyName:
    """What a name says.

    Attributes:
      generation: "v4", "v5e", "v5p", "v6e", or "cpu".
      shape: chips along each axis of a slice's interconnect.
      slices: how many such slices.
    """

    generation: str
    shape: tuple[int, ...]
    slices: int = 1

    def __str__(self) -> str:
        written = f"{self.generation}:{'x'.join(map(str, self.shape))}"
        return written if self.slices == 1 else f"{self.slices} x {written}"

    @property
    def num_chips(self) -> int:
        """Of all slices."""
        return math.prod(self.shape) * self.slices


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
    """Devices to compile for.

    Attributes:
      name: which.
      devices: one for each chip.
      coordinates: int[N, axes] of each chip in its slice.
      slice_of: the slice of each.
      simulated: whether they are CPU devices that stand for TPUs.
    """

    name: TopologyName
    devices: tuple[Any, ...]
    coordinates: np.ndarray
    slice_of: tuple[int, ...]
    simulated: bool


def parse_topology(text: str, slices: int = 1) -> TopologyName:
    """"v4:2x2x4" to its parts; "cpu:8" is eight simulated devices.

    Raises:
      UserError: an unknown name; the line lists the known ones.
    """
    generation, _, shape = text.strip().partition(":")
    if generation == CPU and re.fullmatch(r"[1-9]\d{0,3}", shape):
        return TopologyName(CPU, (int(shape),), slices)
    if shape not in SHAPES.get(generation, ()):
        known = "; ".join(f"{name}:{' '.join(shapes)}" for name, shapes in SHAPES.items())
        raise UserError(f"there is no topology '{text}'; known are {known}; and cpu:N for N simulated devices")
    return TopologyName(generation, tuple(map(int, shape.split("x"))), slices)


def libtpu_is_installed() -> bool:
    """Whether XLA's TPU compiler can be used."""
    return importlib.util.find_spec("libtpu") is not None


def open_topology(name: TopologyName) -> Topology:
    """The devices of a name. To be called before anything in the process has used a JAX device.

    Raises:
      UserError: JAX has started with too few simulated devices, or the compiler refuses the topology.
    """
    # A compilation needs no device; a TPU or GPU of this host stays free.
    jax.config.update("jax_platforms", "cpu")
    if name.generation == CPU or not libtpu_is_installed():
        return _simulated(name)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    # Without this a v4 chip shows as two devices of one core each.
    chip = {"chip_config_name": "megacore"} if name.generation == "v4" else {}
    several = {"num_slices": name.slices} if name.slices > 1 else {}
    plain = f"{name.generation}:{'x'.join(map(str, name.shape))}"
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=plain, **chip, **several).devices
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the TPU compiler refuses {name}: {str(error).splitlines()[0]}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # the compiler's own handler prints a stack trace
    axes = len(name.shape)
    return Topology(
        name,
        tuple(devices),
        np.asarray([device.coords[:axes] for device in devices]),
        tuple(getattr(device, "slice_index", None) or 0 for device in devices),
        simulated=False,
    )


def _simulated(name: TopologyName) -> Topology:
    try:
        jax.config.update("jax_num_cpu_devices", name.num_chips)
    except RuntimeError:
        pass  # JAX has started; what it has may be enough
    devices = jax.devices(CPU)[: name.num_chips]
    if len(devices) < name.num_chips:
        raise UserError(f"{name} needs {name.num_chips} simulated devices, and this process began with {len(devices)}; "
                        f"set XLA_FLAGS=--xla_force_host_platform_device_count={name.num_chips}")
    each = math.prod(name.shape)
    # As libtpu lists them: the first axis is the fastest.
    one = np.stack(np.unravel_index(np.arange(each), name.shape[::-1])[::-1], axis=1)
    slice_of = tuple(place // each for place in range(name.num_chips))
    return Topology(name, tuple(devices), np.tile(one, (name.slices, 1)), slice_of, simulated=True)
