"""`audiolm eval NAME`: the table of its metrics, the one report of all, and how a measurement is told.

Nothing heavy is imported at the top of these modules, because `--help` reads all of them; a metric imports what it
needs when it runs, and returns a `Measurement`.
"""

import dataclasses
import json
import os
import sys
from argparse import Namespace
from pathlib import Path

from audiolm_jax.cli import arguments
from audiolm_jax.cli.arguments import Command
from audiolm_jax.cli.metrics import distances, generated, tokens
from audiolm_jax.files import outputs

# Metrics whose --output is a file of scores; that of the others is a folder of recordings.
SCORED_BY_FILE = ("swuggy", "sblimp")


def evaluate(args: Namespace) -> int:
    """Runs one of METRICS, and prints its figures."""
    if (output := getattr(args, "output", None)) is not None:
        if args.metric in SCORED_BY_FILE:
            # It is added to, so it may be there and lie among the recordings; what is no file of scores is spared.
            outputs.check_files([output], [given for given in arguments.inputs(args) if not os.path.isdir(given)])
        else:
            sound = list(getattr(args, "data", None) or ())
            sound += [getattr(args, name, None) for name in ("audio", "unrelated")]
            outputs.check_folder(output, arguments.inputs(args), sound)
    measurement = args.measure(args)
    if measurement is None or isinstance(measurement, int):  # of a command that writes and tells by itself
        return measurement or 0
    if args.json != "-":
        for name, value in measurement.figures.items():
            low_high = measurement.intervals.get(name)
            shown = "not defined" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name}: {shown}" + (f"  [{low_high[0]:.4g}, {low_high[1]:.4g}]" if low_high else ""))
    for note in measurement.notes:
        print(f"note: {note}", file=sys.stderr)
    arguments.write_json(args.json, measurement.to_json())
    return 0


def add_all(parser) -> None:
    """The arguments of `audiolm eval all`."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument("--quick", action="store_true", help="fewer recordings and samples: minutes on two cores")
    parser.add_argument("--only", metavar="LIST", help="these metrics alone, with commas between them")
    parser.add_argument("--item", metavar="FILE", help="ABX item file of the recordings in --data")
    parser.add_argument("--swuggy", metavar="DIR", help="lexical/dev of ZeroSpeech 2021: gold.csv and WAV files")
    parser.add_argument("--sblimp", metavar="DIR", help="syntactic/dev of ZeroSpeech 2021")
    parser.add_argument(
        "--phrases", metavar="DIR", help="speech of a closed language, split as --data is, as for `audiolm eval words`"
    )
    parser.add_argument("--vocabulary", metavar="FILE", help="its words (default: the transcripts.tsv in --phrases)")
    parser.add_argument("--asr", default="pocketsphinx", metavar="NAME", help="as for `audiolm eval wer`")
    parser.add_argument("--classifier", metavar="DIR", help="of speakers; without it one is trained on --data")
    parser.add_argument("--detector", metavar="DIR", help="a work directory, in place of the bundle's own")
    parser.add_argument("--train_tokens", action="append", default=[], metavar="DIR", help="of the stages' training")
    parser.add_argument(
        "--max_recordings", type=arguments.positive, metavar="N", help="scored, and prompted with (default: protocol's)"
    )
    parser.add_argument(
        "--max_clips", type=arguments.positive, metavar="N", help="that the codec is judged by (default: protocol's)"
    )
    parser.add_argument("--merge", action="store_true", help="write the held-out figures into the bundle's model card")
    arguments.add_seed(parser)


def all_metrics(args) -> int:
    """Makes the report. Returns 1 where a metric broke down, or one could not be measured that was named or given an
    input of its own; else 0."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.report.report import make_report
    from audiolm_jax.evaluation.report.report_markdown import paper_table
    from audiolm_jax.evaluation.report.report_settings import FULL, QUICK, ReportSettings

    extent = QUICK if args.quick else FULL
    if args.max_recordings is not None:
        extent = dataclasses.replace(extent, token_recordings=args.max_recordings, prompts=args.max_recordings)
    if args.max_clips is not None:
        extent = dataclasses.replace(extent, codec_clips=args.max_clips)
    settings = ReportSettings(
        data=arguments.data_of(args),
        output=Path(args.output),
        extent=extent,
        only=tuple(name.strip() for name in args.only.split(",")) if args.only else (),
        item=_path(args.item),
        swuggy=_path(args.swuggy),
        sblimp=_path(args.sblimp),
        phrases=_path(args.phrases),
        vocabulary=_path(args.vocabulary),
        asr=args.asr,
        classifier=_path(args.classifier),
        detector=_path(args.detector),
        train_tokens=tuple(args.train_tokens),
        seed=args.seed,
    )
    report, code = make_report(Bundle.load(args.bundle), settings, args.merge)
    for name in ("report.json", "report.md", "report.html"):
        print(settings.output / name, file=sys.stderr)
    if args.json == "-":
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(paper_table(report)))
    if args.json and args.json != "-":
        outputs.write_results({Path(args.json): (json.dumps(report.to_json(), indent=1) + "\n").encode()})
    return code


def _path(name: str | None):
    return Path(name) if name else None


METRICS = (
    Command(
        "abx",
        tokens.abx,
        tokens.add_abx,
        "Phone discriminability (ABX, within and across speaker) of features, with Libri-light's conventions.",
        "audiolm eval abx --item dev-clean.item --features DIR --feature_seconds 0.02 --json -",
    ),
    Command(
        "semantic",
        tokens.semantic,
        tokens.add_semantic,
        "Layers of a semantic encoder, and k-means of them: ABX and PNMI of each, as a figure and a table.",
        "audiolm eval semantic --w2v_bert work/w2v_bert --item FILE --data speech/ --output work/layers",
    ),
    Command(
        "swuggy",
        tokens.swuggy,
        tokens.add_minimal_pairs,
        "Lexical knowledge (sWUGGY): how often a word is likelier than a non-word that sounds like it.",
        "audiolm eval swuggy --gold lexical/dev/gold.csv --wavs lexical/dev --output swuggy.scores --json -",
    ),
    Command(
        "sblimp",
        tokens.sblimp,
        tokens.add_minimal_pairs,
        "Syntax (sBLIMP): how often a grammatical sentence is likelier than one that is not.",
        "audiolm eval sblimp --gold syntactic/dev/gold.csv --wavs syntactic/dev --output sblimp.scores --json -",
    ),
    Command(
        "visqol",
        distances.visqol,
        distances.add_visqol,
        "Distances between recordings and their references: ViSQOL, SI-SDR, mel, and PESQ and STOI where installed.",
        "audiolm eval visqol --reference a.wav --degraded b.wav --json -",
    ),
    Command(
        "codec",
        distances.codec,
        distances.add_codec,
        "A bundle's codec on held-out speakers, at each bit rate: ViSQOL, SI-SDR, mel, and how its codes are used; "
        "with --asr the words that are understood of it, beside those of the originals and of Opus.",
        "audiolm eval codec --bundle small --data speech/ --json -\n"
        "  audiolm eval codec --bundle small --data speech/ --asr models/whisper-base --output work/codec_words",
    ),
    Command(
        "wer",
        generated.wer,
        generated.add_wer,
        "Intelligibility: word and character errors of a speech recogniser, beside its errors on the originals.",
        "audiolm eval wer --bundle small --data speech/ --output work/samples --json -",
    ),
    Command(
        "words",
        generated.words,
        generated.add_words,
        "Continuations of a closed language: how many of the words heard belong to it, and whether the voice is kept.",
        "audiolm eval words --bundle DIR --data phrases/ --vocabulary words.txt --output work/words --json -\n"
        "  audiolm eval words --data phrases/ --vocabulary words.txt --output work/true --kinds true "
        "--asr models/whisper-base\n"
        "  audiolm eval words --data phrases/ --vocabulary words.txt --output work/words "
        "--unrelated LibriSpeech/dev-clean",
    ),
    Command(
        "speaker",
        distances.speaker,
        distances.add_speaker,
        "Speaker accuracy of reconstruction, acoustic generation and continuation, by a classifier, and similarity.",
        "audiolm eval speaker --bundle small --data speech/ --classifier work/speaker --output work/samples --json -",
    ),
    Command(
        "detector",
        distances.detector,
        distances.add_detector,
        "How likely recordings are to be made by a bundle (its detector), or how well its detector tells them apart.",
        "audiolm eval detector in.wav other.flac --bundle small --json -",
    ),
    Command(
        "perplexity",
        tokens.perplexity,
        tokens.add_perplexity,
        "Nats per token of each stage and level beside unigrams and bigrams, and how evenly tokens are used.",
        "audiolm eval perplexity --bundle small --data speech/ --train_tokens work/tokens --json -",
    ),
    Command(
        "fad",
        distances.fad,
        distances.add_fad,
        "Frechet audio distance between two sets of recordings or embeddings, with a bootstrap interval.",
        "audiolm eval fad --reference speech/ --generated work/samples/continuation --embedding speaker --json -",
    ),
    Command(
        "samples",
        generated.samples,
        generated.add_samples,
        "Make the recordings that the other metrics measure: reconstructions, regenerations and continuations.",
        "audiolm eval samples --bundle small --data speech/ --output work/samples --kinds reconstruction,continuation",
    ),
    Command(
        "ladder",
        distances.ladder,
        distances.add_ladder,
        "Which part fails: codec alone, then generated fine, coarse and all tokens, each with every distance.",
        "audiolm eval ladder --bundle small --data speech/ --output work/samples --json -",
    ),
    Command(
        "temperatures",
        generated.temperatures,
        generated.add_temperatures,
        "Choose the temperature of each stage on held-out prompts, by what can be measured of what it makes.",
        "audiolm eval temperatures --bundle work/bundle --data speech/ --output work/temperatures --merge\n"
        "  audiolm eval temperatures --bundle work/bundle --data speech/ --output work/temperatures "
        "--asr whisper-base/ --grid 0.4,0.6,0.8,1",
    ),
    Command(
        "all",
        all_metrics,
        add_all,
        "Every metric, and one report of them: report.json, report.md and a page to hear and see.",
        "audiolm eval all --bundle small --data speech/ --output work/report --quick",
    ),
)
