"""`audiolm eval detector`."""

from audiolm_jax import arguments

SUMMARY = "How likely recordings are to be made by a bundle (its detector), or how well its detector tells them apart."
EXAMPLE = "audiolm eval detector in.wav other.flac --bundle small --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="recordings; a probability is given for each")
    arguments.add_data(parser, required=False)
    parser.add_argument("--detector", metavar="DIR", help="work directory of a training, in place of the bundle's own")
    arguments.add_bundle(parser)
    parser.add_argument("--output", metavar="DIR", help="where the generated recordings go; required with --data")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="prompts (default all)")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
