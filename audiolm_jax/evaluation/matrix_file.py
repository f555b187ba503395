"""Vectors of recordings in NumPy files, one array of numbers [N, D] for each recording."""

from pathlib import Path

import numpy as np

from audiolm_jax.errors import UserError
from audiolm_jax.files.array_file import PickledArray, read_arrays


def matrix_files(folder: str | Path) -> list[Path]:
    """Every .npy and .npz file below a folder, sorted by path; hidden ones are left out.

    Raises:
        UserError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds .npy or .npz files, or audio")
    found = (path for path in Path(folder).rglob("*") if path.suffix.lower() in (".npy", ".npz"))
    return sorted(path for path in found if not path.name.startswith("."))


def read_plain_arrays(path: Path) -> list[np.ndarray]:
    """All arrays of a file.

    Raises:
        UserError: it is no file of arrays, or could only be read by unpickling it.
    """
    try:
        return list(read_arrays(path).values())
    except PickledArray as error:
        problem = "is pickled, which may run code and is never read"
        raise UserError(f"{path} {problem}; save plain numbers [N, D] in it with np.save") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a NumPy file; save plain numbers [N, D] in it with np.save") from error


def checked_matrix(array: np.ndarray, where: str | Path, row: str = "frame") -> np.ndarray:
    """An array as float32[N, D], or float64[N, D] where it is of that type.

    Args:
        array: of any type and shape.
        where: where it is from, for messages.
        row: what one row of it stands for, likewise.

    Raises:
        UserError: it is not of numbers, not [N, D] with D of at least 1, or holds NaN or infinity.
    """
    if array.dtype.kind not in "fiu":
        raise UserError(f"{where} holds {array.dtype} values; numbers [N, D] are needed, such as float32")
    if array.ndim != 2 or array.shape[1] == 0:
        raise UserError(f"{where} has the shape {list(array.shape)}; numbers [N, D] are needed, one row per {row}")
    with np.errstate(all="ignore"):  # what is no number is told below
        array = array if array.dtype == np.float64 else array.astype(np.float32)
    if (wrong := np.flatnonzero(~np.isfinite(array).all(axis=1))).size:
        raise UserError(f"{where} holds NaN or infinity, first in {row} {wrong[0]}; compute it again")
    return array
