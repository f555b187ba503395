"""What a bundle's codec keeps of recordings, at each of its bit rates, and how its codes are used (table I, ViSQOL)."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.interval import interval_settings, percentile_interval, resample_counts
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.pairs import (
    compare,
    compare_settings,
    compare_versions,
    mean_figures,
    undefined_notes,
)
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, Step, counted
from audiolm_jax.evaluation.sound.code_usage import code_counts, code_perplexity, code_usage, entropy_nats
from audiolm_jax.evaluation.sound.visqol import EXPONENTIAL, check_mapping, visqol_is_installed

# Bit rates at which the codec is heard, in bits per second; those that it does not reach are left out.
BITRATES_BPS = (2000, 3000, 6000)
# ViSQOL advises clips of up to ten seconds or so; shorter ones than three say little.
MIN_SECONDS, MAX_SECONDS = 3.0, 15.0


def levels_by_name(bundle: Bundle) -> dict[str, int]:
    """Names of bit rates, such as "6kbps", and the levels that make them; the full rate is always there."""
    codec = bundle.codec
    levels = {codec.num_quantizers}
    for bitrate in BITRATES_BPS:
        levels |= {n for n in range(1, codec.num_quantizers + 1) if round(codec.bitrate_bps(n)) == bitrate}
    return {f"{codec.bitrate_bps(n) / 1000:g}kbps": n for n in sorted(levels)}


def codec_clip(
    bundle: Bundle, waveform: Waveform, tokens: np.ndarray, mapping: str | None = EXPONENTIAL
) -> dict[str, dict[str, float | None]]:
    """Figures of one recording by bit rate, those of `pairs.compare`; its first 15 s where it is longer.

    Args:
        bundle: whose codec.
        waveform: the recording.
        tokens: int32[T_a, Q] of the whole recording.
        mapping: of ViSQOL; None leaves ViSQOL out.

    Raises:
        UserError: the recording is silent or shorter than a second.
    """
    codec = bundle.codec
    original = resample(waveform, codec.sample_rate_hz)
    frames = min(len(tokens), int(MAX_SECONDS * codec.sample_rate_hz) // codec.hop_samples)
    original = Waveform(original.samples[: frames * codec.hop_samples], codec.sample_rate_hz)
    figures = {}
    for name, levels in levels_by_name(bundle).items():
        samples = decode_chunked(codec, bundle.codec_params, tokens[None, :frames, :levels])[0]
        decoded = Waveform(samples[: len(original.samples)], codec.sample_rate_hz)
        figures[name] = compare(original, decoded, mapping)
    return figures


def measure(
    bundle: Bundle,
    recordings: Sequence[Recording],
    max_clips: int = 40,
    seed: int = 0,
    mapping: str = EXPONENTIAL,
) -> Measurement:
    """Fidelity on clips, and code usage on all recordings; intervals by speaker.

    Clips are recordings of at least 3 s, one of every speaker before a second of any, chosen by their names alone.

    Args:
        bundle: whose codec.
        recordings: of speakers that it was not trained on.
        max_clips: recordings that are decoded and compared.
        seed: of the intervals.
        mapping: of ViSQOL, see `visqol`.

    Returns:
        Figures visqol_speech_<rate> for every rate (2kbps, 3kbps, 6kbps, the full one; without visqol-python, none), at
        the full rate si_sdr_db, log_mel_distance, and where installed pesq_wb, pesq_nb, stoi and estoi; code_usage and
        code_perplexity, a number per level. Details: `by_bitrate` every figure at every rate with its interval,
        `levels` the use of codes, `clips` every figure of every clip.

    Raises:
        UserError: there are no recordings, none can be read, or none can be compared.
    """
    if not recordings:
        raise UserError("there are no recordings to measure the codec on; give a folder with audio")
    check_mapping(mapping)
    used_mapping = mapping if visqol_is_installed() else None
    clips: dict[str, dict[str, Any]] = {}
    counts: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    read = resampled = num_frames = 0
    for recording in tqdm(shared_out(recordings, None), desc="codec", disable=not sys.stderr.isatty()):
        try:
            waveform = recording.read()
        except UserError as error:
            left_out.append(str(error))
            continue
        read += 1
        resampled += waveform.sample_rate_hz != bundle.codec.sample_rate_hz
        samples = resample(waveform, bundle.codec.sample_rate_hz).samples
        tokens = encode_chunked(bundle.codec, bundle.codec_params, samples[None])[0]
        num_frames += len(tokens)
        found = code_counts(tokens, bundle.codec.codebook_size)
        counts[recording.speaker] = counts.get(recording.speaker, 0) + found
        if len(clips) < max_clips and waveform.seconds >= MIN_SECONDS:
            try:
                figures = codec_clip(bundle, waveform, tokens, used_mapping)
            except UserError as error:
                left_out.append(f"{recording.path}: {error}")
                continue
            clips[recording.key] = {"speaker": recording.speaker, **figures}
    if not clips:
        reason = left_out[0] if left_out else f"all are shorter than {MIN_SECONDS:g} s"
        raise UserError(f"no recording can be compared with its reconstruction: {reason}")

    by_bitrate, figures, intervals = _fidelity(bundle, clips, seed)
    levels = _levels(counts, seed)
    figures |= {name: [row[name] for row in levels] for name in ("code_usage", "code_perplexity")}
    full = list(levels_by_name(bundle))[-1]
    notes = undefined_notes([clip[full] for clip in clips.values()])
    if used_mapping is None:
        notes.append("ViSQOL is left out, visqol-python is not installed: pip install 'audiolm_jax[eval]'")
    if resampled:
        notes.append(f"{resampled} of {read} recordings were resampled to {bundle.codec.sample_rate_hz} Hz")
    return Measurement(
        metric="codec",
        figures=figures,
        intervals=intervals,
        counts={
            "recordings": read, "speakers": len(counts), "clips": len(clips),
            "clip_speakers": len({clip["speaker"] for clip in clips.values()}), "frames": num_frames,
            "left_out": len(left_out),
        },
        settings={
            "bundle": bundle.name, "codec_fingerprint": bundle.codec_fingerprint, "bitrates": levels_by_name(bundle),
            "full_rate": full, "max_clips": max_clips, "min_seconds": MIN_SECONDS, "max_seconds": MAX_SECONDS,
            "padding": "none", **compare_settings(used_mapping), "resampled": "speaker", **interval_settings(seed),
        },
        versions=compare_versions(),
        notes=(*notes, *(f"left out: {why}" for why in left_out)),
        details={"by_bitrate": by_bitrate, "levels": levels, "clips": {key: clips[key] for key in sorted(clips)}},
    )  # fmt: skip


def _fidelity(bundle: Bundle, clips: dict[str, dict[str, Any]], seed: int) -> tuple[dict, dict, dict]:
    """({rate: {"figures", "intervals"}}, headline figures, their intervals)."""
    speaker_of = {key: clip["speaker"] for key, clip in clips.items()}
    by_bitrate = {}
    figures, intervals = {}, {}
    for name, levels in levels_by_name(bundle).items():
        means, lows_highs = mean_figures({key: clip[name] for key, clip in clips.items()}, speaker_of, seed)
        by_bitrate[name] = {"figures": means, "intervals": lows_highs}
        renamed = {"moslqo": f"visqol_speech_{name}"}
        if levels == bundle.codec.num_quantizers:
            renamed |= {figure: figure for figure in means if figure not in ("moslqo", "visqol_similarity")}
        figures |= {new: means[old] for old, new in renamed.items() if old in means}
        intervals |= {new: lows_highs[old] for old, new in renamed.items() if old in lows_highs}
    return by_bitrate, figures, intervals


def _levels(counts: dict[str, np.ndarray], seed: int) -> list[dict[str, Any]]:
    """Use of the codes of every level, from counts int64[Q, N] by speaker.

    The perplexity has an interval; the share of codes in use has none, because a resample can only lose codes.
    """
    by_speaker = np.stack([counts[name] for name in sorted(counts)])  # [speakers, Q, N]
    draws = resample_counts(len(by_speaker), seed) if len(by_speaker) > 1 else None
    rows = []
    for level in range(by_speaker.shape[1]):
        total = by_speaker[:, level].sum(axis=0)
        row = {
            "level": level,
            "code_usage": float(code_usage(total)),
            "code_perplexity": float(code_perplexity(total)),
            "entropy_nats": float(entropy_nats(total)),
        }
        if draws is not None:
            row["code_perplexity_interval"] = percentile_interval(code_perplexity(draws @ by_speaker[:, level]))
        rows.append(row)
    return rows


def _report_steps(material: Material) -> list[Entry]:
    chosen, settings = material.token_recordings, material.settings
    clips, count = settings.extent.codec_clips, len(chosen.recordings)

    def run() -> Measurement:
        measured = measure(material.bundle, chosen.recordings, clips, settings.seed)
        return material.with_split(measured, chosen.notes)

    inputs = {"codec": material.system["codec"], "clips": clips, **material.inputs_of(chosen.recordings)}
    inputs["installed"] = versions("visqol-python", "pesq", "pystoi")
    what = f"{counted(chosen.recordings)}, at most {clips} of them compared"
    return [Step("codec", "codec", what, inputs, 15 + 2.0 * min(clips, count) + 0.4 * count, run)]


METRIC = Metric(
    "codec", "What the codec keeps",
    "Recordings through encoder and decoder, compared with the originals, and how much of every codebook is used.",
    _report_steps,
)  # fmt: skip
