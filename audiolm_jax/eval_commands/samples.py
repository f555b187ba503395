"""`audiolm eval samples`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Make the recordings that the other metrics measure: reconstructions, regenerations and continuations."
EXAMPLE = "audiolm eval samples --bundle small --data speech/ --output work/samples --kinds reconstruction,continuation"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument(
        "--kinds", default="original,reconstruction,fine,acoustic,continuation", metavar="LIST",
        help="which, with commas between them (default all)",
    )  # fmt: skip
    parser.add_argument("--split", choices=("heldout", "train", "all"), default="heldout", help="default heldout")
    parser.add_argument(
        "--min_seconds", type=arguments.length, default=4.0, metavar="S", help="of recordings (default 4)"
    )
    parser.add_argument("--max_seconds", type=arguments.length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    parser.add_argument("--prompt_seconds", type=arguments.length, default=3.0, metavar="S", help="default 3")
    parser.add_argument(
        "--seconds", type=arguments.length, default=7.0, metavar="S", help="of continuations (default 7)"
    )
    parser.add_argument("--temperature", type=arguments.per_stage(float), metavar="T", help="default: the bundle's")
    arguments.add_seed(parser)


def run(args):
    """Makes them, and counts them."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings, make_samples
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.measurement import Measurement, versions

    settings = SampleSettings(args.num_samples, args.prompt_seconds, args.seconds, args.seed, args.temperature)
    bundle, data = Bundle.load(args.bundle), data_of(args)
    claim = heldout_claim(bundle, data)
    if args.split != "all":
        claim.required()
    chosen = choose_recordings(
        data.recordings(), args.split, args.min_seconds, args.max_seconds, args.max_recordings
    )
    kinds = [kind.strip() for kind in args.kinds.split(",") if kind.strip()]
    made = make_samples(bundle, chosen, args.output, settings, kinds)
    measurement = Measurement(
        "samples",
        figures={kind: len(samples) for kind, samples in made.items()},
        counts={"recordings": len(chosen), "speakers": len({recording.speaker for recording in chosen})},
        settings={
            "output": args.output,
            "bundle": bundle.name,
            "num_samples": settings.num_samples,
            "prompt_seconds": settings.prompt_seconds,
            "seconds": settings.seconds,
            "seed": settings.seed,
            "temperature": settings.temperature,
            "split": args.split,
            "min_seconds": args.min_seconds,
            "max_seconds": args.max_seconds,
        },
        versions=versions(),
        notes=made.notes,
        details={"left_out": made.left_out},
    )
    return with_claim(measurement, claim, data)
