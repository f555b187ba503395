"""The centroids of a k-means model that scikit-learn and joblib wrote, as fairseq's recipes for HuBERT units do.

Such a file is a pickle with the bytes of arrays between its instructions. It is read as data (`pickle_data`): names of
a few classes may occur, none is called, and what is kept are the centroids.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.errors import UserError, shown
from audiolm_jax.files.array_file import read_arrays
from audiolm_jax.pretrained.files.pickle_data import Call, Name, read_pickle

REMEDY = "write the centroids as a NumPy file, numpy.save('km.npy', model.cluster_centers_), and give that"

_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_MODELS = tuple(
    f"sklearn.cluster.{module}.{name}"
    for module in ("_kmeans", "k_means_")
    for name in ("MiniBatchKMeans", "KMeans")
)
_NUMPY = tuple(
    f"{module}.{name}"
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
)
# Random generators are attributes of a model; they are named, and dropped.
_RANDOM = (
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random.mtrand.RandomState",
    "numpy.random.__RandomState_ctor",
)
_ALLOWED = frozenset({_WRAPPER, *_MODELS, *_NUMPY, *_RANDOM, "numpy.ndarray", "numpy.dtype", "copyreg._reconstructor",
                      "builtins.object", "_codecs.encode"})  # fmt: skip
_CENTERS = "cluster_centers_"
_LONGEST_DTYPE = 8


def read_centroids(path: str | Path) -> np.ndarray:
    """Centroids float32[K, D] of a joblib file, a NumPy file (.npy), or a file of safetensors with one array.

    Raises:
        UserError: the file is damaged, of another format, or would run something else than build a k-means.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            centroids = read_arrays(path)[""]
        else:
            centroids = _from_joblib(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no k-means file {path}; give one that joblib.dump or numpy.save wrote") from error
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or no k-means file; {REMEDY}") from error
    if centroids.ndim == 2 and centroids.size and np.issubdtype(centroids.dtype, np.floating):
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.ascontiguousarray(centroids, np.float32)
        if np.isfinite(kept).all():
            return kept
    raise UserError(f"{path} holds {shown(centroids.dtype)}{list(centroids.shape)}, not centroids [K, D]; {REMEDY}")


def _from_joblib(path: Path) -> np.ndarray:
    # All of it, and no more: a read from the file itself would allocate whatever length stands in it.
    stream = io.BytesIO(path.read_bytes())
    if stream.read(1) != b"\x80":
        raise UserError(f"{path} is compressed or no joblib file; {REMEDY}")
    stream.seek(0)

    def after_build(made: Call) -> Any:
        if made.name == _WRAPPER or (made.name == "copyreg._reconstructor" and made.args[:1] == (Name(_WRAPPER),)):
            return _inline_array(stream, made.state)
        return made

    model = read_pickle(stream, _ALLOWED, str(path), REMEDY, after_build)
    state = model.state if isinstance(model, Call) else None
    if isinstance(model, np.ndarray):
        return model
    if not isinstance(state, dict) or not isinstance(state.get(_CENTERS), np.ndarray):
        raise UserError(f"{path} holds no k-means with {_CENTERS}; {REMEDY}")
    return state[_CENTERS]


def _inline_array(stream: io.BytesIO, state: dict) -> np.ndarray:
    """The array whose bytes follow its description in the stream."""
    dtype, shape, order = _dtype(state["dtype"]), tuple(state["shape"]), state["order"]
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    size = math.prod(shape) * dtype.itemsize
    if size < 0 or len(data := stream.read(size)) != size:
        raise ValueError("cut short")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _dtype(described: Any) -> np.dtype:
    """The dtype that a pickle describes: numpy.dtype("f4", ...) with its byte order as state."""
    if not isinstance(described, Call) or described.name != "numpy.dtype":
        raise ValueError("no dtype")
    name = described.args[0]
    if not isinstance(name, str) or len(name) > _LONGEST_DTYPE:
        raise ValueError("no plain dtype")
    dtype = np.dtype(name)
    order = described.state[1] if isinstance(described.state, tuple) else "<"
    if dtype.hasobject or dtype.itemsize > 16:
        raise ValueError("objects")
    return dtype.newbyteorder(order if order in "<>" else "|")
