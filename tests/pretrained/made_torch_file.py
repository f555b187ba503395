"""Files as torch.save writes them, made without PyTorch."""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np


class _Stored:
    """Stands for a storage; the pickler writes a reference to it."""

    def __init__(self, kind, key, size):
        self.reference = ("storage", kind, key, "cpu", size)


class _StoragePickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.reference if isinstance(value, _Stored) else None


@contextlib.contextmanager
def torch_by_name() -> Iterator[types.ModuleType]:
    """As much of PyTorch as a pickle names, importable while the context lasts."""
    made = {}

    def named(name, **attributes):
        module = types.ModuleType(name)
        for attribute, value in attributes.items():
            value.__module__, value.__qualname__, value.__name__ = name, attribute, attribute
            setattr(module, attribute, value)
        made[name] = module
        return module

    def rebuild():
        raise AssertionError("this is never called")

    def rebuild_parameter():
        raise AssertionError("this is never called")

    utils = named("torch._utils", _rebuild_tensor_v2=rebuild, _rebuild_parameter=rebuild_parameter)
    kinds = {f"{name}Storage": type("Storage", (), {}) for name in ("Float", "Half", "BFloat16", "Long")}
    module = named("torch", **kinds)
    module._utils = utils
    with mock.patch.dict(sys.modules, made):
        yield module


def tensor(torch, kind, key, shape, strides=None, offset=0, size=1):
    """What pickles as a tensor that lies in a storage."""
    strides = strides or tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))

    class Tensor:
        def __reduce__(self):
            arguments = (_Stored(getattr(torch, kind), key, size), offset, shape, strides, False, {})
            return torch._utils._rebuild_tensor_v2, arguments

    return Tensor()


def parameter(torch, *arguments):
    """What pickles as a parameter, made with these arguments."""

    class Parameter:
        def __reduce__(self):
            return torch._utils._rebuild_parameter, arguments

    return Parameter()


def made_torch_file(path, value: Any, storages: Mapping[str, bytes], byteorder=b"little", stored=True):
    """Writes a file (a path, or a stream) and returns its path."""
    buffer = io.BytesIO()
    _StoragePickler(buffer, protocol=2).dump(value)
    return archive_of(path, buffer.getvalue(), storages, byteorder, stored)


def archive_of(path, pickled: bytes, storages: Mapping[str, bytes], byteorder=b"little", stored=True):
    """The archive of a pickle and of the storages that it refers to; PyTorch compresses nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path
