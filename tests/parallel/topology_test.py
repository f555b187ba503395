"""Names of TPU slices, and simulated devices in the places of their chips."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.check.chips import CHIPS
from audiolm_jax.errors import UserError
from audiolm_jax.parallel.topology import SHAPES, libtpu_is_installed, parse_topology
from benchmarks.roofline.links import LINKS

ROOT = Path(__file__).parents[2]
DESCRIBE = """
import json, sys
if {hide}: sys.modules["libtpu"] = None
from audiolm_jax.parallel.topology import open_topology, parse_topology
found = open_topology(parse_topology({name!r}, {slices}))
print(json.dumps([len(found.devices), found.coordinates.tolist(), found.slice_of, found.simulated]))
"""


def describe(name, slices, hide):
    environment = {variable: value for variable, value in os.environ.items() if variable != "XLA_FLAGS"}
    code = DESCRIBE.format(name=name, slices=slices, hide=hide)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_every_chip_has_shapes():
    assert set(SHAPES) == set(CHIPS) == set(LINKS)
    for name, shapes in SHAPES.items():
        assert all(len(parse_topology(f"{name}:{shape}").shape) == LINKS[name].axes for shape in shapes)
    assert parse_topology("v4:2x2x4").num_chips == 16 and parse_topology("v5e:16x16", slices=2).num_chips == 512
    assert str(parse_topology("v5e:4x4", slices=2)) == "2 x v5e:4x4" and str(parse_topology("cpu:8")) == "cpu:8"


@pytest.mark.parametrize("name", ["v9:2x2", "v4:3x3x3", "v4", "v5e:2x2x4", "cpu:0", "gpu:8", ""])
def test_an_unknown_topology_lists_the_known_ones(name):
    with pytest.raises(UserError, match=r"there is no topology .*v4:2x2x1 2x2x2 .*v6e:1x1.*cpu:N"):
        parse_topology(name)


def test_simulated_chips_have_places_and_slices():
    count, coordinates, slice_of, simulated = describe("v4:2x2x2", 2, hide=True)
    assert simulated and count == 16 and slice_of == [0] * 8 + [1] * 8
    # The first axis is the fastest, and both slices are alike.
    assert coordinates[:3] == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and coordinates[:8] == coordinates[8:]
    assert len(np.unique(coordinates[:8], axis=0)) == 8


@pytest.mark.skipif(not libtpu_is_installed(), reason="libtpu is not installed")
@pytest.mark.parametrize(("name", "slices"), [("v4:2x2x2", 1), ("v5e:2x2", 2)])
def test_simulated_chips_stand_where_the_compiler_puts_them(name, slices):
    real, simulated = describe(name, slices, hide=False), describe(name, slices, hide=True)
    assert not real[3] and real[:3] == simulated[:3]
