"""What a command is, the arguments that several commands share, and the types of their values."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from audiolm_jax.errors import UserError
from audiolm_jax.files import outputs
from audiolm_jax.files.model_folders import find_bundle
from audiolm_jax.files.object_storage import is_remote

# By the names of their arguments: what commands read, and what they write to. An output must not be an input.
INPUTS = (
    "experiment", "data", "input", "bundle", "prompt", "source", "kmeans", "model", "codec", "w2v_bert", "tokenizers",
    "semantic", "coarse", "acoustic", "fine", "system", "detector", "speaker", "classifier", "item", "features",
    "audio", "gold", "scores", "wavs", "tokens", "train_tokens", "transcripts", "asr", "reference", "compare",
    "degraded", "generated", "files", "swuggy", "sblimp", "vocabulary", "unrelated", "runs", "phrases",
)  # fmt: skip
OUTPUTS = ("output", "page", "json", "workdir", "corpus_cache")


class Command(NamedTuple):
    """One command, or one metric of `audiolm eval`.

    Attributes:
        name: as it is called.
        run: takes the parsed arguments and does it: a command returns its exit code, a metric its `Measurement`.
        add_arguments: adds its arguments to a parser.
        summary: of its help.
        example: the whole line; further ones follow after a line break and two spaces.
        takes_experiment: whether it has EXP, a gin file, and --set before its own arguments.
        keeps_programs: whether it uses the cache of compiled programs.
    """

    name: str
    run: Callable[[argparse.Namespace], Any]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    summary: str
    example: str
    takes_experiment: bool = False
    keeps_programs: bool = False


def inputs(args: argparse.Namespace) -> list[str]:
    """The values of all arguments that may name a file or a folder that is read."""
    found = []
    for name in INPUTS:
        value = getattr(args, name, None)
        found += value if isinstance(value, list) else [value] if value is not None else []
    if getattr(args, "bundle", None) and not is_remote(args.bundle):
        found.append(str(find_bundle(args.bundle)))  # a bundle that ships is named without its folder
    return found


def number(text: str, kind: type, least: float) -> int | float:
    """A number of at least `least`, or argparse's error."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        name = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {name} of at least {least:g}")
    return value


def whole(text: str) -> int:
    """0, 1, 2 ..."""
    return number(text, int, 0)


def positive(text: str) -> int:
    """1, 2, 3 ..."""
    return number(text, int, 1)


def length(text: str) -> float:
    """Seconds, at least 0.001."""
    return number(text, float, 0.001)


def bundle(text: str) -> str:
    """A folder, which may lie on object storage, or the name of a bundle that ships; what is in it is not looked at."""
    if is_remote(text):
        return text
    try:
        find_bundle(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def per_stage(kind: type):
    """A type of argument: one number for all three stages, or three with commas between them."""

    def parse(text: str) -> tuple:
        values = tuple(number(part.strip(), kind, 0) for part in text.split(","))
        if len(values) not in (1, 3):
            raise argparse.ArgumentTypeError(f"{text!r} is not one number or three with commas between them")
        return values if len(values) == 3 else values * 3

    return parse


def add_bundle(parser, default: str | None = "small", required: bool = False) -> None:
    """--bundle."""
    shown = f" (default {default})" if default else ""
    parser.add_argument(
        "--bundle", default=default, required=required, type=bundle, metavar="DIR",
        help=f"a bundle folder, or the name of one that ships{shown}",
    )  # fmt: skip


def add_data(parser, required: bool = True) -> None:
    """--data, what it holds, and its split, which is to be that of the training."""
    parser.add_argument(
        "--data", action="append", required=required, metavar="DIR",
        help="audio, one folder for each speaker, with transcripts where there are any; may be repeated",
    )  # fmt: skip
    add_corpus(parser, "--data")
    parser.add_argument(
        "--unseen", action="store_true",
        help="no training has heard any of it: all recordings count as held out, whatever the split",
    )  # fmt: skip


def data_of(args):
    """The `DataSettings` of the arguments that `add_data` adds."""
    from audiolm_jax.evaluation.recordings import DataSettings

    return DataSettings(
        folders=tuple(args.data),
        corpus=args.corpus,
        heldout_speakers=args.heldout_speakers,
        split_seed=args.split_seed,
        segment_seconds=args.segment_seconds,
        corpus_cache=args.corpus_cache,
        unseen=args.unseen,
    )


def add_corpus(parser, folder: str) -> None:
    """--corpus, --segment_seconds, --corpus_cache, --heldout_speakers and --split_seed, of the folder of a flag."""
    parser.add_argument(
        "--corpus", default="folder", metavar="KIND",
        help=f"folder (default), libri_light, unlab-600, unlab-6k, unlab-60k, maestro or music: what {folder} holds",
    )  # fmt: skip
    parser.add_argument(
        "--segment_seconds", type=length, default=60.0, metavar="S",
        help="of the segments that Libri-Light, MAESTRO and music are cut into (default 60)",
    )  # fmt: skip
    parser.add_argument(
        "--corpus_cache", metavar="DIR", help="where the index of their segments is kept (default: the user's cache)"
    )
    parser.add_argument(
        "--heldout_speakers", type=whole, default=20, metavar="N",
        help="speakers, or pieces of music, kept out of training (default 20; 0: none)",
    )  # fmt: skip
    parser.add_argument(
        "--split_seed", type=whole, default=0, metavar="N", help="decides which speakers these are (default 0)"
    )


def add_choice(parser, prompts: bool = False) -> None:
    """--min_seconds, --max_seconds, --max_recordings and --num_samples: which recordings, and how much is made of each.

    Args:
        prompts: the help calls them prompts.
    """
    what, which = ("prompts", "prompts (default all)") if prompts else ("recordings", "default all")
    parser.add_argument("--min_seconds", type=length, default=4.0, metavar="S", help=f"of {what} (default 4)")
    parser.add_argument("--max_seconds", type=length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=positive, metavar="N", help=which)
    parser.add_argument("--num_samples", type=positive, default=3, metavar="N", help="of each (default 3)")


def add_abx_caps(parser) -> None:
    """--max_group_size and --max_x_across, those of Libri-light's evaluator."""
    parser.add_argument(
        "--max_group_size", type=whole, default=10, metavar="N",
        help="tokens of one phone, context and speaker at most (default 10; 0: no cap)",
    )  # fmt: skip
    parser.add_argument(
        "--max_x_across", type=whole, default=5, metavar="N",
        help="other speakers for X at most (default 5; 0: no cap)",
    )  # fmt: skip


def add_seed(parser) -> None:
    """--seed."""
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of everything that is drawn (default 0)")


def add_compilation_cache(parser) -> None:
    """--no_compilation_cache."""
    parser.add_argument(
        "--no_compilation_cache", action="store_true", help="compile anew, and keep nothing of it for later commands"
    )


def add_json(parser) -> None:
    """--json."""
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON, to a file or to - (stdout)")


def write_json(target: str | None, figures: dict) -> None:
    """Writes figures to a file, or to stdout for "-"; does nothing for None."""
    if target is None:
        return
    text = json.dumps(figures, indent=None if target == "-" else 2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        outputs.write_results({Path(target): text.encode()})
