"""A report whose figures were written by hand: every metric with a counterpart in the paper, and some gaps."""

import numpy as np

from audiolm_jax.audio import Waveform
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_page import ClipSet
from audiolm_jax.evaluation.report.report_plan import NotMeasured
from audiolm_jax.evaluation.report.report_run import Made, Report
from audiolm_jax.page.listening_page import Clip

VERSIONS = {"audiolm_jax": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6"}


def made(
    name: str, metric: str, figures: dict, intervals: dict | None = None, notes=(), details=None, lists=None
) -> Made:
    settings = {"interval": "bootstrap percentile, 95%", "resamples": 1000, "interval_seed": 0, "seed": 0}
    if metric == "codec_words":
        settings["asr"] = "whisper-base"
    counts = {"recordings": 12, "speakers": 7}
    measurement = Measurement(
        metric, figures | (lists or {}), intervals or {}, counts, settings, VERSIONS, notes, details or {}
    )
    return Made(name, "0123456789abcdef", "2024-01-02T03:04:05+00:00", 61.5, measurement)


def around(figures: dict, width: float = 0.05) -> dict:
    """Figures and intervals of one width around them."""
    return {"figures": figures, "intervals": {name: (value - width, value + width) for name, value in figures.items()}}


def by_kind(name: str, kinds: tuple[str, ...], first: float, step: float) -> dict:
    """{"NAME_KIND": first, first + step, ...}."""
    return {f"{name}_{kind}": round(first + number * step, 3) for number, kind in enumerate(kinds)}


def hand_made_report() -> Report:
    kinds = ("original", "reconstruction", "fine", "acoustic")
    errors = by_kind("wer", kinds, 0.31, 0.22) | by_kind("cer", kinds, 0.16, 0.2)
    voices = by_kind("accuracy", ("reconstruction", "acoustic", "continuation"), 0.9, -0.4)
    fidelity = {"visqol_speech_2kbps": 2.70, "visqol_speech_6kbps": 2.99, "si_sdr_db": 5.29, "log_mel_distance": 0.639}
    usage = [0.83, 0.84, 0.84, 0.83, 0.81, 0.82, 0.82, 0.79, 0.81, 0.8, 0.77, 0.78]
    clips = {f"s{n}/{n}": {"speaker": f"s{n}", "visqol_speech_6kbps": 2.9 + n / 50} for n in range(30)}
    heard = ("original", "codec_2kbps", "codec_6kbps", "opus_6kbps")
    words = by_kind("wer", heard, 0.07, 0.1) | by_kind("cer", heard, 0.03, 0.05)
    words |= {"visqol_codec_2kbps": 2.5, "visqol_codec_6kbps": 3.1, "visqol_opus_6kbps": 3.4}
    rates = (None, 2000.0, 6000.0, 5634.2)
    codecs = {"rows": [{"heard": kind, "bitrate_bps": rate} for kind, rate in zip(heard, rates, strict=True)]}
    nats = {"semantic_nats_per_token": 4.404, "semantic_unigram_nats_per_token": 6.541, "semantic_accuracy": 0.127}
    stages = {
        "semantic": {"heldout_nats_per_token": 4.404},
        "coarse": {"heldout_nats_by_level": [4.55, 4.63, 4.76, 4.77], "unigram_nats_by_level": [5.7, 5.9, 5.9, 5.7]},
        "fine": {name: [5.0] * 8 for name in ("heldout_nats_by_level", "unigram_nats_by_level")},
    }
    bands = [{"band": band, "pairs": 50, "all": 0.5 + 0.03 * n} for n, band in enumerate(("oov", "1-5", "6-20"))]
    rungs = {f"{kind}_wer": 0.2 + 0.3 * n for n, kind in enumerate(kinds)} | {"reconstruction_visqol": 3.0}
    rungs |= {f"{kind}_level_dbfs": -20.0 - n for n, kind in enumerate(kinds)}
    ladder = {"measures": {"wer": {}, "visqol": {}, "level_dbfs": {}}, "rungs": [{"rung": kind} for kind in kinds]}
    chances = {"real": {"a": 0.1, "b": 0.3}, "generated": {"a#0": 0.9, "b#0": 0.99}}
    notes = ("8 of 12 recordings are of speakers heard in training <b>", "2 files were resampled")
    return Report(
        bundle={"name": "tiny", "licence": "CC BY 4.0", "fingerprints": {"codec": "7588629b884d2d60"}},
        settings={
            "extent": {"name": "quick", "prompts": 12}, "folders": ["/data/speech"], "seed": 0, "heldout": "reproduced"
        },
        made=(
            made("perplexity", "perplexity", **around(nats), details={"stages": stages}),
            made("codec", "codec", **around(fidelity), details={"clips": clips}, lists={"code_usage": usage}),
            made("codec_words", "codec_words", **around(words, 0.02), details=codecs, notes=("6 are not held out",)),
            made("abx_centroids", "abx", **around({"within": 0.182, "across": 0.256})),
            made("abx_codec_6kbps", "abx", **around({"within": 0.281, "across": 0.334})),
            made("swuggy", "swuggy", **around({"all": 0.513, "in_vocabulary": 0.524}), details={"bands": bands}),
            made("wer", "wer", **around(errors, 0.08), notes=notes),
            made("speaker", "speaker", **around(voices)),
            made("detector", "detector", **around({"balanced_accuracy": 0.94}), details={"probabilities": chances}),
            made("ladder", "ladder", **around(rungs, 0.1), details=ladder, notes=("most is lost at the coarse stage",)),
            made("fad", "fad", {"fad": 12.3456, "fad_fine": None}, {"fad": (10.0, 15.0)}),
        ),
        not_measured=(
            NotMeasured("sblimp", "sblimp", "no folder of ZeroSpeech 2021 is given", "give --sblimp DIR"),
            NotMeasured("abx_codec_2kbps", "abx", "ValueError: broken", "the stack is in a.failed.txt", failed=True),
        ),
        when="2024-01-02T04:05:06+00:00",
        machine={"cpus": 2, "platform": "Linux", "python": "3.11.1", "jax": "0.10.2", "devices": ["cpu"]},
    )


def hand_made_clips() -> list[ClipSet]:
    rng = np.random.default_rng(0)

    def clip(title: str, seconds: float, prompt_seconds: float = 0.0) -> Clip:
        time = np.arange(round(seconds * 16_000)) / 16_000
        sound = 0.3 * np.sin(2 * np.pi * (200 + 90 * np.sin(4 * time)) * time) + 0.02 * rng.normal(size=len(time))
        return Clip(title, Waveform(sound.astype(np.float32), 16_000), prompt_seconds)

    kinds = ("original", "reconstruction", "fine", "acoustic")
    rungs = [(kind, clip(f"s1/a, {kind}", 1.0, 1.0)) for kind in kinds]
    return [ClipSet("s1/a", "Speaker s1, heard in training.", (*rungs, ("prompted", clip("s1/a, prompted", 1.0, 0.4))))]
