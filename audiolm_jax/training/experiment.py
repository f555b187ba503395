"""Experiments: from a configuration to objects, and from objects to a training run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin

from audiolm_jax.classifier.learner import ClipClassifierLearner
from audiolm_jax.data.corpora.corpora import Corpus, open_corpora
from audiolm_jax.data.corpora.voice_activity import SEGMENT_SECONDS
from audiolm_jax.data.feed.feed import AudioFeed, TokenFeed
from audiolm_jax.data.seqio.feed import SeqioFeed
from audiolm_jax.errors import UserError
from audiolm_jax.files.plain_json import to_plain
from audiolm_jax.parallel import hosts
from audiolm_jax.parallel.mesh import MeshSizes
from audiolm_jax.pretrained.files.imported_model import read_imported, read_imported_manifest
from audiolm_jax.pretrained.kind import ENCODER
from audiolm_jax.ranges import Positive, Whole
from audiolm_jax.semantic.network.encoder import Encoder
from audiolm_jax.tokens.split import Split
from audiolm_jax.training import loop
from audiolm_jax.training.examination import Examiner
from audiolm_jax.training.learner import Learner
from audiolm_jax.training.loop import Feed, RunOptions, Sampler
from audiolm_jax.training.macros import configuration
from audiolm_jax.training.saved.checkpoints import load_params
from audiolm_jax.training.saved.warm_start import WarmStart, continue_from, init_from
from audiolm_jax.training.saved.work_directory import WorkDirectory, fixed_lines

# The shape of the w2v-BERT, in which k-means must agree with the training whose encoder it takes.
_ENCODER_MACROS = frozenset({
    "DIM",
    "NUM_HEADS",
    "MLP_DIM",
    "CONV_KERNEL",
    "CONTRASTIVE_LAYERS",
    "MLM_LAYERS",
    "FRONTEND_CHANNELS",
    "MASK_CODES",
    "MASK_CODE_DIM",
})


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything `training.loop.train` needs but the work directory; what a gin file builds.

    Attributes:
      learner: what is trained.
      feed: its batches.
      options: lengths and periods.
      mesh: devices per mesh axis.
      sampler: makes clips for TensorBoard; None for none.
      examiner: judges the model at every evaluation; None for none.
      init_from: a work directory whose parameters a new run starts from; None to start from random ones.
      continue_from: a work directory whose parameters, optimizer moments and collections a new run starts from; not
        together with `init_from`.
      resume: "auto" resumes a run of the same configuration and refuses another one; "force" continues whatever the
        configuration; "never" refuses a directory that holds a run.
    """

    learner: Learner
    feed: Feed
    options: RunOptions
    mesh: MeshSizes = MeshSizes()
    sampler: Sampler | None = None
    examiner: Examiner | None = None
    init_from: str | None = None
    continue_from: str | None = None
    resume: str = "auto"

    def __post_init__(self):
        if self.resume not in ("auto", "force", "never"):
            raise UserError(f"RESUME is '{self.resume}', but must be auto, force or never")
        if self.init_from and self.continue_from:
            raise UserError("INIT_FROM and CONTINUE_FROM are both set; give one: INIT_FROM takes the parameters alone, "
                            "CONTINUE_FROM the optimizer too")
        crop, takes = getattr(self.feed, "crop_samples", None), getattr(self.learner, "crop_range", None)
        if crop is not None and takes is not None and crop not in takes:
            raise UserError(f"CROP_SAMPLES is {crop}, but takes a whole number {takes}")

    @property
    def warm_start(self) -> WarmStart | None:
        """Where a new run's first values come from; None for random ones."""
        if self.continue_from:
            return continue_from(self.continue_from)
        return init_from(self.init_from) if self.init_from else None


def chosen_feed(
    grain: Feed,
    mixture: str | None = None,
    modules: str | Sequence[str] | None = None,
    cache_dirs: str | Sequence[str] | None = None,
) -> Feed:
    """The feed that Grain reads, or one of the same batches from a seqio Task or Mixture.

    Args:
      grain: the feed; one without folders where a Mixture is to be read alone.
      mixture: name of the Task or Mixture; None for the feed itself.
      modules: that register it, by name or as Python files; imported when the first batch is asked for.
      cache_dirs: folders that seqio_cache_tasks wrote, from which Tasks are read.

    Raises:
      UserError: there are modules or caches for no Mixture.
    """
    given = [name for name, value in (("--module", modules), ("SEQIO_CACHE", cache_dirs)) if value]
    if mixture is None and given:
        raise UserError(f"{given[0]} is given, but nothing is read from seqio; give --set SEQIO_MIXTURE=NAME too")
    if mixture is None:
        return grain
    return SeqioFeed(grain, mixture, _several(modules), _several(cache_dirs))


def _several(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def folder_corpora(
    folders: str | Sequence[str] | None,
    heldout_speakers: Whole,
    seed: int,
    kind: str = "folder",
    segment_seconds: Positive = SEGMENT_SECONDS,
    cache_dir: str | None = None,
    mixture: str | None = None,
) -> tuple[Corpus, ...]:
    """One corpus for each folder of audio; see `data.corpora.corpora.open_corpora` for the arguments.

    With the name of a seqio Mixture there may be none.

    Raises:
      UserError: no folder is named, there is no such kind of corpus, or parts of Libri-Light are named one by one.
    """
    if not folders and mixture is None:
        raise UserError("no folder of audio is named; give --data DIR (or --set DATA_DIR=DIR)")
    return open_corpora(kind, _several(folders), heldout_speakers, seed, segment_seconds, cache_dir)


def token_folders(folders: str | Sequence[str] | None, mixture: str | None = None) -> tuple[str, ...]:
    """One or several folders of token records as a tuple; with the name of a seqio Mixture there may be none.

    Raises:
      UserError: no folder is named.
    """
    if not folders and mixture is None:
        raise UserError("no folder of token records is named; give --data DIR (or --set DATA_DIR=DIR), a folder that "
                        "`audiolm tokenize` wrote")
    return _several(folders)


def trained_encoder(workdir: str | None) -> Callable[[], Any]:
    """What loads the encoder that a work directory of a semantic encoder's training holds, for k-means.

    Raises:
      UserError: no directory is named, or it was trained with other sizes than the configuration that is parsed now
        has; when it is called: the directory holds no checkpoint.
    """
    if not workdir:
        raise UserError("k-means needs a trained encoder; give its work directory: --set W2V_BERT=DIR")
    return _encoder_of(workdir)


def teacher_encoder(workdir: str | None) -> Callable[[], Any]:
    """The same for the teacher whose clusters are targets."""
    if not workdir:
        raise UserError("these targets need a trained encoder; give its work directory: --set TEACHER=DIR")
    return _encoder_of(workdir)


def _encoder_of(workdir: str) -> Callable[[], Any]:
    path = Path(workdir) / "config.gin"
    trained = fixed_lines(path.read_text()) if path.exists() else []
    macros = configuration.macros()
    for name in _ENCODER_MACROS & macros.keys():
        before = [line for line in trained if line.startswith(f"{name} = ")]
        now = f"{name} = {macros[name]!r}"
        if before and before[0] != now:
            setting = before[0].replace(" = ", "=")
            raise UserError(f"the encoder in {workdir} has {before[0]}, this run {now}; add --set '{setting}'")
    return lambda: load_params(workdir)[0]["params"]


def published_encoder(directory: str | None, default: Encoder) -> Encoder:
    """The configuration of the encoder that `audiolm import` wrote into a directory; the default without one."""
    return read_imported_manifest(directory, ENCODER).config if directory else default


def imported_encoder(directory: str | None) -> Callable[[], Any]:
    """What loads the parameters of an imported encoder.

    Raises:
      UserError: when it is called: no directory is named, or it holds no imported encoder.
    """

    def load_imported() -> Any:
        if not directory:
            raise UserError("k-means needs an imported encoder; give its directory: --set ENCODER=DIR")
        return read_imported(directory, ENCODER).params

    return load_imported


def train(
    exp: str | Path,
    workdir: str | Path,
    overrides: Sequence[str] = (),
    data: str | Sequence[str] | None = None,
    modules: str | Sequence[str] | None = None,
) -> int:
    """Trains what a gin file describes; what `audiolm train` calls.

    Args:
      exp: a path to a gin file, or the name of one in gin/exp ("codec_small").
      workdir: where everything of the run goes; started again, the run goes on.
      overrides: "MACRO=VALUE" each.
      data: folder(s) of audio or of token records; short for DATA_DIR=....
      modules: module(s) or Python file(s) that register seqio Tasks and Mixtures; short for SEQIO_MODULES=....

    Returns:
      0: finished, or stopped in order by a signal and ready to go on. The file `workdir/done` tells which.

    Raises:
      UserError: whatever of it is the user's to mend, in one line.
    """
    experiment, text = load(exp, overrides, data, modules)
    directory = WorkDirectory(Path(workdir), text, experiment.resume)
    if hosts.is_main():
        directory.check()
    if hosts.from_main("finished", str(directory.finished(experiment.options.steps))) == "True":
        if hosts.is_main():
            print(f"{experiment.learner.name}: all {experiment.options.steps} steps are done in {workdir}")
        return 0
    # What was held out goes with the weights, so that nothing they heard is ever called held out.
    meta = {"gin": text} | _splits_of(experiment.feed)
    tokenizers = experiment.feed.tokenizers if isinstance(experiment.feed, (TokenFeed, SeqioFeed)) else None
    if tokenizers is not None:
        # Whose tokens a stage learns goes with it, so that it is never joined to other tokenizers.
        meta["fingerprints"] = {"codec": tokenizers.codec_fingerprint, "semantic": tokenizers.semantic_fingerprint}
    if isinstance(experiment.learner, ClipClassifierLearner):
        # Names of the classes and held-out recordings: what is needed to use and to judge it without its data.
        meta["classifier"] = experiment.learner.config.to_plain()
        meta["heldout"] = [utterance.key for utterance in experiment.feed.recordings.heldout]
    loop.train(
        experiment.learner,
        experiment.feed,
        directory,
        experiment.options,
        experiment.mesh,
        experiment.sampler,
        experiment.examiner,
        experiment.warm_start,
        meta,
    )
    return 0


def _splits_of(feed: Feed) -> dict[str, Any]:
    """{"splits": a `Split` for each folder, in plain values}; nothing where one is not known."""
    splits: Sequence[Split | None] = feed.splits if isinstance(feed, (AudioFeed, TokenFeed, SeqioFeed)) else ()
    return {"splits": to_plain(splits)} if splits and None not in splits else {}


def load(
    exp: str | Path,
    overrides: Sequence[str] = (),
    data: str | Sequence[str] | None = None,
    modules: str | Sequence[str] | None = None,
) -> tuple[Experiment, str]:
    """The objects a gin file builds, and the configuration as gin text with all macros resolved into it.

    Raises:
      UserError: see `configuration.parse`, and whatever the constructors refuse.
    """
    text = configuration.parse(exp, overrides, data, modules)
    try:
        experiment = gin.get_configurable(Experiment)()
    except (TypeError, ValueError) as error:
        place = "" if isinstance(error, UserError) else f"{exp}: "
        raise UserError(place + configuration.told(error, overrides)) from error
    except RecursionError as error:
        raise UserError(f"{exp}: a macro refers to itself, perhaps through others; give it a value") from error
    return experiment, text
