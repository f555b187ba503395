"""Writing a bundle: weights rounded to one type, fingerprints of what a reader will load, all files or none."""

import dataclasses
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_jax import __version__
from audiolm_jax.bundle.bundle import Bundle
from audiolm_jax.bundle.manifest import (
    CARD_NAME,
    CLASSIFIER_NAMES,
    CODEC_FILE,
    CONFIG_NAME,
    PROMPT_NAME,
    SCHEMA_VERSION,
    SEMANTIC_FILE,
    STAGE_ORDER,
    TEMPERATURE,
    ClassifierEntry,
    CodecEntry,
    LanguageModelEntry,
    Manifest,
    SemanticEntry,
    check_joins,
    classifier_file,
    file_entry,
    read_manifest,
    weights_file,
    write_manifest,
)
from audiolm_jax.bundle.model_card import model_card
from audiolm_jax.bundle.tokenizer_kinds import kind_of_codec, kind_of_encoder
from audiolm_jax.errors import UserError
from audiolm_jax.files import file_mode_mask, replace_file, weight_file
from audiolm_jax.files.model_folders import MANIFEST_NAME

_VERSIONED = ("jax", "flax", "optax", "numpy")


def export_bundle(bundle: Bundle, folder: str | Path, weight_dtype: str = "float16", overwrite: bool = False) -> Bundle:
    """Writes a bundle and loads it again, so that what is returned is what every reader will get.

    Weights are rounded, so the tokenizers in the folder are other ones than those in memory, with
    other fingerprints and sometimes other tokens. Tokens for the language models must therefore come from an exported
    bundle: first export the tokenizers alone, tokenize with the result, train the stages, then export
    `dataclasses.replace(Bundle.load(TOKENIZERS), language_models=...)`. Rounding twice changes nothing.

    Args:
        bundle: from memory, training or another folder.
        folder: where to; written beside it and renamed, so it is there as a whole or not at all.
        weight_dtype: "float16" (finer), "bfloat16" (wider) or "float32" (nothing is rounded).
        overwrite: whether a bundle, or a part of one, that is already there is replaced.

    Returns:
        `Bundle.load(folder)`.

    Raises:
        UserError: no licence is given, `folder` exists, a weight does not fit the type, or a language model was trained
            on tokens of other tokenizers.
    """
    folder = Path(folder)
    if not bundle.licence.strip():
        raise UserError("a bundle needs the licence of its weights; name one")
    check_output(folder, overwrite)
    files, manifest = _render(bundle, weight_dtype)
    check_joins(manifest, str(folder))

    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".bundle.", suffix=".part", dir=folder.parent))
        for name, data in files.items():
            replace_file(temporary / name, data)
        write_manifest(temporary, manifest)
        Bundle.load(temporary)
        # mkdtemp makes folders for the owner alone.
        os.chmod(temporary, 0o777 & ~file_mode_mask())
        if folder.exists():
            replaced = Path(tempfile.mkdtemp(prefix=".bundle.", suffix=".old", dir=folder.parent))
            os.replace(folder, replaced / folder.name)
            os.replace(temporary, folder)
            shutil.rmtree(replaced)
        else:
            os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error}); make room, or name another") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return Bundle.load(folder)


def check_output(folder: str | Path, overwrite: bool) -> None:
    """Raises UserError where something stands in a folder that a bundle must not replace.

    An empty folder may always be filled; with `overwrite` one that holds nothing but files of a bundle is replaced.
    """
    folder = Path(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is a file; give a folder")
    names = {path.name for path in folder.iterdir()}
    ours = {MANIFEST_NAME, CARD_NAME, CONFIG_NAME, PROMPT_NAME, CODEC_FILE, SEMANTIC_FILE}
    ours |= {weights_file(name) for name in STAGE_ORDER} | {classifier_file(name) for name in CLASSIFIER_NAMES}
    if others := sorted(names - ours):
        raise UserError(f"{folder} exists and holds {others[0]}, which is no bundle's; give another folder")
    if names and not overwrite:
        raise UserError(f"{folder} exists; give another folder, or --overwrite to replace the bundle in it")


def with_metrics(folder: str | Path, metrics: dict[str, Any]) -> Manifest:
    """Merges figures into a bundle's manifest and writes its model card anew.

    The weights stay as they are. Figures of the same name are replaced.

    Raises:
        UserError: the folder is no bundle.
    """
    manifest = read_manifest(Path(folder))
    return _rewritten(Path(folder), dataclasses.replace(manifest, metrics=_merged(manifest.metrics, metrics)))


def with_temperature(folder: str | Path, temperature: Sequence[float]) -> Manifest:
    """Makes the temperatures of the semantic, coarse and fine stage those that a bundle generates with by default.

    Raises:
        UserError: the folder is no bundle.
    """
    manifest = read_manifest(Path(folder))
    provenance = manifest.provenance | {TEMPERATURE: [float(value) for value in temperature]}
    return _rewritten(Path(folder), dataclasses.replace(manifest, provenance=provenance))


def _rewritten(folder: Path, manifest: Manifest) -> Manifest:
    """Writes a manifest and the model card that follows from it; the weights stay as they are."""
    card = model_card(manifest).encode()
    manifest = dataclasses.replace(manifest, files=manifest.files | {CARD_NAME: file_entry(card)})
    # Stopped between the two, the folder says that its card is not the one that was exported; running again mends it.
    replace_file(folder / CARD_NAME, card)
    write_manifest(folder, manifest)
    return manifest


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries merged, the new one winning."""
    both = {name: _merged(old[name], new[name]) for name in old.keys() & new.keys()
            if isinstance(old[name], dict) and isinstance(new[name], dict)}
    return {**old, **new, **both}


def _render(bundle: Bundle, weight_dtype: str) -> tuple[dict[str, bytes], Manifest]:
    """Content of every file but manifest.json, and the manifest."""
    flat = {
        CODEC_FILE: weight_file.rounded(bundle.codec_params, weight_dtype, "codec"),
        SEMANTIC_FILE: weight_file.rounded(bundle.semantic_params, weight_dtype, "semantic tokenizer"),
    }
    for name, model in bundle.language_models.items():
        flat[weights_file(name)] = weight_file.rounded(model.params, weight_dtype, f"{name} language model")
    for name, classifier in bundle.classifiers.items():
        flat[classifier_file(name)] = weight_file.rounded(classifier.variables, weight_dtype, f"classifier {name}")
    files = {name: weight_file.encode(arrays) for name, arrays in flat.items()}
    if bundle.config_gin:
        files[CONFIG_NAME] = bundle.config_gin.encode()
    if bundle.prompt is not None:
        files[PROMPT_NAME] = bundle.prompt

    codec_params = weight_file.decode(files[CODEC_FILE], "codec")
    semantic_params = weight_file.decode(files[SEMANTIC_FILE], "semantic tokenizer")
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=bundle.name,
        licence=bundle.licence,
        weight_dtype=weight_dtype,
        codec=CodecEntry(
            kind_of_codec(bundle.codec).name, bundle.codec.config, bundle.codec.fingerprint(codec_params)
        ),
        semantic=SemanticEntry(
            kind_of_encoder(bundle.semantic.config.encoder).name,
            bundle.semantic.config,
            bundle.semantic.fingerprint(semantic_params),
        ),
        language_models={
            name: LanguageModelEntry(
                stage=model.stage,
                config=model.config,
                steps=model.steps,
                codec_fingerprint=model.codec_fingerprint,
                semantic_fingerprint=model.semantic_fingerprint,
            )
            for name, model in bundle.language_models.items()
        },
        files={name: file_entry(data) for name, data in files.items()},
        metrics=bundle.metrics,
        provenance={**bundle.provenance, "versions": _versions()},
        classifiers={
            name: ClassifierEntry(classifier.config, classifier.steps, classifier.codec_fingerprint)
            for name, classifier in bundle.classifiers.items()
        },
    )
    card = model_card(manifest).encode()
    files[CARD_NAME] = card
    return files, dataclasses.replace(manifest, files=manifest.files | {CARD_NAME: file_entry(card)})


def _versions() -> dict[str, str]:
    # The package's own is not asked of the installer: a checkout may run without being installed.
    versions = {"audiolm_jax": __version__}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
