"""What the report of all metrics is asked for: how much is measured, on what, and which metrics."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import DataSettings


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much is measured, by default by the paper's protocol: every number in which a quick report differs.

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

    name: str = "full"
    token_recordings: int | None = None
    codec_clips: int = 40
    prompts: int | None = None
    seen_prompts: int = 100
    num_samples: int = 3
    min_seconds: float = 4.0
    max_seconds: float = 10.0
    prompt_seconds: float = 3.0
    seconds: float = 7.0
    zerospeech_pairs: int | None = None
    abx_group_size: int = 10
    abx_x_across: int = 5
    classifier_macros: tuple[str, ...] = ()
    classifier_seconds: float = 1800.0
    classifier_recordings: int | None = None
    page_clips: int = 6


FULL = Extent()
QUICK = Extent(
    name="quick",
    token_recordings=40,
    codec_clips=20,
    prompts=12,
    seen_prompts=12,
    num_samples=1,
    zerospeech_pairs=200,
    classifier_macros=("STEPS=300", "CHANNELS=(32, 64, 128, 128, 256, 256)", "WARMUP_STEPS=30"),
    classifier_seconds=300.0,
    classifier_recordings=24,
    page_clips=4,
)


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What `audiolm eval all` is asked for.

    Attributes:
        data: what is measured on, one folder for each speaker in the folders of a plain corpus.
        output: where everything goes.
        extent: how much.
        only: metrics; all for none.
        item: an ABX item file of the recordings in the one folder.
        swuggy, sblimp: folders of ZeroSpeech 2021 with gold.csv and recordings.
        phrases: a plain folder of speech in a small closed language, split as `data` is.
        vocabulary: text that holds every word of that language; None for the transcripts.tsv of `phrases`.
        asr: name or folder of the recogniser.
        classifier, detector: work directories of trainings, in place of one made here and of the bundle's own.
        train_tokens: folders of token records of the stages' training.
        seed: of everything that is drawn.

    Raises:
        UserError: no folder, an unknown metric, or a path that does not exist.
    """

    data: DataSettings
    output: Path
    extent: Extent = FULL
    only: tuple[str, ...] = ()
    item: Path | None = None
    swuggy: Path | None = None
    sblimp: Path | None = None
    phrases: Path | None = None
    vocabulary: Path | None = None
    asr: str = "pocketsphinx"
    classifier: Path | None = None
    detector: Path | None = None
    train_tokens: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self):
        from audiolm_jax.evaluation.report.report_metrics import METRICS  # declared by modules that know this class

        names = [metric.name for metric in METRICS]
        if not self.data.folders:
            raise UserError("no folder of speech is named; give --data DIR")
        if unknown := [name for name in self.only if name not in names]:
            raise UserError(f"--only names {', '.join(unknown)}; the metrics are {', '.join(names)}")
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
        if self.item and len(self.data.folders) > 1:
            raise UserError("--item goes with one folder of recordings; give --data once")
        if self.vocabulary and not self.phrases:
            raise UserError("--vocabulary is of the language of --phrases; give that folder of speech too")
        if self.phrases and not self.phrases.is_dir():
            raise UserError(f"--phrases {self.phrases} is no folder; give one of speech in a closed language")

    @property
    def phrases_data(self) -> DataSettings:
        """The folder of phrases, split as the data is."""
        return dataclasses.replace(self.data, folders=(str(self.phrases),), corpus="folder")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, those of the data among the others."""
        plain = dataclasses.asdict(self)
        return json.loads(json.dumps({**plain.pop("data"), **plain}, default=str))

    def wants(self, metric: str) -> bool:
        """Whether a metric is to be measured."""
        return not self.only or metric in self.only

    @property
    def asked_for(self) -> frozenset[str]:
        """Metrics that were named, or that were given an input of their own: that they fail is then an error."""
        from audiolm_jax.evaluation.report.report_metrics import METRICS

        given = {metric.name for metric in METRICS if metric.own_input and getattr(self, metric.own_input)}
        return frozenset(self.only) | {name for name in given if self.wants(name)}
