"""`audiolm eval all`."""

from audiolm_jax import arguments

SUMMARY = "Every metric, and one report of them: report.json, report.md and a page to hear and see."
EXAMPLE = "audiolm eval all --bundle small --data speech/ --output work/report --quick"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument("--quick", action="store_true", help="fewer recordings and samples: minutes on two cores")
    parser.add_argument("--only", metavar="LIST", help="these metrics alone, with commas between them")
    parser.add_argument("--item", metavar="FILE", help="ABX item file of the recordings in --data")
    parser.add_argument("--swuggy", metavar="DIR", help="lexical/dev of ZeroSpeech 2021: gold.csv and WAV files")
    parser.add_argument("--sblimp", metavar="DIR", help="syntactic/dev of ZeroSpeech 2021")
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


def run(args) -> int:
    """Makes the report. Returns 1 where a metric broke down, or one could not be measured that was named or given an
    input of its own; else 0."""
    import dataclasses
    import json
    import sys
    from pathlib import Path

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.report.report import make_report
    from audiolm_jax.evaluation.report.report_markdown import paper_table
    from audiolm_jax.evaluation.report.report_plan import FULL, QUICK, ReportSettings
    from audiolm_jax.outputs import write_results

    extent = QUICK if args.quick else FULL
    if args.max_recordings is not None:
        extent = dataclasses.replace(extent, token_recordings=args.max_recordings, prompts=args.max_recordings)
    if args.max_clips is not None:
        extent = dataclasses.replace(extent, codec_clips=args.max_clips)
    settings = ReportSettings(
        folders=tuple(args.data),
        output=Path(args.output),
        extent=extent,
        only=tuple(name.strip() for name in args.only.split(",")) if args.only else (),
        item=_path(args.item),
        swuggy=_path(args.swuggy),
        sblimp=_path(args.sblimp),
        asr=args.asr,
        classifier=_path(args.classifier),
        detector=_path(args.detector),
        train_tokens=tuple(args.train_tokens),
        corpus=args.corpus,
        heldout_speakers=args.heldout_speakers,
        split_seed=args.split_seed,
        segment_seconds=args.segment_seconds,
        corpus_cache=args.corpus_cache,
        unseen=args.unseen,
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
        write_results({Path(args.json): (json.dumps(report.to_json(), indent=1) + "\n").encode()})
    return code


def _path(name: str | None):
    from pathlib import Path

    return Path(name) if name else None
