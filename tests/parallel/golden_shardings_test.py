"""Every experiment's state has the shapes it had, and each array lies where it lay."""

import json

import pytest

from tests.parallel.golden_shardings import DEVICES, FOLDER, MESHES, NAMES, describe


def test_there_is_a_golden_file_for_every_experiment():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_shardings_are_the_golden_ones(name):
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    if "same_as" in golden:
        golden = json.loads((FOLDER / f"{golden['same_as']}.json").read_text())
    now = describe(name)
    assert now["leaves"] == golden["leaves"], "if this is meant: python -m tests.parallel.golden_shardings"
    assert now == golden


@pytest.mark.parametrize("name", NAMES)
def test_fsdp_leaves_a_device_little_more_than_its_share(name):
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    golden = json.loads((FOLDER / f"{golden['same_as']}.json").read_text()) if "same_as" in golden else golden
    share = golden["bytes_on_a_device"]["fsdp=16"] / golden["bytes"]
    assert share < 1.15 / DEVICES, MESHES
