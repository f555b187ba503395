"""A script: the start and the averages of the codebooks on all devices against those on one."""

import sys

import jax
import numpy as np

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.parallel.mesh import BATCH_SPEC, MeshSizes, make_mesh, replicated

SETTINGS = QuantizerSettings(decay=0.5, dead_share=0.5, kmeans_iterations=3)


def trained(devices, num_steps: int = 3) -> quantizer.CodebookState:
    """Codebooks after some steps on batches of 8 rows, split over `devices`."""
    mesh = make_mesh(MeshSizes(data=-1), devices)
    rows = jax.NamedSharding(mesh, BATCH_SPEC)

    def step(state, latents, num_levels, rng):
        state = jax.lax.cond(
            state.started,
            lambda: state,
            lambda: quantizer.kmeans_start(state, latents.reshape(-1, 4), rng, SETTINGS),
        )
        quantized = quantizer.quantize(latents, state.entries, num_levels)
        return quantizer.update(state, quantized, rng, SETTINGS)

    whole = replicated(mesh)
    step = jax.jit(step, in_shardings=(whole, rows, rows, whole), out_shardings=whole)
    state = quantizer.initial_state(2, 8, 4)
    for index in range(num_steps):
        generator = np.random.default_rng(index)
        # Rows differ in level and in number of levels: statistics of one device's row are not those of the batch.
        latents = generator.normal(size=(8, 8, 4)) + np.arange(8)[:, None, None]
        num_levels = generator.integers(1, 3, 8).astype(np.int32)
        state = step(state, latents.astype(np.float32), num_levels, jax.random.key(index))
    return jax.device_get(state)


def main() -> int:
    one, all_devices = trained(jax.devices()[:1]), trained(jax.devices())
    assert one.started
    for single, sharded in zip(jax.tree.leaves(one), jax.tree.leaves(all_devices), strict=True):
        np.testing.assert_allclose(sharded, single, rtol=1e-4, atol=1e-5)
    print(f"equal on {len(jax.devices())} devices")
    return 0


if __name__ == "__main__":
    sys.exit(main())
