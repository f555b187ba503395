"""`audiolm eval visqol`."""

from audiolm_jax import arguments

SUMMARY = "Distances between recordings and their references: ViSQOL, SI-SDR, mel, and PESQ and STOI where installed."
EXAMPLE = "audiolm eval visqol --reference a.wav --degraded b.wav --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--reference", required=True, metavar="PATH", help="a file, or a folder of files")
    parser.add_argument("--degraded", required=True, metavar="PATH", help="a file, or a folder with the same names")
    add_mapping(parser)
    arguments.add_seed(parser)


def add_mapping(parser) -> None:
    """--mapping."""
    parser.add_argument(
        "--mapping", choices=("exponential", "lattice"), default="exponential",
        help="ViSQOL's, from similarity to opinion score: an exponential fit (default), or a lattice network, which "
        "needs audiolm_jax[lattice]",
    )  # fmt: skip


def run(args):
    """The measurement."""
    from audiolm_jax.evaluation.pairs import measure

    return measure(args.reference, args.degraded, args.mapping, args.seed)
