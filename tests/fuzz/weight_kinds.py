"""Weights and what describes them: bundles, imported and published models, centroids, and arrays of features."""

import collections
import dataclasses
import functools
import hashlib
import io
import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import joblib
import numpy as np
from safetensors.numpy import load_file, save
from sklearn.cluster import MiniBatchKMeans

from audiolm_jax.bundle import Bundle
from audiolm_jax.bundle.describe import describe_in_words
from audiolm_jax.bundle.export import export_bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.abx.frame_features import folder_features
from audiolm_jax.evaluation.sound.embeddings import read_embeddings
from audiolm_jax.pretrained.files import description
from audiolm_jax.pretrained.files.imported_model import (
    KMeans,
    is_imported,
    read_huggingface,
    read_imported,
    write_imported,
)
from audiolm_jax.pretrained.files.kmeans_file import read_centroids
from audiolm_jax.pretrained.files.torch_file import read_torch_file
from tests.fuzz.damage import damage_bytes, damage_text
from tests.fuzz.file_kind import (
    FileKind,
    Files,
    damage_json,
    damage_npy,
    damage_safetensors,
    damage_zip,
    each_by,
    one_of,
)
from tests.pretrained.made_torch_file import made_torch_file, tensor, torch_by_name
from tests.tiny_system import tiny_system, tiny_tokenizers

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
_PUBLISHED = ("hubert", "wav2vec2-bert", "encodec", "dac", "mimi")


def kinds() -> list[FileKind]:
    """All of them."""
    settings = each_by({".json": damage_json})
    members, arrays = damage_zip(_damage_member), {".npy": damage_npy, ".bin": damage_bytes}
    published = each_by({".json": damage_json, ".safetensors": damage_safetensors, "README.md": damage_text})
    return [
        FileKind("bundle", 3, _bundle, one_of(settings, _damage_and_sign), _read_bundle),
        FileKind("imported model", 12, _imported, one_of(settings, _damage_and_sign), _read_imported),
        FileKind("torch pickle", 30, _torch_file, each_by({"": members}), _read_torch),
        FileKind("k-means file", 24, _centroids, each_by(arrays), _read_centroids),
        FileKind("arrays", 14, _arrays, each_by({".npy": damage_npy, ".npz": members}), _read_arrays),
        *(
            FileKind(f"published {name}", 4, functools.partial(_published, name), one_of(settings, published), _import)
            for name in _PUBLISHED
        ),
        FileKind("published in two files", 2, _published_in_two, published, _import),
    ]


def _published(name: str) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in (GOLDEN / name).iterdir() if path.stem != "expected"}
    return files | {"README.md": b"---\nlicense: mit\ntags:\n- speech\n---\n# A model\n"}


def _published_in_two() -> dict[str, bytes]:
    name = _PUBLISHED[0]
    tensors = load_file(GOLDEN / name / "model.safetensors")
    names = sorted(tensors)
    places = {tensor: f"model-{at % 2}.safetensors" for at, tensor in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    halves = {f"model-{at}.safetensors": save({tensor: tensors[tensor] for tensor in names[at::2]}) for at in range(2)}
    config = (GOLDEN / name / "config.json").read_bytes()
    return {"config.json": config, "model.safetensors.index.json": json.dumps(index).encode(), **halves}


def _import(folder: Path) -> None:
    read_huggingface(folder)


def _damage_and_sign(rng: Random, files: Files) -> None:
    """Damaged weights whose sums in the manifest are right: as a writer with a fault would leave them."""
    name = rng.choice(sorted(name for name in files if name.endswith(".safetensors")))
    files[name] = damage_safetensors(rng, files[name])
    manifest = json.loads(files["manifest.json"])
    entry = manifest["files"][name] if "files" in manifest else manifest["weights"]
    entry |= {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    files["manifest.json"] = json.dumps(manifest).encode()


def _bundle() -> dict[str, bytes]:
    with TemporaryDirectory() as name:
        tokenizers = export_bundle(tiny_tokenizers(), Path(name, "tokenizers"))
        export_bundle(tiny_system(tokenizers), Path(name, "system"))
        return {path.name: path.read_bytes() for path in Path(name, "system").iterdir()}


def _read_bundle(folder: Path) -> None:
    describe_in_words(Bundle.load(folder))


def _imported() -> dict[str, bytes]:
    model = read_huggingface(GOLDEN / "hubert")
    centroids = np.random.default_rng(0).normal(size=(5, model.config.dim)).astype(np.float32)
    with TemporaryDirectory() as name:
        write_imported(dataclasses.replace(model, kmeans=KMeans(1, centroids)), Path(name, "model"))
        return {path.name: path.read_bytes() for path in Path(name, "model").iterdir()}


def _read_imported(folder: Path) -> None:
    is_imported(folder)
    description.describe_in_words(read_imported(folder))


def _damage_member(rng: Random, name: str, content: bytes) -> bytes:
    return damage_npy(rng, content) if name.endswith(".npy") else damage_bytes(rng, content)


def _torch_file() -> dict[str, bytes]:
    numbers = np.arange(12, dtype=np.float32)
    with torch_by_name() as torch:
        entries = collections.OrderedDict(
            whole=tensor(torch, "FloatStorage", "0", (3, 4)),
            transposed=tensor(torch, "FloatStorage", "0", (4, 3), (1, 4)),
            part=tensor(torch, "FloatStorage", "0", (2, 2), (4, 1), offset=5),
            scalar=tensor(torch, "LongStorage", "1", ()),
            half=tensor(torch, "HalfStorage", "2", (2,)),
        )
        buffer = io.BytesIO()
        storages = {"0": numbers.tobytes(), "1": np.int64([7]).tobytes(), "2": np.float16([1.5, -2]).tobytes()}
        made_torch_file(buffer, entries, storages)
    return {"model.bin": buffer.getvalue()}


def _read_torch(folder: Path) -> None:
    for array in read_torch_file(folder / "model.bin").values():
        np.array(array)


def _centroids() -> dict[str, bytes]:
    features = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    model = MiniBatchKMeans(5, random_state=0, n_init=1).fit(features)
    files = {}
    for name, value in (("km.bin", model), ("array.bin", features)):
        buffer = io.BytesIO()
        joblib.dump(value, buffer)
        files[name] = buffer.getvalue()
    return files | {"km.npy": _npy(features)}


def _read_centroids(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_centroids(path)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _arrays() -> dict[str, bytes]:
    features = np.random.default_rng(0).normal(size=(20, 4))
    files = {"a.npy": _npy(features.astype(np.float32)), "b.npy": _npy(np.asfortranarray(features))}
    for name, write in (("c.npz", np.savez), ("d.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        write(buffer, features=features.astype(np.float16))
        files[name] = buffer.getvalue()
    return files


def _read_arrays(folder: Path) -> None:
    features = folder_features(folder)
    refused = None
    for name in features.names:
        try:
            features.load(name)
        except UserError as error:
            refused = error
    read_embeddings(folder)
    if refused:
        raise refused
