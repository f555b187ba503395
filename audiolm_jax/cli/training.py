"""`audiolm train`, `check` and `tokenize`: what is done with a corpus and an experiment."""

import functools
import importlib.util
import sys
import time
from argparse import Namespace

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError
from audiolm_jax.extras import remedy
from audiolm_jax.files import outputs
from audiolm_jax.files.model_folders import holds_model
from audiolm_jax.files.object_storage import is_remote


def add_train(parser) -> None:
    """The arguments of `audiolm train`, after those of its experiment."""
    parser.add_argument("--workdir", required=True, metavar="DIR", help="checkpoints, logs and figures of the run")
    parser.add_argument(
        "--data", action="append", metavar="DIR", help="folder of audio, or of tokens for a stage; may be repeated"
    )
    parser.add_argument(
        "--module", action="append", metavar="MODULE",
        help="module or Python file that registers the seqio Task or Mixture of SEQIO_MIXTURE; may be repeated",
    )  # fmt: skip


def train(args: Namespace) -> int:
    """Trains what a gin file describes."""
    from audiolm_jax.training.macros.configuration import find

    find(args.experiment)  # a name that is not known is told before seconds of imports

    from audiolm_jax.parallel import hosts
    from audiolm_jax.training.experiment import train

    with hosts.joined():
        return train(args.experiment, args.workdir, args.overrides, args.data, args.module)


def describe_experiment(experiment: str, overrides: list[str]) -> str:
    """The macros of an experiment, with their values and what they mean."""
    from audiolm_jax.training.macros.macro_list import in_words

    return in_words(experiment, overrides)


def add_check(parser) -> None:
    """The arguments of `audiolm check`, after those of its experiment."""
    parser.add_argument(
        "--topology", default="v4:2x2x4", metavar="NAME",
        help="chip and shape: v4:2x2x4 (default), v5e:4x4, v5p:4x4x4, v6e:8x8 ...; cpu:N for N simulated devices",
    )  # fmt: skip
    parser.add_argument(
        "--slices", type=arguments.positive, default=1, metavar="N", help="how many such slices (default 1)"
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="DIR", help="needed only where classes are counted in a folder"
    )
    parser.add_argument(
        "--train_only", action="store_true", help="compile the train step alone: a third of the time"
    )
    arguments.add_json(parser)


def check(args: Namespace) -> int:
    """Compiles a training for devices that need not be there, and tells what it needs of them."""
    from audiolm_jax.training.macros.configuration import find

    find(args.experiment)  # as above

    from audiolm_jax.check.check import check

    report = check(args.experiment, args.topology, args.slices, args.overrides, args.data, args.train_only)
    if args.json != "-":
        print(report.to_text())
    arguments.write_json(args.json, report.to_json())
    if not report.fits:
        raise UserError(report.error)
    return 0


def add_tokenize(parser) -> None:
    """The arguments of `audiolm tokenize`; those that are not here are Beam's."""
    parser.add_argument("--input", required=True, metavar="DIR", help="audio files, one folder for each speaker")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the token records")
    arguments.add_bundle(parser)
    parser.add_argument(
        "--engine", choices=("beam", "jax"), default="beam",
        help="beam (default): the workers of a Beam runner; jax: the devices of this host, or of all hosts of a job",
    )  # fmt: skip
    arguments.add_corpus(parser, "--input")
    parser.add_argument(
        "--files_per_shard", type=arguments.whole, default=0, metavar="N",
        help="inputs of a shard, the unit of work (default 0: 64, more where that gives over 4096 shards)",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", type=arguments.whole, default=0, metavar="N",
        help="recordings of similar length at once (default 0: 1 on a CPU, 16 on an accelerator)",
    )  # fmt: skip
    parser.add_argument(
        "--read_threads", type=arguments.positive, default=2, metavar="N",
        help="files that are decoded ahead for each shard at work (default 2)",
    )  # fmt: skip
    arguments.add_json(parser)


def tokenize(args: Namespace) -> int:
    """Turns a corpus of audio into token records."""
    from audiolm_jax.parallel import hosts

    if args.engine == "beam":
        if importlib.util.find_spec("apache_beam") is None:
            raise UserError(f"--engine beam needs apache_beam: {remedy('apache_beam')}; or give --engine jax, which "
                            "needs nothing more")
        _check_tokens_folder(args)
        return _tokenize(args, process_index=0, process_count=1)
    if args.beam_args:
        raise UserError(f"unknown argument {args.beam_args[0]}; Beam's flags go with --engine beam")
    _check_tokens_folder(args)
    with hosts.joined():
        _check_shared(args.output)
        return _tokenize(args, hosts.index(), hosts.count())


def _check_tokens_folder(args: Namespace) -> None:
    """Refuses a folder for token records that could not be filled, or that holds something else."""
    outputs.check_folder(args.output, inputs=[name for name in arguments.inputs(args) if name != args.input])
    if not is_remote(args.output) and holds_model(args.output):
        raise UserError(f"{args.output} holds a bundle or an imported model; name another --output")


def _check_shared(folder: str) -> None:
    """Raises UserError where a process of the job does not see the folder that process 0 writes to."""
    import uuid

    from audiolm_jax.files.object_storage import any_path, check_access
    from audiolm_jax.parallel import hosts

    if hosts.count() == 1:
        return
    check_access(folder)
    folder = any_path(folder)
    name = f".seen-by-all-{uuid.uuid4().hex}"
    if hosts.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    path = folder / hosts.from_main("tokenize/folder", name)
    until = time.monotonic() + 60  # a network's disk may take its time to show a new file
    while not path.exists():
        if time.monotonic() > until:
            raise UserError(f"process {hosts.index()} does not see the {folder} of process 0; give a folder all share")
        time.sleep(0.5)
    hosts.barrier("tokenize/folder")
    if hosts.is_main():
        path.unlink()


def _tokenize(args: Namespace, process_index: int, process_count: int) -> int:
    """`tokenize` in one process of its job."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.data.corpora.corpora import open_corpus
    from audiolm_jax.files.object_storage import fetch_folder
    from audiolm_jax.tokens.extraction.extract import extract
    from audiolm_jax.tokens.extraction.shard_work import WorkSettings
    from audiolm_jax.tokens.manifest import InputEntry
    from audiolm_jax.tokens.tokenizers import Tokenizers

    corpus = open_corpus(
        args.corpus, args.input, args.heldout_speakers, args.split_seed, args.segment_seconds, args.corpus_cache
    )
    bundle = Bundle.load(fetch_folder(args.bundle))
    source_files = corpus.source_files()  # a folder that cannot be read is refused before anything is said
    if process_index == 0 and (warning := bundle.codec_warning) is not None:
        print(f"warning: {warning}", file=sys.stderr)
    tokenizers = Tokenizers(bundle.codec, bundle.codec_params, bundle.semantic, bundle.semantic_params)
    sizes = tokenizers.sizes()
    settings = WorkSettings(args.batch_size, args.read_threads)

    def engine(plans):
        if args.engine == "jax":
            from audiolm_jax.tokens.extraction.device_engine import run_on_devices

            run_on_devices(plans, tokenizers, sizes, settings, process_index, process_count)
        else:
            from audiolm_jax.tokens.extraction.beam_engine import run_on_beam

            bundle_dir = args.bundle if is_remote(args.bundle) else str(bundle.path)
            load_in_worker = functools.partial(_load_tokenizers, bundle_dir)
            run_on_beam(plans, tokenizers, sizes, settings, load_in_worker, args.beam_args)

    figures = extract(
        source_files,
        args.output,
        sizes,
        gate={name: value for name, value in bundle.metrics.items() if isinstance(value, float)},
        engine=engine,
        files_per_shard=args.files_per_shard,
        left_out=[InputEntry(e.source, e.key, e.speaker, "train", e.reason, "", 0.0) for e in corpus.left_out],
        joins=process_index == 0,
        split=corpus.split,
    )
    if process_index == 0:
        arguments.write_json(args.json, figures.to_json())
    return 0


def _load_tokenizers(bundle_dir: str):
    """The tokenizers of a bundle, in a Beam worker."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.files.object_storage import fetch_folder
    from audiolm_jax.tokens.tokenizers import Tokenizers

    bundle = Bundle.load(fetch_folder(bundle_dir))
    return Tokenizers(bundle.codec, bundle.codec_params, bundle.semantic, bundle.semantic_params)
