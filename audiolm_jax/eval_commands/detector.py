"""`audiolm eval detector`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "How likely recordings are to be made by a bundle (its detector), or how well its detector tells them apart."
EXAMPLE = "audiolm eval detector in.wav other.flac --bundle small --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="recordings; a probability is given for each")
    arguments.add_data(parser, required=False)
    parser.add_argument("--detector", metavar="DIR", help="work directory of a training, in place of the bundle's own")
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
    from audiolm_jax.evaluation.generated.samples import (
        CONTINUATION,
        RECONSTRUCTION,
        SampleSettings,
        choose_recordings,
        make_samples,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.voice import detector
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    if bool(args.files) == bool(args.data):
        raise UserError("give files, for a probability each, or --data, for the detector's accuracy")
    if args.data and not args.output:
        raise UserError("with --data give --output, a folder for the recordings that are made")
    bundle = None if args.detector and args.files else Bundle.load(args.bundle)
    if args.detector:
        network = TrainedClassifier.load(args.detector)
    else:
        network = TrainedClassifier.from_bundle(bundle, "detector")
    if args.files:
        return detector.measure_files(network, args.files)
    data = data_of(args)
    claim = heldout_claim(bundle, data).required()
    prompts = choose_recordings(
        data.recordings(), "heldout", args.min_seconds, args.max_seconds, args.max_recordings
    )
    settings = SampleSettings(num_samples=args.num_samples, seed=args.seed)
    made = make_samples(bundle, prompts, args.output, settings, (RECONSTRUCTION, CONTINUATION))
    return with_claim(detector.measure(network, made[RECONSTRUCTION], made[CONTINUATION], args.seed), claim, data)
