"""A published model after its import: one folder with a manifest and the weights, which checks itself.

    manifest.json          kind, configuration, licence, origin, and the reference's own settings, for an export
    weights.safetensors    our parameters, float32

An encoder may hold centroids too; it then is a semantic tokenizer.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax import fingerprint
from audiolm_jax.errors import UserError, first_line, shown
from audiolm_jax.files import replace_files, weight_file
from audiolm_jax.files.model_folders import IMPORTED_FORMAT, MANIFEST_NAME, what_it_is
from audiolm_jax.files.plain_json import from_plain, parse, to_plain
from audiolm_jax.pretrained.files.huggingface_folder import HuggingFaceFolder, open_huggingface_folder
from audiolm_jax.pretrained.files.kmeans_file import read_centroids
from audiolm_jax.pretrained.files.weight_map import WeightMap, read_weights
from audiolm_jax.pretrained.kind import CODEC, ENCODER, Kind
from audiolm_jax.pretrained.kinds import PUBLISHED_LICENCES, find_kind
from audiolm_jax.pretrained.lyra.lyra_files import LyraFolder, is_lyra_folder
from audiolm_jax.pretrained.lyra.lyra_network import LyraConfig

SCHEMA_VERSION = 1
WEIGHTS_NAME = "weights.safetensors"


@dataclasses.dataclass(frozen=True, eq=False)
class KMeans:
    """Centroids of a layer of an encoder.

    Attributes:
        layer: as transformers numbers hidden states; 0 is what the first block is given.
        centroids: float32[K, D].
    """

    layer: int
    centroids: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ImportedModel:
    """A published model in memory.

    Attributes:
        kind: of the model.
        config: `kind.config_class`.
        params: nested dictionaries of float32 arrays.
        licence: of the weights.
        origin: where they came from.
        reference: {"config": ..., "preprocessor": ...} as they were, for an export.
        left_out: names of the tensors that were not imported: heads and running averages.
        kmeans: centroids of an encoder's layer, None for none.
        path: folder it was read from, None for one in memory.
    """

    kind: Kind
    config: Any
    params: Any
    licence: str
    origin: str
    reference: dict[str, Any]
    left_out: tuple[str, ...] = ()
    kmeans: KMeans | None = None
    path: Path | None = None

    def fingerprint(self) -> str:
        """16 hexadecimal digits of configuration and weights, centroids included."""
        layer, arrays = (None, {}) if self.kmeans is None else (self.kmeans.layer, {"centroids": self.kmeans.centroids})
        return fingerprint.fingerprint((self.kind.name, self.config, layer), {"model": self.params, **arrays})


@dataclasses.dataclass(frozen=True)
class ImportedManifest:
    """What manifest.json says of a model, without its weights.

    Attributes:
        path: of the file.
        kind, config, licence, origin, reference, left_out: as those of `ImportedModel`.
        layer: that the centroids belong to, None where there are none.
        fingerprint: as `ImportedModel.fingerprint` gives it.
        weight_bytes, weight_sha256: of the file of weights.
    """

    path: Path
    kind: Kind
    config: Any
    licence: str
    origin: str
    reference: dict[str, Any]
    left_out: tuple[str, ...]
    layer: int | None
    fingerprint: str
    weight_bytes: int
    weight_sha256: str


def read_huggingface(
    source: str | Path,
    licence: str | None = None,
    kmeans: str | Path | None = None,
    layer: int | None = None,
    num_quantizers: int | None = None,
    kind_name: str | None = None,
    join_levels: int | None = None,
    rounds_activations: bool = True,
) -> ImportedModel:
    """The model of a Hugging Face folder, or of the three files of Lyra V2.

    Args:
        source: with config.json and weights, or with Lyra's .tflite files.
        licence: of the weights; None for what its model card says, or else what such models are published under.
        kmeans: a file of centroids (joblib, as fairseq's recipes write it, or .npy) for an encoder.
        layer: that the centroids belong to.
        num_quantizers: levels that a codec's `encode` shall give; None for all that it has.
        kind_name: what the folder has to hold; None for any kind.
        join_levels: levels of a Lyra that are one token together; None for as many as in its config.json, or one.
        rounds_activations: False for a Lyra whose int8 layers do not round what they give.

    Raises:
        UserError: a file is missing, damaged or would run code; the model is of no known kind, or of a variant that is
            not computed; its weights are not those that config.json describes; or centroids do not fit the layer.
        ModuleNotFoundError: the files are Lyra's, and ai-edge-litert is not installed.
    """
    folder = open_source(source)
    kind = find_kind(folder.config.get("model_type"), str(folder.path / "config.json"))
    if kind_name is not None and kind_name != kind.name:
        raise UserError(f"{folder.path} holds a {kind.name}, not a {kind_name}; check the folder")

    def set_up(config: Any) -> Any:
        config = _with_lyra_settings(kind, config, join_levels, rounds_activations)
        return _with_levels(kind, config, num_quantizers)

    config, weight_map = _described(kind, folder, set_up)
    licence = _licence(folder, kind, licence)
    read = read_weights(folder.tensors(), weight_map, str(folder.path))
    return ImportedModel(
        kind=kind,
        config=config,
        params=read.params,
        licence=licence,
        origin=folder.origin,
        reference={"config": folder.config, "preprocessor": folder.preprocessor},
        left_out=read.left_out,
        kmeans=_kmeans(kind, config, kmeans, layer),
    )


def open_source(path: str | Path) -> HuggingFaceFolder | LyraFolder:
    """What a folder with the files of a published model says of it.

    Raises:
        UserError: see `open_huggingface_folder`.
    """
    return LyraFolder(Path(path)) if is_lyra_folder(path) else open_huggingface_folder(path)


def _described(
    kind: Kind, folder: HuggingFaceFolder | LyraFolder, set_up: Callable[[Any], Any]
) -> tuple[Any, WeightMap]:
    """Configuration and tensors of the model that the folder describes, set up as it was asked for.

    Raises:
        UserError: it has what we do not compute, or numbers that are those of no model, such as heads of width 0.
    """
    try:
        config = kind.read_config(folder.config, folder.preprocessor)
        kind.make(config)  # some that can be read cannot serve as a codec; that is told before gigabytes are read
        config = set_up(config)
        return config, kind.weight_map(config)
    except UserError:
        raise
    except (ArithmeticError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{folder.path / 'config.json'} describes no {kind.name} ({first_line(error)}); give the "
                        "model's own config.json") from error


def _licence(folder: HuggingFaceFolder | LyraFolder, kind: Kind, given: str | None) -> str:
    return given or folder.licence or PUBLISHED_LICENCES[kind.name]


def _with_lyra_settings(kind: Kind, config: Any, join_levels: int | None, rounds_activations: bool) -> Any:
    if join_levels is None and rounds_activations:
        return config
    if kind.config_class is not LyraConfig:
        raise UserError(f"--join_levels and --float_activations go with a lyra, but this is a {kind.name}")
    if join_levels is not None:
        levels = max(config.num_codebooks // join_levels, 1)
        config = dataclasses.replace(config, join_levels=join_levels, num_quantizers=levels)
    return config if rounds_activations else dataclasses.replace(config, rounds_activations=False)


def _with_levels(kind: Kind, config: Any, num_quantizers: int | None) -> Any:
    if num_quantizers is None:
        return config
    if kind.part != CODEC:
        raise UserError(f"--num_quantizers goes with a codec, but this is a {kind.name}")
    if not 1 <= num_quantizers <= config.num_quantizers:
        raise UserError(f"--num_quantizers is {num_quantizers}, this {kind.name} has {config.num_quantizers} levels")
    return dataclasses.replace(config, num_quantizers=num_quantizers)


def _kmeans(kind: Kind, config: Any, path: str | Path | None, layer: int | None) -> KMeans | None:
    if path is None and layer is None:
        return None
    if kind.part != ENCODER:
        raise UserError(f"--kmeans and --layer go with an encoder, but this is a {kind.name}")
    if path is None or layer is None:
        raise UserError("give --kmeans and --layer together: centroids belong to one layer")
    centroids = read_centroids(path)
    _check_centroids(config, layer, centroids, str(path))
    return KMeans(layer, centroids)


def _check_centroids(config: Any, layer: int, centroids: np.ndarray, where: str) -> None:
    if not 0 <= layer <= config.num_layers:
        raise UserError(f"--layer is {layer}, but this encoder has the layers 0 to {config.num_layers}")
    if centroids.ndim != 2 or centroids.shape[1] != config.dim:
        raise UserError(f"{where}: centroids are {list(centroids.shape)}, but features are {config.dim} wide; they "
                        "belong to another encoder")


def write_imported(model: ImportedModel, folder: str | Path, overwrite: bool = False) -> ImportedModel:
    """Writes a model into a folder, whole or not at all, and reads it again.

    Raises:
        UserError: the folder is there already and `overwrite` is not given, or it cannot be written.
    """
    check_output(folder, overwrite)
    folder = Path(folder)
    arrays = {"model": model.params}
    if model.kmeans is not None:
        arrays["kmeans"] = {"centroids": model.kmeans.centroids}
    data = weight_file.encode(weight_file.rounded(arrays, "float32", model.kind.name))
    manifest = {
        "format": IMPORTED_FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind.name,
        "part": model.kind.part,
        "licence": model.licence,
        "origin": model.origin,
        "config": to_plain(model.config),
        "layer": None if model.kmeans is None else model.kmeans.layer,
        "fingerprint": model.fingerprint(),
        "left_out": list(model.left_out),
        "weights": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "reference": model.reference,
    }
    try:
        text = (json.dumps(manifest, indent=1) + "\n").encode()
        # A folder without manifest is no imported model.
        replace_files(folder, {WEIGHTS_NAME: data, MANIFEST_NAME: text}, last=MANIFEST_NAME)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error}); make room, or name another") from error
    return read_imported(folder)


def check_output(folder: str | Path, overwrite: bool) -> None:
    """Raises UserError where something stands in a folder that an imported model must not replace."""
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is a file; give a folder")
    if others := sorted({path.name for path in folder.iterdir()} - {MANIFEST_NAME, WEIGHTS_NAME}):
        raise UserError(f"{folder} exists and holds {others[0]}, which is no imported model's; give another folder")
    if not overwrite:
        raise UserError(f"{folder} exists; give another folder, or --overwrite to replace the imported model in it")


def is_imported(folder: str | Path) -> bool:
    """Whether a folder holds an imported model, judged by its manifest."""
    try:
        plain = parse((Path(folder) / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(plain, dict) and plain.get("format") == IMPORTED_FORMAT


def read_imported(folder: str | Path, part: str | None = None) -> ImportedModel:
    """The model of a folder that `write_imported` made.

    Args:
        folder: where it is.
        part: `kind.CODEC` or `kind.ENCODER`, where only that is of use; None for either.

    Raises:
        UserError: a file is missing, cut short or changed, was written by another version, or is not of that part.
    """
    folder = Path(folder)
    manifest = read_imported_manifest(folder, part)
    data = _checked_bytes(folder / WEIGHTS_NAME, manifest.weight_bytes, manifest.weight_sha256)
    arrays = weight_file.decode_numpy(data, str(folder / WEIGHTS_NAME))
    unlike = f"{manifest.path}: configuration and weights do not belong together; import the model again"
    kmeans = arrays.pop("kmeans", None)
    centroids = kmeans.get("centroids") if isinstance(kmeans, dict) else kmeans
    if arrays.keys() != {"model"} or (manifest.layer is None) != (centroids is None):
        raise UserError(unlike)
    if centroids is not None:
        if not isinstance(centroids, np.ndarray):
            raise UserError(unlike)
        _check_centroids(manifest.config, manifest.layer, centroids, str(folder))
    model = ImportedModel(
        kind=manifest.kind,
        config=manifest.config,
        params=arrays["model"],
        licence=manifest.licence,
        origin=manifest.origin,
        reference=manifest.reference,
        left_out=manifest.left_out,
        kmeans=None if manifest.layer is None else KMeans(manifest.layer, centroids),
        path=folder,
    )
    if model.fingerprint() != manifest.fingerprint:
        raise UserError(unlike)
    return model


def read_imported_manifest(folder: str | Path, part: str | None = None) -> ImportedManifest:
    """What a folder says of its model; no weights are read. Otherwise as `read_imported`."""
    folder = Path(folder)
    if not is_imported(folder):
        raise UserError(f"{folder} holds no imported model: {what_it_is(folder, 'import')}")
    path = folder / MANIFEST_NAME
    plain = parse(path.read_bytes())
    if plain.get("schema_version") != SCHEMA_VERSION:
        found = shown(plain.get("schema_version"))
        raise UserError(f"{path} has schema version {found}, this version of audiolm_jax reads {SCHEMA_VERSION}; "
                        "import the model again")
    kind = find_kind(plain.get("kind"), str(path))
    if part not in (None, kind.part):
        raise UserError(f"{folder} holds a {kind.name}, which is no {part}; check the folders")
    config = from_plain(kind.config_class, plain.get("config"), f"{path}: config")
    try:
        return ImportedManifest(
            path=path,
            kind=kind,
            config=config,
            licence=str(plain["licence"]),
            origin=str(plain["origin"]),
            reference=from_plain(dict[str, Any], plain["reference"], "reference"),
            left_out=from_plain(tuple[str, ...], plain["left_out"], "left_out"),
            layer=from_plain(int | None, plain["layer"], "layer"),
            fingerprint=str(plain["fingerprint"]),
            weight_bytes=from_plain(int, plain["weights"]["bytes"], "weights.bytes"),
            weight_sha256=str(plain["weights"]["sha256"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged; import the model again") from error


def _checked_bytes(path: Path, size: int, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; copy the folder again, or import the model again") from error
    if len(data) < size:
        raise UserError(f"{path} is cut short: {len(data)} of {size} bytes; copy it again, or import the model again")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} is not what was imported (its SHA-256 differs); import the model again")
    return data
