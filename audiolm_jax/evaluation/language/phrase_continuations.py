"""Continuations of phrases of a closed language, beside what was really said: what `closed_language` measures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from audiolm_jax.bundle import Bundle
from audiolm_jax.evaluation.generated import samples
from audiolm_jax.evaluation.generated.samples import SampleSettings, usable
from audiolm_jax.evaluation.generated.true_continuations import cut_prompts
from audiolm_jax.evaluation.heldout import REFUSED, heldout_claim
from audiolm_jax.evaluation.language.closed_language import CONTINUATION, RECONSTRUCTION, TRUE, UNRELATED, measure
from audiolm_jax.evaluation.language.vocabulary import Vocabulary
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import (
    Entry,
    Lacking,
    Metric,
    Step,
    counted,
    recording_inputs,
    short_hash,
)
from audiolm_jax.evaluation.voice.report_classifier import network_inputs
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

# Of a prompt, of what is new, and of the longest recording; a closed language needs more of a beginning than others.
PROMPT_SECONDS, SECONDS, MAX_SECONDS = 5.0, 4.0, 30.0


def make_continuations(
    bundle: Bundle,
    prompts: Sequence[Recording],
    output: Path,
    settings: SampleSettings,
    kinds: Sequence[str] = (RECONSTRUCTION, CONTINUATION),
    unrelated: Sequence[Recording] = (),
) -> tuple[dict[str, list[Recording]], tuple[str, ...]]:
    """New parts without their prompts, by kind, for `closed_language.measure`; what is there is not drawn again.

    Args:
        bundle: the system.
        prompts: recordings that are longer than a prompt.
        output: folder of all files.
        settings: of prompts and continuations.
        kinds: what the system makes; what was really said is there in any case.
        unrelated: speech of another kind, cut likewise.

    Returns:
        (recordings by kind, notes on what was left out).

    Raises:
        UserError: as `samples.make_samples` and `cut_prompts`.
    """
    lengths = (settings.prompt_seconds, settings.seconds)
    made = samples.make_samples(bundle, prompts, output, settings, kinds) if kinds else samples.Samples({}, {})
    by_kind = {TRUE: cut_prompts(prompts, output / TRUE, *lengths)}
    if RECONSTRUCTION in made:
        by_kind[RECONSTRUCTION] = cut_prompts(made[RECONSTRUCTION], output / "reconstruction_after_prompt", *lengths)
    if CONTINUATION in made:
        by_kind[CONTINUATION] = made[CONTINUATION]
    if unrelated:
        by_kind[UNRELATED] = cut_prompts(unrelated, output / UNRELATED, *lengths)
    return by_kind, made.notes


def voice_network(bundle: Bundle, classifier: str | Path | None) -> TrainedClassifier | None:
    """The network that tells voices apart: that of a work directory, else the bundle's; None where there is none."""
    if classifier is not None:
        return TrainedClassifier.load(classifier)
    return TrainedClassifier.from_bundle(bundle, "speaker") if "speaker" in bundle.classifiers else None


def _report_steps(material: Material) -> list[Entry]:
    """On held-out prompts of a folder of phrases."""
    settings, extent, bundle = material.settings, material.settings.extent, material.bundle
    if settings.phrases is None:
        reason = "no folder of phrases of a closed language is given"
        raise Lacking(reason, "give --phrases DIR, one folder for each voice, with transcripts.tsv or --vocabulary")
    data = settings.phrases_data
    claim = heldout_claim(bundle, data)
    if claim.state == REFUSED:
        raise Lacking(claim.reason)
    vocabulary = Vocabulary.read(settings.vocabulary or settings.phrases / "transcripts.tsv")
    material.require_recogniser()
    heldout = shared_out([recording for recording in data.recordings() if recording.heldout], None)
    prompts = usable(heldout, PROMPT_SECONDS + SECONDS, MAX_SECONDS)[: extent.prompts]
    if not prompts:
        lengths = f"{PROMPT_SECONDS + SECONDS:g} to {MAX_SECONDS:g} s"
        raise Lacking(f"none of {len(heldout)} held-out recordings of {settings.phrases} is {lengths} long")
    kinds = tuple(kind for kind in (RECONSTRUCTION, CONTINUATION) if kind in material.kinds)
    drawn = SampleSettings(extent.num_samples, PROMPT_SECONDS, SECONDS, settings.seed)
    made_by = {"system": material.system, **dataclasses.asdict(drawn)}
    network = voice_network(bundle, settings.classifier)

    def run() -> Measurement:
        output = settings.output / "phrases" / short_hash(made_by)
        by_kind, notes = make_continuations(bundle, prompts, output, drawn, kinds)
        measured = measure(by_kind, vocabulary, settings.asr, material.transcripts_folder, settings.seed, network)
        told = {"bundle": bundle.name, **dataclasses.asdict(drawn), **data.to_json(), "heldout": claim.state}
        return dataclasses.replace(
            measured, settings={**told, **measured.settings}, notes=(*notes, *measured.notes, *claim.notes)
        )

    inputs = {**made_by, "kinds": list(kinds), "vocabulary": vocabulary.digest, "heldout": claim.state}
    inputs |= {"recordings": recording_inputs(prompts), **material.recogniser_inputs}
    inputs["network"] = None if network is None else network_inputs(network)
    what = f"{counted(prompts)} of phrases, {material.recogniser_name}"
    return [Step("words", "words", what, inputs, 20 + len(prompts) * (6 + 12.0 * extent.num_samples), run)]


METRIC = Metric(
    "words", "Words and voice of continuations",
    "Phrases of a closed language are continued: how many of the words that a recogniser hears belong to the language, "
    "and whether the voice is the prompt's. What was really said shows what the recogniser makes of the best answer.",
    _report_steps, own_input="phrases",
)  # fmt: skip
