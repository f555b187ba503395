"""The single table from logical axis names to mesh axes, the same for TPU, GPU and CPU.

Parameters name their axes where they are made (`nn.with_logical_partitioning`), activations where they are computed
(`nn.with_logical_constraint`); nothing else in the project says where an array lives. Activation axes begin with
`act_`, cache axes with `cache_`, so that no rule depends on the order of this table.
"""

DATA = "data"
FSDP = "fsdp"
TENSOR = "tensor"
MESH_AXES = (DATA, FSDP, TENSOR)

# (logical axis, mesh axis or axes). None: never split.
LOGICAL_AXIS_RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    # Parameters. One matrix holds `embed` and at most one of vocab, heads and mlp, hence fsdp against tensor.
    ("vocab", TENSOR),
    ("embed", FSDP),
    ("heads", TENSOR),
    ("head_dim", None),
    ("mlp", TENSOR),
    ("layers", None),
    ("conv_in", None),
    ("conv_out", FSDP),
    # Activations: the batch is split over data and fsdp, widths over tensor.
    ("act_batch", (DATA, FSDP)),
    ("act_length", None),
    ("act_embed", None),
    ("act_heads", TENSOR),
    ("act_mlp", TENSOR),
    ("act_vocab", TENSOR),
    # The decoder's cache.
    ("cache_batch", (DATA, FSDP)),
    ("cache_length", None),
    ("cache_heads", TENSOR),
)
