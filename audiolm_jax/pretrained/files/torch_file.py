"""The tensors of a file that torch.save wrote, without PyTorch and without running anything of it."""

import io
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from audiolm_jax.errors import UserError, brief
from audiolm_jax.files.archive import Archive
from audiolm_jax.pretrained.files.pickle_data import Call, Name, Reference, read_pickle

REMEDY = "save the model as safetensors: model.save_pretrained(DIR, safe_serialization=True), and import DIR"

_DTYPES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED = "collections.OrderedDict"
_STORAGES = {f"torch.{name}Storage": np.dtype(kind) for name, kind in _DTYPES.items()}
_ALLOWED = frozenset({_REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED, *_STORAGES})


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name of a state dictionary.

    Raises:
        UserError: the file is damaged, of the format before PyTorch 1.6, holds more than tensors, or would run code.
    """
    try:
        archive = Archive(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or of the format before PyTorch 1.6; {REMEDY}") from error
    with archive:
        members = [name for name in archive.names if name.endswith("/data.pkl")]
        if len(members) != 1:
            raise UserError(f"{path} holds {len(members)} pickles in place of one; {REMEDY}")
        root = members[0].removesuffix("data.pkl")
        value = read_pickle(io.BytesIO(_member(archive, members[0], path)), _ALLOWED, str(path), REMEDY)
        if f"{root}byteorder" in archive.names and _member(archive, f"{root}byteorder", path) != b"little":
            raise UserError(f"{path} was written by a big-endian machine; {REMEDY}")
        storages: dict[str, bytes] = {}

        def storage(key: str) -> bytes:
            if key not in storages:
                storages[key] = _member(archive, f"{root}data/{key}", path)
            return storages[key]

        entries = _dictionary(value)
        if not entries or not all(isinstance(name, str) for name in entries):
            raise UserError(f"{path} is no dictionary of tensors; {REMEDY}")
        return {name: _tensor(entry, storage, f"{path}: {brief(name)}") for name, entry in entries.items()}


def _member(archive: Archive, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except ValueError as error:
        raise UserError(f"{path} is cut short or damaged at {brief(name)}; copy it again") from error


def _dictionary(value: Any) -> dict | None:
    """The items of a dictionary, plain or ordered."""
    if isinstance(value, Call) and value.name == _ORDERED:
        return value.entries
    return value if isinstance(value, dict) else None


def _tensor(entry: Any, storage, where: str) -> np.ndarray:
    """One tensor, from the call that would rebuild it."""
    try:
        if isinstance(entry, Call) and entry.name == _REBUILD_PARAMETER:
            entry = entry.args[0]
        if entry.name != _REBUILD_TENSOR:
            raise ValueError(entry.name)
        reference, offset, shape, strides = entry.args[:4]
        kind, key = _storage_of(reference)
        data = storage(key)
        flat = np.frombuffer(data, kind) if data else np.empty(0, kind)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min((*shape, *strides, offset), default=0) < 0 or (0 not in shape and last >= len(flat)):
            raise ValueError("it lies outside of its storage")
        # Steps of 0 make any number of values of one; no weights are kept so.
        if math.prod(shape) > len(flat):
            raise ValueError("it has more values than its storage")
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], shape, [stride * kind.itemsize for stride in strides], writeable=False
        )
        return np.ascontiguousarray(view).reshape(shape)
    except UserError:
        raise
    except (AttributeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise UserError(f"{where} is no tensor, or a damaged one; {REMEDY}") from error


def _storage_of(reference: Any) -> tuple[np.dtype, str]:
    """Type and key of the storage that a tensor lies in."""
    if not isinstance(reference, Reference):
        raise ValueError("no storage")
    _, kind, key, *_ = reference.key
    if not isinstance(kind, Name) or kind.name not in _STORAGES:
        raise ValueError("a storage of another type")
    if not isinstance(key, str):
        raise ValueError("a storage without a name")
    return _STORAGES[kind.name], key
