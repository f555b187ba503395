"""Recordings to measure: originals, what the codec makes of them, and what the stages generate from them.

    OUTPUT/samples.json                         what made them, and from what; a folder holds samples of one system
    OUTPUT/original/SPEAKER/NAME.wav            the recording at the codec's rate
    OUTPUT/reconstruction/SPEAKER/NAME.wav      encoded and decoded at all levels
    OUTPUT/fine/SPEAKER/NAME-0.wav              its own coarse tokens, generated fine tokens
    OUTPUT/acoustic/SPEAKER/NAME-0.wav ...      its own semantic tokens, generated coarse and fine tokens
    OUTPUT/continuation/SPEAKER/NAME-0.wav ...  what is said after its first seconds, the prompt cut off
    OUTPUT/prompted/SPEAKER/NAME-0.wav ...      the same with the prompt, to listen to

All files are 16-bit WAV. What is drawn for a recording depends on its key, the seed, the kind and the index of the
sample alone: not on the other recordings, nor on their order, nor on what an earlier run had already made.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audiolm_jax.audio import Waveform, encode_for, read_header, resample, write_audio
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.data.corpora.voice_activity import num_samples_of
from audiolm_jax.data.feed.order import hash_bits
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.files import replace_file
from audiolm_jax.files.outputs import write_results
from audiolm_jax.files.plain_json import parse
from audiolm_jax.fingerprint import fingerprint
from audiolm_jax.generation.pipeline import (
    ACOUSTIC,
    CONTINUATION,
    FINE,
    AudioLM,
    Generation,
    OnProgress,
    Request,
    default_temperature,
)

ORIGINAL, RECONSTRUCTION = "original", "reconstruction"
KINDS = (ORIGINAL, RECONSTRUCTION, FINE, ACOUSTIC, CONTINUATION)
PROMPTED = "prompted"
SCHEMA_VERSION = 1
_DESCRIPTION = "samples.json"
# Rows of every call of the decoder. On CPU more of them cost as much each, because the cache is read from memory.
_FIXED_ROWS = 6
# Samples that are drawn together: enough to fill the rows, few enough to lose little when stopped.
_SAMPLES_AT_ONCE = 24


@dataclasses.dataclass(frozen=True)
class SampleSettings:
    """What is generated, by default by the paper's protocol (AudioLM, sections IV-B and IV-C).

    Attributes:
        num_samples: of every recording in the kinds "acoustic" and "continuation"; "fine" has one.
        prompt_seconds: how much of a recording is continued.
        seconds: length of what is new.
        seed: of everything that is drawn.
        temperature: one number, or one each for the semantic, coarse and fine stage; None for the bundle's own.
    """

    num_samples: int = 3
    prompt_seconds: float = 3.0
    seconds: float = 7.0
    seed: int = 0
    temperature: float | tuple[float, float, float] | None = None

    def __post_init__(self):
        if self.num_samples < 1 or not self.prompt_seconds > 0 or not self.seconds > 0:
            raise UserError("num_samples must be at least 1, prompt_seconds and seconds more than 0")


@dataclasses.dataclass(frozen=True)
class Samples(Mapping):
    """Recordings by kind, in the order of their keys; `samples["acoustic"]` is a list of `Recording`.

    Attributes:
        by_kind: the recordings, with the keys of their sources in `source_key`. Their own keys are the same, with "#0",
            "#1" ... behind for the kinds that are drawn; speaker, text and heldout are those of their sources, the path
            is that of the sample.
        left_out: by kind, the keys of sources that have no sample, and why.
    """

    by_kind: dict[str, list[Recording]]
    left_out: dict[str, dict[str, str]]

    def __getitem__(self, kind: str) -> list[Recording]:
        return self.by_kind[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_kind)

    def __len__(self) -> int:
        return len(self.by_kind)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for every reason to leave recordings out."""
        keys_of: dict[str, dict[str, list[str]]] = {}
        for kind, reasons in self.left_out.items():
            for key, reason in reasons.items():
                keys_of.setdefault(reason, {}).setdefault(kind, []).append(key)
        return tuple(
            f"{len(set().union(*kinds.values()))} left out of {', '.join(kinds)}: {reason}"
            for reason, kinds in sorted(keys_of.items())
        )


def choose_recordings(
    recordings: Sequence[Recording],
    split: str = "heldout",
    min_seconds: float = 4.0,
    max_seconds: float = 10.0,
    max_recordings: int | None = None,
) -> list[Recording]:
    """The recordings that samples are made of, shared out among the speakers where not all are taken.

    Args:
        recordings: all there are.
        split: those that are held out ("heldout"), the others ("train"), or "all".
        min_seconds, max_seconds: as for `usable`.
        max_recordings: at most so many; None for all.

    Raises:
        UserError: there is nothing of that split and length.
    """
    found = [recording for recording in recordings if split == "all" or recording.heldout == (split == "heldout")]
    chosen = shared_out(usable(found, min_seconds, max_seconds), max_recordings)
    if not chosen:
        which = "" if split == "all" else f" {split}"
        cut = ", or --segment_seconds" if any(recording.ranges for recording in recordings) else ""
        raise UserError(
            f"none of {len(found)}{which} recordings is {min_seconds:g} to {max_seconds:g} s long; change "
            f"--min_seconds, --max_seconds or --data{cut}"
        )
    return chosen


def usable(recordings: Sequence[Recording], min_seconds: float = 4.0, max_seconds: float = 10.0) -> list[Recording]:
    """Recordings of a suitable length; the paper takes those of 4 to 10 seconds (AudioLM, section IV-B).

    Only headers are read where they tell. A file that cannot be read is kept, so that whoever uses it says why not.
    """
    return [
        recording
        for recording in recordings
        if (seconds := _seconds(recording)) is None or min_seconds <= seconds <= max_seconds
    ]


def _seconds(recording: Recording) -> float | None:
    """Length of a recording, None if it cannot be read."""
    try:
        num_samples, rate_hz = read_header(recording.path)
    except UserError:
        return None
    return (num_samples_of(recording.ranges) or num_samples) / rate_hz


def make_samples(
    bundle: Bundle,
    recordings: Sequence[Recording],
    output: str | Path,
    settings: SampleSettings = SampleSettings(),
    kinds: Sequence[str] = KINDS,
) -> Samples:
    """Makes what is not there yet, file by file; stopped at any moment and started again, it goes on.

    Args:
        bundle: the system; tokenizers alone are enough for "original" and "reconstruction".
        recordings: sources, keys unique.
        output: folder of the samples of this bundle with these settings.
        settings: what is generated.
        kinds: of KINDS.

    Returns:
        The samples of `recordings`; those that cannot be read, or are too short to prompt with, are told of there.

    Raises:
        UserError: `output` holds samples of another bundle, other settings or other recordings, a kind is unknown, the
            bundle lacks a stage, or none of the recordings can be read.
    """
    output = Path(output)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"there is no kind {unknown[0]!r} of samples; kinds are {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind in kinds]
    recordings = sorted(recordings, key=lambda recording: recording.key)
    _refuse_doubles(recordings)
    lm = AudioLM(bundle) if {FINE, ACOUSTIC, CONTINUATION} & set(kinds) else None
    sources, unreadable = _read_sources(recordings)
    if recordings and not sources:
        raise UserError("none of the recordings can be read: " + next(iter(unreadable.values())))
    _describe(output, _identity(bundle, settings), {source.recording.key: source.sha256 for source in sources})

    by_kind, left_out = {}, {}
    for kind in kinds:
        reasons = {s.recording.key: why for s in sources if (why := _refusal(kind, s, bundle, settings))}
        members = [source.recording for source in sources if source.recording.key not in reasons]
        missing = [one for one in members if not all(path.exists() for path in _paths(output, kind, one, settings))]
        with tqdm(total=len(missing), desc=kind, unit="recording", disable=not sys.stderr.isatty()) as bar:
            at_once = max(1, _SAMPLES_AT_ONCE // _num_samples(kind, settings))
            for start in range(0, len(missing), at_once):
                batch = missing[start : start + at_once]
                _make(bundle, lm, kind, batch, output, settings, _shown_in(bar))
                bar.update(len(batch))
        by_kind[kind] = [sample for one in members for sample in _samples_of(output, kind, one, settings)]
        left_out[kind] = dict(sorted((unreadable | reasons).items()))
    return Samples(by_kind, left_out)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A recording that can be read, its length, and the hash of its file."""

    recording: Recording
    seconds: float
    sha256: str


def _read_sources(recordings: Sequence[Recording]) -> tuple[list[_Source], dict[str, str]]:
    """Those that can be read, and why the others cannot, by key."""
    sources, unreadable = [], {}
    for recording in tqdm(recordings, desc="reading", unit="recording", disable=not sys.stderr.isatty()):
        try:
            waveform = recording.read()
            # A segment is known by its sound: the file that it is a part of may be hours long.
            data = waveform.samples.tobytes() if recording.ranges else recording.path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
        except (UserError, OSError) as error:
            unreadable[recording.key] = str(error)
            continue
        sources.append(_Source(recording, waveform.seconds, sha256))
    return sources, unreadable


def _refuse_doubles(recordings: Sequence[Recording]) -> None:
    seen: dict[Path, Recording] = {}
    for recording in recordings:
        path = _below(recording)
        if path in seen:
            raise UserError(f"{recording.path} and {seen[path].path} would have one file {path}; rename one of them")
        seen[path] = recording


def _refusal(kind: str, source: _Source, bundle: Bundle, settings: SampleSettings) -> str | None:
    """Why a recording has no sample of a kind, None if it has."""
    if kind == CONTINUATION and source.seconds < settings.prompt_seconds:
        return f"shorter than the prompt of {settings.prompt_seconds:g} s"
    if kind in (FINE, ACOUSTIC) and source.seconds * bundle.codec.sample_rate_hz < bundle.codec.hop_samples:
        return "shorter than one frame of tokens"
    if kind == FINE and "fine" not in bundle.stages:
        return f"bundle {bundle.name} has no fine stage"
    if kind == ACOUSTIC and "coarse" not in bundle.stages:
        return f"bundle {bundle.name} has no coarse stage"
    return None


def _identity(bundle: Bundle, settings: SampleSettings) -> dict[str, Any]:
    """What every sample of a folder depends on, beside its source."""
    temperature = default_temperature(bundle) if settings.temperature is None else settings.temperature
    sampling = Request(mode="unconditional", temperature=temperature).sampling
    models = {name: fingerprint((m.stage, m.config), m.params) for name, m in bundle.language_models.items()}
    plain = dataclasses.asdict(settings) | {"temperature": [sampling[name].temperature for name in sampling]}
    return {
        "bundle": {"codec": bundle.codec_fingerprint, "semantic": bundle.semantic_fingerprint, "stages": models},
        "settings": plain,
    }


def _describe(output: Path, identity: dict[str, Any], sources: dict[str, str]) -> None:
    """Compares with the folder's description and writes the new one, with the sources of both.

    Raises:
        UserError: the folder was made by another bundle, with other settings or from other recordings.
    """
    path = output / _DESCRIPTION
    try:
        old = parse(path.read_bytes())
        known, old_sources = {name: old[name] for name in identity}, old["sources"]
    except FileNotFoundError:
        if any((output / kind).exists() for kind in KINDS):
            raise UserError(f"{output} holds recordings, but no {_DESCRIPTION}; choose another --output") from None
        known, old_sources = identity, {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read; choose another --output") from error
    if known["bundle"] != identity["bundle"]:
        raise UserError(f"{output} holds samples of another bundle; choose another --output")
    for name, value in identity["settings"].items():
        if known["settings"].get(name) != value:
            was = known["settings"].get(name)
            raise UserError(f"{output} holds samples with {name} {was}, not {value}; choose another --output")
    for key, sha256 in sources.items():
        if old_sources.get(key, sha256) != sha256:
            raise UserError(f"{output} holds samples of another recording {key}; choose another --output")
    plain = {"schema_version": SCHEMA_VERSION, **identity, "sources": dict(sorted((old_sources | sources).items()))}
    replace_file(path, (json.dumps(plain, indent=1) + "\n").encode())


def _below(recording: Recording) -> Path:
    """Path of a recording's samples below the folder of a kind, without index and suffix; speakers come first."""
    key = recording.key
    in_folder = key.startswith(f"{recording.speaker}/") or (not recording.has_speaker and "/" in key)
    return Path(key if in_folder else f"{recording.speaker}/{key}")


def _num_samples(kind: str, settings: SampleSettings) -> int:
    return settings.num_samples if kind in (ACOUSTIC, CONTINUATION) else 1


def _paths(output: Path, kind: str, recording: Recording, settings: SampleSettings) -> list[Path]:
    """Files of a recording's samples of one kind."""
    whole = output / kind / _below(recording)
    if kind in (ORIGINAL, RECONSTRUCTION):
        return [whole.with_name(f"{whole.name}.wav")]
    return [whole.with_name(f"{whole.name}-{index}.wav") for index in range(_num_samples(kind, settings))]


def _samples_of(output: Path, kind: str, recording: Recording, settings: SampleSettings) -> list[Recording]:
    paths = _paths(output, kind, recording, settings)
    if kind in (ORIGINAL, RECONSTRUCTION):
        return [recording.sample(paths[0])]
    return [recording.sample(path, index) for index, path in enumerate(paths)]


def _make(
    bundle: Bundle,
    lm: AudioLM | None,
    kind: str,
    batch: Sequence[Recording],
    output: Path,
    settings: SampleSettings,
    on_progress: OnProgress,
) -> None:
    """Writes the files of one kind that the recordings of a batch lack."""
    codec = bundle.codec
    waveforms = [recording.read() for recording in batch]
    if kind in (ORIGINAL, RECONSTRUCTION):
        waveforms = [resample(waveform, codec.sample_rate_hz) for waveform in waveforms]
    if kind == ORIGINAL:
        for recording, waveform in zip(batch, waveforms, strict=True):
            write_audio(_paths(output, kind, recording, settings)[0], waveform)
        return
    if kind == RECONSTRUCTION:
        for recording, waveform in zip(batch, waveforms, strict=True):
            tokens = encode_chunked(codec, bundle.codec_params, waveform.samples[None])
            samples = decode_chunked(codec, bundle.codec_params, tokens)[0, : len(waveform.samples)]
            write_audio(
                _paths(output, kind, recording, settings)[0], Waveform(samples, codec.sample_rate_hz), bundle.licence
            )
        return
    requests = [
        Request(
            waveform,
            mode=kind,
            prompt_seconds=settings.prompt_seconds,
            seconds=settings.seconds if kind == CONTINUATION else None,
            num_samples=_num_samples(kind, settings),
            seed=hash_bits(settings.seed, "samples", kind, recording.key) % 2**32,
            temperature=settings.temperature,
        )
        for recording, waveform in zip(batch, waveforms, strict=True)
    ]
    made_of_all = lm.generations_together(requests, on_progress, fixed_rows=_FIXED_ROWS)
    files: dict[Path, bytes] = {}
    for recording, made in zip(batch, made_of_all, strict=True):
        for path, one in zip(_paths(output, kind, recording, settings), made, strict=True):
            files |= _drawn(path, kind, one, output, bundle, settings)
    write_results(files)


def _shown_in(bar: tqdm) -> OnProgress:
    """Shows how far each stage has come, because the bar moves only when all samples of a batch are done."""
    return lambda stage, drawn, to_draw: bar.set_postfix_str(f"{stage} {drawn / max(to_draw, 1):.0%}")


def _drawn(
    path: Path, kind: str, made: Generation, output: Path, bundle: Bundle, settings: SampleSettings
) -> dict[Path, bytes]:
    """Files of one generated sample; the prompted one first: where a continuation is, its prompted one is too."""
    files, waveform = {}, made.waveform
    if kind == CONTINUATION:
        prompted = output / PROMPTED / path.relative_to(output / kind)
        files[prompted] = encode_for(prompted, waveform, bundle.licence)
        new = round(settings.seconds * waveform.sample_rate_hz)
        waveform = Waveform(waveform.samples[len(waveform.samples) - new :], waveform.sample_rate_hz)
    return files | {path: encode_for(path, waveform, bundle.licence)}
