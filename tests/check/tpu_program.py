"""A compiled program with a loop and collectives in it."""

# As the TPU compiler writes: a counter in place of a trip count, memory spaces, fusions that hold collectives.
TPU = """HloModule jit_f, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (p: bf16[64,128]) -> bf16[8,128] {
  %p = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %ar = bf16[64,128]{1,0:T(8,128)(2,1)} all-reduce(%p), channel_id=3, replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %ds = bf16[8,128]{1,0:T(8,128)(2,1)} dynamic-slice(%ar), dynamic_slice_sizes={8,128}
}

%condition (c: (s32[], bf16[64,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %c = (s32[]{:T(128)}, bf16[64,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %less = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (s: (s32[], bf16[64,128])) -> (s32[], bf16[64,128]) {
  %s = (s32[]{:T(128)}, bf16[64,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %n = s32[]{:T(128)} get-tuple-element(%s), index=0
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%n, %two)
  %x = bf16[64,128]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=1
  %ag-start = (bf16[64,128]{1,0}, bf16[256,128]{1,0:S(1)}) all-gather-start(%x), channel_id=1, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  %ag-done = bf16[256,128]{1,0:S(1)} all-gather-done(%ag-start)
  %rs = bf16[8,128]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  %cp = bf16[64,128]{1,0} collective-permute(%x), channel_id=2, source_target_pairs={{0,1},{1,2},{2,3},{3,0},{4,4}}
  ROOT %out = (s32[]{:T(128)}, bf16[64,128]{1,0:T(8,128)(2,1)}) tuple(%next, %x)
}

ENTRY %main (arg: bf16[64,128]) -> bf16[64,128] {
  %arg = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %two.1 = s32[]{:T(128)} constant(2)
  %begin = s32[]{:T(128)} copy(%two.1)
  %init = (s32[]{:T(128)}, bf16[64,128]{1,0:T(8,128)(2,1)}) tuple(%begin, %arg)
  %loop = (s32[]{:T(128)}, bf16[64,128]{1,0:T(8,128)(2,1)}) while(%init), condition=%condition, body=%body
  ROOT %result = bf16[64,128]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501
