"""manifest.json of a bundle: what is in it, what it was made of, and what it must be compared with."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from audiolm_jax.bundle.plain_json import from_plain, to_plain
from audiolm_jax.codec.soundstream import SoundStreamConfig
from audiolm_jax.errors import UserError
from audiolm_jax.files import replace_file
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.semantic.tokenizer import SemanticTokenizerConfig
from audiolm_jax.tokens.stages import Stage

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.gin"
CARD_NAME = "MODEL_CARD.md"
PROMPT_NAME = "prompt.wav"
CODEC_KIND, CODEC_FILE = "soundstream", "codec.safetensors"
SEMANTIC_KIND, SEMANTIC_FILE = "w2v_bert", "semantic.safetensors"
STAGE_ORDER = ("semantic", "coarse", "fine")


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """One file of the folder: its length and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class CodecEntry:
    """The codec: kind, shape, and fingerprint of its weights as they are loaded (float32 of the rounded ones)."""

    kind: str
    config: SoundStreamConfig
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class SemanticEntry:
    """The semantic tokenizer, encoder and k-means together, as `CodecEntry`."""

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
class Manifest:
    """Everything about a bundle but its weights.

    Attributes:
        schema_version: of this file; another one is refused.
        name: of the system.
        licence: of the weights, an SPDX expression or a sentence. Never empty.
        weight_dtype: "float16" or "bfloat16" on disk; loaded to float32.
        codec, semantic: the tokenizers.
        language_models: by stage name; empty for tokenizers alone.
        files: every other file of the folder by name.
        metrics: figures on held-out speakers, see `evaluation.heldout`.
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


def weights_file(stage_name: str) -> str:
    """File name of a stage's weights."""
    return f"lm_{stage_name}.safetensors"


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
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST_NAME}; give --bundle a folder with one") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); copy the bundle again") from error
    found = plain.get("schema_version") if isinstance(plain, dict) else None
    if found != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {found}, this version of audiolm_jax reads {SCHEMA_VERSION}; "
            "install the version that wrote it"
        )
    # Before the configurations are read: another kind has other ones.
    for part, known in (("codec", CODEC_KIND), ("semantic", SEMANTIC_KIND)):
        kind = plain[part].get("kind") if isinstance(plain.get(part), dict) else None
        if kind != known:
            raise UserError(f"{path}: the {part} is of kind {kind!r}, this version knows {known!r}; update audiolm_jax")
    manifest = from_plain(Manifest, plain, str(path))
    if not manifest.licence.strip():
        raise UserError(f"{path} names no licence of its weights; add one")
    for name, entry in manifest.language_models.items():
        if name not in STAGE_ORDER or entry.stage.name != name:
            raise UserError(f"{path}: language model {name!r} belongs to stage {entry.stage.name!r}; export it again")
    return manifest


def check_joins(manifest: Manifest, where: str) -> None:
    """Raises UserError where a language model was trained on tokens of other tokenizers than the manifest's."""
    for name, entry in manifest.language_models.items():
        pairs = (
            ("codec", entry.codec_fingerprint, manifest.codec.fingerprint),
            ("semantic tokenizer", entry.semantic_fingerprint, manifest.semantic.fingerprint),
        )
        for part, trained_on, here in pairs:
            if trained_on != here:
                raise UserError(
                    f"{where}: the {name} language model was trained on tokens of {part} {trained_on}, but the {part} "
                    f"here is {here}; tokenize with the exported tokenizers and train the stage on those tokens"
                )
