"""Collectives of compiled programs, with their bytes and how often they run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.roofline.collectives import Collective, collectives
from benchmarks.roofline.hlo import parse_program
from tests.benchmarks.roofline.eight_programs import LAYERS, WIDTH
from tests.check.tpu_program import TPU

ROOT = Path(__file__).parents[3]
FLOAT = 4


@pytest.fixture(scope="module")
def compiled():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.benchmarks.roofline.eight_programs"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def only(program):
    [found] = program["collectives"]
    return found


def test_a_sum_over_two_devices_of_each_group(compiled):
    found = only(compiled["mean"])
    assert (found["kind"], found["bytes"], found["size"], found["times"]) == ("all-reduce", 1024 * FLOAT, 2, 1)
    assert sorted(map(sorted, found["groups"])) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    # Devices 0 to 3 are one slice, 4 to 7 the other: all of it goes between slices.
    assert found["sent"] == [0, 1024 * FLOAT]


def test_a_loop_multiplies(compiled):
    found = only(compiled["loop"])
    output_bytes = 8 * WIDTH * FLOAT
    assert (found["kind"], found["bytes"], found["size"], found["times"]) == ("all-reduce", output_bytes, 4, LAYERS)
    assert found["sent"] == [2 * output_bytes * 3 / 4, 0]
    assert compiled["loop"]["flops"] == LAYERS * 2 * 8 * (WIDTH // 4) * WIDTH
    # Traced, what one device does inside `shard_map` counts once for every device.
    assert compiled["loop"]["traced_flops"] == 8 * compiled["loop"]["flops"]


def test_the_other_kinds(compiled):
    part = 8 * 128 * FLOAT
    gather, scatter = only(compiled["gather"]), only(compiled["scatter"])
    assert (gather["kind"], gather["bytes"], gather["size"]) == ("all-gather", part, 2)
    assert (scatter["kind"], scatter["bytes"], scatter["size"]) == ("reduce-scatter", 16 * 32 * FLOAT, 2)
    shift, swap = only(compiled["shift"]), only(compiled["swap"])
    assert (shift["kind"], shift["bytes"]) == ("collective-permute", part)
    assert sorted(shift["groups"])[:2] == [[0, 4], [1, 5]]
    assert (swap["kind"], swap["size"], swap["sent"]) == ("all-to-all", 4, [swap["bytes"] * 3 / 4, 0])
    assert swap["bytes"] == 4 * 128 * FLOAT


def test_one_device_sends_nothing(compiled):
    assert compiled["alone"] == {"collectives": [], "in_text": {}, "flops": 2 * 8**3, "traced_flops": 2 * 8**3}


def test_a_look_at_the_text_finds_the_same_collectives(compiled):
    """What `audiolm check` counts is what the parser finds, every loop once."""
    for name, program in compiled.items():
        parsed = {
            kind: {
                "count": len(of_kind),
                "in_loops": sum(each["times"] > 1 for each in of_kind),
                "bytes": sum(each["bytes"] for each in of_kind),
            }
            for kind in {each["kind"] for each in program["collectives"]}
            for of_kind in [[each for each in program["collectives"] if each["kind"] == kind]]
        }
        assert program["in_text"] == parsed, name
    assert compiled["loop"]["in_text"]["all-reduce"]["in_loops"] == 1


def test_the_text_of_the_tpu_compiler():
    found = {each.kind: each for each in collectives(parse_program(TPU), 8)}
    size = 64 * 128 * 2
    assert {kind: (each.bytes, each.times) for kind, each in found.items()} == {
        "all-gather": (size, 5),
        "reduce-scatter": (size, 5),
        "collective-permute": (size, 5),
    }
    assert found["all-gather"].groups.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found["reduce-scatter"].groups.tolist() == [list(range(8))]
    assert found["collective-permute"].groups.tolist() == [[0, 1], [1, 2], [2, 3], [3, 0]]


def test_a_loop_whose_length_is_not_known_runs_as_often_as_told():
    text = TPU.replace("direction=LT", "direction=NE")
    assert {each.times for each in collectives(parse_program(text), 8)} == {1}
    assert {each.times for each in collectives(parse_program(text, unknown_trips=128), 8)} == {128}


def test_a_conditional_counts_its_largest_branch():
    text = """%small (a: f32[4]) -> f32[4] {
  ROOT %a = f32[4] parameter(0)
}

%large (b: f32[4]) -> f32[4] {
  %b = f32[4] parameter(0)
  %wide = f32[64] broadcast(%b), dimensions={0}
  ROOT %r = f32[4] all-reduce(%b), channel_id=1, replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (p: pred[], x: f32[4]) -> f32[4] {
  %p = pred[] parameter(0)
  %x = f32[4] parameter(1)
  ROOT %c = f32[4] conditional(%p, %x, %x), true_computation=%small, false_computation=%large
}
"""
    for branches in ("true_computation=%small, false_computation=%large", "branch_computations={%large, %small}"):
        written = text.replace("true_computation=%small, false_computation=%large", branches)
        assert [each.bytes for each in collectives(parse_program(written), 2)] == [16]


def test_what_the_tpu_compiler_sends_between_slices():
    text = """ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128] parameter(0)
  %after = token[] after-all()
  %send = (f32[8,128]{1,0}, u32[], token[]) send(%x, %after), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[8,128]{1,0}, u32[], token[]) recv(%after), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %sent = token[] send-done(%send), channel_id=3
  %done = (f32[8,128]{1,0}, token[]) recv-done(%recv), channel_id=2
  ROOT %result = f32[8,128]{1,0} get-tuple-element(%done), index=0
}
"""  # noqa: E501
    [found] = collectives(parse_program(text), 8)
    assert (found.kind, found.between_slices) == ("all-reduce", True)
    assert found.sent_bytes([0] * 4 + [1] * 4) == (0, 8 * 128 * 4)


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("{{0,1},{2,3}}", [[0, 1], [2, 3]]),
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ("mesh['a'=2,'b'=4] {'b':(2)2}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ],
)
def test_the_ways_to_write_groups(written, groups):
    text = TPU.replace("replica_groups=mesh['a'=2,'b'=4] {'b'}", f"replica_groups={written}")
    found = {each.kind: each.groups.tolist() for each in collectives(parse_program(text), 8)}
    assert found["all-gather"] == groups


def test_bytes_on_the_wire_by_the_ring_formulas():
    eight = np.arange(8)[None]
    one_slice, two_slices = [0] * 8, [0] * 4 + [1] * 4
    sent = {
        kind: Collective(kind, 800, eight, 1, "").sent_bytes(one_slice)[0]
        for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
    }
    assert sent == {"all-reduce": 1400, "all-gather": 5600, "reduce-scatter": 700, "all-to-all": 700}
    # Over two slices: reduced among four chips, a quarter each exchanged with the other slice, gathered again.
    assert Collective("all-reduce", 800, eight, 1, "").sent_bytes(two_slices) == (1200, 200)
