"""Collectives in the text of compiled programs; those of real ones are held equal to the parser's, beside its tests."""

import pytest

from audiolm_jax.check.collectives import Collectives, collectives
from tests.check.tpu_program import TPU

SIZE = 64 * 128 * 2


def test_a_loop_counts_once_and_is_told():
    # The reduce-scatter is a fusion that holds an all-reduce; what goes from a chip to itself is part of a permutation.
    once = Collectives(count=1, in_loops=1, bytes=SIZE)
    assert collectives(TPU) == {"all-gather": once, "reduce-scatter": once, "collective-permute": once}


def test_parts_with_one_channel_are_one_collective():
    start = "  %ag-start = "
    (line,) = (line for line in TPU.splitlines() if line.startswith(start))
    again = line.replace("%ag-start =", "%again =")
    assert collectives(TPU.replace(line, f"{line}\n{again}")) == collectives(TPU)
    other = TPU.replace(line, f"{line}\n{again.replace('channel_id=1', 'channel_id=9')}")
    assert collectives(other)["all-gather"] == Collectives(count=2, in_loops=2, bytes=2 * SIZE)


@pytest.mark.parametrize(
    "branches", ["true_computation=%small, false_computation=%large", "branch_computations={%large, %small}"]
)
def test_all_branches_count_and_those_of_a_loop_are_in_it(branches):
    text = f"""%small (a: f32[4]) -> f32[4] {{
  ROOT %a = f32[4] parameter(0)
}}

%large (b: f32[4]) -> f32[4] {{
  %b = f32[4] parameter(0)
  ROOT %r = f32[4] all-reduce(%b), channel_id=1, replica_groups={{{{0,1}}}}, to_apply=%add
}}

%choice (p: pred[], x: f32[4]) -> f32[4] {{
  %p = pred[] parameter(0)
  %x = f32[4] parameter(1)
  ROOT %c = f32[4] conditional(%p, %x, %x), {branches}
}}

ENTRY %main (s: f32[4]) -> f32[4] {{
  %s = f32[4] parameter(0)
  ROOT %end = f32[4] WHAT
}}
"""
    assert collectives(text.replace("WHAT", "call(%s), to_apply=%choice")) == {"all-reduce": Collectives(1, 0, 16)}
    looped = collectives(text.replace("WHAT", "while(%s), condition=%less, body=%choice"))
    assert looped == {"all-reduce": Collectives(1, 1, 16)}


def test_several_arrays_in_one_and_what_goes_between_slices():
    text = """ENTRY %main (x: f32[8,128], n: pred[16]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %n = pred[16] parameter(1)
  %pair = (f32[8,128]{1,0:T(8,128)}, pred[16]) all-reduce(%x, %n), channel_id=5, replica_groups={{0,1}}, to_apply=%add
  %after = token[] after-all()
  %send = (f32[8,128]{1,0}, u32[], token[]) send(%x, %after), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_GATHER"}
  %own = (f32[8,128]{1,0}, u32[], token[]) send(%x, %after), channel_id=4, is_host_transfer=true
  ROOT %result = f32[8,128]{1,0} get-tuple-element(%pair), index=0
}
"""  # noqa: E501
    assert collectives(text) == {
        "all-reduce": Collectives(1, 0, 8 * 128 * 4 + 16),
        "all-gather": Collectives(1, 0, 8 * 128 * 4),
    }
