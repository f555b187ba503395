"""Arrays in NumPy's own files, .npy and .npz, read without trusting what their headers announce.

`np.load` allocates what a header asks for before it looks at the length of the file, and a damaged header ends it in
errors of many kinds.
"""

import io
import math
from pathlib import Path

import numpy as np

from audiolm_jax.files.archive import Archive

_SUFFIX = ".npy"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class PickledArray(ValueError):
    """An array of objects, which only unpickling could read; that may run code."""


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name of a .npz file; of a .npy file its one array, by the name "".

    Returns:
        Arrays of any shape and of any type but objects, read-only.

    Raises:
        OSError: the file cannot be opened.
        PickledArray: an array holds objects.
        ValueError: the file is neither of the two, or damaged.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if not is_archive:
        return {"": array_of(path.read_bytes())}
    with Archive(path) as archive:
        names = [name for name in archive.names if name.endswith(_SUFFIX)]
        return {name.removesuffix(_SUFFIX): array_of(archive.read(name)) for name in names}


def array_of(data: bytes) -> np.ndarray:
    """The array of the bytes of a .npy file; otherwise as `read_arrays`."""
    stream = io.BytesIO(data)
    try:
        shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        size = math.prod(shape)
        if not dtype.hasobject and min(shape, default=0) >= 0 and size * dtype.itemsize <= len(data) - stream.tell():
            flat = np.frombuffer(data, dtype, size, stream.tell()) if size else np.empty(0, dtype)
            return flat.reshape(shape, order="F" if is_fortran else "C")
    except Exception as error:  # whatever NumPy makes of a damaged header
        raise ValueError(f"no array of NumPy ({type(error).__name__})") from error
    if dtype.hasobject:
        raise PickledArray("objects")
    raise ValueError(f"cut short: {list(shape)} of {dtype} are announced")
