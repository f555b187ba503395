"""What the report of all metrics consists of: how much is measured, and in which steps.

A step is one measurement with everything that its figures depend on. The hash of that is its key: a report that is
started again keeps the measurements whose keys are the same, and makes the others.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audiolm_jax import __version__
from audiolm_jax.data.corpora.voice_activity import SEGMENT_SECONDS
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.measurement import Measurement, versions
from audiolm_jax.evaluation.recordings import DataSettings, Recording
from audiolm_jax.evaluation.words.asr import POCKETSPHINX, packages_of

# In the order in which they are measured, the quick ones first; also the names of --only.
METRICS = (
    "perplexity",
    "codec",
    "abx",
    "swuggy",
    "sblimp",
    "samples",
    "codec_words",
    "wer",
    "speaker",
    "detector",
    "fad",
    "ladder",
)


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much is measured: every number in which a quick report differs from one by the paper's protocol.

    Attributes:
        name: "quick" or "full".
        token_recordings: recordings whose tokens are scored; None for all that are held out.
        codec_clips: recordings that the codec is judged by, and those at most that its words are heard in.
        prompts: recordings that samples are made of; None for all held-out ones of the right length.
        seen_prompts: at most so many of them are of speakers heard in training, where no others fit.
        num_samples: of every prompt and kind.
        min_seconds, max_seconds: length of prompts.
        prompt_seconds, seconds: given, and generated, of a continuation.
        zerospeech_pairs: pairs of sWUGGY and sBLIMP that are scored; None for all.
        abx_group_size, abx_x_across: caps of ABX.
        classifier_macros: settings of the speaker classifier's training, beyond those of its gin file.
        classifier_seconds: how long that takes on two cores, roughly.
        classifier_recordings: recordings at most that the classifier is judged by, of those it was not trained on.
        page_clips: recordings that can be heard on the page.
    """

    name: str
    token_recordings: int | None
    codec_clips: int
    prompts: int | None
    seen_prompts: int
    num_samples: int
    min_seconds: float
    max_seconds: float
    prompt_seconds: float
    seconds: float
    zerospeech_pairs: int | None
    abx_group_size: int
    abx_x_across: int
    classifier_macros: tuple[str, ...]
    classifier_seconds: float
    classifier_recordings: int | None
    page_clips: int


QUICK = Extent(
    name="quick",
    token_recordings=40,
    codec_clips=20,
    prompts=12,
    seen_prompts=12,
    num_samples=1,
    min_seconds=4.0,
    max_seconds=10.0,
    prompt_seconds=3.0,
    seconds=7.0,
    zerospeech_pairs=200,
    abx_group_size=10,
    abx_x_across=5,
    classifier_macros=("STEPS=300", "CHANNELS=(32, 64, 128, 128, 256, 256)", "WARMUP_STEPS=30"),
    classifier_seconds=300.0,
    classifier_recordings=24,
    page_clips=4,
)
FULL = Extent(
    name="full",
    token_recordings=None,
    codec_clips=40,
    prompts=None,
    seen_prompts=100,
    num_samples=3,
    min_seconds=4.0,
    max_seconds=10.0,
    prompt_seconds=3.0,
    seconds=7.0,
    zerospeech_pairs=None,
    abx_group_size=10,
    abx_x_across=5,
    classifier_macros=(),
    classifier_seconds=1800.0,
    classifier_recordings=None,
    page_clips=6,
)


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What `audiolm eval all` is asked for.

    Attributes:
        folders: of recordings, one folder for each speaker in them, or as `corpus` says.
        output: where everything goes.
        extent: how much.
        only: metrics; all for none.
        item: an ABX item file of the recordings in the one folder.
        swuggy, sblimp: folders of ZeroSpeech 2021 with gold.csv and recordings.
        asr: name or folder of the recogniser.
        classifier, detector: work directories of trainings, in place of one made here and of the bundle's own.
        train_tokens: folders of token records of the stages' training.
        corpus, heldout_speakers, split_seed, segment_seconds, corpus_cache, unseen: what the folders hold and how they
            are split, see `DataSettings`.
        seed: of everything that is drawn.

    Raises:
        UserError: no folder, an unknown metric, or a path that does not exist.
    """

    folders: tuple[str, ...]
    output: Path
    extent: Extent = FULL
    only: tuple[str, ...] = ()
    item: Path | None = None
    swuggy: Path | None = None
    sblimp: Path | None = None
    asr: str = "pocketsphinx"
    classifier: Path | None = None
    detector: Path | None = None
    train_tokens: tuple[str, ...] = ()
    corpus: str = "folder"
    heldout_speakers: int = 20
    split_seed: int = 0
    segment_seconds: float = SEGMENT_SECONDS
    corpus_cache: str | None = None
    unseen: bool = False
    seed: int = 0

    def __post_init__(self):
        if not self.folders:
            raise UserError("no folder of speech is named; give --data DIR")
        if unknown := [name for name in self.only if name not in METRICS]:
            raise UserError(f"--only names {', '.join(unknown)}; the metrics are {', '.join(METRICS)}")
        if self.item and not self.item.is_file():
            raise UserError(f"--item {self.item} is no file; give an item file in Libri-light's format")
        for name in ("swuggy", "sblimp"):
            folder = getattr(self, name)
            if folder and not (folder / "gold.csv").is_file():
                raise UserError(f"--{name} {folder} holds no gold.csv; give the folder of ZeroSpeech 2021 that has one")
        for name in ("classifier", "detector"):
            folder = getattr(self, name)
            if folder and not folder.is_dir():
                raise UserError(f"--{name} {folder} is no folder; give the work directory of its training")
        if self.item and len(self.folders) > 1:
            raise UserError("--item goes with one folder of recordings; give --data once")

    @functools.cached_property
    def data(self) -> DataSettings:
        """What is measured on."""
        return DataSettings(
            self.folders,
            self.corpus,
            self.heldout_speakers,
            self.split_seed,
            self.segment_seconds,
            self.corpus_cache,
            self.unseen,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    @property
    def is_cut(self) -> bool:
        """Whether recordings are cut into segments, as those of Libri-Light and MAESTRO are."""
        return self.corpus != "folder"

    def wants(self, metric: str) -> bool:
        """Whether a metric is to be measured."""
        return not self.only or metric in self.only

    @property
    def asked_for(self) -> frozenset[str]:
        """Metrics that were named, or that were given an input of their own: that they fail is then an error."""
        own = {"abx": self.item, "swuggy": self.swuggy, "sblimp": self.sblimp, "detector": self.detector}
        return frozenset(self.only) | {metric for metric, value in own.items() if value and self.wants(metric)}


@dataclasses.dataclass(frozen=True)
class Step:
    """One measurement that can be made.

    Attributes:
        name: of its file and in the report; that of the metric where the metric has one measurement.
        metric: one of METRICS.
        what: what it is measured on, in a few words.
        inputs: everything that the figures depend on, plain JSON values.
        seconds: how long it takes on two cores, roughly.
        measure: makes it.
        needs: steps that must have been made before.
        uses: steps that come before, and without which less is measured; that is then not kept for the next run.
    """

    name: str
    metric: str
    what: str
    inputs: dict[str, Any]
    seconds: float
    measure: Callable[[], Measurement]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what the figures depend on, and of our version."""
        text = json.dumps({"version": __version__, "step": self.name, **self.inputs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class NotMeasured:
    """A measurement that was not made.

    Attributes:
        name, metric: as in `Step`.
        reason: why, in one sentence.
        remedy: what would supply it; "" where the reason says so itself.
        failed: whether it broke down, in place of lacking something.
    """

    name: str
    metric: str
    reason: str
    remedy: str = ""
    failed: bool = False


Entry = Step | NotMeasured


def recording_inputs(recordings: Sequence[Recording]) -> list[list]:
    """What of recordings goes into a key: names, lengths of files, parts of them, texts and the side of the split."""
    ordered = sorted(recordings, key=lambda r: r.key)
    return [[r.key, r.path.stat().st_size, r.text, r.heldout, *map(list, r.ranges)] for r in ordered]


def file_inputs(path: Path) -> str:
    """What of one file goes into a key: the hash of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def recogniser_inputs(name: str) -> dict[str, Any]:
    """What of a recogniser goes into a key: its name, packages and, of a folder, its files as they lie on the disk.

    Their contents are hashed where something is heard anew; here a copy with another time is one hearing too many.
    """
    files = sorted(Path(name).iterdir()) if name != POCKETSPHINX and Path(name).is_dir() else []
    return {
        "asr": recogniser_name(name),
        "asr_files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()],
        "asr_packages": versions(*packages_of(name)),
    }


def recogniser_name(name: str) -> str:
    """A recogniser in a few words: the name of its folder, wherever that lies."""
    return name if name == POCKETSPHINX else Path(name).resolve().name


def with_notes(measurement: Measurement, notes: Sequence[str]) -> Measurement:
    """A measurement with further notes, each once."""
    return dataclasses.replace(measurement, notes=tuple(dict.fromkeys((*measurement.notes, *notes))))


def counted(recordings: Sequence[Recording]) -> str:
    """ "1 recording" or "12 recordings"."""
    return f"{len(recordings)} recording{'' if len(recordings) == 1 else 's'}"
