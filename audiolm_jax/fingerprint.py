"""A short hash of a configuration and its weights, compared wherever two trained parts are joined."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

_UNHASHED_DEFAULT = "unhashed_default"


def unhashed_default(value: Any) -> Any:
    """A dataclass field that counts in fingerprints only where it differs from `value`.

    For an option that is added later: what was trained before it keeps its fingerprint.
    """
    return dataclasses.field(default=value, metadata={_UNHASHED_DEFAULT: True})


def _canonical(value: Any) -> Any:
    """`value` in JSON's own types, tuples as lists."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: _canonical(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (_UNHASHED_DEFAULT in field.metadata and getattr(value, field.name) == field.default)
        }
    if isinstance(value, (tuple, list)):
        return [_canonical(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def fingerprint(config: Any, params: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a config and its weights.

    Args:
        config: a dataclass of plain values.
        params: a pytree of arrays. Floating-point leaves are hashed in their own dtype, so weights that were rounded
            to bfloat16 for a bundle have another fingerprint than the float32 weights they came from.

    Returns:
        16 hexadecimal digits, the same on every machine and process.
    """
    digest = hashlib.sha256(json.dumps(_canonical(config), sort_keys=True).encode())
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def files_digest(paths: Iterable[Path]) -> str:
    """12 hexadecimal digits of the names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:12]
