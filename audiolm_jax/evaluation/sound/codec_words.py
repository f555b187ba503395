"""What a recogniser understands of recordings, of a bundle's codec at each of its bit rates, and of Opus.

How alike two sounds are (ViSQOL) and what can be understood of them need not agree, so both stand beside each other.
The errors on the originals are the recogniser's own. Opus is the yardstick: what it sounds like is known to everybody.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from audiolm_jax.audio import Waveform, resample, write_audio
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import usable
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.pairs import mean_figures
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, Step, counted
from audiolm_jax.evaluation.sound.codec_fidelity import MAX_SECONDS, MIN_SECONDS, levels_by_name
from audiolm_jax.evaluation.sound.opus import HOW_TO_INSTALL, Opus, find_opus
from audiolm_jax.evaluation.sound.visqol import (
    EXPONENTIAL,
    check_mapping,
    visqol_is_installed,
    visqol_settings,
    visqol_speech,
)
from audiolm_jax.evaluation.words import word_error
from audiolm_jax.evaluation.words.asr import Recogniser, load_recogniser
from audiolm_jax.evaluation.words.text_normalisation import normalise

OPUS_BITRATES_BPS = (6000, 9000)
ORIGINAL = word_error.ORIGINAL
_LENGTHS = f"{MIN_SECONDS:g} to {MAX_SECONDS:g} s"


class _Version(NamedTuple):
    """A recording as one of the codecs gives it: "codec_6kbps", its sound, and the bits that it was made of."""

    kind: str
    waveform: Waveform
    bits: float


class _Clip(NamedTuple):
    """Files of a recording, ViSQOL and bits by kind, and the length of the original."""

    files: dict[str, Recording]
    visqol: dict[str, float]
    bits: dict[str, float]
    seconds: float


def measure(
    bundle: Bundle,
    recordings: Sequence[Recording],
    asr: str | Recogniser,
    sounds: Path,
    cache: Path | None = None,
    max_clips: int = 40,
    seed: int = 0,
    mapping: str = EXPONENTIAL,
) -> Measurement:
    """Word and character errors and ViSQOL of the same recordings, as they are and through each codec.

    Clips are whole recordings of 3 to 15 s whose words are known, one of every speaker before a second of any.

    Args:
        bundle: whose codec.
        recordings: those that are held out are taken; others where none of these has a transcript, with a note.
        asr: a recogniser, or what `asr.load_recogniser` takes.
        sounds: folder for what is heard, SOUNDS/KIND/KEY.wav at the codec's rate; older files are replaced.
        cache: folder in which to keep what was heard, see `hypotheses`; what is there is not heard again.
        max_clips: recordings at most.
        seed: of the intervals, which resample speakers.
        mapping: of ViSQOL, see `visqol`.

    Returns:
        Figures wer_KIND and cer_KIND, fractions that may exceed 1, and visqol_KIND where visqol-python is installed;
        KIND is original (without ViSQOL), codec_2kbps and so on, see `codec_fidelity.levels_by_name`, and, where
        opus-tools is installed, opus_6kbps and opus_9kbps. details.rows is the table, with the bits per second that
        each codec took; details.recordings what was heard in each file.

    Raises:
        UserError: no recording of that length has a transcript, none can be compared, the recogniser is not there, or
            Opus fails.
    """
    check_mapping(mapping)
    recogniser = load_recogniser(asr) if isinstance(asr, str) else asr
    opus = find_opus()
    used_mapping = mapping if visqol_is_installed() else None
    spoken = _spoken(recordings)
    clips, left_out = _clips(bundle, opus, spoken, Path(sounds), max_clips, used_mapping)
    kinds = list(next(iter(clips.values())).files)
    by_kind = {kind: [clip.files[kind] for clip in clips.values()] for kind in kinds}
    heard = word_error.measure(by_kind, recogniser, cache, seed)

    speaker_of = {key: clip.files[ORIGINAL].speaker for key, clip in clips.items()}
    visqol, visqol_intervals = mean_figures({key: clip.visqol for key, clip in clips.items()}, speaker_of, seed)
    figures = {f"visqol_{kind}": value for kind, value in visqol.items()}
    intervals = {f"visqol_{kind}": low_high for kind, low_high in visqol_intervals.items()}
    notes = list(heard.notes)
    if not spoken[0].heldout:
        notes.insert(0, f"no held-out recording of {_LENGTHS} has a transcript")
    if used_mapping is None:
        notes.append("ViSQOL is left out, visqol-python is not installed: pip install 'audiolm_jax[eval]'")
    if opus is None:
        notes.append(f"Opus is left out: {HOW_TO_INSTALL}")
    return Measurement(
        metric="codec_words",
        figures={**heard.figures, **figures},
        intervals={**heard.intervals, **intervals},
        counts={
            "recordings": len(clips), "speakers": heard.counts["speakers"],
            "words": heard.counts[f"words_{ORIGINAL}"], "left_out": len(left_out),
        },
        settings={
            "bundle": bundle.name, "codec_fingerprint": bundle.codec_fingerprint, "bitrates": levels_by_name(bundle),
            "opus": "not installed" if opus is None else f"{opus.version}, its own settings, decoded at 48 kHz",
            "max_clips": max_clips, "min_seconds": MIN_SECONDS, "max_seconds": MAX_SECONDS,
            **(visqol_settings(used_mapping) if used_mapping else {}), **heard.settings,
        },
        versions={**heard.versions, **versions("visqol-python", "ai-edge-litert", "soxr")},
        notes=(*notes, *(f"left out: {why}" for why in left_out)),
        details={
            "rows": [_row(kind, list(clips.values()), heard, visqol) for kind in kinds],
            "by_kind": heard.details["by_kind"],
            "recordings": [
                {**row, "visqol": clips[row["key"]].visqol.get(row["kind"])} for row in heard.details["recordings"]
            ],
        },
    )  # fmt: skip


def _spoken(recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings of the right length with words to compare with, in the order in which they are taken.

    Those that are held out; all where none of these has words.
    """
    told = [recording for recording in word_error.with_transcripts(recordings) if normalise(recording.text)]
    fitting = usable(told, MIN_SECONDS, MAX_SECONDS)
    if not fitting:
        raise UserError(f"no recording with a transcript lasts {_LENGTHS}; give others with --data")
    return shared_out([recording for recording in fitting if recording.heldout] or fitting, None)


def _clips(
    bundle: Bundle, opus: Opus | None, spoken: Sequence[Recording], sounds: Path, max_clips: int, mapping: str | None
) -> tuple[dict[str, _Clip], list[str]]:
    """Clips by the keys of their recordings, and why others are left out."""
    clips: dict[str, _Clip] = {}
    left_out: list[str] = []
    total = min(max_clips, len(spoken))
    with tqdm(total=total, desc="through the codecs", unit="recording", disable=not sys.stderr.isatty()) as progress:
        for recording in spoken:
            if len(clips) == max_clips:
                break
            try:
                original = resample(recording.read(), bundle.codec.sample_rate_hz)
                given = list(_through_codecs(bundle, opus, original))
                visqol = {one.kind: _visqol(original, one.waveform, mapping) for one in given} if mapping else {}
            except UserError as error:
                left_out.append(f"{recording.path}: {error}")
                continue
            files = {ORIGINAL: recording.sample(_write(sounds, ORIGINAL, recording, original))}
            for one in given:
                licence = bundle.licence if one.kind.startswith("codec") else ""
                files[one.kind] = recording.sample(_write(sounds, one.kind, recording, one.waveform, licence))
            clips[recording.key] = _Clip(files, visqol, {one.kind: one.bits for one in given}, original.seconds)
            progress.update()
    if not clips:
        raise UserError(f"no recording can be heard through the codecs: {left_out[0]}")
    return clips, left_out


def _through_codecs(bundle: Bundle, opus: Opus | None, original: Waveform) -> Iterator[_Version]:
    """An original at the codec's rate through the codec at each of its rates, then through Opus."""
    codec = bundle.codec
    tokens = encode_chunked(codec, bundle.codec_params, original.samples[None])
    for name, levels in levels_by_name(bundle).items():
        samples = decode_chunked(codec, bundle.codec_params, tokens[:, :, :levels])[0, : len(original.samples)]
        bits = codec.bitrate_bps(levels) * original.seconds
        yield _Version(f"codec_{name}", Waveform(samples, codec.sample_rate_hz), bits)
    if opus is not None:
        for bitrate_bps in OPUS_BITRATES_BPS:
            made = opus.through(original, bitrate_bps)
            yield _Version(f"opus_{bitrate_bps / 1000:g}kbps", made.waveform, made.bits)


def _visqol(original: Waveform, made: Waveform, mapping: str) -> float:
    try:
        return visqol_speech(original.samples, made.samples, original.sample_rate_hz, mapping).moslqo
    except ValueError as error:
        raise UserError(f"cannot be compared: {error}") from error


def _write(sounds: Path, kind: str, recording: Recording, waveform: Waveform, licence: str = "") -> Path:
    path = sounds / kind / f"{recording.key}.wav"
    write_audio(path, waveform, licence)
    return path


def _row(kind: str, clips: Sequence[_Clip], heard: Measurement, visqol: dict[str, float | None]) -> dict:
    """One line of the table."""
    bits = [clip.bits.get(kind) for clip in clips]
    return {
        "heard": kind,
        "bitrate_bps": None if None in bits else round(sum(bits) / sum(clip.seconds for clip in clips), 1),
        "visqol": visqol.get(kind),
        "wer": heard.figures[f"wer_{kind}"],
        "cer": heard.figures[f"cer_{kind}"],
    }


def _report_steps(material: Material) -> list[Entry]:
    """On the prompts, in which words are counted later too."""
    settings, clips = material.settings, material.settings.extent.codec_clips
    chosen = shared_out(material.spoken_prompts, clips)
    material.require_recogniser("jiwer")

    def run() -> Measurement:
        sounds, cache = settings.output / "codec_words", material.transcripts_folder
        measured = measure(material.bundle, chosen, settings.asr, sounds, cache, clips, settings.seed)
        return material.with_split(measured, material.claim.notes)

    opus = find_opus()
    inputs = {"codec": material.system["codec"], "opus": None if opus is None else opus.version}
    inputs |= {**material.inputs_of(chosen), **material.recogniser_inputs}
    inputs["installed"] = versions("jiwer", "visqol-python")
    kinds = 1 + len(levels_by_name(material.bundle)) + (0 if opus is None else len(OPUS_BITRATES_BPS))
    what = f"{counted(chosen)} through the codec{' and Opus' if opus else ''}, {material.recogniser_name}"
    return [Step("codec_words", "codec_words", what, inputs, 20 + 4.0 * kinds * len(chosen), run)]


METRIC = Metric(
    "codec_words", "What is understood of the codec",
    "A speech recogniser hears the same recordings as they are, through the codec at each of its bit rates, and "
    "through Opus at low ones, beside how alike they sound. Its errors on the originals are its own. Bit rates are "
    "those of the codes: of Opus, whose rate varies, what its packets took.",
    _report_steps,
)  # fmt: skip
