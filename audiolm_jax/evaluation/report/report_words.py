"""How a report speaks: the words, units and order of figures, and the rows that stand beside the paper's values."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from audiolm_jax.evaluation.generated.paper_values import PAPER_VALUES, PaperValue
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_run import Report

KIND_WORDS = {
    "original": "originals",
    "reconstruction": "codec alone",
    "fine": "fine levels generated",
    "acoustic": "coarse and fine generated",
    "continuation": "continuation",
    "true": "what was really said",
}
# Title of a player, and what one hears.
KIND_NOTES = {
    "original": ("Original", "As recorded."),
    "reconstruction": ("Codec alone", "Encoded and decoded, nothing generated."),
    "fine": ("Fine levels generated", "The coarse levels are true."),
    "acoustic": ("Coarse and fine generated", "The semantic tokens are true."),
    "prompted": ("Prompt and continuation", "What follows the line is generated."),
}
_MEASUREMENT_WORDS = {
    "abx_centroids": "Semantic tokens (centroids)",
    "abx_semantic": "Semantic layer, not quantised",
    "speaker_classifier": "The classifier, trained here",
    "speaker": "What it hears",
    "fad_log_mel": "Log-mel statistics",
    "fad_semantic": "Semantic layer",
    "fad_speaker": "Speaker network",
}
_BASELINES = {
    "unigram": "their own frequencies, corrected for their number", "train_unigram": "training frequencies",
    "train_bigram": "training pairs",
}  # fmt: skip
CODEC_WORDS = {"codec": "codec", "opus": "Opus"}
# Pattern of a figure's name, its words and its unit, the first that fits; {kind} and so on are the groups in words.
_FIGURES = (
    (r"word_share_(?P<kind>\w+)", "words of the language, {kind}", "%"),
    (r"words_per_second_(?P<kind>\w+)", "words heard, {kind}", "words/s"),
    (r"similarity_own_voice_(?P<kind>\w+)", "similarity to the prompt's voice, {kind}", "0-1"),
    (r"similarity_other_voices_(?P<kind>\w+)", "similarity to other voices, {kind}", "0-1"),
    (r"similarity_margin_(?P<kind>\w+)", "similarity to the prompt's voice less that to others, {kind}", "0-1"),
    (r"own_voice_nearest_(?P<kind>\w+)", "the prompt's voice is the nearest, {kind}", "%"),
    (r"chance_own_voice", "the prompt's voice is the nearest, by chance", "%"),
    (r"within", "within speaker", "%"),
    (r"across", "across speaker", "%"),
    (r"all", "all pairs", "%"),
    (r"all_raw", "all pairs, likelihoods not divided by length", "%"),
    (r"(?P<side>in|out_of)_vocabulary", "words {side} vocabulary", "%"),
    (r"(?P<side>in|out_of)_vocabulary_raw", "words {side} vocabulary, likelihoods not divided by length", "%"),
    (r"wer_(?P<codec>codec|opus)_(?P<rate>[\d.]+)kbps", "word errors, {codec} at {rate} kbps", "%"),
    (r"cer_(?P<codec>codec|opus)_(?P<rate>[\d.]+)kbps", "character errors, {codec} at {rate} kbps", "%"),
    (r"visqol_(?P<codec>codec|opus)_(?P<rate>[\d.]+)kbps", "ViSQOL, {codec} at {rate} kbps", "MOS"),
    (r"wer_(?P<kind>\w+)", "word errors, {kind}", "%"),
    (r"cer_(?P<kind>\w+)", "character errors, {kind}", "%"),
    (r"balanced_accuracy", "balanced accuracy", "%"),
    (r"heldout_accuracy_(?P<kind>\w+)", "accuracy on what the classifier was not trained on, {kind}", "%"),
    (r"accuracy_(?P<kind>\w+)", "accuracy, {kind}", "%"),
    (r"chance", "chance", "%"),
    (r"(?P<stage>\w+)_accuracy", "{stage} stage, likeliest token is right", "%"),
    (r"similarity_halves", "similarity of the halves of a recording", "0-1"),
    (r"similarity_same_speaker", "similarity of recordings of one speaker", "0-1"),
    (r"similarity_different_speakers", "similarity of recordings of two speakers", "0-1"),
    (r"similarity_(?P<kind>\w+)", "similarity to the original, {kind}", "0-1"),
    (r"area_under_curve", "area under the ROC curve", "0-1"),
    (r"visqol_speech_(?P<rate>[\d.]+)kbps", "ViSQOL at {rate} kbps", "MOS"),
    (r"pesq_wb", "PESQ, wide band", "MOS"),
    (r"pesq_nb", "PESQ, narrow band", "MOS"),
    (r"stoi", "STOI", "0-1"),
    (r"estoi", "extended STOI", "0-1"),
    (r"si_sdr_db", "SI-SDR", "dB"),
    (r"log_mel_distance", "log-mel distance", "nats"),
    (r"(?P<stage>\w+?)_(?P<baseline>(train_)?\w+gram)_nats_per_token", "{stage} tokens, counting {baseline}", "nats"),
    (r"(?P<stage>\w+)_nats_per_token", "{stage} stage", "nats"),
    (r"(?P<stage>\w+?)_share_of_(?P<baseline>\w+)", "{stage} stage, share of counting {baseline}", "%"),
    (r"(?P<stage>\w+)_share_in_use", "{stage} codes in use", "%"),
    (r"(?P<stage>\w+)_mean_run_frames", "{stage} tokens, mean run", "frames"),
    (r"fad_infinity_(?P<kind>\w+)", "{kind}, extrapolated to infinite sets", "squared"),
    (r"fad_infinity", "extrapolated to infinite sets", "squared"),
    (r"fad_(?P<kind>\w+)", "{kind}", "squared"),
    (r"fad", "Fréchet audio distance", "squared"),
    (r"(?P<kind>original|reconstruction|fine|acoustic|continuation)", "{kind}", ""),
)

# Measures of the ladder: words, unit, and the better side.
_LADDER = {
    "wer": ("Word errors", "%", "lower"),
    "cer": ("Character errors", "%", "lower"),
    "accuracy": ("Speaker accuracy", "%", "higher"),
    "similarity": ("Speaker similarity to the original", "0-1", "higher"),
    "visqol": ("ViSQOL", "MOS", "higher"),
    "log_mel_distance": ("Log-mel distance", "nats", "lower"),
    "fad": ("Fréchet audio distance, log-mel", "squared", "lower"),
    "si_sdr_db": ("SI-SDR", "dB", ""),
    "level_dbfs": ("Level", "dBFS", ""),
    "silent_share": ("Silent frames", "%", ""),
    "flatness": ("Spectral flatness", "0-1", ""),
    "clipped_share": ("Clipped samples", "%", ""),
    "voiced_share": ("Voiced frames", "%", ""),
    "median_f0_hz": ("Median pitch", "Hz", ""),
}
_DIGITS = {"dBFS": 1, "Hz": 0, "%": 1, "MOS": 2, "dB": 2, "nats": 3, "0-1": 3, "frames": 2, "words/s": 2}
_SHOWN_UNITS = ("%", "dB", "dBFS", "Hz", "nats", "frames", "words/s")


@dataclasses.dataclass(frozen=True)
class FigureRow:
    """One figure as it is shown.

    Attributes:
        measurement, figure: where it is in report.json.
        words: what it is.
        unit: "%", "MOS", "dB", "dBFS", "Hz", "nats", "frames", "words/s", "0-1", "squared" (units of an embedding), ""
            (counts).
        value: in that unit; None where it is not defined.
        interval: 95 %, in that unit; None where there is none.
        paper: the paper's value, None where it has none.
    """

    measurement: str
    figure: str
    words: str
    unit: str
    value: float | None
    interval: tuple[float, float] | None
    paper: PaperValue | None = None

    @property
    def text(self) -> str:
        """The value with its unit."""
        return in_unit(self.value, self.unit)

    @property
    def interval_text(self) -> str:
        """The interval without the unit; "" for none."""
        return "" if self.interval is None else " to ".join(_rounded(bound, self.unit) for bound in self.interval)


def in_unit(value: float | None, unit: str) -> str:
    """A number that is in `unit` already, rounded for it and with its sign."""
    if value is None:
        return "not defined"
    return _rounded(value, unit) + (f" {unit}" if unit in _SHOWN_UNITS else "")


def _rounded(value: float, unit: str) -> str:
    return f"{value:.{_DIGITS[unit]}f}" if unit in _DIGITS else f"{value:.4g}"


def figure_rows(name: str, measurement: Measurement) -> list[FigureRow]:
    """The figures of a measurement that are single numbers, with the paper's values where it has them."""
    papers = {value.figure: value for value in PAPER_VALUES if value.measurement == name}
    rows = []
    for figure, value in measurement.figures.items():
        if isinstance(value, (bool, str, list, tuple, dict)):
            continue
        words, unit = figure_words(figure)
        scale = 100.0 if unit == "%" else 1.0
        interval = measurement.intervals.get(figure)
        rows.append(
            FigureRow(
                name, figure, words, unit, None if value is None else value * scale,
                None if interval is None else (interval[0] * scale, interval[1] * scale), papers.get(figure),
            )
        )  # fmt: skip
    return rows


@dataclasses.dataclass(frozen=True)
class LadderMeasure:
    """One measure on every rung that has it: words, unit, "lower", "higher" or "" for the better side, and the rows."""

    words: str
    unit: str
    better: str
    rows: tuple[FigureRow, ...]


def ladder_measures(measurement: Measurement) -> list[LadderMeasure]:
    """The figures KIND_MEASURE of a ladder by measure; a row's words are its rung."""
    found = []
    for name in measurement.details["measures"]:
        words, unit, better = _LADDER.get(name, (name.replace("_", " "), "", ""))
        scale = 100.0 if unit == "%" else 1.0
        rows = []
        for rung in measurement.details["rungs"]:
            figure = f"{rung['rung']}_{name}"
            value, interval = measurement.figures.get(figure), measurement.intervals.get(figure)
            if value is not None:
                bounds = None if interval is None else (interval[0] * scale, interval[1] * scale)
                rows.append(FigureRow("ladder", figure, KIND_WORDS[rung["rung"]], unit, value * scale, bounds))
        if rows:
            found.append(LadderMeasure(words, unit, better, tuple(rows)))
    return found


def measurement_words(name: str) -> str:
    """Heading of a measurement, where a metric has several."""
    if match := re.fullmatch(r"abx_codec_([\d.]+)kbps", name):
        return f"Codec at {match[1]} kbps"
    return _MEASUREMENT_WORDS.get(name, name.replace("_", " "))


def figure_words(figure: str) -> tuple[str, str]:
    """Words and unit of a figure by its name; the name with blanks, and no unit, for one that is not known."""
    for pattern, words, unit in _FIGURES:
        if match := re.fullmatch(pattern, figure):
            return words.format(**{name: _part_words(name, part) for name, part in match.groupdict().items()}), unit
    return figure.replace("_", " "), ""


def _part_words(name: str, part: str) -> str:
    words = {"kind": KIND_WORDS, "baseline": _BASELINES, "codec": CODEC_WORDS}.get(name, {})
    return words.get(part, part.replace("_", " "))


def paper_rows(report: Report) -> Iterator[tuple[PaperValue, FigureRow | None]]:
    """Every value of the paper in its order, with ours where it was measured."""
    measured = report.measurements.items()
    rows = {(row.measurement, row.figure): row for name, values in measured for row in figure_rows(name, values)}
    for value in PAPER_VALUES:
        yield value, rows.get((value.measurement, value.figure))


def plain(value: Any) -> str:
    """A setting or a count as text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {plain(inner)}" for name, inner in value.items())
    return str(value)
