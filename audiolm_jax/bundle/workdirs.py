"""From the work directories of trainings to bundles: first the tokenizers, later the whole system."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.bundle.bundle import Bundle, LanguageModel
from audiolm_jax.bundle.export import export_bundle
from audiolm_jax.codec.learner import SoundStreamLearner
from audiolm_jax.codec.soundstream import SoundStream
from audiolm_jax.errors import UserError
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.semantic.kmeans_learner import KMeansLearner
from audiolm_jax.semantic.tokenizer import SemanticTokenizer
from audiolm_jax.training import experiment
from audiolm_jax.training.checkpoints import load_params


def export_tokenizers(
    folder: str | Path,
    codec_workdir: str | Path,
    semantic_workdir: str | Path,
    name: str,
    licence: str,
    data: Sequence[Any] = (),
    weight_dtype: str = "float16",
    overwrite: bool = False,
) -> Bundle:
    """Bundle of a trained codec and a fitted semantic tokenizer, with which tokens are extracted.

    Args:
        folder: where to.
        codec_workdir: of a SoundStream training; its newest checkpoint is taken.
        semantic_workdir: of the k-means on a w2v-BERT.
        name, licence: of the system and its weights.
        data: what was trained on, one {"name", "hours", "speakers", "licence"} or sentence for each corpus.
        weight_dtype: "float16" or "bfloat16".
        overwrite: replace a bundle that is there.

    Returns:
        The exported bundle as it loads.

    Raises:
        UserError: a work directory holds no checkpoint or another kind of training; and as `export_bundle`.
    """
    codec_learner, arrays, codec_meta = _trained(codec_workdir, SoundStreamLearner, "codec")
    codec_params = {**arrays["params"]["generator"], "codebooks": arrays["collections"]["codebooks"]["entries"]}
    kmeans_learner, arrays, kmeans_meta = _trained(semantic_workdir, KMeansLearner, "k-means")
    statistics = arrays["collections"]["statistics"]
    deviation = (statistics["squares"] / max(float(statistics["count"]), 1.0)) ** 0.5
    semantic_params = {
        "encoder": arrays["params"]["encoder"],
        "mean": statistics["mean"],
        "std": deviation.clip(1e-5),
        "centroids": arrays["collections"]["clusters"]["centroids"],
    }
    bundle = Bundle(
        name=name,
        licence=licence,
        codec=SoundStream(codec_learner.config),
        codec_params=codec_params,
        semantic=SemanticTokenizer(kmeans_learner.tokenizer),
        semantic_params=semantic_params,
        provenance={
            "data": list(data),
            "steps": {"codec": codec_meta["step"], "k-means": kmeans_meta["step"]},
        },
        config_gin=_sections({"codec": codec_meta["gin"], "k-means": kmeans_meta["gin"]}),
    )
    return export_bundle(bundle, folder, weight_dtype, overwrite)


def export_system(
    folder: str | Path,
    tokenizers: str | Path,
    stage_workdirs: Mapping[str, str | Path],
    name: str | None = None,
    prompt: str | Path | None = None,
    weight_dtype: str = "float16",
    overwrite: bool = False,
) -> Bundle:
    """Bundle of exported tokenizers and the language models that were trained on their tokens.

    Args:
        folder: where to.
        tokenizers: a bundle; its tokenizers, licence, figures and provenance are taken over.
        stage_workdirs: work directory of each stage's training by its name ("semantic", "coarse", "fine").
        name: of the system; the tokenizers' if not given.
        prompt: a WAV file that goes with it as prompt.wav.
        weight_dtype, overwrite: see `export_bundle`.

    Raises:
        UserError: a stage was trained on tokens of other tokenizers; and as `export_tokenizers`.
    """
    base = Bundle.load(tokenizers)
    models, texts, steps = {}, {}, dict(base.provenance.get("steps", {}))
    for stage_name, workdir in stage_workdirs.items():
        models[stage_name], texts[f"{stage_name} stage"] = language_model(workdir)
        if models[stage_name].stage.name != stage_name:
            raise UserError(f"{workdir} holds a {models[stage_name].stage.name} stage; give it as that")
        steps[f"{stage_name} stage"] = models[stage_name].steps
    system = dataclasses.replace(
        base,
        name=name or base.name,
        language_models=models,
        provenance={**base.provenance, "steps": steps},
        config_gin=base.config_gin + _sections(texts),
        prompt=base.prompt if prompt is None else Path(prompt).read_bytes(),
    )
    return export_bundle(system, folder, weight_dtype, overwrite)


def language_model(workdir: str | Path) -> tuple[LanguageModel, str]:
    """The trained stage of a work directory, and its gin text.

    Raises:
        UserError: the directory holds no checkpoint of a stage, or one that does not say whose tokens it learned.
    """
    learner, arrays, meta = _trained(workdir, StageLearner, "language model")
    fingerprints = meta.get("fingerprints") or {}
    if not {"codec", "semantic"} <= fingerprints.keys():
        raise UserError(f"the checkpoint in {workdir} does not say which tokenizers made its tokens; train it again")
    model = LanguageModel(
        stage=learner.stage,
        config=learner.config,
        params=arrays["params"],
        codec_fingerprint=fingerprints["codec"],
        semantic_fingerprint=fingerprints["semantic"],
        steps=meta["step"],
    )
    return model, meta["gin"]


def _trained(workdir: str | Path, kind: type, what: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Learner, arrays and meta of the newest checkpoint of a work directory."""
    arrays, meta = load_params(workdir)
    learner = experiment.load(Path(workdir) / "config.gin")[0].learner
    if not isinstance(learner, kind):
        raise UserError(f"{workdir} holds the training of a {learner.name}, not of a {what}; give the right folder")
    return learner, arrays, meta


def _sections(texts: Mapping[str, str]) -> str:
    """Gin texts one after the other, each under its title."""
    rule = "#" + "=" * 79
    return "".join(f"{rule}\n# {title}\n{rule}\n\n{text.strip()}\n\n" for title, text in texts.items())
