"""The report on held-out speakers: what the codec keeps of their voices, and how well the stages predict their tokens.

    audiolm report --bundle DIR --data SPEECH --output DIR [--train_tokens TOKENS]

Everything is measured with the bundle as it ships, from waveforms: recordings of speakers that no training has heard
are tokenized, decoded, compared, and their tokens scored. The choice of recordings is a function of their names alone.
"""

import dataclasses
import importlib.util
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, read_audio, resample
from audiolm_jax.bundle import Bundle, with_metrics
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.data.batches import Batch, finite_batches
from audiolm_jax.data.corpora import FolderCorpus, Utterance
from audiolm_jax.data.examples import evaluation_crops, stage_example
from audiolm_jax.data.feed import TokenFeed
from audiolm_jax.data.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation import codec_quality
from audiolm_jax.evaluation.codec_quality import code_counts, code_perplexity, code_usage
from audiolm_jax.evaluation.perplexity import stage_figures, target_counts
from audiolm_jax.files import replace_file
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage

# Bit rates at which the codec is heard, in bits per second; those that it does not reach are left out.
BITRATES_BPS = (2000, 6000)
# ViSQOL advises clips of up to ten seconds or so; shorter ones than three say little.
_MIN_SECONDS, _MAX_SECONDS = 3.0, 15.0
# Training sequences from which the counts of the weaker baseline are taken.
_TRAIN_SEQUENCES = 2000


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What is measured on.

    Attributes:
        folders: of speech, read as `FolderCorpus` reads them.
        heldout_speakers, split_seed: of the split in every folder; those that the trainings used.
        max_clips: recordings that the codec is judged by, shared out among the speakers.
        max_recordings: recordings whose tokens are scored, shared out likewise; None for all.
        train_tokens: folders of token records made with this bundle, for the baseline of training frequencies.
        batch_size: sequences that are scored at once.
    """

    folders: tuple[str, ...]
    heldout_speakers: int = 20
    split_seed: int = 0
    max_clips: int = 40
    max_recordings: int | None = None
    train_tokens: tuple[str, ...] = ()
    batch_size: int = 4

    def __post_init__(self):
        if not self.folders:
            raise UserError("no folder of speech is named; give --data DIR")
        if self.heldout_speakers < 1 or self.max_clips < 1 or self.batch_size < 1:
            raise UserError("heldout_speakers, max_clips and batch_size must be at least 1")


def shared_out(utterances: Sequence[Utterance], count: int | None) -> list[Utterance]:
    """At most `count` recordings, one of every speaker before a second of any; a function of names alone."""
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in sorted(utterances, key=lambda u: (hash_bits(0, "report", u.speaker, u.key), u.key)):
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    rounds = itertools.zip_longest(*(by_speaker[name] for name in sorted(by_speaker)))
    chosen = [utterance for one_round in rounds for utterance in one_round if utterance is not None]
    return chosen[:count]


def tokenize(bundle: Bundle, utterance: Utterance, waveform: Waveform) -> TokenRecord:
    """Both kinds of tokens of a recording."""
    codec, semantic = bundle.codec, bundle.semantic
    codec_samples = resample(waveform, codec.sample_rate_hz).samples
    semantic_samples = resample(waveform, semantic.sample_rate_hz).samples
    return TokenRecord(
        key=utterance.key,
        speaker=utterance.speaker,
        source=utterance.path.name,
        num_samples=len(codec_samples),
        semantic_tokens=np.asarray(semantic.tokenize(bundle.semantic_params, semantic_samples[None]))[0],
        acoustic_tokens=encode_chunked(codec, bundle.codec_params, codec_samples[None])[0],
        semantic_fingerprint=bundle.semantic_fingerprint,
        codec_fingerprint=bundle.codec_fingerprint,
    )


def levels_by_name(bundle: Bundle) -> dict[str, int]:
    """Names of bit rates, such as "6kbps", and the levels that make them; the full rate is always there."""
    codec = bundle.codec
    levels = {codec.num_quantizers}
    for bitrate in BITRATES_BPS:
        levels |= {n for n in range(1, codec.num_quantizers + 1) if round(codec.bitrate_bps(n)) == bitrate}
    return {f"{codec.bitrate_bps(n) / 1000:g}kbps": n for n in sorted(levels)}


def codec_clip(bundle: Bundle, waveform: Waveform, tokens: np.ndarray, with_visqol: bool) -> dict[str, dict]:
    """Figures of one recording by bit rate; its beginning where it is long.

    Args:
        bundle: whose codec.
        waveform: the recording.
        tokens: int32[T_a, Q] of the whole recording.
        with_visqol: whether ViSQOL is installed.
    """
    codec = bundle.codec
    original = resample(waveform, codec.sample_rate_hz)
    frames = min(len(tokens), int(_MAX_SECONDS * codec.sample_rate_hz) // codec.hop_samples)
    original = Waveform(original.samples[: frames * codec.hop_samples], codec.sample_rate_hz)
    figures = {}
    for name, levels in levels_by_name(bundle).items():
        samples = decode_chunked(codec, bundle.codec_params, tokens[None, :frames, :levels])[0]
        figures[name] = codec_quality.compare(original, Waveform(samples, codec.sample_rate_hz), with_visqol)
    return figures


def stage_batches(records: Sequence[TokenRecord], stage: Stage, batch_size: int) -> Iterator[Batch]:
    """Every frame of every record once, in neighbouring crops of the stage's length."""
    crops = [(record, crop) for record in records for crop in evaluation_crops(record, stage)]
    return finite_batches(lambda index: stage_example(crops[index][0], stage, crops[index][1]),
                          len(crops), batch_size, process_index=0, process_count=1)


def train_counts(folders: Sequence[str], stage: Stage, bundle: Bundle) -> np.ndarray:
    """Counts int64[L, N] of the ids in evenly drawn training crops.

    Raises:
        UserError: the folders were tokenized with other tokenizers.
    """
    feed = TokenFeed(tuple(folders), stage, batch_size=1, process_index=0, process_count=1)
    made_by = feed.source.manifests[0].tokenizers
    if (made_by.codec_fingerprint, made_by.semantic_fingerprint) != (
        bundle.codec_fingerprint, bundle.semantic_fingerprint
    ):  # fmt: skip
        raise UserError(f"the tokens in {folders[0]} are not of this bundle's tokenizers; leave --train_tokens out")
    examples = (feed.example(index) for index in range(_TRAIN_SEQUENCES))
    return target_counts(stage, ({name: value[None] for name, value in example.items()} for example in examples))


def visqol_is_installed() -> bool:
    """Whether the package of extra `eval` is there; without it the report leaves ViSQOL out and says so."""
    return importlib.util.find_spec("visqol") is not None


def measure(bundle: Bundle, settings: ReportSettings) -> dict[str, Any]:
    """Measures and returns {"metrics", "clips", "settings"}, plain JSON values.

    `metrics` holds codec_visqol_speech_6kbps (and 2kbps; without ViSQOL installed, none), codec_si_sdr_db and
    codec_log_mel_distance at the full rate, codec_code_usage and codec_code_perplexity per level, and under the name of
    every stage the figures of `perplexity.stage_figures`.

    Raises:
        UserError: a folder holds no audio or no held-out speakers, or none of their recordings can be read.
    """
    corpora = [FolderCorpus(folder, settings.heldout_speakers, settings.split_seed) for folder in settings.folders]
    recordings = shared_out([utterance for corpus in corpora for utterance in corpus.heldout], settings.max_recordings)
    if not recordings:
        raise UserError(f"{', '.join(settings.folders)} has no held-out recordings; give a folder with more speakers")
    with_visqol = visqol_is_installed()
    quiet = not sys.stderr.isatty()

    records, clips, left_out = [], {}, {}
    clip_utterances = []
    for utterance in tqdm(recordings, desc="tokenizing held-out recordings", disable=quiet):
        try:
            waveform = read_audio(utterance.path)
        except UserError as error:
            left_out[utterance.key] = str(error)
            continue
        records.append(tokenize(bundle, utterance, waveform))
        if len(clip_utterances) < settings.max_clips and waveform.seconds >= _MIN_SECONDS:
            clip_utterances.append((utterance, len(records) - 1))
    if not records:
        raise UserError("none of the held-out recordings can be read; " + next(iter(left_out.values())))
    for utterance, index in tqdm(clip_utterances, desc="decoding and comparing", disable=quiet):
        try:
            figures = codec_clip(bundle, read_audio(utterance.path), records[index].acoustic_tokens, with_visqol)
        except UserError as error:
            left_out[utterance.key] = str(error)
            continue
        clips[utterance.key] = {"speaker": utterance.speaker, **figures}

    metrics = codec_metrics(bundle, clips, records)
    for name, model in bundle.language_models.items():
        batches = tqdm(stage_batches(records, model.stage, settings.batch_size), desc=f"{name} stage", disable=quiet)
        counts = train_counts(settings.train_tokens, model.stage, bundle) if settings.train_tokens else None
        metrics[name] = stage_figures(model.model, model.params, batches, counts)
    metrics["heldout"] = {
        "speakers": len({record.speaker for record in records}),
        "recordings": len(records),
        "seconds": round(sum(record.num_samples for record in records) / bundle.codec.sample_rate_hz, 2),
        "codec_clips": len(clips),
        **(codec_quality.visqol_settings() if with_visqol else {"visqol": "not installed (extra eval), left out"}),
    }
    plain = {**dataclasses.asdict(settings), "bitrates": levels_by_name(bundle), "left_out": left_out}
    return {"metrics": metrics, "clips": clips, "settings": plain}


def codec_metrics(bundle: Bundle, clips: dict[str, dict], records: Sequence[TokenRecord]) -> dict[str, Any]:
    """Means over clips, and how the codes of all records are used."""
    metrics: dict[str, Any] = {}
    names = levels_by_name(bundle)
    full = next(name for name, levels in names.items() if levels == bundle.codec.num_quantizers)
    rows = list(clips.values())
    if rows:
        for name in names:
            if "moslqo" in rows[0][name]:
                metrics[f"codec_visqol_speech_{name}"] = statistics.fmean(row[name]["moslqo"] for row in rows)
        metrics["codec_si_sdr_db"] = statistics.fmean(row[full]["si_sdr_db"] for row in rows)
        metrics["codec_log_mel_distance"] = statistics.fmean(row[full]["log_mel_distance"] for row in rows)
    counts = code_counts(np.concatenate([record.acoustic_tokens for record in records]), bundle.codec.codebook_size)
    metrics["codec_code_usage"] = code_usage(counts).tolist()
    metrics["codec_code_perplexity"] = code_perplexity(counts).tolist()
    return metrics


def markdown(bundle: Bundle, report: dict[str, Any]) -> str:
    """The report as Markdown."""
    metrics, heldout = report["metrics"], report["metrics"]["heldout"]
    lines = [
        f"# {bundle.name} on held-out speakers",
        "",
        f"{heldout['recordings']} recordings of {heldout['speakers']} speakers, {heldout['seconds']:.0f} s; the codec "
        f"is judged by {heldout['codec_clips']} of them. Codec `{bundle.codec_fingerprint}`, semantic tokenizer "
        f"`{bundle.semantic_fingerprint}`.",
        "",
        "| codec | value |",
        "|---|---|",
    ]
    for name, value in metrics.items():
        if name.startswith("codec_"):
            shown = " ".join(f"{item:.3g}" for item in value) if isinstance(value, list) else f"{value:.3f}"
            lines.append(f"| {name} | {shown} |")
    if "visqol_mapping" in heldout:
        lines += ["", f"ViSQOL: {heldout['visqol_mode']}, {heldout['visqol_mapping']} mapping, no padding, "
                  f"{heldout['visqol_package']}."]
    else:
        lines += ["", f"ViSQOL: {heldout['visqol']}."]
    if bundle.stages:
        columns = ("stage", "nats per token", "unigram nats", "share", "accuracy", "tokens")
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in bundle.stages:
        row = metrics[name]
        lines.append(
            f"| {name} | {row['heldout_nats_per_token']:.3f} | {row['unigram_nats_per_token']:.3f} | "
            f"{row['share_of_unigram']:.3f} | {row['accuracy']:.3f} | {row['num_tokens']} |"
        )
    if report["settings"]["left_out"]:
        lines += ["", "Left out:", ""] + [f"- {key}: {why}" for key, why in report["settings"]["left_out"].items()]
    return "\n".join(lines) + "\n"


def write_report(bundle: Bundle, report: dict[str, Any], output: str | Path, merge: bool = True) -> None:
    """Writes report.json and report.md, and merges the figures into the bundle's manifest and model card."""
    output = Path(output)
    replace_file(output / "report.json", (json.dumps({"bundle": bundle.name, **report}, indent=1) + "\n").encode())
    replace_file(output / "report.md", markdown(bundle, report).encode())
    if merge and bundle.path is not None:
        with_metrics(bundle.path, report["metrics"])
