"""Codecs and semantic tokenizers from where they come: work directories of trainings, and imported models."""

import dataclasses
from pathlib import Path
from typing import Any

from audiolm_jax.codec.learner import SoundStreamLearner, exported_params
from audiolm_jax.codec.soundstream import SoundStream
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.imported_model import (
    ImportedManifest,
    ImportedModel,
    is_imported,
    read_imported,
    read_imported_manifest,
)
from audiolm_jax.pretrained.kind import CODEC, ENCODER
from audiolm_jax.pretrained.loaded import semantic_config, semantic_params
from audiolm_jax.semantic.kmeans_learner import KMeansLearner
from audiolm_jax.semantic.tokenizer import SemanticTokenizer
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.saved.checkpoints import load_params


@dataclasses.dataclass(frozen=True, eq=False)
class TokenizerPart:
    """A codec or a semantic tokenizer with its weights.

    Attributes:
        title: of its training in a bundle's settings.
        functions: the codec or `SemanticTokenizer`.
        params: its weights.
        meta: of the checkpoint that it was trained to; None for a published one.
        published: {"part", "kind", "origin", "licence"} of each imported model in it.
    """

    title: str
    functions: Any
    params: Any
    meta: dict[str, Any] | None = None
    published: tuple[dict[str, str], ...] = ()


def codec_of(folder: str | Path) -> TokenizerPart:
    """The codec of a SoundStream training's newest checkpoint, or an imported one.

    Raises:
        UserError: the folder holds neither.
    """
    if is_imported(folder):
        model = read_imported(folder, CODEC)
        return TokenizerPart("codec", model.kind.make(model.config), model.params, None, (_origin(model, "codec"),))
    trained, arrays, meta = trained_in(folder, SoundStreamLearner, "codec")
    collections = arrays["collections"]
    params = exported_params(arrays["params"], collections, collections["codebooks"]["entries"])
    return TokenizerPart("codec", SoundStream(trained.learner.config), params, meta)


def semantic_of(folder: str | Path) -> TokenizerPart:
    """The semantic tokenizer of a k-means' newest checkpoint, or an encoder that was imported with centroids.

    Raises:
        UserError: the folder holds neither.
    """
    if is_imported(folder):
        model = read_imported(folder, ENCODER)
        if model.kmeans is None:
            raise UserError(
                f"{folder} holds an encoder without centroids; import it with --kmeans FILE --layer N, or train some: "
                f"audiolm train kmeans_hubert --set ENCODER={folder}"
            )
        config = semantic_config(model.config, model.kmeans.layer, len(model.kmeans.centroids))
        params = semantic_params(model.params, model.kmeans.centroids)
        return TokenizerPart("k-means", SemanticTokenizer(config), params, None, (_origin(model, "encoder"),))
    trained, arrays, meta = trained_in(folder, KMeansLearner, "k-means")
    tokenizer = trained.learner.tokenizer
    statistics = arrays["collections"]["statistics"]
    deviation = (statistics["squares"] / max(float(statistics["count"]), 1.0)) ** 0.5
    params = {
        "encoder": tokenizer.encoder.used_params(arrays["params"]["encoder"], tokenizer.layer),
        "mean": statistics["mean"],
        "std": deviation.clip(1e-5),
        "centroids": arrays["collections"]["clusters"]["centroids"],
    }
    encoder = configuration.macros().get("ENCODER")
    published = (_origin(read_imported_manifest(encoder, ENCODER), "encoder"),) if encoder else ()
    return TokenizerPart("k-means", SemanticTokenizer(tokenizer), params, meta, published)


def trained_in(
    workdir: str | Path, kind: type | tuple[type, ...], what: str
) -> tuple[experiment.Experiment, dict[str, Any], dict[str, Any]]:
    """Experiment, arrays and meta of the newest checkpoint of a work directory.

    Raises:
        UserError: it holds no checkpoint, or the training of another kind of learner.
    """
    arrays, meta = load_params(workdir)
    trained = experiment.load(Path(workdir) / "config.gin")[0]
    if not isinstance(trained.learner, kind):
        raise UserError(f"{workdir} holds the training of a {trained.learner.name}, not of a {what}; check the folders")
    return trained, arrays, meta


def _origin(model: ImportedModel | ImportedManifest, part: str) -> dict[str, str]:
    return {"part": part, "kind": model.kind.name, "origin": model.origin, "licence": model.licence}
