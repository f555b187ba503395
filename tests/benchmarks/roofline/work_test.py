"""Bytes and products of instructions, read from compiled text."""

import pytest

from benchmarks.roofline.hlo import parse_program, parse_shapes
from benchmarks.roofline.work import program_work

TEXT = """HloModule jit_f

%slice_fusion (p0: bf16[12,256,256], p1: s32[]) -> bf16[256,256] {
  %p0 = bf16[12,256,256]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %ds = bf16[1,256,256]{2,1,0} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,256,256}
  ROOT %b = bf16[256,256]{1,0} bitcast(%ds)
}

%update_fusion (q0: bf16[12,256,256], q1: bf16[256,256], q2: s32[]) -> bf16[12,256,256] {
  %q0 = bf16[12,256,256]{2,1,0} parameter(0)
  %q1 = bf16[256,256]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  %piece = bf16[1,256,256]{2,1,0} bitcast(%q1)
  ROOT %dus = bf16[12,256,256]{2,1,0} dynamic-update-slice(%q0, %piece, %q2, %zero.1, %zero.1)
}

%product_fusion (r0: bf16[64,256], r1: bf16[256,256]) -> bf16[64,256] {
  %r0 = bf16[64,256]{1,0} parameter(0)
  %r1 = bf16[256,256]{1,0} parameter(1)
  ROOT %conv = bf16[64,256]{1,0} convolution(%r0, %r1), dim_labels=bf_io->bf
}

ENTRY %main (stack: bf16[12,256,256], x: bf16[64,256], i: s32[]) -> bf16[12,256,256] {
  %stack = bf16[12,256,256]{2,1,0} parameter(0)
  %x = bf16[64,256]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %one = bf16[256,256]{1,0:S(1)} fusion(%stack, %i), kind=kLoop, calls=%slice_fusion
  %y = bf16[64,256]{1,0} fusion(%x, %one), kind=kOutput, calls=%product_fusion
  %attention = bf16[64,256]{1,0} custom-call(%y), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/flash_forward"}
  %room = bf16[4096,256]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %new = bf16[12,256,256]{2,1,0} fusion(%stack, %one, %i), kind=kLoop, calls=%update_fusion
}
"""  # noqa: E501


def test_memory_on_the_chip_is_told_from_hbm():
    [hbm] = parse_shapes("bf16[16,512]{1,0:T(8,128)(2,1)}")
    [vmem] = parse_shapes("bf16[16,512]{1,0:T(8,128)(2,1)S(1)}")
    assert hbm.bytes == vmem.bytes == 16 * 512 * 2 and hbm.in_hbm and not vmem.in_hbm
    assert [shape.dims for shape in parse_shapes("(s32[]{:T(128)}, /*index=1*/f32[3,4]{1,0})")] == [(), (3, 4)]


def test_slices_count_as_slices_and_memory_on_the_chip_not_at_all():
    done = {each.instruction.name: each for each in program_work(parse_program(TEXT), {"flash": 7.0})}
    layer, rows = 256 * 256 * 2, 64 * 256 * 2
    assert {name: each.hbm_bytes for name, each in done.items()} == {
        "one": layer + 4,  # one layer is read, into VMEM; and the index
        "y": 2 * rows,
        "attention": 2 * rows,
        "new": layer + 4,  # one layer is written, in place
    }


def test_products_and_kernels():
    kernels = {"flash": 7.0, "flash_forward": 9.0}
    flops = {each.instruction.name: each.flops for each in program_work(parse_program(TEXT), kernels) if each.flops}
    assert flops == {"y": 2 * 64 * 256 * 256, "attention": 9.0}


@pytest.mark.parametrize(("dtype", "passes"), [("f32", 6), ("bf16", 1)])
def test_passes_of_precision(dtype, passes):
    text = f"""ENTRY %main (a: {dtype}[8,16], b: {dtype}[16,4]) -> {dtype}[8,4] {{
  %a = {dtype}[8,16] parameter(0)
  %b = {dtype}[16,4] parameter(1)
  ROOT %dot = {dtype}[8,4] dot(%a, %b), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}, operand_precision={{highest,highest}}
}}
"""  # noqa: E501
    [product] = program_work(parse_program(text), {})
    assert product.flops == 2 * 8 * 16 * 4 and product.passes_flops == passes * product.flops


def test_a_batched_product_written_as_a_convolution():
    # XLA writes 16 products of [32, 8] and [8, 24] as one convolution over a dilated axis.
    text = """ENTRY %main (a: bf16[16,32,8], b: bf16[16,8,24]) -> bf16[16,32,24] {
  %a = bf16[16,32,8] parameter(0)
  %b = bf16[16,8,24] parameter(1)
  ROOT %c = bf16[16,32,24] convolution(%a, %b), window={size=16 stride=15 lhs_dilate=16}, dim_labels=0bf_0io->0bf
}
"""
    [product] = program_work(parse_program(text), {})
    assert product.flops == 2 * 16 * 32 * 8 * 24
