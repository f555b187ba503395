"""`audiolm eval fad`."""

from audiolm_jax import arguments

SUMMARY = "Frechet audio distance between two sets of recordings or embeddings, with a bootstrap interval."
EXAMPLE = "audiolm eval fad --reference speech/ --generated work/samples/continuation --embedding speaker --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--reference", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument("--generated", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument(
        "--embedding", choices=("log_mel", "semantic", "speaker"), default="log_mel",
        help="of audio: log-mel statistics (default), the bundle's semantic layer, or its speaker network",
    )  # fmt: skip
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
