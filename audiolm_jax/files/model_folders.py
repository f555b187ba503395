"""Folders of models: where a bundle lies, and what a folder is that was taken for another."""

import json
from pathlib import Path

from audiolm_jax.errors import UserError

MANIFEST_NAME = "manifest.json"
# What makes a manifest.json that of an imported model, and not a bundle's.
IMPORTED_FORMAT = "audiolm_jax imported model"
_BUNDLE_KEYS = {"codec", "semantic", "files"}
# Bundles that ship with the package, by folder name.
SHIPPED = Path(__file__).parents[1] / "bundles"


def shipped_bundles() -> list[str]:
    """Names of the bundles that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST_NAME}"))


def find_bundle(name_or_dir: str | Path) -> Path:
    """The folder of a bundle.

    Args:
        name_or_dir: a folder, or the name of a bundle that ships with the package ("small").

    Raises:
        UserError: it is neither.
    """
    folder = Path(name_or_dir)
    shipped = shipped_bundles()
    try:
        if str(name_or_dir) in shipped and not (folder / MANIFEST_NAME).exists():
            return SHIPPED / str(name_or_dir)
        if folder.is_dir():
            return folder
        found = "it is a file" if folder.exists() else "no such folder"
    except OSError as error:
        found = error.strerror or str(error)
    named = f", or one that ships: {', '.join(shipped)}" if shipped else ""
    raise UserError(
        f"there is no bundle {str(name_or_dir)!r} ({found}); name a folder with {MANIFEST_NAME} that `audiolm bundle` "
        f"made{named}"
    )


def holds_model(folder: str | Path) -> bool:
    """Whether a folder holds a bundle or an imported model, whole or not."""
    plain = _manifest(Path(folder))
    return plain.get("format") == IMPORTED_FORMAT or _BUNDLE_KEYS <= plain.keys()


def what_it_is(folder: str | Path, maker: str) -> str:
    """What a folder is that was expected to be one that `audiolm MAKER` made, and what to do about it."""
    folder = Path(folder)
    plain = _manifest(folder)
    if not folder.is_dir():
        return f"there is no such folder; name one that `audiolm {maker}` made"
    if plain.get("format") == IMPORTED_FORMAT:
        return (
            f"it is an imported {plain.get('part')}; make a bundle of a codec and a semantic tokenizer: audiolm bundle "
            "OUT --codec DIR --kmeans DIR --name NAME"
        )
    if {"tokenizers", "shards"} <= plain.keys():
        return "it holds token records; name the bundle that they were made with"
    if _BUNDLE_KEYS <= plain.keys():
        return f"it is a bundle, which is used as it is; name a folder that `audiolm {maker}` made"
    if (folder / "config.gin").is_file() and (folder / "checkpoints").is_dir():
        return "it is the work directory of a training; make a bundle of it, see `audiolm bundle --help`"
    if (folder / "config.json").is_file():
        then = ", and make a bundle with it" if maker == "bundle" else ""
        return f"it is of Hugging Face's format; take it in: audiolm import {folder} --output DIR{then}"
    has = "another" if (folder / MANIFEST_NAME).exists() else "no"
    return f"it has {has} {MANIFEST_NAME}; name a folder that `audiolm {maker}` made"


def _manifest(folder: Path) -> dict:
    """manifest.json, empty where there is none that can be read."""
    try:
        plain = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}
