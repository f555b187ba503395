"""How good a codec is: distances between waveforms, ViSQOL, and how its codes are used.

From the command line, for two files or for two folders whose files pair by name:

    python -m audiolm_jax.evaluation.codec_quality --reference A.wav --degraded B.wav --json -
"""

import argparse
import functools
import importlib.metadata
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audiolm_jax import spectral
from audiolm_jax.audio import Waveform, audio_files, read_audio, resample
from audiolm_jax.errors import UserError

VISQOL_SAMPLE_RATE_HZ = 16_000
# Which of ViSQOL's two mappings from similarity to quality is used; it belongs beside every figure.
VISQOL_MAPPING = "exponential"
# ViSQOL's first patch starts at frame 9 and is 20 frames of 20 ms long, and the search wants room around it.
_VISQOL_MIN_SECONDS = 1.0


class VisqolScore(NamedTuple):
    """`moslqo`: predicted mean opinion score, 1 to 5. `similarity`: mean NSIM that it is made of, at most 1."""

    moslqo: float
    similarity: float


def si_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), of float[T] each.

    Means are removed first. Capped at 100 dB, so that identity is a number; -100 dB for a silent estimate.

    Raises:
        ValueError: the lengths differ, or the reference is silent, for which the ratio is not defined.
    """
    reference, estimate = _pair(reference, estimate)
    reference, estimate = reference - reference.mean(), estimate - estimate.mean()
    energy = float(reference @ reference)
    if energy <= 0:
        raise ValueError("SI-SDR of a silent reference is not defined")
    target = (float(estimate @ reference) / energy) * reference
    signal, distortion = float(target @ target), float(np.sum((estimate - target) ** 2))
    if signal <= 1e-10 * max(distortion, 1e-20):
        return -100.0
    return float(min(10 * np.log10(signal / max(distortion, 1e-10 * signal)), 100.0))


def log_mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float:
    """Mean |difference| of natural-log mel magnitudes, in nats: 80 mels, window 64 ms, hop 16 ms, floor 1e-5.

    Args:
        reference, estimate: float[T] of the same length, at least one window.
        sample_rate_hz: of both.
    """
    reference, estimate = _pair(reference, estimate)
    window = round(0.064 * sample_rate_hz / 4) * 4
    if len(reference) < window:
        raise ValueError(f"the mel distance needs {window} samples, got {len(reference)}")
    pair = np.stack([reference, estimate]).astype(np.float32)
    log_mel = np.asarray(spectral.log_mel(pair, sample_rate_hz, window, window // 4, 80, floor=1e-5))
    return float(np.mean(np.abs(log_mel[0] - log_mel[1])))


def visqol_speech(reference: np.ndarray, degraded: np.ndarray, sample_rate_hz: int = 16_000) -> VisqolScore:
    """ViSQOL v3 in speech mode, by the package visqol-python, with the EXPONENTIAL mapping to a MOS.

    ViSQOL has two mappings for speech, which differ by some hundredths: the exponential fit used here, whose value for
    identical signals is 5, and a lattice network (C++ ViSQOL's default since version 3.2), for which the package needs
    another library and which it picks silently where that is installed. AudioLM does not say which one its table I
    shows. Signals are scored as they are, without added silence: padding with half a second at both ends raises low
    scores by up to 0.2.

    Args:
        reference, degraded: float[T] within -1..1 of nearly the same length; 5 to 15 s are advised.
        sample_rate_hz: of both; resampled to 16 kHz if it is another.

    Raises:
        ValueError: a signal is shorter than one second, or the reference holds no active speech.
        ModuleNotFoundError: visqol-python is not installed (extra `eval`).
    """
    signals = [
        resample(Waveform(np.asarray(samples, np.float32), sample_rate_hz), VISQOL_SAMPLE_RATE_HZ).samples
        for samples in (reference, degraded)
    ]
    if min(map(len, signals)) < _VISQOL_MIN_SECONDS * VISQOL_SAMPLE_RATE_HZ:
        raise ValueError(f"ViSQOL needs at least {_VISQOL_MIN_SECONDS:g} s of sound")
    if not np.any(signals[1]):
        return VisqolScore(1.0, 0.0)
    result = _visqol().measure_from_arrays(
        signals[0].astype(np.float64), signals[1].astype(np.float64), VISQOL_SAMPLE_RATE_HZ
    )
    return VisqolScore(float(result.moslqo), float(result.vnsim))


@functools.cache
def _visqol():
    from visqol.api import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    return api


def visqol_settings() -> dict[str, str]:
    """What to write beside a figure: mode, mapping and version of the package."""
    return {
        "visqol_mode": "speech, 16 kHz",
        "visqol_mapping": VISQOL_MAPPING,
        "visqol_package": f"visqol-python {importlib.metadata.version('visqol-python')}",
    }


def code_counts(tokens: np.ndarray, codebook_size: int) -> np.ndarray:
    """How often each code of each level occurs: tokens int[..., Q] -> int64[Q, N].

    Raises:
        ValueError: a token lies outside 0 .. N - 1.
    """
    tokens = np.asarray(tokens)
    rows = tokens.reshape(-1, tokens.shape[-1])
    if rows.size and (rows.min() < 0 or rows.max() >= codebook_size):
        raise ValueError(f"tokens must lie in 0..{codebook_size - 1}, got {rows.min()}..{rows.max()}")
    return np.stack([np.bincount(column, minlength=codebook_size) for column in rows.T])


def code_usage(counts: np.ndarray) -> np.ndarray:
    """Share of the codes that occur at all: counts int[..., N] -> float64[...]."""
    return np.mean(np.asarray(counts) > 0, axis=-1)


def entropy_nats(counts: np.ndarray) -> np.ndarray:
    """Entropy of the relative frequencies, in nats: counts int[..., N] -> float64[...]; 0 where there are none."""
    counts = np.asarray(counts, np.float64)
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=-1)


def code_perplexity(counts: np.ndarray) -> np.ndarray:
    """exp(entropy): the number of equally likely codes that would be as varied, at most N."""
    return np.exp(entropy_nats(counts))


def compare(reference: Waveform, degraded: Waveform, with_visqol: bool = True) -> dict[str, float]:
    """Every distance of two recordings of the same thing; the longer one is cut to the shorter.

    Returns:
        {"si_sdr_db", "log_mel_distance", and with ViSQOL "moslqo" and "visqol_similarity"}.

    Raises:
        UserError: they are too short to compare, or the reference is silent.
    """
    degraded = resample(degraded, reference.sample_rate_hz)
    length = min(len(reference.samples), len(degraded.samples))
    a, b = reference.samples[:length], degraded.samples[:length]
    try:
        figures = {
            "si_sdr_db": si_sdr_db(a, b),
            "log_mel_distance": log_mel_distance(a, b, reference.sample_rate_hz),
        }
        if with_visqol:
            score = visqol_speech(a, b, reference.sample_rate_hz)
            figures |= {"moslqo": score.moslqo, "visqol_similarity": score.similarity}
    except ValueError as error:
        raise UserError(f"cannot compare the recordings: {error}") from error
    return figures


def paired_files(reference: str | Path, degraded: str | Path) -> list[tuple[Path, Path]]:
    """Two files as one pair, or two folders whose audio files pair by their path below the folder, without suffix.

    Raises:
        UserError: a file of the references has no partner, or a file is given with a folder.
    """
    reference, degraded = Path(reference), Path(degraded)
    if reference.is_dir() != degraded.is_dir():
        raise UserError("give two files or two folders, not one of each")
    if not reference.is_dir():
        return [(reference, degraded)]
    partners = {path.relative_to(degraded).with_suffix("").as_posix(): path for path in audio_files(degraded)}
    pairs = []
    for path in audio_files(reference):
        key = path.relative_to(reference).with_suffix("").as_posix()
        if key not in partners:
            raise UserError(f"{path} has no partner in {degraded}; the two folders must hold the same names")
        pairs.append((path, partners[key]))
    if not pairs:
        raise UserError(f"{reference} holds no audio files")
    return pairs


def compare_files(pairs: Sequence[tuple[Path, Path]], with_visqol: bool = True) -> dict[str, Any]:
    """Means of `compare` over pairs of files, with a progress bar, and the figures of each file."""
    from tqdm import tqdm

    each = {}
    for reference, degraded in tqdm(pairs, desc="codec quality", disable=len(pairs) < 2 or not sys.stderr.isatty()):
        each[str(reference)] = compare(read_audio(reference), read_audio(degraded), with_visqol)
    names = next(iter(each.values())).keys()
    figures = {name: statistics.fmean(row[name] for row in each.values()) for name in names}
    settings = {"mapping": VISQOL_MAPPING, **visqol_settings()} if with_visqol else {}
    return {**figures, **settings, "num_files": len(each), "files": each}


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64[T] of one length."""
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if reference.shape != estimate.shape or reference.ndim != 1 or not reference.size:
        raise ValueError(f"two waveforms of the same length are needed, got {reference.shape} and {estimate.shape}")
    return reference, estimate


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(prog="codec_quality", description="Compare recordings with their references.")
    parser.add_argument("--reference", required=True, metavar="PATH", help="a file or a folder")
    parser.add_argument("--degraded", required=True, metavar="PATH", help="a file or a folder with the same names")
    parser.add_argument("--no_visqol", action="store_true", help="only the fast figures")
    parser.add_argument("--json", default="-", metavar="FILE", help="where the figures go; - is the terminal")
    args = parser.parse_args(argv)
    try:
        figures = compare_files(paired_files(args.reference, args.degraded), not args.no_visqol)
    except UserError as error:
        print(f"codec_quality: {error}", file=sys.stderr)
        return 2
    text = json.dumps(figures, indent=1) + "\n"
    if args.json == "-":
        print(text, end="")
    else:
        Path(args.json).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
