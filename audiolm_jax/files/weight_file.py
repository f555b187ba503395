"""Nested dictionaries of arrays as safetensors, in half precision or as they are, and back to float32."""

from typing import Any

import jax
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from audiolm_jax.errors import UserError, first_line, shown

# Types that weights are kept in.
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}

# Parameters nest by the modules of a network.
_DEEPEST = 64

# Names of types in the file format, for those that we write.
_READABLE = {
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}


def flatten(params: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dictionaries as one, names joined by dots."""
    flat = {}
    for name, value in params.items():
        if not name or "." in name:
            raise ValueError(f"a parameter must not be named {name!r}")
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`; ValueError for names that it does not give."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = parts = name.split(".")
        if "" in parts or len(parts) > _DEEPEST:
            raise ValueError(f"{shown(name)} is no name of a parameter")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{shown(name)} lies below a parameter")
        if leaf in node:
            raise ValueError(f"{shown(name)} is a parameter and holds others")
        node[leaf] = value
    return nested


def rounded(params: Any, dtype: str, where: str) -> dict[str, np.ndarray]:
    """Flat parameters with floating-point arrays of one type.

    Args:
        params: nested dictionaries of arrays.
        dtype: "float16", "bfloat16" or "float32".
        where: names the part in errors.

    Raises:
        UserError: the dtype is another, or a value is not finite or too large for it.
    """
    if dtype not in DTYPES:
        raise UserError(f"weights are kept as {', '.join(DTYPES)}, not {dtype!r}; change weight_dtype")
    flat = {}
    for name, value in flatten(params).items():
        if np.issubdtype(value.dtype, np.integer):
            flat[name] = value
            continue
        with np.errstate(over="ignore"):
            kept = np.asarray(value, np.float32).astype(DTYPES[dtype])
        if not np.isfinite(kept.astype(np.float32)).all():
            raise UserError(
                f"{where}: {name} holds values that {dtype} cannot; use bfloat16 or float32, or look at the training"
            )
        flat[name] = kept
    return flat


def encode(flat: dict[str, np.ndarray]) -> bytes:
    """One safetensors file; the same parameters give the same bytes."""
    return save({name: np.ascontiguousarray(flat[name]) for name in sorted(flat)})


def decode(data: bytes, where: str) -> dict[str, Any]:
    """Nested dictionaries of JAX arrays, floating-point ones as float32; raises UserError as `decode_numpy`."""
    # All at once: one by one, JAX compiles a program for every shape, which takes a second for a whole system.
    return jax.device_put(decode_numpy(data, where))


def decode_numpy(data: bytes, where: str) -> dict[str, Any]:
    """Nested dictionaries of NumPy arrays, floating-point ones as float32.

    Raises:
        UserError: the bytes are no safetensors file of the types that we write.
    """
    try:
        entries = deserialize(bytes(data))
    except SafetensorError as error:
        raise UserError(f"{where} is no safetensors file or damaged ({first_line(error)}); copy it again") from error
    flat = {}
    for name, entry in entries:
        dtype = _READABLE.get(entry["dtype"])
        if dtype is None:
            kind = entry["dtype"]
            raise UserError(f"{where}: {shown(name)} is of type {kind}, which we do not write; export it again")
        array = np.frombuffer(entry["data"], dtype) if len(entry["data"]) else np.empty(0, dtype)
        try:
            array = array.reshape(entry["shape"])
        except ValueError as error:
            raise UserError(f"{where}: {shown(name)} has no shape of an array; export it again") from error
        is_integer = np.issubdtype(dtype, np.integer)
        flat[name] = array if is_integer else array.astype(np.float32, copy=False)
    try:
        return unflatten(flat)
    except ValueError as error:
        raise UserError(f"{where}: {error}; export it again") from error
