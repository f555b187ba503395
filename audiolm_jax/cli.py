"""The `audiolm` command: arguments here, work in the functions that each subcommand imports when it runs."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

from audiolm_jax.errors import UserError

# Packages that only an extra brings, so that their absence can be told in one line.
_EXTRA_OF_PACKAGE = {
    "apache_beam": "train",
    "seqio": "train",
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "tensorboard": "train",
    "visqol": "eval",
    "jiwer": "eval",
    "pocketsphinx": "eval",
    "matplotlib": "eval",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code: 0, 2 after a user's mistake (told in one line), 130 after ^C."""
    args, beam_args = _parser().parse_known_args(argv)
    if beam_args and args.command != "tokenize":
        return _fail(args.command, f"unknown argument {beam_args[0]}; see `audiolm {args.command} --help`")
    if args.command == "tokenize":
        args.beam_args = beam_args
    try:
        return args.run(args)
    except UserError as error:
        return _fail(args.command, str(error))
    except BrokenPipeError:
        # The reader of our output has gone (`audiolm info | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(args.command, f"{where}{error.strerror or error}")
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_PACKAGE.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(args.command, f"this needs {error.name}; install it with: pip install 'audiolm_jax[{extra}]'")
    except KeyboardInterrupt:
        print(f"audiolm {args.command}: stopped", file=sys.stderr)
        return 130


def _fail(command: str, message: str) -> int:
    print(f"audiolm {command}: {' '.join(message.split())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """An argument parser that tells a mistake in one line."""

    def error(self, message):
        print(f"{self.prog}: {message}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    from audiolm_jax import __version__

    parser = _Parser(prog="audiolm", description="AudioLM in JAX: train, tokenize, generate.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"audiolm_jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name, run, summary, example):
        added = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        return added

    train = command(
        "train",
        _train,
        "Train a codec, a semantic tokenizer or a stage; started again, the run goes on where it was.",
        "audiolm train codec_small --data speech/ --workdir work/codec --set STEPS=2000",
    )
    train.add_argument("experiment", metavar="EXP", help="a gin file, or the name of one in gin/exp")
    train.add_argument("--workdir", required=True, metavar="DIR", help="checkpoints, logs and figures of the run")
    train.add_argument(
        "--data", action="append", metavar="DIR", help="folder of audio, or of tokens for a stage; may be repeated"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="MACRO=VALUE", dest="overrides",
        help="change a macro of the gin file; may be repeated",
    )  # fmt: skip

    tokenize = command(
        "tokenize",
        _tokenize,
        "Turn a folder of audio into token records with Apache Beam; started again, it keeps what is done. "
        "Arguments that are not listed here go to Beam.",
        "audiolm tokenize --input speech/ --output work/tokens --bundle work/tokenizers",
    )
    tokenize.add_argument("--input", required=True, metavar="DIR", help="audio files, one folder for each speaker")
    tokenize.add_argument("--output", required=True, metavar="DIR", help="folder of the token records")
    _add_bundle(tokenize)
    tokenize.add_argument(
        "--heldout_speakers", type=_whole, default=20, metavar="N", help="speakers kept out of training (default 20)"
    )
    tokenize.add_argument(
        "--split_seed", type=_whole, default=0, metavar="N", help="which speakers are held out (default 0)"
    )
    tokenize.add_argument("--files_per_shard", type=_positive, default=64, metavar="N", help="default 64")
    tokenize.add_argument("--batch_size", type=_positive, default=8, metavar="N", help="recordings at once (default 8)")

    codec = command(
        "codec",
        _codec,
        "Encode and decode a recording with the codec of a bundle; prints bitrate, speed and distance.",
        "audiolm codec speech.wav decoded.wav --num_quantizers 4",
    )
    codec.add_argument("input", metavar="IN", help="an audio file")
    codec.add_argument("output", metavar="OUT", help="the decoded sound, .wav or .flac")
    codec.add_argument(
        "--num_quantizers", type=_positive, metavar="N", help="levels to keep: fewer levels, lower rate (default all)"
    )
    _add_bundle(codec)
    _add_json(codec)

    info = command(
        "info",
        _info,
        "Tell what is in a bundle: sizes, rates, licence, training data and figures.",
        "audiolm info small --json -",
    )
    info.add_argument("bundle", nargs="?", default="small", metavar="DIR", help="a bundle (default small)")
    _add_json(info)
    return parser


def _add_bundle(parser):
    parser.add_argument(
        "--bundle", default="small", metavar="DIR", help="a bundle folder or the name of one that ships (default small)"
    )


def _add_json(parser):
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON, to a file or to - (stdout)")


def _number(text: str, kind: type, least: float) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        name = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {name} of at least {least:g}")
    return value


def _whole(text: str) -> int:
    return _number(text, int, 0)


def _positive(text: str) -> int:
    return _number(text, int, 1)


def _write_json(target: str | None, figures: dict) -> None:
    """Writes figures to a file, or to stdout for "-"; does nothing for None."""
    from audiolm_jax.files import replace_file

    if target is None:
        return
    text = json.dumps(figures, indent=None if target == "-" else 2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        replace_file(Path(target), text.encode())


def _train(args) -> int:
    from audiolm_jax.training.experiment import train

    return train(args.experiment, args.workdir, args.overrides, args.data)


def _tokenize(args) -> int:
    import functools

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.data.folder_tokens import tokenize_folder

    bundle = Bundle.load(args.bundle)
    tokenize_folder(
        args.input,
        args.output,
        bundle.codec,
        bundle.codec_params,
        bundle.semantic,
        bundle.semantic_params,
        gate={name: value for name, value in bundle.metrics.items() if isinstance(value, float)},
        heldout_speakers=args.heldout_speakers,
        split_seed=args.split_seed,
        load_in_worker=functools.partial(_load_tokenizers, str(bundle.path)),
        files_per_shard=args.files_per_shard,
        batch_size=args.batch_size,
        beam_args=args.beam_args,
    )
    return 0


def _load_tokenizers(bundle_dir: str):
    """The tokenizers of a bundle, in a Beam worker."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.tokens.extract import Tokenizers

    bundle = Bundle.load(bundle_dir)
    return Tokenizers(bundle.codec, bundle.codec_params, bundle.semantic, bundle.semantic_params)


def _codec(args) -> int:
    import time

    import numpy as np

    from audiolm_jax.audio import Waveform, read_audio, write_audio
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.codec.chunked import DEFAULT_CHUNK_SECONDS, decode_chunked, encode_chunked
    from audiolm_jax.evaluation.codec_quality import si_sdr_db

    bundle = Bundle.load(args.bundle)
    codec, params = bundle.codec, bundle.codec_params
    levels = args.num_quantizers or codec.num_quantizers
    if levels > codec.num_quantizers:
        raise UserError(f"--num_quantizers is {levels}, but this codec has {codec.num_quantizers} levels")
    original = read_audio(args.input, codec.sample_rate_hz)
    progress = original.seconds > 60 and sys.stderr.isatty()

    # Compiles both programs, so that the times below are those of a long recording.
    warm_up = original.samples[None, : round(DEFAULT_CHUNK_SECONDS * codec.sample_rate_hz)]
    decode_chunked(codec, params, encode_chunked(codec, params, warm_up)[:, :, :levels])

    started = time.perf_counter()
    tokens = encode_chunked(codec, params, original.samples[None], progress=progress)
    encoded = time.perf_counter()
    samples = decode_chunked(codec, params, tokens[:, :, :levels], progress=progress)[0, : len(original.samples)]
    decoded = time.perf_counter()
    write_audio(args.output, Waveform(samples, codec.sample_rate_hz))
    figures = {
        "seconds": original.seconds,
        "num_quantizers": levels,
        "bitrate_bps": codec.bitrate_bps(levels),
        "encode_seconds": encoded - started,
        "decode_seconds": decoded - encoded,
        "si_sdr_db": si_sdr_db(original.samples, samples) if np.ptp(original.samples) else None,
    }
    distance = "a silent input" if figures["si_sdr_db"] is None else f"SI-SDR {figures['si_sdr_db']:.1f} dB"
    print(
        f"{args.output}: {figures['bitrate_bps'] / 1000:g} kbps ({levels} of {codec.num_quantizers} levels), "
        f"{distance}, encoded {original.seconds / (encoded - started):.1f} and decoded "
        f"{original.seconds / (decoded - encoded):.1f} times faster than real time",
        file=sys.stderr,
    )
    _write_json(args.json, figures)
    return 0


def _info(args) -> int:
    from audiolm_jax.bundle import Bundle, describe, describe_in_words

    bundle = Bundle.load(args.bundle)
    if args.json != "-":
        print(describe_in_words(bundle))
    _write_json(args.json, describe(bundle))
    return 0


if __name__ == "__main__":
    sys.exit(main())
