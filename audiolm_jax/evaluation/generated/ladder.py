"""Which part fails: the same recordings by the codec alone, then with ever more of their tokens generated.

Each rung gives away one more stage of the true tokens:

    reconstruction   all acoustic tokens are true: what the codec loses
    fine             coarse tokens are true, fine ones generated: what the fine stage loses beside it
    acoustic         semantic tokens are true, coarse and fine ones generated: the coarse stage, and all that semantic
                     tokens do not say
    continuation     a prompt is true, everything after it generated: the semantic stage

Every rung is measured by every distance that is defined on it, and by each of them the largest loss between
neighbouring rungs is looked for: that part is the first to work on.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.bundle import Bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.ladder_columns import (
    Column,
    distances,
    intelligibility,
    plain_sound,
    sound_distance,
    voices,
)
from audiolm_jax.evaluation.generated.samples import ACOUSTIC, CONTINUATION, FINE, ORIGINAL, RECONSTRUCTION
from audiolm_jax.evaluation.interval import interval_settings
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, counted, with_notes
from audiolm_jax.evaluation.voice import report_classifier
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
from audiolm_jax.evaluation.words.asr import Recogniser


@dataclasses.dataclass(frozen=True)
class Rung:
    """One kind of recordings.

    Attributes:
        kind: of `samples.KINDS`.
        true: which tokens are those of the recording.
        generated: which are drawn.
        part: what stands between this rung and the one before.
    """

    kind: str
    true: str
    generated: str
    part: str


RUNGS = (
    Rung(ORIGINAL, "the recording itself", "nothing", ""),
    Rung(RECONSTRUCTION, "all acoustic tokens", "nothing", "the codec"),
    Rung(FINE, "coarse tokens", "fine tokens", "the fine stage"),
    Rung(ACOUSTIC, "semantic tokens", "coarse and fine tokens", "the coarse stage (or what semantic tokens leave out)"),
    Rung(CONTINUATION, "the prompt", "all tokens after it", "the semantic stage"),
)


def measure(
    by_kind: Mapping[str, Sequence[Recording]],
    *,
    bundle: Bundle,
    asr: str | Recogniser = "pocketsphinx",
    classifier: TrainedClassifier | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> Measurement:
    """Every rung by every distance that the inputs allow; what is left out is told in the notes.

    Args:
        by_kind: "original" and at least one of the other kinds, all of the same recordings; see `make_samples`.
        bundle: that made them; its speaker network, where it carries one, gives the similarity.
        asr: recogniser for the word errors, see `word_error.measure`; used where a recording has a transcript.
        classifier: of speakers, for the accuracy.
        cache: folder of what the recogniser heard.
        seed: of intervals.

    Returns:
        Figures KIND_MEASURE, such as reconstruction_wer, fine_visqol and continuation_fad; None where the measure is
        not defined on a rung, with the reason in details.undefined. details.rungs has a row per rung;
        details.losses the largest loss by each measure; the first note says in words which part fails.

    Raises:
        UserError: there are no originals or nothing beside them, or a recording cannot be read.
    """
    rungs = [rung for rung in RUNGS if by_kind.get(rung.kind)]
    if not by_kind.get(ORIGINAL) or len(rungs) < 2:
        raise UserError("a ladder needs the originals and at least one other kind of their samples")
    by_kind = {rung.kind: sorted(by_kind[rung.kind], key=lambda recording: recording.key) for rung in rungs}
    parts = [
        intelligibility(by_kind, asr, cache, seed),
        voices(by_kind, bundle, classifier, seed),
        distances(by_kind, seed),
        sound_distance(by_kind, seed),
        plain_sound(by_kind, seed),
    ]
    columns = [column for part in parts for column in part.columns]
    losses = [loss for column in columns if (loss := largest_loss(column, rungs)) is not None]
    notes = [verdict(losses), *(note for part in parts for note in part.notes)]
    if missing := [rung.kind for rung in RUNGS if rung not in rungs]:
        notes.append(f"no recordings of kind {', '.join(missing)}: these rungs are left out")
    return Measurement(
        metric="ladder",
        figures={f"{kind}_{one.name}": value for one in columns for kind, value in one.values.items()},
        intervals={f"{kind}_{one.name}": pair for one in columns for kind, pair in one.intervals.items()},
        counts={
            "speakers": len({recording.speaker for recording in by_kind[ORIGINAL]}),
            **{f"recordings_{kind}": len(recordings) for kind, recordings in by_kind.items()},
        },
        settings={
            "bundle": bundle.name,
            **{name: value for part in parts for name, value in part.settings.items()},
            "resampled_unit": "speaker",
            **interval_settings(seed),
        },
        versions=versions(*(name for part in parts for name in part.packages)),
        notes=tuple(dict.fromkeys(notes)),
        details={
            "rungs": [_row(rung, columns) for rung in rungs],
            "measures": {column.name: {"words": column.words, "better": column.better} for column in columns},
            "losses": [dataclasses.asdict(loss) for loss in losses],
            "expected": {f"{kind}_{one.name}": why for one in columns for kind, why in one.expected.items()},
            "undefined": {f"{kind}_{one.name}": why for one in columns for kind, why in one.undefined.items()},
        },
    )


def _row(rung: Rung, columns: Sequence[Column]) -> dict[str, Any]:
    """A rung's row of the table."""
    values = {column.name: column.values.get(rung.kind) for column in columns}
    return {"rung": rung.kind, "true": rung.true, "generated": rung.generated, **values}


@dataclasses.dataclass(frozen=True)
class Loss:
    """The largest loss between neighbouring rungs by one measure.

    Attributes:
        measure: its name.
        words: what it measures.
        part: what lies between the two rungs.
        better, worse: kinds of the two rungs.
        value_before, value_after: of the measure on them.
        share: of all that is lost from rung to rung, 1 if nothing else is.
        clear: whether the intervals of the two do not overlap; None without intervals.
    """

    measure: str
    words: str
    part: str
    better: str
    worse: str
    value_before: float
    value_after: float
    share: float
    clear: bool | None


def largest_loss(column: Column, rungs: Sequence[Rung]) -> Loss | None:
    """Where a measure gets worse most from one rung to the next one that has it.

    A rung on which a loss is no failure (a voice that is drawn anew on purpose) is passed over, and its part is then
    named together with that of the rung after it.

    Returns:
        None for measures without a better side, with fewer than two values, or where nothing is lost.
    """
    if column.better is None:
        return None
    chain = [(rung, value) for rung in rungs if (value := column.comparable(rung.kind)) is not None]
    sign = 1 if column.better == "low" else -1
    steps = [
        (sign * (value_after - value_before), before, after)
        for (before, value_before), (after, value_after) in itertools.pairwise(chain)
    ]
    lost = math.fsum(loss for loss, *_ in steps if loss > 0)
    if lost <= 0:
        return None
    loss, before, after = max(steps, key=lambda step: step[0])
    between = rungs[rungs.index(before) + 1 : rungs.index(after) + 1]
    return Loss(
        measure=column.name,
        words=column.words,
        part=" and ".join(rung.part for rung in between),
        better=before.kind,
        worse=after.kind,
        value_before=column.comparable(before.kind),
        value_after=column.comparable(after.kind),
        share=loss / lost,
        clear=_apart(column.intervals.get(before.kind), column.intervals.get(after.kind)),
    )


def _apart(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool | None:
    if one is None or other is None:
        return None
    return one[1] < other[0] or other[1] < one[0]


def verdict(losses: Sequence[Loss]) -> str:
    """In one sentence, which part loses most by which measure."""
    if not losses:
        return "by no measure is anything lost from one rung to the next"
    by_part: dict[str, list[str]] = {}
    for loss in losses:
        doubt = " within the intervals" if loss.clear is False else ""
        by_part.setdefault(loss.part, []).append(
            f"{loss.words} ({loss.better} {loss.value_before:.3g}, {loss.worse} {loss.value_after:.3g}{doubt})"
        )
    ordered = sorted(by_part.items(), key=lambda item: -len(item[1]))
    return "most is lost " + "; ".join(f"at {part} by {', '.join(measures)}" for part, measures in ordered)


def _report_steps(material: Material) -> list[Entry]:
    settings, prompts = material.settings, material.prompts.recordings
    if not prompts:
        raise Lacking("there are no samples to compare with the originals")
    with_classifier = not report_classifier.why_no_classifier(material)

    def run() -> Measurement:
        classifier, notes = None, material.seen_notes
        try:
            classifier = report_classifier.speaker_classifier(material) if with_classifier else None
        except (UserError, ModuleNotFoundError) as error:
            notes += (f"speaker accuracy is left out: {error}",)
        measured = measure(
            material.samples,
            bundle=material.bundle,
            asr=settings.asr,
            classifier=classifier,
            cache=material.transcripts_folder,
            seed=settings.seed,
        )
        return with_notes(measured, notes)

    inputs = {**material.sample_inputs, **material.recogniser_inputs}
    inputs |= {"classifier": report_classifier.classifier_inputs(material)}
    inputs |= {"installed": versions("jiwer", "visqol-python")}
    uses = (report_classifier.STEP,) if with_classifier and settings.classifier is None else ()
    what = f"{counted(prompts)} on every rung"
    return [Step("ladder", "ladder", what, inputs, 20 + 2.0 * len(prompts), run, ("samples",), uses)]


METRIC = Metric(
    "ladder", "Which part fails",
    "One rung after the other is generated in place of being given: what gets worse from one to the next is the "
    "fault of the stage between them.",
    _report_steps,
)  # fmt: skip
