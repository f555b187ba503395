"""Nats per token of every stage on held-out recordings, per level, beside what counting alone would reach.

Three baselines for the same held-out tokens:
- `unigram_nats_per_token`, of which the model's share is told: the entropy of the distribution that the held-out tokens
  come from, level by level, averaged over the same positions. It is estimated from their own frequencies and corrected
  for their small number (see `code_usage.unbiased_entropy_nats`): the frequencies of 20,000 tokens of 16384 codes have
  an entropy that is 0.3 to 0.5 nats lower, so that a model as good as the true unigram would seem worse than counting.
  On average no model that ignores context is better than this.
- `train_unigram_nats_per_token`: their cross-entropy under the frequencies of training tokens with one added to every
  count, which is what a context-free model would really reach.
- `train_bigram_nats_per_token`: under training counts of pairs, see `ngrams`. There is no strict form of this one: most
  pairs of a thousand codes occur once in an hour of speech, so held-out tokens' own pairs would predict them perfectly.

Nats are over the ids that are legal at each place (see `lm.stage_model`), for baselines and model alike; EOS counts as
a token of the semantic stage.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from audiolm_jax.bundle import Bundle
from audiolm_jax.data.feed.batches import Batch, finite_batches
from audiolm_jax.data.feed.examples import evaluation_crops, stage_eval_batch_shapes, stage_example
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.interval import by_unit, interval_settings, ratio_interval
from audiolm_jax.evaluation.language.ngrams import LevelTokens, Ngrams, level_tokens, own_unigram_nats
from audiolm_jax.evaluation.language.token_records import read_records
from audiolm_jax.evaluation.language.token_usage import stream_usage, token_runs
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, Step, counted
from audiolm_jax.lm.stage_model import StageModel, legal_ids
from audiolm_jax.tokens.alignment import Crop
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage

# Training recordings that baselines are counted from: more of them change the figures little, and take memory.
MAX_TRAIN_RECORDS = 4000
# The best that is possible without context, and the strongest baseline, of which the model's share is told.
_SHARES = ("unigram", "train_bigram")


class StageNats(NamedTuple):
    """Sums over held-out target tokens, float64[..., L] each, L the levels of the target."""

    nats: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray


def stage_crops(records: Sequence[TokenRecord], stage: Stage) -> list[tuple[int, Crop]]:
    """Every frame of every record once, in neighbouring crops of the stage's length: (index of the record, crop)."""
    return [(index, crop) for index, record in enumerate(records) for crop in evaluation_crops(record, stage)]


def stage_batches(records: Sequence[TokenRecord], stage: Stage, batch_size: int) -> Iterator[Batch]:
    """The examples of `stage_crops`, in batches."""
    crops = stage_crops(records, stage)
    return finite_batches(
        lambda index: stage_example(records[crops[index][0]], stage, crops[index][1]),
        len(crops),
        stage_eval_batch_shapes(stage, batch_size),
        rows=None,
    )


@functools.partial(jax.jit, static_argnums=0)
def _batch_nats(model: StageModel, params: Any, ids: jax.Array, weights: jax.Array) -> StageNats:
    target = model.target_nats(params, ids, weights)
    return StageNats(
        nats=jnp.sum(target.nats * target.weights, axis=1),
        correct=jnp.sum(target.correct * target.weights, axis=1),
        tokens=jnp.sum(target.weights, axis=1),
    )


def batch_nats(model: StageModel, params: Any, batch: Batch) -> StageNats:
    """What the model gives to the target tokens of every row, without dropout: float64[B, L] each.

    Args:
        model, params: the stage's language model.
        batch: {"ids": int[B, S], "loss_weights": float[B, S], maybe "example_weights": float[B]}; rows of weight 0 give
            zeros.
    """
    weights = np.asarray(batch["loss_weights"]) * np.asarray(batch.get("example_weights", 1.0)).reshape(-1, 1)
    sums = _batch_nats(model, params, jnp.asarray(batch["ids"]), jnp.asarray(weights, jnp.float32))
    return StageNats(*(np.asarray(part, np.float64) for part in sums))


def record_nats(
    model: StageModel, params: Any, records: Sequence[TokenRecord], batch_size: int, progress: bool = False
) -> StageNats:
    """What the model gives to the target tokens of every record: float64[R, L] each."""
    stage = model.stage
    owners = [owner for owner, _ in stage_crops(records, stage)]
    sums = StageNats(*(np.zeros((len(records), stage.target.num_levels)) for _ in StageNats._fields))
    batches = tqdm(
        stage_batches(records, stage, batch_size),
        total=-(-len(owners) // batch_size),
        desc=f"{stage.name} stage",
        disable=not progress,
    )
    for number, batch in enumerate(batches):
        rows = owners[number * batch_size : (number + 1) * batch_size]
        for total, part in zip(sums, batch_nats(model, params, batch), strict=True):
            np.add.at(total, rows, part[: len(rows)])
    return sums


def baseline_nats(
    stage: Stage, heldout: Sequence[TokenRecord], train: Sequence[TokenRecord]
) -> dict[str, np.ndarray]:
    """Nats of every held-out record's target tokens by counting, float64[R, L] each.

    Returns:
        {"unigram": by the held-out tokens' own frequencies, corrected for their number}, and with training records also
        "train_unigram" and "train_bigram".
    """
    legal = legal_ids(stage).legal
    tokens = level_tokens(stage, heldout)

    def by_record(nats_of_level) -> np.ndarray:
        columns = [
            np.bincount(level.owner, weights=nats_of_level(number, level), minlength=len(heldout))
            for number, level in enumerate(tokens)
        ]
        return np.stack(columns, axis=1)

    def own(number: int, level: LevelTokens) -> np.ndarray:
        return own_unigram_nats(level, legal[number])

    found = {"unigram": by_record(own)}
    if train:
        ngrams = [Ngrams.count(level, legal[number]) for number, level in enumerate(level_tokens(stage, train))]
        found["train_unigram"] = by_record(lambda number, level: ngrams[number].unigram_nats(level))
        found["train_bigram"] = by_record(lambda number, level: ngrams[number].bigram_nats(level))
    return found


class StageMeasurement(NamedTuple):
    """Of one stage: headline figures and intervals by name, and the row of `Measurement.details`."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    row: dict[str, Any]


def measure_stage(
    stage: Stage, model: StageNats, baselines: Mapping[str, np.ndarray], units: Sequence[str], seed: int
) -> StageMeasurement:
    """Figures of one stage from the sums of every record.

    Args:
        stage: the stage.
        model: of `record_nats`.
        baselines: of `baseline_nats`.
        units: what the bootstrap draws, for every record: its speaker, or itself.
        seed: of the bootstrap.
    """
    tokens = model.tokens.sum(axis=1)
    figures, intervals = {}, {}

    def add(name: str, numerator: np.ndarray, denominator: np.ndarray) -> None:
        """A ratio of sums over all records, of float64[R] each."""
        total = denominator.sum()
        figures[name] = float(numerator.sum() / total) if total > 0 else None
        keys = [f"{index:09d}" for index in range(len(units))]
        parts = dict(zip(keys, zip(numerator.tolist(), denominator.tolist(), strict=True), strict=True))
        found = ratio_interval(by_unit(parts, dict(zip(keys, units, strict=True))), seed)
        if found is not None and figures[name] is not None:
            intervals[name] = found

    nats = model.nats.sum(axis=1)
    add("nats_per_token", nats, tokens)
    add("accuracy", model.correct.sum(axis=1), tokens)
    for name, values in baselines.items():
        add(f"{name}_nats_per_token", values.sum(axis=1), tokens)
        if name in _SHARES:
            add(f"share_of_{name}", nats, values.sum(axis=1))

    row = {
        **figures,
        "heldout_nats_per_token": figures["nats_per_token"],
        "num_tokens": int(tokens.sum()),
        "target": stage.target.stream,
    }
    del row["nats_per_token"]
    if stage.target.num_levels > 1:
        by_level = np.maximum(model.tokens.sum(axis=0), 1)
        for name, values in {"heldout": model.nats, **baselines}.items():
            row[f"{name}_nats_by_level"] = (values.sum(axis=0) / by_level).tolist()
        row["accuracy_by_level"] = (model.correct.sum(axis=0) / by_level).tolist()
    return StageMeasurement(figures, intervals, row)


def measure(
    bundle: Bundle,
    records: Sequence[TokenRecord],
    train_folders: Sequence[str | Path] = (),
    batch_size: int = 4,
    seed: int = 0,
) -> Measurement:
    """Nats per token of all stages of a bundle on held-out records, and how their tokens are used.

    Args:
        bundle: with any stages; of one with tokenizers alone only the use of tokens is measured.
        records: held-out recordings, made with the bundle's tokenizers.
        train_folders: token records of the training, for the baselines by training counts.
        batch_size: sequences that are scored at once; changes no figure beyond rounding.
        seed: of the bootstrap.

    Returns:
        Figures STAGE_nats_per_token, STAGE_accuracy, STAGE_unigram_nats_per_token, STAGE_share_of_unigram and with
        `train_folders` STAGE_train_unigram_nats_per_token, STAGE_train_bigram_nats_per_token and
        STAGE_share_of_train_bigram; semantic_share_in_use, acoustic_share_in_use (mean of levels) and
        semantic_mean_run_frames. `details` holds "stages", every stage's figures by level under the
        names that manifests of bundles use, and "usage", a row for every level of both streams.

    Raises:
        UserError: there are no records, two have one key, or they are not of the bundle's tokenizers.
    """
    records = sorted(records, key=lambda record: record.key)
    _check_records(bundle, records)
    train = read_records(train_folders, bundle, ("train",), MAX_TRAIN_RECORDS) if train_folders else []
    speakers = {record.speaker for record in records}
    units = [record.speaker if len(speakers) > 1 else record.key for record in records]
    figures, intervals, stages = {}, {}, {}
    for name, stage in bundle.stages.items():
        language_model = bundle.language_models[name]
        sums = record_nats(language_model.model, language_model.params, records, batch_size, sys.stderr.isatty())
        found = measure_stage(stage, sums, baseline_nats(stage, records, train), units, seed)
        figures |= {f"{name}_{figure}": value for figure, value in found.figures.items()}
        intervals |= {f"{name}_{figure}": value for figure, value in found.intervals.items()}
        stages[name] = found.row

    semantic = stream_usage(
        "semantic", [record.semantic_tokens[:, None] for record in records], bundle.semantic.vocab_size
    )
    acoustic = stream_usage("acoustic", [record.acoustic_tokens for record in records], bundle.codec.codebook_size)
    for stream, rows in (("semantic", semantic), ("acoustic", acoustic)):
        figures[f"{stream}_share_in_use"] = sum(row["share_in_use"] for row in rows) / len(rows)
    runs = {record.key: token_runs(record.semantic_tokens) for record in records}
    totals = [sum(column) for column in zip(*runs.values(), strict=True)]
    figures["semantic_mean_run_frames"] = totals[0] / max(totals[1], 1)
    if found := ratio_interval(by_unit(runs, {r.key: unit for r, unit in zip(records, units, strict=True)}), seed):
        intervals["semantic_mean_run_frames"] = found
    return Measurement(
        metric="perplexity",
        figures=figures,
        intervals=intervals,
        counts={"recordings": len(records), "speakers": len(speakers), "train_recordings": len(train)}
        | {f"{name}_tokens": row["num_tokens"] for name, row in stages.items()},
        settings=_settings(bundle, train_folders, "speaker" if len(speakers) > 1 else "recording", seed),
        versions=versions(),
        notes=() if train else ("no tokens of the training were given, so there are no bigrams",),
        details={"stages": stages, "usage": semantic + acoustic},
    )


def _check_records(bundle: Bundle, records: Sequence[TokenRecord]) -> None:
    if not records:
        raise UserError("there are no held-out records to score; give more recordings")
    wanted = (bundle.codec_fingerprint, bundle.semantic_fingerprint)
    for before, record in zip([None, *records], records, strict=False):
        if (record.codec_fingerprint, record.semantic_fingerprint) != wanted:
            raise UserError(f"the tokens of {record.key} are not of bundle {bundle.name}; tokenize them with it")
        if before is not None and before.key == record.key:
            raise UserError(f"two records have the key {record.key!r}; name each folder once")


def _settings(bundle: Bundle, train_folders: Sequence[str | Path], unit: str, seed: int) -> dict[str, Any]:
    return {
        "bundle": bundle.name,
        "codec_fingerprint": bundle.codec_fingerprint,
        "semantic_fingerprint": bundle.semantic_fingerprint,
        "crop_seconds": {name: float(stage.crop_seconds) for name, stage in bundle.stages.items()},
        "repeats_collapsed": {name: stage.collapse_repeats for name, stage in bundle.stages.items()},
        "crops": "neighbouring, every frame once; EOS counts where the semantic stage's crop ends its recording",
        "unigram": "entropy estimated from the held-out tokens' own frequencies, by level, corrected for their number "
        "(Chao, Wang and Jost 2013); share_of_unigram is of this",
        "train_unigram": "training counts, one added to each legal id",
        "train_bigram": "training counts of the token before at the same level, Witten-Bell interpolation",
        "train_tokens": [str(folder) for folder in train_folders],
        "max_train_recordings": MAX_TRAIN_RECORDS,
        **interval_settings(seed),
        "interval_unit": unit,
    }


def manifest_metrics(measurement: Measurement) -> dict[str, Any]:
    """Every stage's figures under the names that the manifests and model cards of bundles use."""
    return {name: dict(row) for name, row in measurement.details["stages"].items()}


def _report_steps(material: Material) -> list[Entry]:
    chosen, settings = material.token_recordings, material.settings

    def run() -> Measurement:
        bundle, tokenized = material.bundle, material.tokenized
        measured = measure(bundle, tokenized.records, settings.train_tokens, seed=settings.seed)
        seconds = sum(record.num_samples for record in tokenized.records) / bundle.codec.sample_rate_hz
        measured = dataclasses.replace(measured, counts={**measured.counts, "seconds": round(seconds, 2)})
        return material.with_split(measured, (*chosen.notes, *tokenized.notes))

    inputs = {"system": material.system, "train_tokens": list(settings.train_tokens)}
    inputs |= material.inputs_of(chosen.recordings)
    what = f"tokens of {counted(chosen.recordings)}"
    return [Step("perplexity", "perplexity", what, inputs, 25 + 3.0 * len(chosen.recordings), run)]


METRIC = Metric(
    "perplexity", "Perplexity of the stages",
    "Nats per token on recordings that are held out, beside the entropy of the tokens without context, which is "
    "estimated from their own frequencies and corrected for their number. Shares are of that entropy.",
    _report_steps,
)  # fmt: skip
