"""Shards on the workers of an Apache Beam runner, one element of the pipeline for each shard.

Neither weights nor lists of files are sent through the pipeline: an element says where the list of its inputs stands,
and each worker process loads the tokenizers once. A runner may give a shard to two workers, or to a second one when
the first is late: both write the same bytes, and the last rename wins.
"""

import contextlib
import logging
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction.interrupt import end_now, ends_in_order
from audiolm_jax.tokens.extraction.shard_plan import ShardPlan
from audiolm_jax.tokens.extraction.shard_work import WorkSettings, WorkStopped, work_shard
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.tokenizers import Tokenizers

# Tokenizers of this process by fingerprints: its threads and bundles share them, and the in-process runner neither
# pickles nor loads them again.
_RESIDENT: dict[tuple[str, str], Tokenizers] = {}
_LOADING = threading.Lock()


# What went wrong in this process, of runners on this machine.
_FAILURES: list[str] = []
# Set by Ctrl-C: the work in this process ends after the file that it is at.
_STOPPING = threading.Event()
# Exit code where a worker is lost; the same command goes on. A user's mistake exits with 2.
EXIT_LOST = 1
# Of a worker process that Ctrl-C ended, directly or through the shell that started it.
_INTERRUPTED_CODES = ("-2", "130")


class TokenizeShard(beam.DoFn):
    """ShardPlan -> name of the shard; writes the shard and the file beside it.

    Attributes:
        sizes: of the tokenizers.
        load_in_worker: loads them in another process; None if there is none.
        settings: of the work.
        fails_quietly: whether a user's mistake ends the work of this process without an exception, of which Beam would
            print pages. A distributed runner needs the exception: it tries the shard again elsewhere.
    """

    def __init__(
        self,
        sizes: TokenizerSizes,
        load_in_worker: Callable[[], Tokenizers] | None,
        settings: WorkSettings,
        fails_quietly: bool,
    ):
        self._sizes = sizes
        self._load_in_worker = load_in_worker
        self._settings = settings
        self._fails_quietly = fails_quietly

    def setup(self) -> None:
        """Finds the tokenizers, or loads them if this is the first thread of the process to ask."""
        name = (self._sizes.semantic_fingerprint, self._sizes.codec_fingerprint)
        with _LOADING:
            if name not in _RESIDENT:
                if self._load_in_worker is None:
                    raise UserError("this Beam runner works in other processes; name the tokenizers by a bundle folder")
                loaded = self._load_in_worker()
                if loaded.sizes() != self._sizes:
                    raise UserError("the bundle changed while it was in use: its tokenizers have other fingerprints")
                _RESIDENT[name] = loaded.on_device()
            self._tokenizers = _RESIDENT[name]

    def process(self, plan: ShardPlan) -> Iterator[str]:
        """Makes one shard, unless another worker has made it by now."""
        if self._fails_quietly and (_FAILURES or _STOPPING.is_set()):
            return
        try:
            if plan.finished() is None:
                work_shard(plan, self._tokenizers, self._sizes, self._settings, _STOPPING.is_set)
        except WorkStopped:
            return
        except UserError as error:
            if not self._fails_quietly:
                raise
            _FAILURES.append(str(error))
            print(f"tokenize: {error}", file=sys.stderr, flush=True)
            return
        yield plan.name


def beam_options(beam_args: Sequence[str]) -> tuple[PipelineOptions, FnApiRunner | None]:
    """Options and, for the default runner, the runner.

    Beam's DirectRunner first tries to fetch and start a server in another language; what is returned is its part that
    runs here, in this process or with `--direct_num_workers=N` in N. Raises UserError for a flag that it does not
    know, which Beam would drop with a mere warning; other runners may have flags of their own.
    """
    options = PipelineOptions(list(beam_args))
    options.view_as(SetupOptions).save_main_session = False
    if options.view_as(StandardOptions).runner not in (None, "DirectRunner"):
        return options, None
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    positional = [arg for arg in beam_args[:1] if not arg.startswith("-")]
    if unknown or positional:
        name = positional[0] if positional else f"--{sorted(unknown)[0]}"
        raise UserError(f"unknown argument {name}; see `audiolm tokenize --help`, and Beam's manual for its own flags")
    direct = options.view_as(DirectOptions)
    one_process = direct.direct_running_mode == "in_memory" and direct.direct_num_workers == 1
    if one_process or direct.direct_running_mode == "multi_threading":
        return options, FnApiRunner()
    # Several workers in Beam's default mode would still be one; these are processes, with a main of ours.
    direct.direct_running_mode = None
    command = f"{shlex.quote(sys.executable)} -m audiolm_jax.tokens.extraction.beam_worker"
    return options, FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def run_on_beam(
    plans: Sequence[ShardPlan],
    tokenizers: Tokenizers,
    sizes: TokenizerSizes,
    settings: WorkSettings,
    load_in_worker: Callable[[], Tokenizers] | None,
    beam_args: Sequence[str],
) -> None:
    """Makes shards by a Beam pipeline; the engine of `extract.extract`.

    Args:
        plans: of the shards.
        tokenizers: for the runner that works in this process.
        sizes: of the tokenizers.
        settings: of the workers.
        load_in_worker: for runners with other processes, a small picklable function that loads the same tokenizers.
        beam_args: flags of Beam, for example ["--runner=FlinkRunner"].

    Raises:
        UserError: a worker met one, or a flag is wrong.
        KeyboardInterrupt: the work in this process was ended by Ctrl-C.
    """
    options, runner = beam_options(beam_args)
    do_fn = TokenizeShard(sizes, load_in_worker, settings, fails_quietly=runner is not None)
    name = (sizes.semantic_fingerprint, sizes.codec_fingerprint)
    _RESIDENT[name] = tokenizers.on_device()
    _FAILURES.clear()
    _STOPPING.clear()
    # Beam prints pages of an exception inside it. `beam_options` unsets the mode of a runner with processes of its own;
    # they get the signal from the terminal themselves, and their runner waits in threads that nothing can interrupt.
    works_here = options.view_as(DirectOptions).direct_running_mode is not None
    quietly = contextlib.nullcontext() if runner is None else ends_in_order(_STOPPING.set if works_here else None)
    try:
        with quietly, _ends_with_its_workers():
            run_pipeline(plans, do_fn, options, runner)
    except Exception as error:
        # Runners pass on what a worker raised as the text of another exception.
        found = re.search(r"UserError: (.+?)(?: \[while running|\\n|\n|$)", str(error))
        if found is None:
            raise
        raise UserError(found.group(1)) from error
    finally:
        _RESIDENT.pop(name, None)
    if _FAILURES:
        raise UserError(_FAILURES[0])


@contextlib.contextmanager
def _ends_with_its_workers() -> Iterator[None]:
    """Ends this process with one line if a worker process on this machine dies.

    Beam's runner would wait for that worker for ever, in threads that nothing can interrupt. The other workers end when
    they have finished the shard that they are at.
    """
    before = threading.excepthook

    def notice(thread_error) -> None:
        told = str(thread_error.exc_value)
        if "Worker subprocess exited" in told:
            code = told.rsplit(" ", 1)[-1]
            if code in _INTERRUPTED_CODES:
                end_now()
            print(
                f"audiolm tokenize: a worker process died with exit code {code} (137: killed, perhaps for memory; then "
                "give fewer workers); run the command again, it goes on",
                file=sys.stderr,
                flush=True,
            )
            os._exit(EXIT_LOST)
        # The threads that held its connections end before the one that waits for it.
        if not isinstance(thread_error.exc_value, grpc.RpcError):
            before(thread_error)

    threading.excepthook = notice
    # The same about the connections, once more and in pages.
    logger = logging.getLogger("apache_beam.runners.worker.data_plane")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        threading.excepthook = before
        logger.setLevel(level)


def run_pipeline(plans: Sequence[ShardPlan], do_fn: TokenizeShard, options: PipelineOptions, runner: Any) -> None:
    """Runs the shards."""
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        shards = pipeline | "plans" >> beam.Create(list(plans)) | "spread" >> beam.Reshuffle()
        _ = shards | "tokenize" >> beam.ParDo(do_fn)
