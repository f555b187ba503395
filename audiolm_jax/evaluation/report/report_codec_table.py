"""The table of a report that has codecs one below the other: their bit rates, how alike they sound, and the errors."""

import dataclasses
import re

from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_words import CODEC_WORDS, KIND_WORDS, FigureRow, figure_rows

# Measures of the columns behind the bit rate, their words, and the better side.
COLUMNS = (("visqol", "ViSQOL", "higher"), ("wer", "words wrong", "lower"), ("cer", "characters wrong", "lower"))


@dataclasses.dataclass(frozen=True)
class CodecRow:
    """One line: what is heard, its bit rate ("" of the originals), and a figure for each of COLUMNS, or None."""

    words: str
    kbps: str
    figures: tuple[FigureRow | None, ...]


def codec_rows(measurement: Measurement) -> list[CodecRow]:
    """The lines of a measurement `codec_words`, the originals first."""
    figures = {row.figure: row for row in figure_rows("codec_words", measurement)}
    return [
        CodecRow(
            _words(row["heard"]),
            "" if row["bitrate_bps"] is None else f"{row['bitrate_bps'] / 1000:.1f}",
            tuple(figures.get(f"{measure}_{row['heard']}") for measure, _, _ in COLUMNS),
        )
        for row in measurement.details["rows"]
    ]


def codec_columns(measurement: Measurement) -> list[tuple[str, str]]:
    """Words and better side of the columns behind the first; the last ones say who listens."""
    asr = measurement.settings["asr"]
    named = [(words if measure == "visqol" else f"{words} ({asr})", better) for measure, words, better in COLUMNS]
    return [("kbps", ""), *named]


def _words(kind: str) -> str:
    """ "originals", "codec at 6 kbps" or "Opus at 6 kbps"."""
    if match := re.fullmatch(r"(codec|opus)_([\d.]+)kbps", kind):
        return f"{CODEC_WORDS[match[1]]} at {match[2]} kbps"
    return KIND_WORDS[kind]
