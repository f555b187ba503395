"""What takes the memory of a chip, and what is said when it is not enough."""

import jax
import jax.numpy as jnp

from audiolm_jax.check.memory import (
    Buffer,
    argument_buffers,
    largest,
    memory_use,
    needed_bytes,
    ran_out,
    remedy,
    traced_buffers,
)

# Messages of libtpu 0.0.52, and of older ones.
HBM = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (160.01G) exceeds available HBM (15.75G). HLO module: jit_f."
)
OLDER = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.48G hbm. Exceeded hbm capacity."


def test_the_compilers_messages():
    assert ran_out(HBM) and ran_out(OLDER) and not ran_out("INTERNAL: something else")
    assert not ran_out("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem while allocating on stack")
    assert needed_bytes(HBM) == int(160.01 * 2**30)
    assert needed_bytes(OLDER) == int(20.5 * 2**30)
    assert needed_bytes("RESOURCE_EXHAUSTED") is None


def test_memory_of_a_program_counts_reused_arguments_once():
    state = jax.ShapeDtypeStruct((1024, 256), jnp.float32)
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(state).compile()
    use = memory_use(compiled)
    assert use.arguments == 2**20 and use.outputs == 0 and use.total >= 2**20
    kept = memory_use(jax.jit(lambda x: x + 1).lower(state).compile())
    assert kept.arguments == kept.outputs == 2**20


def test_the_largest_arrays_come_first():
    tree = {"params": {"small": jnp.zeros(8), "large": jnp.zeros((64, 64))}, "step": jnp.zeros((), jnp.int32)}
    first = argument_buffers(jax.eval_shape(lambda: tree))[0]
    assert (first.name, first.bytes, first.shape) == ("params/large", 64 * 64 * 4, "float32[64,64]")

    def function(x):
        return jnp.sum(jnp.tanh(x @ x.T) @ x)

    shape = jax.ShapeDtypeStruct((512, 16), jnp.float32)
    traced = jax.jit(function).trace(shape)
    assert traced_buffers(traced.jaxpr, 4)[0].bytes == 512 * 512 * 4 // 4


def test_one_array_of_each_size_is_shown():
    buffers = [Buffer(4, "a", "f32[1]"), Buffer(8, "b", "f32[2]"), Buffer(8, "b again", "f32[2]"), Buffer(2, "c", "")]
    assert [buffer.name for buffer in largest(buffers, 2)] == ["b", "a"]


def test_the_remedy_names_macros_that_help():
    macros = {"BATCH_SIZE": 256, "REMAT": "dots", "MESH_FSDP": 1}
    assert remedy(macros, temporaries_dominate=True).startswith("set REMAT=full, so that activations")
    assert ", or lower BATCH_SIZE, or take more chips" in remedy(macros, temporaries_dominate=True)
    assert remedy(macros, temporaries_dominate=False).startswith("set MESH_FSDP=-1 and MESH_DATA=1")
    assert "REMAT" not in remedy(macros | {"REMAT": "full"}, temporaries_dominate=True)
    done = {"BATCH_SIZE": 8, "MESH_FSDP": -1}
    assert remedy(done, temporaries_dominate=False) == "lower BATCH_SIZE, or take more chips"
