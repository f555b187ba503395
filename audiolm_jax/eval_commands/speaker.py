"""`audiolm eval speaker`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Speaker accuracy of reconstruction, acoustic generation and continuation, by a classifier, and similarity."
EXAMPLE = "audiolm eval speaker --bundle small --data speech/ --classifier work/speaker --output work/samples --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--classifier", metavar="DIR",
        help="work directory of `audiolm train speaker_classifier --data DIR`; required with --data",
    )  # fmt: skip
    parser.add_argument("--reference", metavar="PATH", help="with --compare: recordings, for their similarity alone")
    parser.add_argument("--compare", metavar="PATH", help="a file or a folder that pairs with --reference by name")
    arguments.add_bundle(parser)
    parser.add_argument("--output", metavar="DIR", help="where the generated recordings go; required with --data")
    parser.add_argument("--min_seconds", type=arguments.length, default=4.0, metavar="S", help="of prompts (default 4)")
    parser.add_argument("--max_seconds", type=arguments.length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="prompts (default all)")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.voice import speaker
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    classifier = None if args.classifier is None else TrainedClassifier.load(args.classifier)
    if args.reference or args.compare:
        if args.data or not (args.reference and args.compare):
            raise UserError("give --reference and --compare together, and no --data with them")
        embedder = classifier or TrainedClassifier.from_bundle(Bundle.load(args.bundle), "speaker")
        return speaker.compare(embedder, args.reference, args.compare, args.seed)
    if not (args.data and args.output and classifier):
        raise UserError("give --data, --classifier and --output, or --reference and --compare for similarity alone")
    return _measure_samples(args, classifier)


def _measure_samples(args, classifier):
    """Accuracy and similarity of what the bundle makes of held-out speakers.

    The recordings that the classifier itself did not hear in training are measured too, with their reconstructions.
    """
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import (
        ACOUSTIC,
        CONTINUATION,
        ORIGINAL,
        RECONSTRUCTION,
        SampleSettings,
        choose_recordings,
        make_samples,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.voice import speaker
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    bundle, data = Bundle.load(args.bundle), data_of(args)
    claim = heldout_claim(bundle, data).required()
    recordings = data.recordings()
    prompts = choose_recordings(recordings, "heldout", args.min_seconds, args.max_seconds, args.max_recordings)
    chosen = {recording.key for recording in prompts}
    unheard = [r for r in recordings if r.key in classifier.heldout_keys and r.key not in chosen]
    settings = SampleSettings(num_samples=args.num_samples, seed=args.seed)
    kinds = (ORIGINAL, RECONSTRUCTION, ACOUSTIC, CONTINUATION)
    by_kind = dict(make_samples(bundle, prompts, args.output, settings, kinds))
    for kind, more in make_samples(bundle, unheard, args.output, settings, (ORIGINAL, RECONSTRUCTION)).items():
        by_kind[kind] = [*by_kind[kind], *more]
    embedder = TrainedClassifier.from_bundle(bundle, "speaker") if "speaker" in bundle.classifiers else None
    return with_claim(speaker.measure(classifier, by_kind, args.seed, embedder), claim, data)
