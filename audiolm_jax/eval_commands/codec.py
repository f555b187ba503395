"""`audiolm eval codec`."""

from audiolm_jax import arguments

SUMMARY = "A bundle's codec on held-out speakers, at each bit rate: ViSQOL, SI-SDR, mel, and how its codes are used."
EXAMPLE = "audiolm eval codec --bundle small --data speech/ --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--max_clips", type=arguments.positive, default=40, metavar="N", help="default 40")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
