"""Experiments: from a gin file and `--set MACRO=VALUE` to objects, and from objects to a training run.

This module and the command line are the only ones that import gin. Gin files bind public constructors and functions;
what a user changes are macros (capital letters, one comment with the unit at each), and every mistake in a name is an
error: an unknown macro, a misspelt parameter, a binding that nothing uses.
"""

import ast
import dataclasses
import difflib
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin

from audiolm_jax.classifier.learner import ClipClassifierLearner
from audiolm_jax.data.corpora import Corpus, open_corpus
from audiolm_jax.data.feed import TokenFeed
from audiolm_jax.data.voice_activity import SEGMENT_SECONDS
from audiolm_jax.errors import UserError, first_line
from audiolm_jax.parallel import hosts
from audiolm_jax.parallel.mesh import MeshSizes
from audiolm_jax.pretrained.imported_model import read_imported, read_imported_manifest
from audiolm_jax.pretrained.kind import ENCODER
from audiolm_jax.ranges import Positive, Whole
from audiolm_jax.semantic.encoder import Encoder
from audiolm_jax.training import loop, settings
from audiolm_jax.training.checkpoints import load_params
from audiolm_jax.training.learner import Learner
from audiolm_jax.training.loop import Feed, RunOptions, Sampler
from audiolm_jax.training.warm_start import WarmStart, continue_from, init_from
from audiolm_jax.training.work_directory import WorkDirectory, fixed_lines

_ROOT = "audiolm_jax.training.experiment.Experiment"

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
    init_from: str | None = None
    continue_from: str | None = None
    resume: str = "auto"

    def __post_init__(self):
        if self.resume not in ("auto", "force", "never"):
            raise UserError(f"RESUME is '{self.resume}', but must be auto, force or never")
        if self.init_from and self.continue_from:
            raise UserError("INIT_FROM and CONTINUE_FROM are both set; give one: INIT_FROM takes the parameters alone, "
                            "CONTINUE_FROM the optimizer too")

    @property
    def warm_start(self) -> WarmStart | None:
        """Where a new run's first values come from; None for random ones."""
        if self.continue_from:
            return continue_from(self.continue_from)
        return init_from(self.init_from) if self.init_from else None


def folder_corpora(
    folders: str | Sequence[str] | None,
    heldout_speakers: Whole,
    seed: int,
    kind: str = "folder",
    segment_seconds: Positive = SEGMENT_SECONDS,
    cache_dir: str | None = None,
) -> tuple[Corpus, ...]:
    """One corpus for each folder of audio; see `data.corpora.open_corpus` for the arguments.

    Raises:
      UserError: no folder is named, there is no such kind of corpus, or parts of Libri-Light are named one by one.
    """
    if not folders:
        raise UserError("no folder of audio is named; give --data DIR (or --set DATA_DIR=DIR)")
    folders = (folders,) if isinstance(folders, str) else tuple(folders)
    if len(folders) > 1 and kind not in ("folder", "maestro"):
        # A reader of small may read in medium too, and would be held out of one and trained on in the other.
        raise UserError(f"CORPUS is '{kind}': name one folder, that which holds small/, medium/ and large/")
    return tuple(open_corpus(kind, folder, heldout_speakers, seed, segment_seconds, cache_dir) for folder in folders)


def token_folders(folders: str | Sequence[str] | None) -> tuple[str, ...]:
    """One or several folders of token records as a tuple.

    Raises:
      UserError: no folder is named.
    """
    if not folders:
        raise UserError("no folder of token records is named; give --data DIR (or --set DATA_DIR=DIR), a folder that "
                        "`audiolm tokenize` wrote")
    return (folders,) if isinstance(folders, str) else tuple(folders)


def trained_encoder(workdir: str | None) -> Callable[[], Any]:
    """What loads the encoder that a work directory of a w2v-BERT training holds.

    Raises:
      UserError: no directory is named, or it was trained with other sizes than the configuration that is parsed now
        has; when it is called: the directory holds no checkpoint.
    """
    if not workdir:
        raise UserError("k-means needs a trained encoder; give its work directory: --set W2V_BERT=DIR")
    path = Path(workdir) / "config.gin"
    trained = fixed_lines(path.read_text()) if path.exists() else []
    for name in _ENCODER_MACROS & macros().keys():
        before = [line for line in trained if line.startswith(f"{name} = ")]
        now = f"{name} = {macros()[name]!r}"
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
) -> int:
    """Trains what a gin file describes; what `audiolm train` calls.

    Args:
      exp: a path to a gin file, or the name of one in gin/exp ("codec_small").
      workdir: where everything of the run goes; started again, the run goes on.
      overrides: "MACRO=VALUE" each.
      data: folder(s) of audio or of token records; short for DATA_DIR=....

    Returns:
      0: finished, or stopped in order by a signal and ready to go on. The file `workdir/done` tells which.

    Raises:
      UserError: whatever of it is the user's to mend, in one line.
    """
    experiment, text = load(exp, overrides, data)
    directory = WorkDirectory(Path(workdir), text, experiment.resume)
    if hosts.is_main():
        directory.check()
    if hosts.from_main("finished", str(directory.finished(experiment.options.steps))) == "True":
        if hosts.is_main():
            print(f"{experiment.learner.name}: all {experiment.options.steps} steps are done in {workdir}")
        return 0
    meta = {"gin": text}
    if isinstance(experiment.feed, TokenFeed):
        # Whose tokens a stage learns goes with it, so that it is never joined to other tokenizers.
        tokenizers = experiment.feed.source.manifests[0].tokenizers
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
        experiment.warm_start,
        meta,
    )
    return 0


def load(
    exp: str | Path, overrides: Sequence[str] = (), data: str | Sequence[str] | None = None
) -> tuple[Experiment, str]:
    """The objects a gin file builds, and the configuration as gin text with all macros resolved into it.

    Raises:
      UserError: see `parse`, and whatever the constructors refuse.
    """
    text = parse(exp, overrides, data)
    try:
        experiment = gin.get_configurable(Experiment)()
    except (TypeError, ValueError) as error:
        # gin adds lines with the call to the message; the first is the constructor's own.
        place = "" if isinstance(error, UserError) else f"{exp}: "
        raise UserError(place + first_line(error)) from error
    return experiment, text


def parse(exp: str | Path, overrides: Sequence[str] = (), data: str | Sequence[str] | None = None) -> str:
    """Makes gin's configuration from a file and overrides, checks and locks it, and returns it as text.

    Raises:
      UserError: no such file, a syntax error, an unknown name, an override of a macro that does not exist, or a
        binding that touches nothing, a value that its constructor does not take.
    """
    _add_search_paths()
    path = find(exp)
    gin.clear_config()
    logging.disable(logging.ERROR)  # gin logs an error for every folder in which it does not find an include
    try:
        gin.parse_config_file(str(path))
    except (OSError, ImportError, SyntaxError, ValueError, NameError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: {first_line(error)}") from error
    finally:
        logging.disable(logging.NOTSET)
    own, parameters = macros(), _parameters()
    changes = [_setting(override, parameters) for override in overrides]
    if data:
        changes.append(("DATA_DIR", data if isinstance(data, str) else tuple(data)))
    for name, value in changes:
        if name not in own:
            near = difflib.get_close_matches(name, own, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(own))}"
            raise UserError(f"{path} has no macro {name}; {hint}")
        gin.bind_parameter((name, "gin.macro", "value"), value)
    _check_values(own, parameters)
    _check_all_used(path)
    try:
        gin.finalize()
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from error
    # One binding a line, however long, so that lines can be compared; without gin's rulers of the same length.
    lines = gin.config_str(max_line_length=10_000).splitlines()
    return "\n".join(line for line in lines if not line.startswith("# ==")) + "\n"


def find(exp: str | Path) -> Path:
    """The gin file that `audiolm train EXP` means: a path, or a name in gin/exp with or without ".gin".

    Raises:
      UserError: there is none; the line lists the names there are.
    """
    exp = str(exp)
    name = exp if exp.endswith(".gin") else exp + ".gin"
    candidates = [Path(name)]
    for root in search_paths():
        candidates += [root / name, root / "gin" / "exp" / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = sorted({path.stem for root in search_paths() for path in (root / "gin" / "exp").glob("*.gin")})
    raise UserError(f"there is no experiment '{exp}'; give a path to a gin file or one of {', '.join(names)}")


def search_paths() -> list[Path]:
    """Folders that hold `gin/`: the repository, and the installed package, which carries a copy."""
    package = Path(__file__).resolve().parents[1]
    return [root for root in (package.parent, package) if (root / "gin" / "exp").is_dir()]


def macros() -> dict[str, Any]:
    """Name and value of every macro of the configuration that is parsed now."""
    return {scope: values["value"] for (scope, selector), values in _bindings().items() if selector == "gin.macro"}


def _bindings() -> dict[tuple[str, str], dict[str, Any]]:
    # gin shows its configuration to finalize hooks only, which is too late for a macro that may still be overridden.
    return gin.config._CONFIG


@functools.cache
def _add_search_paths() -> None:
    for root in search_paths():
        gin.add_config_file_search_path(str(root))


def _setting(override: str, parameters: dict[str, list[Any]]) -> tuple[str, Any]:
    """("STEPS", 100) of "STEPS=100"; text needs no quotes, be it a Python literal or not (a folder named 2024)."""
    name, sign, text = map(str.strip, override.partition("="))
    if not sign or not name:
        raise UserError(f"--set {override}: write it as MACRO=VALUE")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, text
    taken = [annotation for annotation in parameters.get(name, []) if not settings.fits(value, annotation)]
    return name, text if taken and all(settings.fits(text, annotation) for annotation in taken) else value


def _parameters() -> dict[str, list[Any]]:
    """The annotations of all parameters that a macro, or a binding without a macro ("RunOptions.steps"), reaches."""
    found: dict[str, list[Any]] = {}
    for (_, selector), values in _bindings().items():
        if selector == "gin.macro":
            continue
        annotations = settings.annotations(gin.config._REGISTRY[selector].wrapped)
        for parameter, value in values.items():
            name = _macro_of(value) or _binding_name(selector, parameter)
            if parameter in annotations:
                found.setdefault(name, []).append(annotations[parameter])
    return found


def _binding_name(selector: str, parameter: str) -> str:
    return f"{selector.rpartition('.')[2]}.{parameter}"


def _macro_of(value: Any) -> str | None:
    """The name of the macro that a value of gin's configuration is, at the end of a chain of them; None if it is not."""
    name = None
    while isinstance(value, gin.config.ConfigurableReference) and value.config_key[1] == "gin.macro":
        name = value.config_key[0]
        value = macros().get(name)
    return name


def _check_values(own: dict[str, Any], parameters: dict[str, list[Any]]) -> None:
    """Compares every value with the annotations of what it is bound to, before anything is built.

    Args:
      own: macros as the gin file has them, without the overrides.
      parameters: see `_parameters`.

    Raises:
      UserError: a value of another type or out of range, with the name of its macro and what it takes.
    """
    values = {_binding_name(selector, parameter): value for (_, selector), bound in _bindings().items()
              for parameter, value in bound.items()} | macros()
    for name, annotations in parameters.items():
        value = values[name]
        if gin.config.ConfigurableReference in {type(one) for one in _leaves(value)}:
            continue  # what its constructor makes
        for annotation in annotations:
            if not settings.fits(value, annotation):
                usual = f" (the gin file has {own[name]!r})" if settings.fits(own.get(name), annotation) else ""
                raise UserError(f"{name} is {value!r}, but takes {settings.takes(annotation)}{usual}")


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, (tuple, list)):
        return [value]
    return [leaf for one in value for leaf in _leaves(one)]


def _check_all_used(path: Path) -> None:
    """Every binding must be reachable from the experiment through references.

    Raises:
      UserError: one that is not: a typing mistake, or a file that is included for nothing.
    """
    bindings = _bindings()
    reached, waiting = set(), [("", _ROOT)]
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        references = gin.config.iterate_references(bindings.get(key, {}))
        waiting += [reference.config_key for reference in references]
    for (scope, selector), values in bindings.items():
        if (scope, selector) not in reached:
            what = f"macro {scope}" if selector == "gin.macro" else f"{selector}.{next(iter(values))}"
            raise UserError(f"{path}: {what} touches nothing; remove it, or use it where it should count")
