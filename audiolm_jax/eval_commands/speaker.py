"""`audiolm eval speaker`."""

from audiolm_jax import arguments

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
    raise NotImplementedError
