"""`audiolm eval abx`."""

from audiolm_jax import arguments

SUMMARY = "Phone discriminability (ABX, within and across speaker) of features, with Libri-light's conventions."
EXAMPLE = "audiolm eval abx --item dev-clean.item --features DIR --feature_seconds 0.02 --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--item", required=True, metavar="FILE", help="an item file in Libri-light's format")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--features", metavar="DIR", help="NAME.npy or NAME.npz for every file of the item file: [T, D]"
    )
    source.add_argument("--audio", metavar="DIR", help="the recordings, whose features come from --bundle")
    parser.add_argument(
        "--feature_seconds", metavar="S", help="seconds per frame, such as 0.02 or 1/50; required with --features"
    )
    parser.add_argument(
        "--representation", choices=("semantic", "centroids", "codec"), default="centroids",
        help="of --bundle: standardised features of its semantic layer, its nearest centroids (default), or the sum of "
        "the codec's quantizer outputs",
    )  # fmt: skip
    parser.add_argument(
        "--layer", type=arguments.whole, metavar="N", help="of the encoder, in place of the bundle's own"
    )
    parser.add_argument("--num_quantizers", type=arguments.positive, metavar="N", help="codec levels (default all)")
    arguments.add_bundle(parser)
    parser.add_argument(
        "--max_group_size", type=arguments.whole, default=10, metavar="N",
        help="tokens of one phone, context and speaker at most (default 10; 0: no cap)",
    )  # fmt: skip
    parser.add_argument(
        "--max_x_across", type=arguments.whole, default=5, metavar="N",
        help="other speakers for X at most (default 5; 0: no cap)",
    )  # fmt: skip
    parser.add_argument("--distance", choices=("cosine", "euclidian"), default="cosine", help="cosine is the angle")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
