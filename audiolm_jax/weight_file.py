"""Nested dictionaries of arrays as safetensors, in half precision or as they are, and back to float32."""

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from audiolm_jax.errors import UserError

# Types that weights are kept in.
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}

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
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
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
    return unflatten({name: jnp.asarray(array) for name, array in flatten(decode_numpy(data, where)).items()})


def decode_numpy(data: bytes, where: str) -> dict[str, Any]:
    """Nested dictionaries of NumPy arrays, floating-point ones as float32.

    Raises:
        UserError: the bytes are no safetensors file of the types that we write.
    """
    try:
        entries = deserialize(bytes(data))
    except SafetensorError as error:
        raise UserError(f"{where} is no safetensors file or damaged ({error}); copy it again") from error
    flat = {}
    for name, entry in entries:
        dtype = _READABLE.get(entry["dtype"])
        if dtype is None:
            raise UserError(f"{where}: {name} is of type {entry['dtype']}, which we do not write; export it again")
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        is_integer = np.issubdtype(dtype, np.integer)
        flat[name] = array if is_integer else array.astype(np.float32, copy=False)
    return unflatten(flat)
