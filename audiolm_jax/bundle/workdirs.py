"""From work directories of trainings, and imported models, to bundles: first the tokenizers, later the whole system."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.bundle.bundle import Bundle, BundledClassifier, LanguageModel
from audiolm_jax.bundle.export import export_bundle
from audiolm_jax.bundle.manifest import CLASSIFIER_NAMES, REAL_CLASS, SYNTHETIC_CLASS, read_manifest
from audiolm_jax.bundle.tokenizer_dirs import codec_of, semantic_of, trained_in
from audiolm_jax.bundle.training_splits import splits_of_run, with_splits
from audiolm_jax.classifier.network import ClipClassifierConfig
from audiolm_jax.data.feed.feed import TokenFeed
from audiolm_jax.data.seqio.feed import SeqioFeed
from audiolm_jax.errors import UserError
from audiolm_jax.files.model_folders import find_bundle
from audiolm_jax.files.plain_json import to_plain
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.tokens.alignment import collapse
from audiolm_jax.training.examination import EXAMINATION, Examination
from audiolm_jax.training.saved.checkpoints import load_params

# Training records of a folder that the mean run length is taken from.
_RUN_RECORDS = 500


def export_tokenizers(
    folder: str | Path,
    codec_dir: str | Path,
    semantic_dir: str | Path,
    name: str,
    licence: str | None = None,
    data: Sequence[Any] = (),
    w2v_bert_workdir: str | Path | None = None,
    weight_dtype: str | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Bundle of a codec and a semantic tokenizer, with which tokens are extracted.

    Args:
        folder: where to.
        codec_dir: a work directory of a SoundStream training, whose newest checkpoint is taken, or an imported codec.
        semantic_dir: a work directory of k-means, or an encoder that was imported with centroids.
        name: of the system.
        licence: of the weights; None for those of imported models together, which only works where both are.
        data: what was trained on, one {"name", "hours", "speakers", "licence"} or sentence for each corpus.
        w2v_bert_workdir: of the encoder's own training, only to record its steps, settings and split.
        weight_dtype: "float16", "bfloat16" or "float32"; None for float32 where something was imported, so that
            published weights stay what they are, and float16 elsewhere.
        overwrite: replace a bundle that is there.

    Returns:
        The exported bundle as it loads.

    Raises:
        UserError: a directory holds neither a checkpoint nor an imported model of its part, or another kind of
            training; no licence is given where one is needed; and as `export_bundle`.
    """
    codec = codec_of(codec_dir)
    semantic = semantic_of(semantic_dir)
    metas = {part.title: part.meta for part in (codec, semantic) if part.meta is not None}
    if w2v_bert_workdir is not None:
        metas["w2v-BERT"] = load_params(w2v_bert_workdir)[1]
    published = [*codec.published, *semantic.published]
    if licence is None:
        if metas:
            raise UserError("part of this bundle was trained here: say under which licence its weights are (--licence)")
        licence = " AND ".join(dict.fromkeys(each["licence"] for each in published))
    bundle = Bundle(
        name=name,
        licence=licence,
        codec=codec.functions,
        codec_params=codec.params,
        semantic=semantic.functions,
        semantic_params=semantic.params,
        provenance=with_splits(
            {
                "data": list(data),
                "steps": {part: meta["step"] for part, meta in metas.items()},
                **({"published": published} if published else {}),
                **_examination(codec.meta, codec_dir),
            },
            {name: splits for part, meta in metas.items() for name, splits in splits_of_run(part, meta).items()},
        ),
        config_gin=_sections({part: meta["gin"] for part, meta in metas.items()}),
    )
    return export_bundle(bundle, folder, weight_dtype or ("float32" if published else "float16"), overwrite)


def _examination(meta: Mapping[str, Any] | None, codec_dir: str | Path) -> dict[str, Any]:
    """For the provenance: how the codec was judged last in its training; {} where it was not."""
    examination = Examination.of_meta(meta or {}, str(codec_dir))
    return {} if examination is None else {EXAMINATION: to_plain(examination)}


def export_system(
    folder: str | Path,
    tokenizers: str | Path,
    stage_workdirs: Mapping[str, str | Path],
    name: str | None = None,
    prompt: str | Path | None = None,
    weight_dtype: str | None = None,
    overwrite: bool = False,
    classifier_workdirs: Mapping[str, str | Path] | None = None,
) -> Bundle:
    """Bundle of exported tokenizers and the language models that were trained on their tokens.

    Args:
        folder: where to.
        tokenizers: a bundle; its tokenizers, licence, figures and provenance are taken over.
        stage_workdirs: work directory of each stage's training by its name ("semantic", "coarse", "fine", or
            "acoustic" in place of the first two).
        name: of the system; the tokenizers' if not given.
        prompt: a WAV file that goes with it as prompt.wav.
        weight_dtype: see `export_bundle`; None for that of the tokenizers.
        overwrite: see `export_bundle`.
        classifier_workdirs: see `with_classifiers`.

    Raises:
        UserError: a stage was trained on tokens of other tokenizers, or stands in place of another one that is given;
            and as `export_tokenizers`.
    """
    if "acoustic" in stage_workdirs and (others := sorted({"semantic", "coarse"} & set(stage_workdirs))):
        raise UserError(f"the acoustic stage stands in place of semantic and coarse stage: leave out the {others[0]} "
                        "stage, or export two bundles")
    base = Bundle.load(tokenizers)
    models, texts, steps, splits = {}, {}, dict(base.provenance.get("steps", {})), {}
    provenance = dict(base.provenance)
    for stage_name, workdir in stage_workdirs.items():
        models[stage_name], meta, feed = _language_model(workdir)
        texts[f"{stage_name} stage"] = meta["gin"]
        splits |= splits_of_run(f"{stage_name} stage", meta)
        if models[stage_name].stage.name != stage_name:
            raise UserError(f"{workdir} holds a {models[stage_name].stage.name} stage; give it as that")
        steps[f"{stage_name} stage"] = models[stage_name].steps
        provenance["semantic_mean_run_frames"] = mean_run_frames(feed)
    system = dataclasses.replace(
        base,
        name=name or base.name,
        language_models=models,
        provenance=with_splits({**provenance, "steps": steps}, splits),
        config_gin=base.config_gin + _sections(texts),
        prompt=base.prompt if prompt is None else Path(prompt).read_bytes(),
    )
    weight_dtype = weight_dtype or read_manifest(find_bundle(tokenizers)).weight_dtype
    return export_bundle(with_classifiers(system, classifier_workdirs or {}), folder, weight_dtype, overwrite)


def add_classifiers(
    folder: str | Path, system: str | Path, workdirs: Mapping[str, str | Path], overwrite: bool = False
) -> Bundle:
    """A bundle that exists with classifiers added; everything else stays as it is, to the last bit.

    Args:
        folder: where to; that of the system itself with `overwrite`.
        system: a bundle.
        workdirs, overwrite: see `with_classifiers` and `export_bundle`.

    Raises:
        UserError: as those do.
    """
    weight_dtype = read_manifest(find_bundle(system)).weight_dtype
    return export_bundle(with_classifiers(Bundle.load(system), workdirs), folder, weight_dtype, overwrite)


def with_classifiers(bundle: Bundle, workdirs: Mapping[str, str | Path]) -> Bundle:
    """The bundle with classifiers from the work directories of their trainings, in place of those it may have.

    Args:
        bundle: the system that a detector's continuations were made with.
        workdirs: by name, "detector" (of the classes "continuation" and "reconstruction") or "speaker".

    Raises:
        UserError: a work directory holds no classifier, or a detector has other classes.
    """
    classifiers, texts = dict(bundle.classifiers), {}
    for name, workdir in workdirs.items():
        arrays, meta = load_params(workdir)
        if name not in CLASSIFIER_NAMES or "classifier" not in meta:
            raise UserError(f"{workdir} holds no training of a classifier; give one for the {name}")
        config = ClipClassifierConfig.from_plain(meta["classifier"])
        if name == "detector" and set(config.class_names) != {REAL_CLASS, SYNTHETIC_CLASS}:
            raise UserError(f"{workdir} tells other classes apart than {REAL_CLASS} and {SYNTHETIC_CLASS}; train a "
                            "detector on a folder with these two")
        variables = {"params": arrays["params"], **arrays["collections"]}
        classifiers[name] = BundledClassifier(config, variables, bundle.codec_fingerprint, meta["step"])
        texts[name] = meta["gin"]
    config_gin = bundle.config_gin
    for name, text in texts.items():
        config_gin = _without_section(config_gin, name) + _sections({name: text})
    return dataclasses.replace(bundle, classifiers=classifiers, config_gin=config_gin)


def _language_model(workdir: str | Path) -> tuple[LanguageModel, dict[str, Any], TokenFeed | SeqioFeed]:
    """The trained stage of a work directory, the meta of its checkpoint, and the feed it was trained on."""
    trained, arrays, meta = trained_in(workdir, StageLearner, "language model")
    fingerprints = meta.get("fingerprints") or {}
    if not {"codec", "semantic"} <= fingerprints.keys():
        raise UserError(f"the checkpoint in {workdir} does not say which tokenizers made its tokens; train it again")
    model = LanguageModel(
        stage=trained.learner.stage,
        config=trained.learner.config,
        params=arrays["params"],
        codec_fingerprint=fingerprints["codec"],
        semantic_fingerprint=fingerprints["semantic"],
        steps=meta["step"],
    )
    return model, meta, trained.feed


def mean_run_frames(feed: TokenFeed | SeqioFeed) -> float:
    """Mean length of a run of equal semantic tokens in training data, in frames; generation plans lengths with it."""
    frames = runs = 0
    for record in feed.first_records(_RUN_RECORDS):
        tokens = record.semantic_tokens
        frames, runs = frames + len(tokens), runs + len(collapse(tokens)[0])
    return frames / max(runs, 1)


def _heading(title: str) -> str:
    rule = "#" + "=" * 79
    return f"{rule}\n# {title}\n{rule}\n\n"


def _sections(texts: Mapping[str, str]) -> str:
    """Gin texts one after the other, each under its title."""
    return "".join(f"{_heading(title)}{text.strip()}\n\n" for title, text in texts.items())


def _without_section(text: str, title: str) -> str:
    """Gin texts of `_sections` without that of one title, if it is there."""
    before, found, after = text.partition(_heading(title))
    if not found:
        return text
    rule = _heading("").partition("\n")[0]
    _, next_rule, rest = after.partition(rule)
    return before + next_rule + rest
