"""What several metrics of a report share: recordings, prompts, tokens and samples.

Each is made when a metric first asks for it, and resumes where an earlier run stopped.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_jax.audio import read_header
from audiolm_jax.bundle import Bundle
from audiolm_jax.data.corpora.voice_activity import num_samples_of
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated.samples import (
    ACOUSTIC,
    FINE,
    KINDS,
    ORIGINAL,
    PROMPTED,
    RECONSTRUCTION,
    Samples,
    SampleSettings,
    make_samples,
    usable,
)
from audiolm_jax.evaluation.heldout import REFUSED, HeldoutClaim, heldout_claim
from audiolm_jax.evaluation.language.token_records import Tokenized, tokenize_all
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import Recording, excerpt, shared_out
from audiolm_jax.evaluation.report.report_plan import Lacking, recording_inputs, short_hash, with_notes
from audiolm_jax.evaluation.report.report_settings import Extent, ReportSettings
from audiolm_jax.evaluation.words.asr import POCKETSPHINX, packages_of
from audiolm_jax.extras import how_to_install
from audiolm_jax.fingerprint import fingerprint

# With fewer held-out prompts an interval says nothing, and recordings that the training has heard are let in.
FEWEST_PROMPTS = 4


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Recordings for a protocol, and what a reader must know of the choice."""

    recordings: tuple[Recording, ...]
    notes: tuple[str, ...] = ()


class Material:
    """Holder of what the metrics of one report share."""

    def __init__(self, bundle: Bundle, settings: ReportSettings):
        self.bundle = bundle
        self.settings = settings

    @functools.cached_property
    def system(self) -> dict[str, str]:
        """Fingerprints of all parts; what every figure depends on."""
        bundle = self.bundle
        return {"codec": bundle.codec_fingerprint, "semantic tokenizer": bundle.semantic_fingerprint} | {
            f"{name} stage": fingerprint((model.stage, model.config), model.params)
            for name, model in bundle.language_models.items()
        }

    @functools.cached_property
    def claim(self) -> HeldoutClaim:
        """What may be said of the recordings that the split holds out."""
        return heldout_claim(self.bundle, self.settings.data, self.settings.train_tokens)

    @functools.cached_property
    def recordings(self) -> list[Recording]:
        """All of them; none counts as held out where the split is not that of the trainings."""
        recordings = self.settings.data.recordings()
        if self.claim.state != REFUSED:
            return recordings
        return [dataclasses.replace(recording, heldout=False) for recording in recordings]

    @functools.cached_property
    def heldout(self) -> Chosen:
        """Recordings that no training has heard; all where none is held out, with a note."""
        heldout = tuple(recording for recording in self.recordings if recording.heldout)
        if heldout:
            return Chosen(heldout, self.claim.notes)
        return Chosen(tuple(self.recordings), ("no recording is held out: the training may have heard these",))

    @functools.cached_property
    def token_recordings(self) -> Chosen:
        """Those whose tokens are scored. Raises `Lacking` where none can be called held out."""
        if self.claim.state == REFUSED:
            raise Lacking(self.claim.reason)
        chosen = shared_out(self.heldout.recordings, self.settings.extent.token_recordings)
        return Chosen(tuple(chosen), self.heldout.notes)

    @functools.cached_property
    def tokenized(self) -> Tokenized:
        """Their tokens."""
        return tokenize_all(self.bundle, self.token_recordings.recordings)

    @functools.cached_property
    def prompts(self) -> Chosen:
        """Recordings that samples are made of; see `choose_prompts`."""
        chosen = choose_prompts(self.recordings, self.settings.extent)
        return dataclasses.replace(chosen, notes=(*chosen.notes, *self.claim.notes))

    @property
    def spoken_prompts(self) -> list[Recording]:
        """Those whose words are known. Raises `Lacking` for none."""
        spoken = [recording for recording in self.prompts.recordings if recording.text]
        if not spoken:
            raise Lacking(
                "no recording of the protocol's length has a transcript",
                "put transcripts.tsv, LibriSpeech's .trans.txt or NAME.txt beside the recordings",
            )
        return spoken

    @property
    def seen_notes(self) -> tuple[str, ...]:
        """What a reader must know of prompts that a training may have heard."""
        recordings = self.prompts.recordings
        seen = sum(not recording.heldout for recording in recordings)
        notes = (f"{seen} of {len(recordings)} recordings are not held out",) if seen else ()
        return (*notes, *self.claim.notes)

    @property
    def sample_settings(self) -> SampleSettings:
        """What is generated from each."""
        extent = self.settings.extent
        return SampleSettings(extent.num_samples, extent.prompt_seconds, extent.seconds, self.settings.seed)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of samples that the bundle's stages can make; one without a fine stage generates all the same."""
        stages = set(self.bundle.stages)
        if not stages >= {"semantic", "coarse"} and "acoustic" not in stages:
            return (ORIGINAL, RECONSTRUCTION)
        needs = {FINE: "fine", ACOUSTIC: "coarse"}
        return tuple(kind for kind in KINDS if kind not in needs or needs[kind] in stages)

    @property
    def samples_folder(self) -> Path:
        """Where they go; samples of another system or with other settings go elsewhere."""
        made_by = {"system": self.system, **dataclasses.asdict(self.sample_settings)}
        return self.settings.output / "samples" / short_hash(made_by)

    @functools.cached_property
    def samples(self) -> Samples:
        """All kinds of samples of the prompts."""
        return make_samples(
            self.bundle, self.prompts.recordings, self.samples_folder, self.sample_settings, self.kinds
        )

    def prompted(self, sample: Recording) -> Path:
        """The file of a continuation together with its prompt."""
        return self.samples_folder / PROMPTED / sample.path.relative_to(self.samples_folder / "continuation")

    @property
    def transcripts_folder(self) -> Path:
        """Where what was heard is kept."""
        return self.settings.output / "transcripts"

    @property
    def recogniser_name(self) -> str:
        """Who listens, in a few words: the name of its folder, wherever that lies."""
        asr = self.settings.asr
        return asr if asr == POCKETSPHINX else Path(asr).resolve().name

    @property
    def recogniser_inputs(self) -> dict[str, Any]:
        """What of the recogniser goes into a key: its name, packages and, of a folder, its files as they lie on disk.

        Their contents are hashed where something is heard anew; here a copy with another time is one hearing too many.
        """
        asr = self.settings.asr
        files = sorted(Path(asr).iterdir()) if asr != POCKETSPHINX and Path(asr).is_dir() else []
        stats = [(file.name, file.stat()) for file in files if file.is_file()]
        return {
            "asr": self.recogniser_name,
            "asr_files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
            "asr_packages": versions(*packages_of(asr)),
        }

    def require_recogniser(self, *others: str) -> None:
        """Raises `Lacking` for the first package that is not there, of those named and the recogniser's."""
        for package in (*others, *packages_of(self.settings.asr)):
            if importlib.util.find_spec(package) is None:
                remedy = how_to_install(ModuleNotFoundError(name=package)) or ""
                raise Lacking(f"the package {package} is not installed", remedy)

    def inputs_of(self, recordings: Sequence[Recording]) -> dict[str, Any]:
        """What every figure on recordings depends on, beside what is measured of them."""
        inputs = {"seed": self.settings.seed, "heldout": self.claim.state}
        return inputs | {"recordings": recording_inputs(recordings)}

    @property
    def sample_inputs(self) -> dict[str, Any]:
        """What every figure on samples depends on."""
        made_by = {"system": self.system, "samples": self.samples_folder.name}
        return made_by | self.inputs_of(self.prompts.recordings)

    def with_split(self, measurement: Measurement, notes: Sequence[str]) -> Measurement:
        """A measurement with the split that holds its recordings out, what may be said of it, and further notes."""
        split = {**self.settings.data.to_json(), "heldout": self.claim.state}
        measurement = dataclasses.replace(measurement, settings={**measurement.settings, **split})
        return with_notes(measurement, notes)


def choose_prompts(recordings: Sequence[Recording], extent: Extent) -> Chosen:
    """Recordings of the protocol's length: held-out ones first, and others only for what those cannot show.

    Where no held-out recording has that length and some are longer, as those of music are, excerpts of them take their
    place, one of each.

    Held-out recordings with a transcript are best, then others that are held out. Transcribed recordings of speakers
    heard in training join them where none of them has a transcript, for word errors, and any where there are fewer than
    FEWEST_PROMPTS. All is shared out among the speakers.

    Args:
        recordings: all there are.
        extent: how many, and of what length.
    """
    notes = []
    heldout = [recording for recording in recordings if recording.heldout]
    if not _fitting(heldout, 1, extent) and (longer := _excerpts(heldout, extent.prompts, extent)):
        notes.append(
            f"no held-out recording has {extent.min_seconds:g} to {extent.max_seconds:g} s: prompts are excerpts of "
            f"{len(longer)} longer ones"
        )
        heldout = longer
    told = _fitting([r for r in heldout if r.text], extent.prompts, extent)
    seen = [recording for recording in recordings if not recording.heldout]
    seen_told = [] if told else _fitting([r for r in seen if r.text], extent.seen_prompts, extent)
    room = None if extent.prompts is None else extent.prompts - len(told)
    if room is not None and seen_told:
        room //= 2
    silent = _fitting([r for r in heldout if not r.text], room, extent)
    if extent.prompts is not None:
        seen_told = seen_told[: extent.prompts - len(silent)] if seen_told else []
    chosen = [*told, *silent, *seen_told]
    lengths = f"{extent.min_seconds:g} to {extent.max_seconds:g} s"
    if seen_told:
        notes.append(
            f"no held-out recording of {lengths} has a transcript: {len(seen_told)} of {len(chosen)} prompts are "
            "transcribed recordings that are not held out"
        )
    if (missing := min(FEWEST_PROMPTS, extent.prompts or FEWEST_PROMPTS) - len(chosen)) > 0:
        added = _fitting([r for r in seen if r not in chosen], missing, extent)
        if added:
            notes.append(f"only {len(chosen)} held-out recordings have {lengths}: {len(added)} of others join them")
        chosen += added
    return Chosen(tuple(sorted(chosen, key=lambda r: r.key)), tuple(notes))


def _fitting(members: Sequence[Recording], count: int | None, extent: Extent) -> list[Recording]:
    """Those of a length for the protocol, shared out among speakers. Files are opened only as far as it takes."""
    found: list[Recording] = []
    queue = shared_out(members, None)
    at_once = max(len(queue) if count is None else 4 * count, 64)
    for start in range(0, len(queue), at_once):
        if count is not None and len(found) >= count:
            break
        found += usable(queue[start : start + at_once], extent.min_seconds, extent.max_seconds)
    return found[:count]


def _excerpts(members: Sequence[Recording], count: int | None, extent: Extent) -> list[Recording]:
    """Parts of the protocol's greatest length of those that are longer, shared out among speakers or pieces."""
    found: list[Recording] = []
    for recording in shared_out(members, None):
        if count is not None and len(found) >= count:
            break
        try:
            num_samples, rate_hz = read_header(recording.path)
        except UserError:
            continue
        num_samples = num_samples_of(recording.ranges) or num_samples
        if num_samples > extent.max_seconds * rate_hz:
            found.append(excerpt(recording, num_samples, rate_hz, extent.max_seconds))
    return found
