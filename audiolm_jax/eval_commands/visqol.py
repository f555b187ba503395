"""`audiolm eval visqol`."""

SUMMARY = "Distances between recordings and their references: ViSQOL, SI-SDR, mel, and PESQ and STOI where installed."
EXAMPLE = "audiolm eval visqol --reference a.wav --degraded b.wav --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--reference", required=True, metavar="PATH", help="a file, or a folder of files")
    parser.add_argument("--degraded", required=True, metavar="PATH", help="a file, or a folder with the same names")
    parser.add_argument(
        "--mapping", choices=("exponential", "lattice"), default="exponential",
        help="from similarity to opinion score: ViSQOL's exponential fit (default), or its lattice network, which needs "
        "the package ai-edge-litert",
    )  # fmt: skip


def run(args):
    """The measurement."""
    raise NotImplementedError
