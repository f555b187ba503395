"""A trained system in memory, and how it is read from its folder."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

from audiolm_jax.bundle.manifest import (
    CODEC_FILE,
    CONFIG_NAME,
    PROMPT_NAME,
    SEMANTIC_FILE,
    STAGE_ORDER,
    Manifest,
    check_joins,
    classifier_file,
    read_manifest,
    weights_file,
)
from audiolm_jax.bundle.tokenizer_kinds import SOUNDSTREAM, W2V_BERT, codec_kind, kind_of_codec, kind_of_encoder
from audiolm_jax.bundle.training_splits import splits_by_part
from audiolm_jax.classifier.network import ClipClassifierConfig
from audiolm_jax.codec.contract import Codec
from audiolm_jax.errors import UserError, brief, shown
from audiolm_jax.files import is_plain_name, weight_file
from audiolm_jax.files.model_folders import MANIFEST_NAME, find_bundle
from audiolm_jax.files.plain_json import from_plain
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.stage_model import StageModel
from audiolm_jax.semantic.tokenizer import SemanticTokenizer
from audiolm_jax.tokens.split import Split
from audiolm_jax.tokens.stages import Stage
from audiolm_jax.training.examination import Examination


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """One trained stage.

    Attributes:
        stage: streams, ids and lengths.
        config: sizes of the Transformer.
        params: float32 parameters of `StageModel(stage, config)`.
        codec_fingerprint, semantic_fingerprint: of the tokenizers whose tokens it was trained on.
        steps: updates of its training.
    """

    stage: Stage
    config: TransformerConfig
    params: Any
    codec_fingerprint: str
    semantic_fingerprint: str
    steps: int = 0

    @property
    def model(self) -> StageModel:
        """The functions that `params` belong to."""
        return StageModel(self.stage, self.config)


@dataclasses.dataclass(frozen=True, eq=False)
class BundledClassifier:
    """A trained classifier of clips.

    Attributes:
        config: shape and class names.
        variables: float32 parameters and running statistics of `ClipClassifier(config)`.
        codec_fingerprint: of the codec of the system that it was made for.
        steps: updates of its training.
    """

    config: ClipClassifierConfig
    variables: Any
    codec_fingerprint: str
    steps: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """A trained system: tokenizers, and the language models of none, some or all stages.

    Attributes:
        name: of the system.
        licence: of the weights, an SPDX expression or a sentence; goes with everything that is made with them.
        codec, codec_params: waveform <-> acoustic tokens.
        semantic, semantic_params: waveform -> semantic tokens.
        language_models: by stage name; empty for tokenizers alone.
        classifiers: "detector" of its continuations, "speaker" for embeddings of voices; none, one or both.
        metrics: figures on held-out speakers.
        provenance: what it was made of, plain JSON values.
        config_gin: the gin text of its trainings, for readers.
        prompt: bytes of prompt.wav, None if there is none.
        path: folder it was loaded from, None for one in memory.
    """

    name: str
    licence: str
    codec: Codec
    codec_params: Any
    semantic: SemanticTokenizer
    semantic_params: Any
    language_models: dict[str, LanguageModel] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    config_gin: str = ""
    prompt: bytes | None = None
    path: Path | None = None
    classifiers: dict[str, BundledClassifier] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def codec_fingerprint(self) -> str:
        """Of the codec's configuration and weights in memory."""
        return self.codec.fingerprint(self.codec_params)

    @functools.cached_property
    def semantic_fingerprint(self) -> str:
        """Of the semantic tokenizer's configuration and weights in memory."""
        return self.semantic.fingerprint(self.semantic_params)

    @property
    def stages(self) -> dict[str, Stage]:
        """Stages by name, in the order of generation."""
        return {name: self.language_models[name].stage for name in STAGE_ORDER if name in self.language_models}

    @property
    def coarse_stage_name(self) -> str:
        """Which stage draws the coarse levels: "acoustic" in a bundle that has that one, else "coarse"."""
        return "acoustic" if "acoustic" in self.language_models else "coarse"

    @functools.cached_property
    def training_splits(self) -> dict[str, tuple[Split, ...] | None]:
        """Of every part that was trained by us ("codec", "k-means", "coarse stage" ...), what was held out of each
        corpus that it was trained on; None where that is not recorded.

        Raises:
            UserError: the record is damaged.
        """
        where = str(self.path or self.name)
        steps = from_plain(dict[str, Any], self.provenance.get("steps", {}), f"{where}: provenance.steps")
        trained = [*steps, *(f"{name} stage" for name in self.stages)]
        if kind_of_encoder(self.semantic.config.encoder) is W2V_BERT:  # nobody publishes weights of this kind
            trained.append("w2v-BERT")
        recorded = splits_by_part(self.provenance, where)
        return {part: recorded.get(part) for part in dict.fromkeys((*trained, *recorded))}

    @property
    def codec_warning(self) -> str | None:
        """Why tokens of this codec are not worth learning, in one line; None where nothing speaks against it.

        Published codecs are taken as they are.

        Raises:
            UserError: the record of the codec's examination is damaged.
        """
        if kind_of_codec(self.codec) is not SOUNDSTREAM:
            return None
        where = str(self.path or self.name)
        examination = Examination.of_meta(self.provenance, where)
        if examination is None:
            return f"the codec of {where} was never examined in its training; listen to it first: audiolm codec"
        if examination.passed:
            return None
        found = "; ".join(examination.faults) or (
            f"ViSQOL is {examination.figures['visqol']:.2f}" if "visqol" in examination.figures
            else "visqol-python was not installed: pip install 'audiolm_jax[eval]'"
        )
        return (f"the codec of {where} has not passed its examination (step {examination.step}: {found}); what learns "
                "its tokens will sound no better")

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "Bundle":
        """Reads a bundle and checks it whole.

        Args:
            name_or_dir: a folder with manifest.json, or the name of a bundle that ships with the package ("small").

        Returns:
            The bundle with float32 weights.

        Raises:
            UserError: there is no such bundle, its schema version is another, a file is missing, cut short or
                changed, or codec, semantic tokenizer and language models do not belong together.
        """
        folder = find_bundle(name_or_dir)
        manifest = read_manifest(folder)
        files = {name: _read_checked(folder, name, manifest) for name in manifest.files}
        parts = (*map(weights_file, manifest.language_models), *map(classifier_file, manifest.classifiers))
        for name in (CODEC_FILE, SEMANTIC_FILE, *parts):
            if name not in files:
                raise UserError(f"{folder / MANIFEST_NAME} does not list {name}; export the bundle again")

        codec = codec_kind(manifest.codec.kind, str(folder)).make(manifest.codec.config)
        bundle = cls(
            name=manifest.name,
            licence=manifest.licence,
            codec=codec,
            codec_params=weight_file.decode(files[CODEC_FILE], str(folder / CODEC_FILE)),
            semantic=SemanticTokenizer(manifest.semantic.config),
            semantic_params=weight_file.decode(files[SEMANTIC_FILE], str(folder / SEMANTIC_FILE)),
            language_models={
                name: LanguageModel(
                    stage=entry.stage,
                    config=entry.config,
                    params=weight_file.decode(files[weights_file(name)], str(folder / weights_file(name))),
                    codec_fingerprint=entry.codec_fingerprint,
                    semantic_fingerprint=entry.semantic_fingerprint,
                    steps=entry.steps,
                )
                for name, entry in manifest.language_models.items()
            },
            metrics=manifest.metrics,
            provenance=manifest.provenance,
            config_gin=files.get(CONFIG_NAME, b"").decode(errors="replace"),
            prompt=files.get(PROMPT_NAME),
            path=folder,
            classifiers={
                name: BundledClassifier(
                    config=entry.config,
                    variables=weight_file.decode(files[classifier_file(name)], str(folder / classifier_file(name))),
                    codec_fingerprint=entry.codec_fingerprint,
                    steps=entry.steps,
                )
                for name, entry in manifest.classifiers.items()
            },
        )
        _check_fingerprints(bundle, manifest)
        bundle.training_splits  # noqa: B018  refuses a damaged record here rather than in the middle of an evaluation
        return bundle


def _read_checked(folder: Path, name: str, manifest: Manifest) -> bytes:
    """The bytes of a file of the bundle, if they are those that were exported."""
    path, entry = folder / name, manifest.files[name]
    if not is_plain_name(name):
        listed = f"{folder / MANIFEST_NAME} lists {shown(name)}"
        raise UserError(f"{listed}, which is not a plain file name; do not trust it")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; copy the bundle again, with all its files") from error
    if len(data) < entry.bytes:
        raise UserError(f"{path} is cut short: {len(data)} of {entry.bytes} bytes; copy the bundle again")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise UserError(f"{path} is not the file that was exported (its SHA-256 differs); copy the bundle again")
    return data


def _check_fingerprints(bundle: Bundle, manifest: Manifest) -> None:
    """Weights against the manifest, and the manifest's parts against each other."""
    for part, found, expected in (
        ("codec", bundle.codec_fingerprint, manifest.codec.fingerprint),
        ("semantic tokenizer", bundle.semantic_fingerprint, manifest.semantic.fingerprint),
    ):
        if found != expected:
            raise UserError(
                f"{bundle.path}: configuration and weights of the {part} give fingerprint {found}, the manifest says "
                f"{brief(expected)}; they do not belong together, export the bundle again"
            )
    check_joins(manifest, str(bundle.path))
