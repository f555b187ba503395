"""The `audiolm` command: the table of its commands, their parser, and how mistakes are told."""

import argparse
import errno
import os
import sys
import textwrap

from audiolm_jax import compilation_cache
from audiolm_jax.cli import arguments, completion, diagnosis, metrics, models, sound, training
from audiolm_jax.cli.arguments import Command
from audiolm_jax.errors import UserError
from audiolm_jax.extras import how_to_install
from audiolm_jax.files import outputs

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Characters of a word, such as a path, in a message: of more the start and the end are shown.
_LONGEST_WORD, _SHOWN_START, _SHOWN_END = 300, 120, 40


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code: 0, 2 after a user's mistake (told in one line), 130 after ^C."""
    code = 0
    try:
        try:
            code = _run(argv)
            return code
        finally:
            # A reader that has gone (`audiolm info | head`) is noticed here rather than by Python at exit.
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        if not code:  # else a line was told already
            print(f"audiolm: cannot write to stdout: {error.strerror or error}; send it elsewhere", file=sys.stderr)
        return 2


def _run(argv: list[str] | None) -> int:
    args, beam_args = parser().parse_known_args(argv)
    command = f"eval {args.metric}" if args.command == "eval" else args.command
    if beam_args and args.command != "tokenize":
        return _fail(command, f"unknown argument {beam_args[0]}; see `audiolm {command} --help`")
    if args.command == "tokenize":
        args.beam_args = beam_args
    try:
        if (json := getattr(args, "json", None)) not in (None, "-"):
            outputs.check_files([json], arguments.inputs(args))
        if hasattr(args, "no_compilation_cache"):
            compilation_cache.set_up(keep=not args.no_compilation_cache)
        return args.run(args)
    except UserError as error:
        return _fail(command, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        # Files of ours name themselves, so a full disk without a name is that of the output or of temporary files.
        nameless = "stdout or a temporary file: " if error.errno in _NO_ROOM else ""
        where = f"{error.filename}: " if error.filename else nameless
        return _fail(command, f"{where}{error.strerror or error}")
    except ModuleNotFoundError as error:
        if (remedy := how_to_install(error)) is None:
            raise
        return _fail(command, remedy)
    except KeyboardInterrupt:
        print(f"audiolm {command}: stopped", file=sys.stderr)
        return 130


def _fail(command: str, message: str) -> int:
    print(f"audiolm {command}: {_one_line(message)}", file=sys.stderr)
    return 2


def _one_line(message: str) -> str:
    """A message without line breaks, and without the middle of words that nobody would read to their end."""
    return " ".join(
        word if len(word) <= _LONGEST_WORD else f"{word[:_SHOWN_START]}...{word[-_SHOWN_END:]}"
        for word in message.split()
    )


class _Parser(argparse.ArgumentParser):
    """An argument parser that tells a mistake in one line."""

    def error(self, message):
        print(f"{self.prog}: {_one_line(message)}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


class _ExperimentHelp(argparse.Action):
    """--help of a command that takes an experiment: after its name, the list of its macros."""

    def __init__(self, option_strings, dest):
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, help="show this, or after EXP the macros that --set changes"
        )

    def __call__(self, parser, namespace, values, option_string=None):
        if namespace.experiment is None:
            parser.print_help()
        else:
            try:
                sys.stdout.write(training.describe_experiment(namespace.experiment, namespace.overrides))
            except UserError as error:
                raise SystemExit(_fail(parser.prog.removeprefix("audiolm "), str(error))) from error
            print(f"\nthe command's own arguments: {parser.prog} --help")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from audiolm_jax import __version__

    audiolm = _Parser(
        prog="audiolm", description="AudioLM in JAX: train, tokenize, generate, measure.", allow_abbrev=False
    )
    audiolm.add_argument("--version", action="version", version=f"audiolm_jax {__version__}")
    subparsers = audiolm.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        _add_command(subparsers, command).set_defaults(run=command.run)
    return audiolm


def _add_command(subparsers, command: Command) -> argparse.ArgumentParser:
    added = subparsers.add_parser(
        command.name,
        help=command.summary,
        description=textwrap.fill(command.summary, 80),
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=not command.takes_experiment,
    )
    if command.takes_experiment:
        added.add_argument("-h", "--help", action=_ExperimentHelp)
        added.add_argument("experiment", metavar="EXP", help="a gin file, or the name of one in gin/exp")
        added.add_argument(
            "--set", action="append", default=[], metavar="MACRO=VALUE", dest="overrides",
            help="change a macro of the gin file, all of which `EXP --help` lists; may be repeated",
        )  # fmt: skip
    command.add_arguments(added)
    if command.keeps_programs:
        arguments.add_compilation_cache(added)
    return added


def _add_metrics(evaluate) -> None:
    """The metrics of `audiolm eval`, each a command of its own."""
    subparsers = evaluate.add_subparsers(dest="metric", required=True, metavar="NAME", parser_class=_Parser)
    for metric in metrics.METRICS:
        added = _add_command(subparsers, metric)
        arguments.add_compilation_cache(added)
        arguments.add_json(added)
        added.set_defaults(measure=metric.run)


COMMANDS = (
    Command(
        "train",
        training.train,
        training.add_train,
        "Train a codec, a semantic tokenizer or a stage; started again, the run goes on where it was.",
        "audiolm train codec_small --data speech/ --workdir work/codec --set STEPS=2000\n"
        "  audiolm train codec_small --help",
        takes_experiment=True,
        keeps_programs=True,
    ),
    Command(
        "check",
        training.check,
        training.add_check,
        "Compile a training for a TPU slice that is not at hand: does it fit, how fast can it be, what does it send.",
        "audiolm check coarse_librilight_paper --topology v4:2x2x4 --set REMAT=none --json -\n"
        "  audiolm check coarse_librilight_paper --help",
        takes_experiment=True,
    ),
    Command(
        "tokenize",
        training.tokenize,
        training.add_tokenize,
        "Turn a corpus of audio into token records, on the workers of Apache Beam or on the accelerators of one or "
        "many hosts; started again, it keeps what is done. Arguments that are not listed here go to Beam.",
        "audiolm tokenize --input speech/ --output work/tokens --bundle work/tokenizers\n"
        "  audiolm tokenize --input speech/ --output work/tokens --direct_num_workers=4\n"
        "  audiolm tokenize --input /data/libri-light --corpus libri_light --output /data/tokens --engine jax",
        keeps_programs=True,
    ),
    Command(
        "generate",
        sound.generate,
        sound.add_generate,
        "Continue a recording, speak it again in another voice, or speak freely.",
        "audiolm generate --prompt in.wav --output out.wav --prompt_seconds 3 --seconds 4 --seed 1 --page out.html",
        keeps_programs=True,
    ),
    Command(
        "codec",
        sound.codec,
        sound.add_codec,
        "Encode and decode a recording with the codec of a bundle; prints bitrate, speed and distance.",
        "audiolm codec speech.wav decoded.wav --num_quantizers 4",
        keeps_programs=True,
    ),
    Command(
        "import",
        models.import_model,
        models.add_import,
        "Take a published model from its Hugging Face folder: HuBERT, wav2vec 2.0, w2v-BERT 2.0, EnCodec, DAC or Mimi; "
        "or Lyra V2 from its three .tflite files. With centroids an encoder becomes a semantic tokenizer. Nothing is "
        "downloaded, and nothing of it is run.",
        "audiolm import models/hubert-base-ls960 --kmeans km500.bin --layer 9 --output work/hubert\n"
        "  audiolm import models/encodec_24khz --num_quantizers 8 --output work/encodec\n"
        "  audiolm import lyra lyra/model_coeffs --join_levels 3 --num_quantizers 10 --output work/lyra",
    ),
    Command(
        "export",
        models.export_model,
        models.add_export,
        "Write an imported model back as a Hugging Face folder, which transformers' from_pretrained reads.",
        "audiolm export work/hubert --output hubert-again",
    ),
    Command(
        "bundle",
        models.bundle,
        models.add_bundle,
        "Make a bundle from the work directories of trainings, or imported models: first of the tokenizers (--codec, "
        "--kmeans), then of the whole system (--tokenizers and the stages that were trained on their tokens). "
        "Classifiers can be added to a bundle later (--system).",
        "audiolm bundle work/tokenizers --codec work/codec --kmeans work/kmeans --name mine --licence CC-BY-4.0\n"
        "  audiolm bundle work/bundle --tokenizers work/tokenizers "
        "--semantic work/semantic --coarse work/coarse --fine work/fine\n"
        "  audiolm bundle work/bundle --system work/bundle --detector work/detector --overwrite",
    ),
    Command(
        "eval",
        metrics.evaluate,
        _add_metrics,
        "Measure: every figure of the paper, one command each, and one report of all.",
        "audiolm eval visqol --reference a.wav --degraded b.wav --json -",
    ),
    Command(
        "plot",
        diagnosis.plot,
        diagnosis.add_plot,
        "Show how trainings go: one page with the curves of one or several, what their examinations named, and their "
        "sounds.",
        "audiolm plot work/codec --live\n  audiolm plot work/codec_a work/codec_b --axis seconds --output both.html",
    ),
    Command(
        "info",
        models.info,
        models.add_info,
        "Tell what is in a bundle or an imported model: sizes, rates, licence, training data and figures.",
        "audiolm info small --json -",
    ),
    Command(
        "completion",
        completion.completion,
        completion.add_completion,
        "Print a script that completes the commands in a shell: their names, options and values.",
        "audiolm completion bash > ~/.local/share/bash-completion/completions/audiolm\n"
        "  audiolm completion zsh > ~/.zfunc/_audiolm",
    ),
)
