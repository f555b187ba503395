"""manifest.json of a bundle: what is in it, what it was made of, and what it must be compared with."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from audiolm_jax.bundle.tokenizer_kinds import codec_kind, encoder_kind
from audiolm_jax.classifier.network import ClipClassifierConfig
from audiolm_jax.errors import UserError, brief, first_line, shown
from audiolm_jax.files import replace_file
from audiolm_jax.files.model_folders import MANIFEST_NAME, what_it_is
from audiolm_jax.files.plain_json import from_plain, parse, to_plain
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.tokens.stages import Stage

SCHEMA_VERSION = 1
CONFIG_NAME = "config.gin"
CARD_NAME = "MODEL_CARD.md"
PROMPT_NAME = "prompt.wav"
CODEC_FILE, SEMANTIC_FILE = "codec.safetensors", "semantic.safetensors"
# In the order of generation. "acoustic" stands in place of the first two: acoustic tokens from themselves alone.
STAGE_ORDER = ("semantic", "coarse", "acoustic", "fine")
# Optional: a detector of this system's continuations, and a network whose embeddings tell speakers apart.
CLASSIFIER_NAMES = ("detector", "speaker")
# Name in the provenance of the temperatures of the semantic, coarse and fine stage that generation takes by default.
TEMPERATURE = "temperature"
# What a detector tells apart, by the names of their folders: real speech through the codec, and made speech.
REAL_CLASS, SYNTHETIC_CLASS = "reconstruction", "continuation"


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """One file of the folder: its length and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class CodecEntry:
    """The codec: kind, shape (of the kind's class), and fingerprint of its weights as they are loaded."""

    kind: str
    config: Any
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class SemanticEntry:
    """The semantic tokenizer, encoder and k-means together, as `CodecEntry`; the kind is that of the encoder."""

    kind: str
    config: SemanticTokenizerConfig
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class LanguageModelEntry:
    """One stage's language model, and the fingerprints of the tokenizers whose tokens it was trained on."""

    stage: Stage
    config: TransformerConfig
    steps: int
    codec_fingerprint: str
    semantic_fingerprint: str


@dataclasses.dataclass(frozen=True)
class ClassifierEntry:
    """A classifier of clips, and the fingerprint of the codec of the system that it was made for."""

    config: ClipClassifierConfig
    steps: int
    codec_fingerprint: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but its weights.

    Attributes:
        schema_version: of this file; another one is refused.
        name: of the system.
        licence: of the weights, an SPDX expression or a sentence. Never empty.
        weight_dtype: "float16", "bfloat16" or "float32" on disk; loaded to float32.
        codec, semantic: the tokenizers.
        language_models: by stage name; empty for tokenizers alone.
        files: every other file of the folder by name.
        metrics: figures on held-out speakers, see `evaluation.report.report.manifest_metrics`.
        classifiers: by name, see `CLASSIFIER_NAMES`; bundles that were written without any have no such entry.
        provenance: what it was made of: {"data": [...], "steps": {...}, "versions": {...}, ...}, values of plain JSON.
    """

    schema_version: int
    name: str
    licence: str
    weight_dtype: str
    codec: CodecEntry
    semantic: SemanticEntry
    language_models: dict[str, LanguageModelEntry]
    files: dict[str, FileEntry]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    classifiers: dict[str, ClassifierEntry] = dataclasses.field(default_factory=dict)


def weights_file(stage_name: str) -> str:
    """File name of a stage's weights."""
    return f"lm_{stage_name}.safetensors"


def classifier_file(name: str) -> str:
    """File name of a classifier's weights."""
    return f"classifier_{name}.safetensors"


def file_entry(data: bytes) -> FileEntry:
    """The entry of a file's content."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces manifest.json as a whole."""
    replace_file(Path(folder) / MANIFEST_NAME, (json.dumps(to_plain(manifest), indent=1) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        UserError: it is missing, damaged, of another schema version or codec, or names no licence.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        plain = parse(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{folder} is no bundle: {what_it_is(folder, 'bundle')}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); copy the bundle again") from error
    found = plain.get("schema_version") if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or not {"codec", "semantic", "files"} <= plain.keys():
        raise UserError(f"{folder} is no bundle: {what_it_is(folder, 'bundle')}")
    if found != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {shown(found)}, this version of audiolm_jax reads {SCHEMA_VERSION}; "
            "install the version that wrote it"
        )
    manifest = from_plain(Manifest, _with_configs(plain, str(path)), str(path))
    if not manifest.licence.strip():
        raise UserError(f"{path} names no licence of its weights; add one")
    for name, entry in manifest.language_models.items():
        if name not in STAGE_ORDER or entry.stage.name != name:
            stage = shown(entry.stage.name)
            raise UserError(f"{path}: language model {shown(name)} belongs to stage {stage}; export it again")
    for name in manifest.classifiers:
        if name not in CLASSIFIER_NAMES:
            known = ", ".join(CLASSIFIER_NAMES)
            unknown = f"{path}: classifier {shown(name)} is unknown"
            raise UserError(f"{unknown}, this version knows {known}; update audiolm_jax")
    return manifest


def _with_configs(plain: dict[str, Any], where: str) -> dict[str, Any]:
    """manifest.json with the configurations of codec and encoder read by the classes of their kinds."""
    codec, semantic = plain.get("codec"), plain.get("semantic")
    if not isinstance(codec, dict) or not isinstance(semantic, dict) or not isinstance(semantic.get("config"), dict):
        raise UserError(f"{where} names no codec or no semantic tokenizer; copy the bundle again")
    config_class = codec_kind(codec.get("kind"), where).config_class
    codec = codec | {"config": from_plain(config_class, codec.get("config"), f"{where}.codec.config")}
    config_class = encoder_kind(semantic.get("kind"), where).config_class
    settings = semantic["config"]
    encoder = from_plain(config_class, settings.get("encoder"), f"{where}.semantic.config.encoder")
    return plain | {"codec": codec, "semantic": semantic | {"config": settings | {"encoder": encoder}}}


def check_joins(manifest: Manifest, where: str) -> None:
    """Raises UserError where a language model or a classifier belongs to other tokenizers than the manifest's."""
    for name, entry in manifest.language_models.items():
        pairs = (
            ("codec", entry.codec_fingerprint, manifest.codec.fingerprint),
            ("semantic tokenizer", entry.semantic_fingerprint, manifest.semantic.fingerprint),
        )
        for part, trained_on, here in pairs:
            if trained_on != here:
                raise UserError(
                    f"{where}: the {name} language model was trained on tokens of {part} {brief(trained_on)}, but "
                    f"the {part} here is {brief(here)}; tokenize with the exported tokenizers and train the stage on "
                    "those tokens"
                )
    for name, entry in manifest.classifiers.items():
        if entry.codec_fingerprint != manifest.codec.fingerprint:
            raise UserError(
                f"{where}: the classifier {name!r} was made for a system with codec {brief(entry.codec_fingerprint)}, "
                f"but the codec here is {brief(manifest.codec.fingerprint)}; train it on recordings made with this "
                "system"
            )
