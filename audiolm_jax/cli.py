"""The `audiolm` command: its arguments, and how mistakes are told. What the subcommands do is in `commands.py`."""

import argparse
import errno
import importlib
import os
import sys
import textwrap

from audiolm_jax import arguments, commands, eval_commands, outputs
from audiolm_jax.errors import UserError
from audiolm_jax.extras import how_to_install

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
    args, beam_args = _parser().parse_known_args(argv)
    command = f"eval {args.metric}" if args.command == "eval" else args.command
    if beam_args and args.command != "tokenize":
        return _fail(command, f"unknown argument {beam_args[0]}; see `audiolm {command} --help`")
    if args.command == "tokenize":
        args.beam_args = beam_args
    try:
        if (json := getattr(args, "json", None)) not in (None, "-"):
            outputs.check_files([json], arguments.inputs(args))
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
                sys.stdout.write(commands.describe_experiment(namespace.experiment, namespace.overrides))
            except UserError as error:
                raise SystemExit(_fail(parser.prog.removeprefix("audiolm "), str(error))) from error
            print(f"\nthe command's own arguments: {parser.prog} --help")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    from audiolm_jax import __version__

    parser = _Parser(
        prog="audiolm", description="AudioLM in JAX: train, tokenize, generate, measure.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"audiolm_jax {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name, run, summary, example, add_help=True):
        added = subparsers.add_parser(
            name,
            help=summary,
            description=textwrap.fill(summary, 80),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )
        added.set_defaults(run=run)
        return added

    def add_experiment(added):
        added.add_argument("-h", "--help", action=_ExperimentHelp)
        added.add_argument("experiment", metavar="EXP", help="a gin file, or the name of one in gin/exp")
        added.add_argument(
            "--set", action="append", default=[], metavar="MACRO=VALUE", dest="overrides",
            help="change a macro of the gin file, all of which `EXP --help` lists; may be repeated",
        )  # fmt: skip

    train = command(
        "train",
        commands.train,
        "Train a codec, a semantic tokenizer or a stage; started again, the run goes on where it was.",
        "audiolm train codec_small --data speech/ --workdir work/codec --set STEPS=2000\n"
        "  audiolm train codec_small --help",
        add_help=False,
    )
    add_experiment(train)
    train.add_argument("--workdir", required=True, metavar="DIR", help="checkpoints, logs and figures of the run")
    train.add_argument(
        "--data", action="append", metavar="DIR", help="folder of audio, or of tokens for a stage; may be repeated"
    )

    check = command(
        "check",
        commands.check,
        "Compile a training for a TPU slice that is not at hand: does it fit, how fast can it be, what does it send.",
        "audiolm check coarse_librilight_paper --topology v4:2x2x4 --set REMAT=none --json -\n"
        "  audiolm check coarse_librilight_paper --help",
        add_help=False,
    )
    add_experiment(check)
    check.add_argument(
        "--topology", default="v4:2x2x4", metavar="NAME",
        help="chip and shape: v4:2x2x4 (default), v5e:4x4, v5p:4x4x4, v6e:8x8 ...; cpu:N for N simulated devices",
    )  # fmt: skip
    check.add_argument(
        "--slices", type=arguments.positive, default=1, metavar="N", help="how many such slices (default 1)"
    )
    check.add_argument(
        "--data", action="append", default=[], metavar="DIR", help="needed only where classes are counted in a folder"
    )
    check.add_argument(
        "--train_only", action="store_true", help="compile the train step alone: a third of the time"
    )
    arguments.add_json(check)

    tokenize = command(
        "tokenize",
        commands.tokenize,
        "Turn a corpus of audio into token records, on the workers of Apache Beam or on the accelerators of one or "
        "many hosts; started again, it keeps what is done. Arguments that are not listed here go to Beam.",
        "audiolm tokenize --input speech/ --output work/tokens --bundle work/tokenizers\n"
        "  audiolm tokenize --input speech/ --output work/tokens --direct_num_workers=4\n"
        "  audiolm tokenize --input /data/libri-light --corpus libri_light --output /data/tokens --engine jax",
    )
    tokenize.add_argument("--input", required=True, metavar="DIR", help="audio files, one folder for each speaker")
    tokenize.add_argument("--output", required=True, metavar="DIR", help="folder of the token records")
    arguments.add_bundle(tokenize)
    tokenize.add_argument(
        "--engine", choices=("beam", "jax"), default="beam",
        help="beam (default): the workers of a Beam runner; jax: the devices of this host, or of all hosts of a job",
    )  # fmt: skip
    arguments.add_corpus(tokenize, "--input")
    tokenize.add_argument(
        "--files_per_shard", type=arguments.whole, default=0, metavar="N",
        help="inputs of a shard, the unit of work (default 0: 64, more where that gives over 4096 shards)",
    )  # fmt: skip
    tokenize.add_argument(
        "--batch_size", type=arguments.whole, default=0, metavar="N",
        help="recordings of similar length at once (default 0: 1 on a CPU, 16 on an accelerator)",
    )  # fmt: skip
    tokenize.add_argument(
        "--read_threads", type=arguments.positive, default=2, metavar="N",
        help="files that are decoded ahead for each shard at work (default 2)",
    )  # fmt: skip
    arguments.add_json(tokenize)

    generate = command(
        "generate",
        commands.generate,
        "Continue a recording, speak it again in another voice, or speak freely.",
        "audiolm generate --prompt in.wav --output out.wav --prompt_seconds 3 --seconds 4 --seed 1 --page out.html",
    )
    generate.add_argument(
        "--mode",
        choices=("continuation", "acoustic", "unconditional"),
        default="continuation",
        help="continuation of a prompt (default), acoustic: its content in a new voice, unconditional: no prompt",
    )
    generate.add_argument("--prompt", metavar="IN", help="an audio file: WAV, FLAC, OGG, Opus or MP3 of any rate")
    generate.add_argument("--output", required=True, metavar="OUT", help=".wav or .flac; several: OUT-1, OUT-2 ...")
    generate.add_argument("--page", metavar="HTML", help="also write a page with players, spectrograms and tokens")
    generate.add_argument(
        "--prompt_seconds",
        type=arguments.length,
        default=3.0,
        metavar="S",
        help="how much of the prompt is used (default 3)",
    )
    generate.add_argument(
        "--seconds",
        type=arguments.length,
        metavar="S",
        help="how much is new (default 7; in mode acoustic all of the prompt)",
    )
    generate.add_argument("--num_samples", type=arguments.positive, default=1, metavar="N", help="how many (default 1)")
    generate.add_argument(
        "--seed", type=arguments.whole, default=0, metavar="N", help="same seed, same sound (default 0)"
    )
    generate.add_argument(
        "--temperature", type=arguments.per_stage(float), metavar="T",
        help="one number, or three for the semantic, coarse and fine stage (default: the bundle's)",
    )  # fmt: skip
    generate.add_argument(
        "--top_k", type=arguments.per_stage(int), default=(0, 0, 0), metavar="K",
        help="draw from the K likeliest codes (default 0: from all)",
    )  # fmt: skip
    generate.add_argument(
        "--top_p", type=arguments.per_stage(float), default=(1.0, 1.0, 1.0), metavar="P",
        help="draw from the likeliest codes that hold this share (default 1)",
    )  # fmt: skip
    arguments.add_bundle(generate)
    arguments.add_json(generate)

    codec = command(
        "codec",
        commands.codec,
        "Encode and decode a recording with the codec of a bundle; prints bitrate, speed and distance.",
        "audiolm codec speech.wav decoded.wav --num_quantizers 4",
    )
    codec.add_argument("input", metavar="IN", help="an audio file")
    codec.add_argument("output", metavar="OUT", help="the decoded sound, .wav or .flac")
    codec.add_argument(
        "--num_quantizers",
        type=arguments.positive,
        metavar="N",
        help="levels to keep: fewer levels, lower rate (default all)",
    )
    arguments.add_bundle(codec)
    arguments.add_json(codec)

    bring = command(
        "import",
        commands.import_model,
        "Take a published model from its Hugging Face folder: HuBERT, wav2vec 2.0, w2v-BERT 2.0, EnCodec, DAC or Mimi; "
        "or Lyra V2 from its three .tflite files. With centroids an encoder becomes a semantic tokenizer. Nothing is "
        "downloaded, and nothing of it is run.",
        "audiolm import models/hubert-base-ls960 --kmeans km500.bin --layer 9 --output work/hubert\n"
        "  audiolm import models/encodec_24khz --num_quantizers 8 --output work/encodec\n"
        "  audiolm import lyra lyra/model_coeffs --join_levels 3 --num_quantizers 10 --output work/lyra",
    )
    bring.add_argument("kind", nargs="?", metavar="KIND", help="what SOURCE has to hold, such as lyra (default any)")
    bring.add_argument(
        "source", metavar="SOURCE", help="folder with config.json and model.safetensors, or with Lyra's .tflite files"
    )
    bring.add_argument("--output", required=True, metavar="DIR", help="folder of the imported model")
    bring.add_argument("--kmeans", metavar="FILE", help="centroids of an encoder's layer: a joblib file, or .npy")
    bring.add_argument("--layer", type=arguments.whole, metavar="N", help="that they belong to, as transformers counts")
    bring.add_argument(
        "--num_quantizers", type=arguments.positive, metavar="N", help="levels of a codec's tokens (default all)"
    )
    bring.add_argument(
        "--join_levels", type=arguments.positive, metavar="N",
        help="neighbouring levels of a Lyra that are one token: 2 make 256 codes, 3 make 4096 (default 1, 16 codes)",
    )  # fmt: skip
    bring.add_argument(
        "--float_activations", action="store_true",
        help="do not round what the int8 layers of a Lyra give; the tokens then differ from the published model's",
    )  # fmt: skip
    bring.add_argument("--licence", help="of the weights (default that of the model card, or of the published model)")
    bring.add_argument("--overwrite", action="store_true", help="replace an imported model that is there")
    arguments.add_json(bring)

    export = command(
        "export",
        commands.export_model,
        "Write an imported model back as a Hugging Face folder, which transformers' from_pretrained reads.",
        "audiolm export work/hubert --output hubert-again",
    )
    export.add_argument("model", metavar="DIR", help="folder of an imported model")
    export.add_argument("--output", required=True, metavar="DIR", help="folder of config.json and model.safetensors")
    export.add_argument("--overwrite", action="store_true", help="replace a model that is there")

    bundle = command(
        "bundle",
        commands.bundle,
        "Make a bundle from the work directories of trainings, or imported models: first of the tokenizers (--codec, "
        "--kmeans), then of the whole system (--tokenizers and the stages that were trained on their tokens). "
        "Classifiers can be added to a bundle later (--system).",
        "audiolm bundle work/tokenizers --codec work/codec --kmeans work/kmeans --name mine --licence CC-BY-4.0\n"
        "  audiolm bundle work/bundle --tokenizers work/tokenizers "
        "--semantic work/semantic --coarse work/coarse --fine work/fine\n"
        "  audiolm bundle work/bundle --system work/bundle --detector work/detector --overwrite",
    )
    bundle.add_argument("output", metavar="OUT", help="folder of the new bundle")
    bundle.add_argument("--codec", metavar="DIR", help="work directory of a codec, or an imported one")
    bundle.add_argument(
        "--kmeans", metavar="DIR", help="work directory of a k-means, or an encoder imported with centroids"
    )
    bundle.add_argument("--w2v_bert", metavar="DIR", help="of the w2v-BERT's own training, to record its steps too")
    bundle.add_argument("--tokenizers", metavar="DIR", help="a bundle whose tokenizers are taken")
    for stage in commands.STAGES:
        bundle.add_argument(f"--{stage}", metavar="DIR", help=f"work directory of the {stage} stage")
    bundle.add_argument("--system", metavar="DIR", help="a bundle to which classifiers are added")
    bundle.add_argument(
        "--detector", metavar="DIR", help="work directory of a detector, trained on what this system made"
    )
    bundle.add_argument("--speaker", metavar="DIR", help="work directory of a speaker classifier, for its embeddings")
    bundle.add_argument("--name", help="of the system")
    bundle.add_argument("--licence", help="of the weights; needed where any were trained here")
    bundle.add_argument(
        "--data", action="append", default=[], metavar="TEXT", help="what it was trained on, for the model card"
    )
    bundle.add_argument("--prompt", metavar="FILE", help="a WAV file that goes with it")
    bundle.add_argument(
        "--weight_dtype", choices=("float16", "bfloat16", "float32"),
        help="default float16, float32 where a part was imported",
    )  # fmt: skip
    bundle.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")

    evaluate = subparsers.add_parser(
        "eval",
        help="Measure: every figure of the paper, one command each, and one report of all.",
        description="Measure: every figure of the paper, one command each, and one report of all.",
        epilog="example:\n  audiolm eval visqol --reference a.wav --degraded b.wav --json -",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    metrics = evaluate.add_subparsers(dest="metric", required=True, metavar="NAME", parser_class=_Parser)
    for name in eval_commands.NAMES:
        module = importlib.import_module(f"audiolm_jax.eval_commands.{name}")
        metric = metrics.add_parser(
            name,
            help=module.SUMMARY,
            description=textwrap.fill(module.SUMMARY, 80),
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(metric)
        arguments.add_json(metric)
        metric.set_defaults(run=commands.evaluate, measure=module.run)

    info = command(
        "info",
        commands.info,
        "Tell what is in a bundle or an imported model: sizes, rates, licence, training data and figures.",
        "audiolm info small --json -",
    )
    info.add_argument(
        "bundle", nargs="?", default="small", type=arguments.bundle, metavar="DIR",
        help="a bundle or an imported model (default small)",
    )  # fmt: skip
    arguments.add_json(info)
    return parser


if __name__ == "__main__":
    sys.exit(main())
