"""Every distance between recordings and their references, which pair by name: ViSQOL, SI-SDR, mel, PESQ and STOI."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from audiolm_jax.audio import Waveform, audio_files, read_audio, resample
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.interval import by_unit, interval_settings, ratio_interval
from audiolm_jax.evaluation.measurement import Measurement, exact_mean, versions
from audiolm_jax.evaluation.named_files import by_key
from audiolm_jax.evaluation.sound import signal_quality
from audiolm_jax.evaluation.sound.visqol import (
    EXPONENTIAL,
    VISQOL_SAMPLE_RATE_HZ,
    check_mapping,
    visqol_settings,
    visqol_speech,
)

# A difference in length from which a pair is mentioned: ViSQOL's own tolerance.
_LENGTH_TOLERANCE_SECONDS = 1.0
# Names of the distances that are None where they are not defined, as the notes say them.
_UNDEFINED_NAMES = {"pesq_wb": "PESQ (wide-band)", "pesq_nb": "PESQ (narrow-band)", "stoi": "STOI", "estoi": "ESTOI"}


class RecordingPair(NamedTuple):
    """`key`: path below the folder without suffix. `unit`: what is resampled, the first folder below the root."""

    key: str
    unit: str
    reference: Path
    degraded: Path


class Pairing(NamedTuple):
    """Pairs in the order of their keys, and files of the degraded folder that have no reference."""

    pairs: list[RecordingPair]
    without_reference: list[Path]


def compare(reference: Waveform, degraded: Waveform, mapping: str | None = EXPONENTIAL) -> dict[str, float | None]:
    """Every distance of two recordings of the same thing.

    ViSQOL is given both as they are; the others compare what both have, without aligning: the longer one is cut to the
    shorter. The degraded recording is resampled to the reference's rate.

    Args:
        reference, degraded: the recordings.
        mapping: of ViSQOL, see `visqol`; None leaves ViSQOL out.

    Returns:
        {"si_sdr_db", "log_mel_distance"}, with ViSQOL "moslqo" and "visqol_similarity", and where the packages are
        installed "pesq_wb", "pesq_nb", "stoi" and "estoi", each of which may be None: see `signal_quality`.

    Raises:
        UserError: they are too short or too long to compare, or the reference is silent.
    """
    rate_hz = reference.sample_rate_hz
    degraded = resample(degraded, rate_hz)
    length = min(len(reference.samples), len(degraded.samples))
    a, b = reference.samples[:length], degraded.samples[:length]
    figures: dict[str, float | None] = {}
    try:
        if mapping is not None:
            score = visqol_speech(reference.samples, degraded.samples, rate_hz, mapping)
            figures |= {"moslqo": score.moslqo, "visqol_similarity": score.similarity}
        figures["si_sdr_db"] = signal_quality.si_sdr_db(a, b)
        figures["log_mel_distance"] = signal_quality.log_mel_distance(a, b, rate_hz)
    except ValueError as error:
        raise UserError(f"cannot compare the recordings: {error}") from error
    if signal_quality.pesq_is_installed():
        figures |= {f"pesq_{band}": signal_quality.pesq_mos(a, b, rate_hz, band) for band in ("wb", "nb")}
    if signal_quality.stoi_is_installed():
        figures |= {
            "stoi": signal_quality.stoi(a, b, rate_hz),
            "estoi": signal_quality.stoi(a, b, rate_hz, extended=True),
        }
    return figures


def compare_settings(mapping: str | None) -> dict[str, str]:
    """What to write beside the figures of `compare`."""
    settings = visqol_settings(mapping) if mapping is not None else {}
    settings["si_sdr"] = "means removed, not aligned, capped at 100 dB"
    settings["log_mel"] = "80 mels, window 64 ms, hop 16 ms, floor 1e-5, natural logarithm, mean |difference|"
    if signal_quality.pesq_is_installed():
        settings["pesq"] = "wide-band P.862.2 at 16 kHz, narrow-band P.862.1 at 8 kHz, up to 20 s"
    if signal_quality.stoi_is_installed():
        settings["stoi"] = "STOI and ESTOI at 10 kHz"
    return settings


def compare_versions() -> dict[str, str]:
    """Packages that computed the figures of `compare`."""
    return versions("visqol-python", "ai-edge-litert", "pesq", "pystoi", "soxr")


def mean_figures(
    rows: Mapping[str, Mapping[str, float | None]], unit_of: Mapping[str, str], seed: int = 0
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Means of each figure over the rows that have it, and their intervals by resampled units.

    Args:
        rows: figures by key, all with the same names.
        unit_of: unit of each key.
        seed: of the intervals.

    Returns:
        ({name: mean, or None where no row has a value}, {name: (low, high)} where there are two units or more).
    """
    figures: dict[str, float | None] = {}
    intervals = {}
    for name in next(iter(rows.values()), {}):
        values = {key: row[name] for key, row in rows.items() if row[name] is not None}
        figures[name] = exact_mean(values.values()) if values else None
        sums = by_unit({key: (value, 1.0) for key, value in values.items()}, unit_of)
        if (interval := ratio_interval(sums, seed)) is not None:
            intervals[name] = interval
    return figures, intervals


def undefined_notes(rows: Sequence[Mapping[str, float | None]]) -> list[str]:
    """How many rows lack a distance that is installed, and which packages are not."""
    notes = []
    for name, words in _UNDEFINED_NAMES.items():
        if missing := sum(name in row and row[name] is None for row in rows):
            notes.append(f"{words} is not defined for {missing} of {len(rows)} recordings: too short, long or silent")
    for installed, words in (
        (signal_quality.pesq_is_installed(), "PESQ"),
        (signal_quality.stoi_is_installed(), "STOI"),
    ):
        if not installed:
            notes.append(f"{words} is left out, its package is not installed: pip install 'audiolm_jax[quality]'")
    return notes


def paired_files(reference: str | Path, degraded: str | Path) -> Pairing:
    """Two files as one pair, or two folders whose audio files pair by their path below the folder, without suffix.

    Raises:
        UserError: a reference has no partner, a file is given with a folder, a folder holds no audio, or two of its
            files differ in their suffix only.
    """
    reference, degraded = Path(reference), Path(degraded)
    for path in (reference, degraded):
        if not path.exists():
            raise UserError(f"{path} does not exist; name a recording or a folder of them")
    if reference.is_dir() != degraded.is_dir():
        raise UserError("give two files or two folders, not one of each")
    if not reference.is_dir():
        return Pairing([RecordingPair(reference.stem, reference.stem, reference, degraded)], [])
    references, partners = (by_key(folder, audio_files(folder)) for folder in (reference, degraded))
    if not references:
        raise UserError(f"{reference} holds no audio files")
    if lonely := [path for key, path in references.items() if key not in partners]:
        more = f", nor have {len(lonely) - 1} others" if len(lonely) > 1 else ""
        raise UserError(f"{lonely[0]} has no partner in {degraded}{more}; the two folders must hold the same names")
    pairs = [RecordingPair(key, key.split("/")[0], path, partners[key]) for key, path in references.items()]
    return Pairing(pairs, [path for key, path in partners.items() if key not in references])


def measure(reference: str | Path, degraded: str | Path, mapping: str = EXPONENTIAL, seed: int = 0) -> Measurement:
    """Means of `compare` over a pair of files or two folders of pairs.

    Intervals resample the first folders below the root (speakers), or the files where there are none.

    Args:
        reference, degraded: files or folders, see `paired_files`.
        mapping: of ViSQOL.
        seed: of the intervals.

    Returns:
        Figures moslqo, mapping and those of `compare`; details.pairs holds the figures of each pair.

    Raises:
        UserError: see `paired_files` and `check_mapping`; a file cannot be read; or no pair can be compared.
        ModuleNotFoundError: visqol-python is not installed.
    """
    check_mapping(mapping)
    pairing = paired_files(reference, degraded)
    rows: dict[str, dict[str, float | None]] = {}
    left_out: list[str] = []
    formats = []
    pairs = pairing.pairs
    for pair in tqdm(pairs, desc="comparing", disable=len(pairs) < 2 or not sys.stderr.isatty()):
        a, b = read_audio(pair.reference), read_audio(pair.degraded)
        try:
            rows[pair.key] = compare(a, b, mapping)
        except UserError as error:
            left_out.append(f"{pair.degraded}: {error}")
            continue
        formats.append((a.sample_rate_hz, b.sample_rate_hz, a.seconds, b.seconds))
    if not rows:
        raise UserError(left_out[0])
    figures, intervals = mean_figures(rows, {pair.key: pair.unit for pair in pairs}, seed)
    notes = _format_notes(formats, pairing.without_reference) + undefined_notes(list(rows.values()))
    return Measurement(
        metric="visqol",
        figures={"moslqo": figures.pop("moslqo"), "mapping": mapping, **figures},
        intervals=intervals,
        counts={"pairs": len(rows), "left_out": len(left_out)},
        settings={
            "reference": str(reference), "degraded": str(degraded), **compare_settings(mapping),
            "resampled": "first folder below the root, or file", **interval_settings(seed),
        },  # fmt: skip
        versions=compare_versions(),
        notes=(*notes, *(f"left out: {why}" for why in left_out)),
        details={"pairs": rows},
    )


def _format_notes(formats: Sequence[tuple[int, int, float, float]], without_reference: Sequence[Path]) -> list[str]:
    """What a reader must know of rates (Hz), lengths (s) and files that were not used."""
    notes = []
    total = len(formats)
    if count := sum(a != b for a, b, _, _ in formats):
        notes.append(f"{count} of {total} degraded files were resampled to the rate of their reference")
    if count := sum(a != VISQOL_SAMPLE_RATE_HZ for a, _, _, _ in formats):
        notes.append(f"{count} of {total} pairs were resampled to {VISQOL_SAMPLE_RATE_HZ} Hz for ViSQOL")
    if count := sum(abs(a - b) > _LENGTH_TOLERANCE_SECONDS for _, _, a, b in formats):
        notes.append(
            f"{count} of {total} pairs differ in length by more than {_LENGTH_TOLERANCE_SECONDS:g} s: ViSQOL aligns "
            "them, the other distances compare the common beginning"
        )
    if without_reference:
        notes.append(f"{len(without_reference)} degraded files have no reference and were not used, the first is "
                     f"{without_reference[0]}")  # fmt: skip
    return notes
