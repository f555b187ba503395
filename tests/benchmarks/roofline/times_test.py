"""Times by hand, from a chip whose rates are round numbers."""

import dataclasses

import numpy as np
import pytest

from audiolm_jax.check.chips import CHIPS
from benchmarks.roofline.collectives import Collective
from benchmarks.roofline.hlo import Instruction
from benchmarks.roofline.links import LINKS
from benchmarks.roofline.times import Places, collective_seconds, collective_uses, roofline, wrapped_axes
from benchmarks.roofline.work import Work

CHIP = dataclasses.replace(CHIPS["v4"], peak_flops=100.0, hbm_bytes_per_second=10.0)
LINK = dataclasses.replace(LINKS["v4"], link_bytes_per_second=2.0, dcn_bytes_per_second=1.0)
# A plane of 2 x 4 chips; the second axis is a ring.
PLANE = Places(np.stack(np.unravel_index(np.arange(8), (2, 4)), axis=1), (0,) * 8, (False, True))


def work(times, flops, hbm_bytes, passes=1):
    return Work(Instruction("x", "fusion", (), (), "", False), times, flops, passes * flops, hbm_bytes)


def collective(kind, size, groups, times=1):
    return Collective(kind, size, np.asarray(groups), times, "")


def test_every_instruction_takes_the_longer_of_its_two_times():
    times = roofline(CHIP, None, [work(3, 200.0, 10.0), work(2, 50.0, 30.0)], {})
    assert times.compute_seconds == pytest.approx(3 * 2 + 2 * 0.5)
    assert times.hbm_seconds == pytest.approx(3 * 1 + 2 * 3)
    assert times.core_seconds == times.step_seconds == pytest.approx(3 * 2 + 2 * 3)
    assert times.ideal_seconds == pytest.approx(9)


def test_products_in_float32_at_highest_precision_take_six_passes():
    assert roofline(CHIP, None, [work(1, 100.0, 0.0, passes=6)], {}).core_seconds == pytest.approx(6)


def test_a_group_uses_the_links_of_the_axes_it_lies_along():
    size = 16
    along_ring = collective("all-gather", size, [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert collective_seconds(LINK, along_ring, PLANE) == pytest.approx(16 * 3 / (2 * 2))
    along_line = collective("all-gather", size, [[0, 4], [1, 5], [2, 6], [3, 7]])
    assert collective_seconds(LINK, along_line, PLANE) == pytest.approx(16 / 2)
    everywhere = collective("all-reduce", size, [range(8)])
    assert collective_seconds(LINK, everywhere, PLANE) == pytest.approx(2 * 16 * 7 / 8 / (3 * 2))


def test_a_permutation_takes_its_longest_way():
    neighbours = collective("collective-permute", 16, [[0, 1], [3, 0]])
    assert collective_seconds(LINK, neighbours, PLANE) == pytest.approx(16 / 2)
    far = collective("collective-permute", 16, [[0, 6]])
    assert collective_seconds(LINK, far, PLANE) == pytest.approx(3 * 16 / 2)


def test_between_slices_the_network_of_the_data_centre_counts():
    places = dataclasses.replace(PLANE, slices=(0, 0, 0, 0, 1, 1, 1, 1))
    use = collective_uses(LINK, [collective("all-reduce", 16, [range(8)], times=5)], places)["all-reduce"]
    assert (use.count, use.payload_bytes, use.ici_bytes, use.dcn_bytes) == (5, 80, 5 * 24, 5 * 4)
    assert use.seconds == pytest.approx(5 * (24 / (3 * 2) + 4 / 1))


def test_the_step_is_the_sum_of_products_and_collectives():
    uses = collective_uses(LINK, [collective("all-gather", 16, [[0, 4], [1, 5]], times=2)], PLANE)
    times = roofline(CHIP, None, [work(1, 200.0, 0.0)], uses)
    assert times.step_seconds == pytest.approx(2 + 2 * 8) and times.ideal_seconds == pytest.approx(16)


@pytest.mark.parametrize(
    ("name", "shape", "wraps"),
    [
        ("v4", (2, 2, 4), (False, False, False)),
        ("v4", (4, 4, 4), (True, True, True)),
        ("v5p", (4, 4, 8), (True, True, True)),
        ("v5e", (4, 4), (False, False)),
        ("v5e", (8, 16), (False, True)),
        ("v6e", (16, 16), (True, True)),
    ],
)
def test_which_slices_are_tori(name, shape, wraps):
    assert wrapped_axes(LINKS[name], shape) == wraps


@pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)
def test_a_chip_has_its_sources(chip):
    assert chip.source and all(page.startswith("https://") for page in chip.source)
    assert 0.9 < chip.usable_hbm_bytes / chip.hbm_bytes <= 1
    # The compute, memory and link rates are of the orders of magnitude of their units.
    assert 1e14 < chip.peak_flops < 1e15 < 1e4 * chip.hbm_bytes_per_second < 1e17
    links = LINKS[chip.name]
    assert links.dcn_bytes_per_second < links.link_bytes_per_second < chip.hbm_bytes_per_second
