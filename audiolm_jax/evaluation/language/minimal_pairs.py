"""sWUGGY and sBLIMP: how often what is right is likelier than what is almost right (AudioLM, table IV).

Conventions of ZeroSpeech 2021: a pair in one voice counts 1 if the correct recording has the higher score, 0.5 if both
have the same, else 0; that is averaged over the voices of a pair, then over pairs. Words are grouped by how often they
occur in LibriSpeech, in bands whose labels are ZeroSpeech's and whose lower ends are inclusive: "1-5" is 1 to 4.
In-vocabulary words are those that occur at all.
"""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.interval import interval_settings, mean_interval
from audiolm_jax.evaluation.language.gold import SBLIMP, SWUGGY, Gold, MinimalPair, read_gold
from audiolm_jax.evaluation.language.likelihood import score_folder
from audiolm_jax.evaluation.language.scores import Scores
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, file_inputs

# Label, least frequency, and the frequency that is the next band's.
BANDS = (
    ("oov", 0, 1),
    ("1-5", 1, 5),
    ("6-20", 5, 20),
    ("21-100", 20, 100),
    (">100", 100, math.inf),
)


def measure(
    task: str, gold: str | Path | Gold, scores: Scores, max_pairs: int | None = None, seed: int = 0
) -> Measurement:
    """Accuracy of scores on the pairs of a gold file.

    Args:
        task: "swuggy" or "sblimp".
        gold: gold.csv, or what `read_gold` made of it.
        scores: of all recordings that the gold file names; others are left out, with a note.
        max_pairs: of a gold file that is still to be read, see `read_gold`.
        seed: of the bootstrap over pairs; the voices of a pair stay together.

    Returns:
        Figures as fractions: "all", and for sWUGGY "in_vocabulary" and "out_of_vocabulary", from `scores.main`; the
        same with the ending "_raw" from `scores.raw` where there is one. `details` holds by_frequency, by_length and
        by_voice, or by_type, by_subtype and by_voice.

    Raises:
        UserError: the gold file cannot be paired, or a recording of it has no score or none that is finite.
    """
    gold = gold if isinstance(gold, Gold) else read_gold(gold, task, max_pairs)
    if gold.task != task:
        raise ValueError(f"the gold file is of {gold.task}, not of {task}")
    kinds = {"": scores.main} if scores.raw is None else {"": scores.main, "_raw": scores.raw}
    for values in kinds.values():
        _check(gold, values)
    figures, intervals = {}, {}
    pair_scores = {ending: _pair_scores(gold, values) for ending, values in kinds.items()}
    for ending, by_pair in pair_scores.items():
        for name, belongs in _groups(task).items():
            chosen = {pair.name: by_pair[pair.name] for pair in gold.pairs if belongs(pair)}
            figures[f"{name}{ending}"] = exact_mean(chosen.values()) if chosen else None
            if (found := mean_interval(chosen, seed)) is not None:
                intervals[f"{name}{ending}"] = found

    trials = [trial for pair in gold.pairs for trial in pair.trials]
    ties = sum(scores.main[trial.correct] == scores.main[trial.incorrect] for trial in trials)
    notes = [*gold.notes, *scores.notes]
    if extra := len(set(scores.main) - set(gold.stems)):
        notes.append(f"{extra} scores are of recordings that are in no measured pair, and were left out")
    return Measurement(
        metric=task,
        figures=figures,
        intervals=intervals,
        counts={
            "pairs": len(gold.pairs),
            "voices": len({trial.voice for trial in trials}),
            "recordings": 2 * len(trials),
            "ties": ties,
        },
        settings={
            "task": task,
            "gold": gold.path,
            "pair_score": "1 if the correct one scores higher, 0.5 if equal, else 0; mean over voices, then over pairs",
            **_score_names(scores),
            **scores.settings,
            **interval_settings(seed),
            "interval_unit": "pair, all its voices together",
        },
        versions=versions(),
        notes=tuple(notes),
        details={**_details(gold, pair_scores), "by_voice": _voice_rows(gold, kinds)},
    )


def band_of(frequency: int | None) -> str | None:
    """Label of the band of a frequency; None for an unknown one."""
    if frequency is None:
        return None
    return next(label for label, low, high in BANDS if low <= frequency < high)


def _groups(task: str) -> dict[str, Callable[[MinimalPair], bool]]:
    """Headline figures, and the pairs that they are the mean of."""
    groups: dict[str, Callable[[MinimalPair], bool]] = {"all": lambda pair: True}
    if task == SWUGGY:
        groups["in_vocabulary"] = lambda pair: pair.frequency is not None and pair.frequency >= 1
        groups["out_of_vocabulary"] = lambda pair: pair.frequency == 0
    return groups


def _trial_score(correct: float, incorrect: float) -> float:
    return 1.0 if correct > incorrect else 0.5 if correct == incorrect else 0.0


def _pair_scores(gold: Gold, scores: Mapping[str, float]) -> dict[str, float]:
    """Score of every pair by its name, averaged over voices."""
    return {
        pair.name: exact_mean(_trial_score(scores[trial.correct], scores[trial.incorrect]) for trial in pair.trials)
        for pair in gold.pairs
    }


def _details(gold: Gold, pair_scores: Mapping[str, Mapping[str, float]]) -> dict[str, list[dict[str, Any]]]:
    """The tables of a task but the one by voice."""

    def rows(column: str, keys: Iterable[Any], key_of: Callable[[MinimalPair], Any]) -> list[dict[str, Any]]:
        members: dict[Any, list[MinimalPair]] = {key: [] for key in keys}
        for pair in gold.pairs:
            members.setdefault(key_of(pair), []).append(pair)
        return [_row(column, key, members[key], pair_scores) for key in members if key is not None]

    def subtype_of(pair: MinimalPair) -> str:
        return f"{pair.type}/{pair.subtype}"

    if gold.task != SWUGGY:
        return {
            "by_type": rows("type", sorted({pair.type for pair in gold.pairs}), lambda pair: pair.type),
            "by_subtype": rows("subtype", sorted(map(subtype_of, gold.pairs)), subtype_of),
        }
    by_frequency = rows("band", [label for label, _, _ in BANDS], lambda pair: band_of(pair.frequency))
    for row, (_, low, high) in zip(by_frequency, BANDS, strict=True):
        row |= {"at_least": low, "below": None if high == math.inf else high}
    lengths = sorted({pair.length for pair in gold.pairs if pair.length is not None})
    return {"by_frequency": by_frequency, "by_length": rows("length", lengths, lambda pair: pair.length)}


def _row(
    column: str, key: Any, pairs: list[MinimalPair], pair_scores: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """One row of a table: accuracy and deviation between pairs, for every kind of score."""
    row = {column: key, "pairs": len(pairs)}
    for ending, by_pair in pair_scores.items():
        values = [by_pair[pair.name] for pair in pairs]
        row[f"all{ending}"] = exact_mean(values) if values else None
        row[f"std{ending}"] = statistics.stdev(values) if len(values) > 1 else None
    return row


def _voice_rows(gold: Gold, kinds: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    trials = [trial for pair in gold.pairs for trial in pair.trials]
    rows = []
    for voice in sorted({trial.voice for trial in trials}):
        chosen = [trial for trial in trials if trial.voice == voice]
        row: dict[str, Any] = {"voice": voice, "pairs": len(chosen)}
        for ending, scores in kinds.items():
            row[f"all{ending}"] = exact_mean(_trial_score(scores[t.correct], scores[t.incorrect]) for t in chosen)
        rows.append(row)
    return rows


def _check(gold: Gold, scores: Mapping[str, float]) -> None:
    """Raises UserError unless every recording of the gold file has a score that is a number."""
    stems = gold.stems
    missing = [stem for stem in stems if stem not in scores]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(stems)} recordings of the gold file have no score, the first is {missing[0]}; "
            "score all of them"
        )
    for stem in stems:
        if not math.isfinite(scores[stem]):
            raise UserError(f"the score of {stem} is {scores[stem]}; scores must be finite numbers")


def _score_names(scores: Scores) -> dict[str, str]:
    """What the figures' names stand for."""
    if scores.raw is None:
        return {}
    return {"all": "log-likelihood divided by the number of tokens, as in AudioLM", "all_raw": "log-likelihood"}


def _report_steps(task: str, part: str, material: Material) -> list[Entry]:
    settings, pairs = material.settings, material.settings.extent.zerospeech_pairs
    folder: Path | None = getattr(settings, task)
    if folder is None:
        raise Lacking("no folder of ZeroSpeech 2021 is given", f"give --{task} DIR, its {part} with gold.csv")
    if "semantic" not in material.bundle.stages:
        raise Lacking("the bundle has no semantic stage", "give a bundle of a whole system")

    def run() -> Measurement:
        gold = read_gold(folder / "gold.csv", task, pairs)
        output = settings.output / "scores" / f"{task}-{material.system['semantic stage']}.txt"
        return measure(task, gold, score_folder(material.bundle, folder, gold.stems, output), seed=settings.seed)

    inputs = {"system": material.system, "seed": settings.seed, "pairs": pairs}
    inputs["gold"] = file_inputs(folder / "gold.csv")
    what = "all pairs" if pairs is None else f"{pairs} pairs at most"
    return [Step(task, task, what, inputs, 60.0 if pairs else 3600.0, run)]


METRICS = (
    Metric(
        SWUGGY, "Words from non-words (sWUGGY)",
        "How often the semantic stage finds a word likelier than a non-word that sounds like it. Chance is 50\u00a0%.",
        functools.partial(_report_steps, SWUGGY, "lexical/dev"), own_input=SWUGGY,
    ),
    Metric(
        SBLIMP, "Sentences from ungrammatical ones (sBLIMP)",
        "How often the semantic stage finds a grammatical sentence likelier than one that is not. Chance is 50\u00a0%.",
        functools.partial(_report_steps, SBLIMP, "syntactic/dev"), own_input=SBLIMP,
    ),
)  # fmt: skip
