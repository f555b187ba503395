"""The steps of a report that measure samples: what the system makes of prompts, and what others hear in it."""

import collections
import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

from audiolm_jax.bundle.manifest import STAGE_ORDER
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import KINDS, ORIGINAL
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import Recording
from audiolm_jax.evaluation.report.report_material import Chosen, Material, train_classifier
from audiolm_jax.evaluation.report.report_plan import (
    Entry,
    NotMeasured,
    Step,
    counted,
    recogniser_inputs,
    recogniser_name,
    recording_inputs,
    with_notes,
)
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
from audiolm_jax.evaluation.words.asr import packages_of
from audiolm_jax.extras import how_to_install
from audiolm_jax.fingerprint import fingerprint


def sample_steps(material: Material) -> list[Entry]:
    """The recordings that the following metrics measure."""
    chosen, settings = material.prompts, material.settings
    extent = settings.extent
    if not chosen.recordings:
        return [
            NotMeasured(
                "samples", "samples",
                f"no recording is {extent.min_seconds:g} to {extent.max_seconds:g} s long, as the protocol wants",
                "give --data recordings of such lengths" + (", or --segment_seconds" if settings.is_cut else ""),
            )
        ]  # fmt: skip
    seen = sum(not recording.heldout for recording in chosen.recordings)

    def measure() -> Measurement:
        samples = material.samples
        return Measurement(
            metric="samples",
            figures={kind: len(samples[kind]) for kind in samples},
            counts={
                "prompts": len(chosen.recordings),
                "prompts_of_speakers_heard_in_training": seen,
                "speakers": len({recording.speaker for recording in chosen.recordings}),
                "transcribed": sum(bool(recording.text) for recording in chosen.recordings),
            },
            settings={
                **dataclasses.asdict(material.sample_settings),
                "min_seconds": extent.min_seconds,
                "max_seconds": extent.max_seconds,
                "folder": str(material.samples_folder.relative_to(settings.output)),
            },
            versions=versions(),
            notes=(*chosen.notes, *samples.notes, *_missing_kinds(material)),
        )

    inputs = {
        "system": material.system, "recordings": recording_inputs(chosen.recordings), "kinds": list(material.kinds),
        "settings": dataclasses.asdict(material.sample_settings),
    }  # fmt: skip
    what = f"{counted(chosen.recordings)}, {extent.num_samples} each of {', '.join(material.kinds)}"
    each_seconds = 2 + 10.0 * extent.num_samples if len(material.kinds) > 2 else 2
    return [Step("samples", "samples", what, inputs, 40 + each_seconds * len(chosen.recordings), measure)]


def _missing_kinds(material: Material) -> tuple[str, ...]:
    """What the bundle cannot make, in one sentence."""
    missing = [kind for kind in KINDS if kind not in material.kinds]
    if not missing:
        return ()
    stages = material.bundle.stages
    lacking = [name for name in STAGE_ORDER if name not in stages and name != "acoustic"]
    return (f"the bundle has no {' and no '.join(lacking)} stage, so there are no samples {', '.join(missing)}",)


def wer_steps(material: Material) -> list[Entry]:
    """Word and character errors of originals, reconstructions and acoustic generations."""
    settings, chosen = material.settings, material.prompts
    told = [recording for recording in chosen.recordings if recording.text]
    if not told:
        return [
            NotMeasured(
                "wer", "wer", "no recording of the protocol's length has a transcript",
                "put transcripts.tsv, LibriSpeech's .trans.txt or NAME.txt beside the recordings",
            )
        ]  # fmt: skip
    if gap := missing_package("wer", ["jiwer", *packages_of(settings.asr)]):
        return [gap]

    def measure() -> Measurement:
        from audiolm_jax.evaluation.words import word_error

        kinds = {
            kind: [recording for recording in recordings if recording.text]
            for kind, recordings in material.samples.items()
            if kind != "continuation"
        }
        cache = settings.output / "transcripts"
        return with_notes(word_error.measure(kinds, settings.asr, cache, settings.seed), material.claim.notes)

    inputs = {**_sample_inputs(material), **recogniser_inputs(settings.asr), "installed": versions("jiwer")}
    what = f"{counted(told)} with transcripts, {recogniser_name(settings.asr)}"
    seconds = 10 + 5.0 * len(told) * (3 + material.settings.extent.num_samples)
    return [Step("wer", "wer", what, inputs, seconds, measure, needs=("samples",))]


def speaker_steps(material: Material) -> list[Entry]:
    """The classifier, if none is given, and what it hears."""
    settings = material.settings
    reason = why_no_classifier(material)
    has_embedder = "speaker" in material.bundle.classifiers
    entries: list[Entry] = []
    needs = ["samples"]
    if reason:
        # Of a bundle with a network for voices the similarity can be measured all the same.
        name = "speaker_classifier" if has_embedder else "speaker"
        remedy = "give --data with several speakers, one folder each, or --classifier DIR"
        entries.append(NotMeasured(name, "speaker", reason, remedy))
        if not has_embedder:
            return entries
    elif settings.classifier is None:
        entries.append(_classifier_step(material))
        needs.append("speaker_classifier")

    def measure() -> Measurement:
        from audiolm_jax.evaluation.voice import speaker

        classifier = None if reason else _speaker_classifier(material)
        embedder = TrainedClassifier.from_bundle(material.bundle, "speaker") if has_embedder else None
        by_kind = dict(material.samples)
        if classifier is not None:
            for kind, more in material.unheard_samples(classifier.heldout_keys).items():
                by_kind[kind] = [*by_kind[kind], *more]
        measured = speaker.measure(classifier, by_kind, settings.seed, embedder)
        notes = (f"speaker accuracy is left out: {reason}",) if reason else ()
        return with_notes(measured, (*notes, *_seen_notes(material)))

    inputs = {
        **_sample_inputs(material),
        "classifier": None if reason else _classifier_inputs(material),
        "classifier_recordings": settings.extent.classifier_recordings,
    }
    what = f"{counted(material.prompts.recordings)} and what was made of them"
    seconds = 20 + 0.5 * len(material.prompts.recordings) * (2 + 3 * settings.extent.num_samples)
    return [*entries, Step("speaker", "speaker", what, inputs, seconds, measure, needs=tuple(needs))]


def why_no_classifier(material: Material) -> str:
    """Why there is no classifier of speakers, in one sentence; "" where one is given or can be trained.

    Where most recordings lie in no speaker's folder, its classes would be single recordings.
    """
    if material.settings.classifier is not None:
        return ""
    if material.settings.corpus != "folder":
        return "a classifier of speakers is trained on plain folders only"
    named = [recording for recording in material.recordings if recording.has_speaker]
    if 2 * len(named) < len(material.recordings) or not named:
        return "the recordings lie in no speakers' folders, so nobody knows who speaks"
    if len({recording.speaker for recording in named}) < 2:
        return "the data has one speaker, so there is nothing to tell apart"
    return ""


def _speaker_classifier(material: Material) -> TrainedClassifier:
    """The one that is given, or that was trained here."""
    if material.settings.classifier is None:
        train_classifier(material)  # does nothing where it is done
    return TrainedClassifier.load(material.classifier_folder)


def _classifier_inputs(material: Material) -> str:
    """What of the speaker classifier goes into a key."""
    given = material.settings.classifier
    return material.classifier_folder.name if given is None else _network_inputs(TrainedClassifier.load(given))


def _classifier_step(material: Material) -> Step:
    settings = material.settings
    recordings_of = collections.Counter(recording.speaker for recording in material.recordings)
    num_speakers, single = len(recordings_of), sum(count == 1 for count in recordings_of.values())
    alone = f", {single} of them with a single recording" if single else ""

    def measure() -> Measurement:
        classifier = _speaker_classifier(material)
        return Measurement(
            metric="speaker",
            figures={"steps": classifier.steps},
            counts={"speakers": num_speakers, "held_out_recordings": len(classifier.heldout_keys)},
            settings={
                "macros": list(settings.extent.classifier_macros),
                "folder": str(material.classifier_folder.relative_to(settings.output)),
            },
            versions=versions(),
            notes=(f"trained on the single recording of {single} of {num_speakers} speakers",) if single else (),
        )

    inputs = {"folder": material.classifier_folder.name}
    what = f"trained on {num_speakers} speakers{alone}"
    return Step("speaker_classifier", "speaker", what, inputs, settings.extent.classifier_seconds, measure)


def detector_steps(material: Material) -> list[Entry]:
    """The detector of the bundle, or the one that is given."""
    settings = material.settings
    if settings.detector is None and "detector" not in material.bundle.classifiers:
        return [
            NotMeasured(
                "detector", "detector", "the bundle carries no detector",
                "train one with `audiolm train detector` and give --detector DIR, or add it to the bundle",
            )
        ]  # fmt: skip
    if "continuation" not in material.kinds:
        reason = "the bundle lacks stages, so nothing is generated"
        return [NotMeasured("detector", "detector", reason, "give a bundle of a whole system")]
    network = (
        TrainedClassifier.load(settings.detector) if settings.detector
        else TrainedClassifier.from_bundle(material.bundle, "detector")
    )  # fmt: skip

    def measure() -> Measurement:
        from audiolm_jax.evaluation.voice import detector

        real, generated = (_unheard(material.samples[kind]) for kind in ("reconstruction", "continuation"))
        measured = detector.measure(network, real.recordings, generated.recordings, settings.seed)
        return with_notes(measured, (*real.notes, *material.claim.notes))

    inputs = {**_sample_inputs(material), "detector": _network_inputs(network)}
    what = f"continuations and reconstructions of {counted(material.prompts.recordings)}"
    seconds = 10 + 0.5 * len(material.prompts.recordings) * (1 + settings.extent.num_samples)
    return [Step("detector", "detector", what, inputs, seconds, measure, needs=("samples",))]


def fad_steps(material: Material) -> list[Entry]:
    """Distances of every kind of samples from the originals, in every embedding that there is."""
    bundle, prompts = material.bundle, material.prompts.recordings
    if not prompts:
        return [NotMeasured("fad", "fad", "there are no samples to compare with the originals")]
    inputs = _sample_inputs(material)
    if "speaker" in bundle.classifiers:
        network = TrainedClassifier.from_bundle(bundle, "speaker")
        inputs["speaker"] = _network_inputs(network)
    kinds = [kind for kind in material.kinds if kind != ORIGINAL]
    what = f"{', '.join(kinds)} against {counted(prompts)}"
    seconds = 5 + 0.2 * len(prompts) * (3 + 2 * material.settings.extent.num_samples)
    return [
        Step(
            f"fad_{embedding}", "fad", what, inputs, seconds,
            functools.partial(_measure_fad, material, embedding, kinds), needs=("samples",),
        )
        for embedding in ("log_mel", "semantic", *(["speaker"] if "speaker" in bundle.classifiers else []))
    ]  # fmt: skip


def _measure_fad(material: Material, embedding: str, kinds: Sequence[str]) -> Measurement:
    """All kinds in one measurement: fad_KIND, and fad_infinity_KIND where it is defined."""
    from audiolm_jax.evaluation.sound import frechet
    from audiolm_jax.evaluation.sound.embeddings import embed_recordings

    embedded = {
        kind: embed_recordings(material.samples[kind], embedding, material.bundle) for kind in (ORIGINAL, *kinds)
    }
    found = {kind: frechet.measure(embedded[ORIGINAL], embedded[kind], material.settings.seed) for kind in kinds}
    figures = {f"{name}_{kind}": value for kind, m in found.items() for name, value in m.figures.items()}
    kinds_of: dict[str, list[str]] = {}
    for kind, m in found.items():
        for note in m.notes:
            kinds_of.setdefault(note, []).append(kind)
    return Measurement(
        metric="fad",
        figures={name: value for name, value in figures.items() if value is not None},
        intervals={f"{name}_{kind}": pair for kind, m in found.items() for name, pair in m.intervals.items()},
        counts={f"{name}_{kind}": count for kind, m in found.items() for name, count in m.counts.items()},
        settings={"reference": "the prompts, whole", **found[kinds[0]].settings},
        versions=versions(),
        notes=tuple(f"{', '.join(kinds)}: {note}" for note, kinds in kinds_of.items()),
        details={"growth": {kind: m.details["growth"] for kind, m in found.items()}},
    )


def ladder_steps(material: Material) -> list[Entry]:
    """Every rung by every distance."""
    settings, prompts = material.settings, material.prompts.recordings
    if not prompts:
        return [NotMeasured("ladder", "ladder", "there are no samples to compare with the originals")]
    with_classifier = not why_no_classifier(material)
    trains = with_classifier and settings.classifier is None

    def measure() -> Measurement:
        from audiolm_jax.evaluation.generated import ladder

        classifier, notes = None, _seen_notes(material)
        try:
            classifier = _speaker_classifier(material) if with_classifier else None
        except (UserError, ModuleNotFoundError) as error:
            notes += (f"speaker accuracy is left out: {error}",)
        measured = ladder.measure(
            material.samples,
            bundle=material.bundle,
            asr=settings.asr,
            classifier=classifier,
            cache=settings.output / "transcripts",
            seed=settings.seed,
        )
        return with_notes(measured, notes)

    inputs = {
        **_sample_inputs(material),
        **recogniser_inputs(settings.asr),
        "classifier": _classifier_inputs(material) if with_classifier else None,
        "installed": versions("jiwer", "visqol-python"),
    }
    uses = ("speaker_classifier",) if trains else ()
    seconds = 20 + 2.0 * len(prompts)
    what = f"{counted(prompts)} on every rung"
    return [Step("ladder", "ladder", what, inputs, seconds, measure, ("samples",), uses)]


def _sample_inputs(material: Material) -> dict[str, Any]:
    """What every figure on samples depends on."""
    return {
        "system": material.system,
        "samples": material.samples_folder.name,
        "recordings": recording_inputs(material.prompts.recordings),
        "seed": material.settings.seed,
        "heldout": material.claim.state,
    }


def _network_inputs(network: TrainedClassifier) -> str:
    """What of a classifier goes into a key."""
    return fingerprint(network.config, network.variables)


def _unheard(recordings: Sequence[Recording]) -> Chosen:
    """Those of held-out speakers; all where there are none, with a note."""
    heldout = tuple(recording for recording in recordings if recording.heldout)
    if heldout:
        return Chosen(heldout)
    return Chosen(tuple(recordings), ("nothing is held out: the detector may have heard these speakers too",))


def _seen_notes(material: Material) -> tuple[str, ...]:
    recordings = material.prompts.recordings
    seen = sum(not recording.heldout for recording in recordings)
    notes = (f"{seen} of {len(recordings)} recordings are not held out",) if seen else ()
    return (*notes, *material.claim.notes)


def missing_package(name: str, packages: Sequence[str]) -> NotMeasured | None:
    """That a measurement lacks a package, and how to install it; None where all are there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            remedy = how_to_install(ModuleNotFoundError(name=package)) or ""
            return NotMeasured(name, name, f"the package {package} is not installed", remedy)
    return None
