"""The steps of a report: for every metric what it is measured on, what its figures depend on, and what is missing.

Nothing is measured here; a step's `measure` calls the metric's own function.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from audiolm_jax.evaluation.heldout import REFUSED
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import shared_out
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import (
    Entry,
    NotMeasured,
    Step,
    counted,
    file_inputs,
    recogniser_inputs,
    recogniser_name,
    recording_inputs,
    with_notes,
)
from audiolm_jax.evaluation.report.report_sample_steps import (
    detector_steps,
    fad_steps,
    ladder_steps,
    missing_package,
    sample_steps,
    speaker_steps,
    wer_steps,
)
from audiolm_jax.evaluation.words.asr import packages_of


def plan(material: Material) -> list[Entry]:
    """Everything that is asked for, in the order of METRICS; what others need comes before them in any case."""
    settings = material.settings
    entries = [
        entry
        for metric_steps in (
            perplexity_steps,
            codec_steps,
            abx_steps,
            spot_steps,
            sample_steps,
            codec_words_steps,
            wer_steps,
            speaker_steps,
            detector_steps,
            fad_steps,
            ladder_steps,
        )
        for entry in metric_steps(material)
    ]
    wanted = {entry.name for entry in entries if settings.wants(entry.metric)}
    for entry in reversed(entries):
        if entry.name in wanted and isinstance(entry, Step):
            wanted |= {*entry.needs, *entry.uses}
    return [entry for entry in entries if entry.name in wanted]


def perplexity_steps(material: Material) -> list[Entry]:
    """Nats per token of the stages."""
    if material.claim.state == REFUSED:
        return [NotMeasured("perplexity", "perplexity", material.claim.reason)]
    settings, chosen = material.settings, material.token_recordings

    def measure() -> Measurement:
        from audiolm_jax.evaluation.language import perplexity

        tokenized = material.tokenized
        measured = perplexity.measure(material.bundle, tokenized.records, settings.train_tokens, seed=settings.seed)
        num_samples = sum(record.num_samples for record in tokenized.records)
        seconds = round(num_samples / material.bundle.codec.sample_rate_hz, 2)
        measured = dataclasses.replace(measured, counts={**measured.counts, "seconds": seconds})
        return with_notes(_with_split(material, measured), (*chosen.notes, *tokenized.notes))

    inputs = {
        "system": material.system, "seed": settings.seed, "train_tokens": list(settings.train_tokens),
        "recordings": recording_inputs(chosen.recordings), "heldout": material.claim.state,
    }  # fmt: skip
    what = f"tokens of {counted(chosen.recordings)}"
    return [Step("perplexity", "perplexity", what, inputs, 25 + 3.0 * len(chosen.recordings), measure)]


def _with_split(material: Material, measurement: Measurement) -> Measurement:
    """A measurement on held-out recordings with the split that holds them out, and what may be said of it."""
    split = {**material.settings.data.to_json(), "heldout": material.claim.state}
    return dataclasses.replace(measurement, settings={**measurement.settings, **split})


def codec_steps(material: Material) -> list[Entry]:
    """Distances of the codec's output."""
    if material.claim.state == REFUSED:
        return [NotMeasured("codec", "codec", material.claim.reason)]
    settings, chosen = material.settings, material.token_recordings
    clips = settings.extent.codec_clips

    def measure() -> Measurement:
        from audiolm_jax.evaluation.sound import codec_fidelity

        measured = codec_fidelity.measure(material.bundle, chosen.recordings, clips, settings.seed)
        return with_notes(_with_split(material, measured), chosen.notes)

    inputs = {
        "codec": material.system["codec"], "seed": settings.seed, "clips": clips,
        "recordings": recording_inputs(chosen.recordings), "heldout": material.claim.state,
        "installed": versions("visqol-python", "pesq", "pystoi"),
    }  # fmt: skip
    what = f"{counted(chosen.recordings)}, at most {clips} of them compared"
    seconds = 15 + 2.0 * min(clips, len(chosen.recordings)) + 0.4 * len(chosen.recordings)
    return [Step("codec", "codec", what, inputs, seconds, measure)]


def abx_steps(material: Material) -> list[Entry]:
    """ABX of semantic tokens, semantic features and the codec at its bit rates."""
    settings, extent = material.settings, material.settings.extent
    if settings.item is None:
        return [NotMeasured("abx", "abx", "no item file is given", "give --item FILE, phones and times in --data")]
    from audiolm_jax.evaluation.sound.codec_fidelity import levels_by_name

    features = {"abx_centroids": ("centroids", None), "abx_semantic": ("semantic", None)} | {
        f"abx_codec_{rate}": ("codec", levels) for rate, levels in levels_by_name(material.bundle).items()
    }
    rows = sum(1 for _ in settings.item.open("rb"))

    def measure(representation: str, levels: int | None) -> Callable[[], Measurement]:
        def run() -> Measurement:
            from audiolm_jax.evaluation.abx import abx
            from audiolm_jax.evaluation.abx.frame_features import bundle_features

            found = bundle_features(
                material.bundle, settings.folders[0], representation, num_quantizers=levels
            )
            caps = abx.AbxSettings(extent.abx_group_size, extent.abx_x_across, settings.seed)
            return abx.measure(settings.item, found, Fraction(found.feature_seconds), caps)

        return run

    return [
        Step(
            name, "abx", f"{rows - 1} phones, {name.removeprefix('abx_').replace('_', ' ')}",
            {
                "system": material.system, "seed": settings.seed, "item": file_inputs(settings.item),
                "caps": [extent.abx_group_size, extent.abx_x_across], "representation": [representation, levels],
                "recordings": recording_inputs(material.recordings),
            },
            10 + 0.003 * rows, measure(representation, levels),
        )
        for name, (representation, levels) in features.items()
    ]  # fmt: skip


def spot_steps(material: Material) -> list[Entry]:
    """sWUGGY and sBLIMP."""
    return [
        _spot_step(material, "swuggy", material.settings.swuggy, "lexical/dev"),
        _spot_step(material, "sblimp", material.settings.sblimp, "syntactic/dev"),
    ]


def _spot_step(material: Material, task: str, folder: Path | None, name: str) -> Entry:
    settings, pairs = material.settings, material.settings.extent.zerospeech_pairs
    if folder is None:
        return NotMeasured(
            task, task, "no folder of ZeroSpeech 2021 is given", f"give --{task} DIR, its {name} with gold.csv"
        )
    if "semantic" not in material.bundle.stages:
        return NotMeasured(task, task, "the bundle has no semantic stage", "give a bundle of a whole system")

    def measure() -> Measurement:
        from audiolm_jax.evaluation.language import spot_the_word
        from audiolm_jax.evaluation.language.gold import read_gold
        from audiolm_jax.evaluation.language.likelihood import score_folder

        gold = read_gold(folder / "gold.csv", task, pairs)
        output = settings.output / "scores" / f"{task}-{material.system['semantic stage']}.txt"
        scores = score_folder(material.bundle, folder, gold.stems, output)
        return spot_the_word.measure(task, gold, scores, seed=settings.seed)

    inputs = {
        "system": material.system, "seed": settings.seed, "gold": file_inputs(folder / "gold.csv"), "pairs": pairs
    }  # fmt: skip
    what = "all pairs" if pairs is None else f"{pairs} pairs at most"
    return Step(task, task, what, inputs, 60.0 if pairs else 3600.0, measure)


def codec_words_steps(material: Material) -> list[Entry]:
    """What is understood of the codec, on the prompts, in which words are counted later too."""
    settings, clips = material.settings, material.settings.extent.codec_clips
    chosen = shared_out([recording for recording in material.prompts.recordings if recording.text], clips)
    if not chosen:
        return [
            NotMeasured(
                "codec_words", "codec_words", "no recording of the protocol's length has a transcript",
                "put transcripts.tsv, LibriSpeech's .trans.txt or NAME.txt beside the recordings",
            )
        ]  # fmt: skip
    if gap := missing_package("codec_words", ["jiwer", *packages_of(settings.asr)]):
        return [gap]
    from audiolm_jax.evaluation.sound.codec_fidelity import levels_by_name
    from audiolm_jax.evaluation.sound.codec_words import OPUS_BITRATES_BPS
    from audiolm_jax.evaluation.sound.opus import find_opus

    def measure() -> Measurement:
        from audiolm_jax.evaluation.sound import codec_words

        sounds, cache = settings.output / "codec_words", settings.output / "transcripts"
        measured = codec_words.measure(
            material.bundle, chosen, settings.asr, sounds, cache, clips, settings.seed
        )
        return with_notes(_with_split(material, measured), material.claim.notes)

    opus = find_opus()
    inputs = {
        "codec": material.system["codec"], "seed": settings.seed, "recordings": recording_inputs(chosen),
        "heldout": material.claim.state, **recogniser_inputs(settings.asr),
        "installed": versions("jiwer", "visqol-python"), "opus": None if opus is None else opus.version,
    }  # fmt: skip
    kinds = 1 + len(levels_by_name(material.bundle)) + (0 if opus is None else len(OPUS_BITRATES_BPS))
    what = f"{counted(chosen)} through the codec{' and Opus' if opus else ''}, {recogniser_name(settings.asr)}"
    return [Step("codec_words", "codec_words", what, inputs, 20 + 4.0 * kinds * len(chosen), measure)]
