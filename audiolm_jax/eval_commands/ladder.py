"""`audiolm eval ladder`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Which part fails: codec alone, then generated fine, coarse and all tokens, each with every distance."
EXAMPLE = "audiolm eval ladder --bundle small --data speech/ --output work/samples --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--classifier", metavar="DIR", help="of speakers, a work directory; without it similarity only")
    parser.add_argument("--asr", default="pocketsphinx", metavar="NAME", help="as for `audiolm eval wer`")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the generated recordings go")
    parser.add_argument(
        "--min_seconds", type=arguments.length, default=4.0, metavar="S", help="of recordings (default 4)"
    )
    parser.add_argument("--max_seconds", type=arguments.length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    arguments.add_seed(parser)


def run(args):
    """The measurement, of samples that are made where they are not there yet."""
    import dataclasses
    from pathlib import Path

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated import ladder
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings, make_samples
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
    from audiolm_jax.evaluation.words.asr import load_recogniser

    bundle = Bundle.load(args.bundle)
    classifier = None if args.classifier is None else TrainedClassifier.load(args.classifier)
    data = data_of(args)
    claim = heldout_claim(bundle, data).required()
    chosen = choose_recordings(
        data.recordings(), "heldout", args.min_seconds, args.max_seconds, args.max_recordings
    )
    # Before generation, which takes long, because it may be refused; without words nobody listens.
    asr = load_recogniser(args.asr) if any(recording.text for recording in chosen) else args.asr
    made = make_samples(bundle, chosen, args.output, SampleSettings(num_samples=args.num_samples, seed=args.seed))
    found = ladder.measure(
        made, bundle=bundle, asr=asr, classifier=classifier, cache=Path(args.output, "asr"), seed=args.seed
    )
    return with_claim(dataclasses.replace(found, notes=(*found.notes, *made.notes)), claim, data)
