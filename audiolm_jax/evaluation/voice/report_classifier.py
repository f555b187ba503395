"""The classifier of speakers that a report listens with: the one that is given, or one that it trains on its data."""

import collections
import contextlib
import sys
from pathlib import Path

from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Step, recording_inputs, short_hash
from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
from audiolm_jax.fingerprint import fingerprint

STEP = "speaker_classifier"


def why_no_classifier(material: Material) -> str:
    """Why there is no classifier of speakers, in one sentence; "" where one is given or can be trained.

    Where most recordings lie in no speaker's folder, its classes would be single recordings.
    """
    if material.settings.classifier is not None:
        return ""
    if material.settings.data.corpus != "folder":
        return "a classifier of speakers is trained on plain folders only"
    named = [recording for recording in material.recordings if recording.has_speaker]
    if 2 * len(named) < len(material.recordings) or not named:
        return "the recordings lie in no speakers' folders, so nobody knows who speaks"
    if len({recording.speaker for recording in named}) < 2:
        return "the data has one speaker, so there is nothing to tell apart"
    return ""


def speaker_classifier(material: Material) -> TrainedClassifier:
    """The classifier; one that is not given is trained on all recordings, or its training goes on.

    Raises:
        UserError: the data cannot train one.
        KeyboardInterrupt: the training was stopped by a signal.
    """
    settings, folder = material.settings, _folder(material)
    if settings.classifier is None:
        from audiolm_jax.training.experiment import train

        macros = (*settings.extent.classifier_macros, f"SEED={settings.seed}")
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for figures
            train("speaker_classifier", folder, macros, settings.data.folders)  # does nothing where it is done
        if not (folder / "done").exists():
            raise KeyboardInterrupt
    return TrainedClassifier.load(folder)


def _folder(material: Material) -> Path:
    """Its work directory: the one that is given, or one for this data and these settings."""
    settings = material.settings
    if settings.classifier is not None:
        return settings.classifier
    depends_on = {
        "recordings": recording_inputs(material.recordings),
        "macros": settings.extent.classifier_macros,
        "seed": settings.seed,
    }
    return settings.output / STEP / short_hash(depends_on)


def network_inputs(network: TrainedClassifier) -> str:
    """What of a classifier's network goes into a key."""
    return fingerprint(network.config, network.variables)


def classifier_inputs(material: Material) -> str | None:
    """What of the speaker classifier goes into a key; None where there is none."""
    if why_no_classifier(material):
        return None
    given = material.settings.classifier
    return _folder(material).name if given is None else network_inputs(TrainedClassifier.load(given))


def classifier_step(material: Material) -> Step:
    """Its training."""
    settings, folder = material.settings, _folder(material)
    recordings_of = collections.Counter(recording.speaker for recording in material.recordings)
    num_speakers, single = len(recordings_of), sum(count == 1 for count in recordings_of.values())
    alone = f", {single} of them with a single recording" if single else ""

    def run() -> Measurement:
        classifier = speaker_classifier(material)
        return Measurement(
            metric="speaker",
            figures={"steps": classifier.steps},
            counts={"speakers": num_speakers, "held_out_recordings": len(classifier.heldout_keys)},
            settings={
                "macros": list(settings.extent.classifier_macros), "folder": str(folder.relative_to(settings.output))
            },
            versions=versions(),
            notes=(f"trained on the single recording of {single} of {num_speakers} speakers",) if single else (),
        )  # fmt: skip

    what = f"trained on {num_speakers} speakers{alone}"
    return Step(STEP, "speaker", what, {"folder": folder.name}, settings.extent.classifier_seconds, run)
