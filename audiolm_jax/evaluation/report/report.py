"""The report of all metrics: `audiolm eval all --bundle DIR --data DIR --output DIR`.

    OUTPUT/report.json      every figure with interval, counts, settings, seeds and versions
    OUTPUT/report.md        the same to read, beside the paper's values
    OUTPUT/report.html      one page with tables, plots and players, without anything to load
    OUTPUT/measurements/    one file for each measurement, from which a stopped report goes on
    OUTPUT/samples/, speaker_classifier/, transcripts/, scores/   what was made on the way
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.audio import Waveform, read_audio
from audiolm_jax.bundle import Bundle, with_metrics
from audiolm_jax.evaluation.generated.samples import ACOUSTIC, CONTINUATION, FINE, ORIGINAL, PROMPTED, RECONSTRUCTION
from audiolm_jax.evaluation.heldout import REFUSED, UNKNOWN
from audiolm_jax.evaluation.language import perplexity
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.report.report_markdown import figure_lines, markdown
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_metrics import plan
from audiolm_jax.evaluation.report.report_page import ClipSet, page
from audiolm_jax.evaluation.report.report_plan import NotMeasured
from audiolm_jax.evaluation.report.report_run import Made, Report, exit_code, machine, run_plan, say_plan, utc_now
from audiolm_jax.evaluation.report.report_settings import ReportSettings
from audiolm_jax.files.outputs import write_results
from audiolm_jax.page.listening_page import Clip

# Of the sound on the page; more would only make it larger.
_PAGE_RATE_HZ = 16_000


def make_report(bundle: Bundle, settings: ReportSettings, merge: bool = False) -> tuple[Report, int]:
    """Measures what is not yet measured, and writes the three files, anew after every measurement.

    Its figures go to stderr as soon as they are there. Until the last one is, the page has no players.

    Args:
        bundle: what is measured.
        settings: on what, and how much.
        merge: whether the held-out figures of codec and stages go into the bundle's manifest and model card.

    Returns:
        The report, and 0, or 1 where a metric broke down, or one could not be measured that was asked for by name.

    Raises:
        UserError: a folder holds no audio, or what would be called held out was trained on; with `merge` also where the
            split is not that of the bundle's trainings.
    """
    material = Material(bundle, settings)
    if merge:
        material.claim.required()
    entries = plan(material)
    output = settings.output
    say_plan(entries, output)

    def report_of(made: list[Made], gaps: list[NotMeasured]) -> Report:
        return Report(
            bundle={"name": bundle.name, "licence": bundle.licence, "fingerprints": material.system},
            settings={**settings.to_json(), "heldout": material.claim.state},
            made=tuple(made),
            not_measured=tuple(gaps),
            when=utc_now(),
            machine=machine(),
        )

    def tell(made: list[Made], gaps: list[NotMeasured]) -> None:
        print("", *figure_lines(made[-1]), sep="\n", file=sys.stderr, flush=True)
        there = {each.name for each in (*made, *gaps)}
        left = [NotMeasured(each.name, each.metric, "not yet") for each in entries if each.name not in there]
        _write(output, report_of(made, [*gaps, *left]))

    made, gaps = run_plan(entries, output, tell)
    report = report_of(made, gaps)
    _write(output, report, page_clips(material) if "samples" in report.measurements else [])
    if merge and bundle.path is not None:
        with_metrics(bundle.path, manifest_metrics(report.measurements))
        print(f"{bundle.path}: the figures are in its manifest and model card", file=sys.stderr)
    return report, exit_code(settings.asked_for, gaps)


def _write(output: Path, report: Report, clips: Sequence[ClipSet] = ()) -> None:
    write_results(
        {
            output / "report.json": (json.dumps(report.to_json(), indent=1) + "\n").encode(),
            output / "report.md": markdown(report).encode(),
            output / "report.html": page(report, clips).encode(),
        }
    )


def manifest_metrics(measurements: dict[str, Measurement]) -> dict[str, Any]:
    """Figures of codec and stages under the names that manifests and model cards use: codec_visqol_speech_6kbps and
    others, `STAGE.heldout_nats_per_token` and others, and what they were measured on under `heldout`."""
    metrics: dict[str, Any] = {}
    heldout: dict[str, Any] = {}
    if codec := measurements.get("codec"):
        metrics |= {f"codec_{name}": value for name, value in codec.figures.items()}
        heldout |= {"codec_clips": codec.counts["clips"]}
        heldout |= {name: value for name, value in codec.settings.items() if name.startswith("visqol")}
        heldout |= {"split": codec.settings["heldout"]}
    if stages := measurements.get("perplexity"):
        metrics |= perplexity.manifest_metrics(stages)
        heldout |= {name: stages.counts[name] for name in ("speakers", "recordings", "seconds")}
        heldout |= {"split": stages.settings["heldout"]}
    return metrics | ({"heldout": heldout} if heldout else {})


def page_clips(material: Material) -> list[ClipSet]:
    """Some prompts on every rung, those that no training has heard first."""
    samples = material.samples
    originals = shared_out(samples[ORIGINAL], None)
    originals.sort(key=lambda recording: not recording.heldout)
    sets = []
    for original in originals[: material.settings.extent.page_clips]:
        rungs = [
            (kind, _clip(sample, sample.path, kind))
            for kind in (ORIGINAL, RECONSTRUCTION, FINE, ACOUSTIC)
            if kind in samples and (sample := _first(samples[kind], original))
        ]
        if CONTINUATION in samples and (sample := _first(samples[CONTINUATION], original)):
            rungs.append((PROMPTED, _clip(sample, material.prompted(sample), PROMPTED, material)))
        side = _side(original, material)
        text = f" “{original.text}”" if original.text else ""
        sets.append(ClipSet(original.key, f"Speaker {original.speaker}, {side}.{text}", tuple(rungs)))
    return sets


def _side(original: Recording, material: Material) -> str:
    """In words, whether a training has heard a recording, as far as that is known."""
    if not original.heldout:
        return "not held out" if material.claim.state == REFUSED else "heard in training"
    if material.claim.state == UNKNOWN:
        return "held out by the split, which the bundle does not record"
    return "held out of all training"


def _first(samples: list[Recording], source: Recording) -> Recording | None:
    """The first sample of a recording."""
    return next((sample for sample in samples if sample.source_key == source.key), None)


def _clip(sample: Recording, path: Path, kind: str, material: Material | None = None) -> Clip:
    waveform = read_audio(path)
    if waveform.sample_rate_hz > _PAGE_RATE_HZ:
        waveform = read_audio(path, _PAGE_RATE_HZ)
    given_seconds = 0.0 if material is None else waveform.seconds - material.settings.extent.seconds
    return Clip(f"{sample.key}, {kind}", Waveform(waveform.samples, waveform.sample_rate_hz), given_seconds)
