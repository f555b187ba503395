"""Parameters of another training within a compiled program, without baking them into it as constants."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax


def loaded_params(load: Callable[[], Any], shapes: Any) -> Any:
    """What `load` returns, a tree of arrays like `shapes`; called once, when the program runs."""
    lock, cached = threading.Lock(), functools.cache(load)

    def load_once():
        with lock:  # devices may ask side by side
            return cached()

    def call():
        return jax.pure_callback(load_once, shapes)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return call()
    # On every device, for a callback on one of them would have to reach the devices of other processes.
    return jax.shard_map(call, in_specs=(), out_specs=jax.P(), check_vma=False)()
