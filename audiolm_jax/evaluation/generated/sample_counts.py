"""The samples that a report measures: what they are made of, and how many of each kind there are."""

import dataclasses

from audiolm_jax.bundle.manifest import STAGE_ORDER
from audiolm_jax.evaluation.generated.samples import KINDS
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, counted, recording_inputs


def _report_steps(material: Material) -> list[Entry]:
    extent, prompts, kinds = material.settings.extent, material.prompts.recordings, material.kinds
    if not prompts:
        raise Lacking(
            f"no recording is {extent.min_seconds:g} to {extent.max_seconds:g} s long, as the protocol wants",
            "give --data recordings of such lengths"
            + (", or --segment_seconds" if material.settings.data.corpus != "folder" else ""),
        )
    inputs = {
        "system": material.system, "recordings": recording_inputs(prompts), "kinds": list(kinds),
        "settings": dataclasses.asdict(material.sample_settings),
    }  # fmt: skip
    what = f"{counted(prompts)}, {extent.num_samples} each of {', '.join(kinds)}"
    each_seconds = 2 + 10.0 * extent.num_samples if len(kinds) > 2 else 2
    return [Step("samples", "samples", what, inputs, 40 + each_seconds * len(prompts), lambda: _measure(material))]


def _measure(material: Material) -> Measurement:
    """Makes the samples, which all metrics on generated speech need, and counts them."""
    extent, prompts, samples = material.settings.extent, material.prompts, material.samples
    return Measurement(
        metric="samples",
        figures={kind: len(samples[kind]) for kind in samples},
        counts={
            "prompts": len(prompts.recordings),
            "prompts_of_speakers_heard_in_training": sum(not recording.heldout for recording in prompts.recordings),
            "speakers": len({recording.speaker for recording in prompts.recordings}),
            "transcribed": sum(bool(recording.text) for recording in prompts.recordings),
        },
        settings={
            **dataclasses.asdict(material.sample_settings),
            "min_seconds": extent.min_seconds,
            "max_seconds": extent.max_seconds,
            "folder": str(material.samples_folder.relative_to(material.settings.output)),
        },
        versions=versions(),
        notes=(*prompts.notes, *samples.notes, *_missing_kinds(material)),
    )


def _missing_kinds(material: Material) -> tuple[str, ...]:
    """What the bundle cannot make, in one sentence."""
    missing = [kind for kind in KINDS if kind not in material.kinds]
    if not missing:
        return ()
    stages = material.bundle.stages
    lacking = [name for name in STAGE_ORDER if name not in stages and name != "acoustic"]
    return (f"the bundle has no {' and no '.join(lacking)} stage, so there are no samples {', '.join(missing)}",)


METRIC = Metric(
    "samples", "The recordings that are measured",
    "What the following figures are measured on: the same prompts through the codec, through one stage after "
    "another, and continued.",
    _report_steps,
)  # fmt: skip
