"""The largest arrays of a compiled program, from its text."""

from benchmarks.roofline.hlo import parse_program
from benchmarks.roofline.temporaries import temporary_buffers


def test_what_lies_in_hbm_comes_largest_first():
    text = """ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4] parameter(0)
  %near = f32[64,64]{1,0:S(1)} broadcast(%x), dimensions={0,1}
  %far = f32[16,4]{1,0} pad(%near), metadata={op_name="jit(f)/block/pad"}
  ROOT %part = f32[8,4]{1,0} slice(%far), metadata={op_name="jit(f)/block/slice"}
}
"""
    # What is kept on the chip itself is not in HBM.
    assert [str(each) for each in temporary_buffers(parse_program(text))] == [
        "block/pad f32[16,4] 0.00 GiB",
        "block/slice f32[8,4] 0.00 GiB",
    ]
