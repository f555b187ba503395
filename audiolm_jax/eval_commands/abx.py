"""`audiolm eval abx`."""

from fractions import Fraction

from audiolm_jax import arguments
from audiolm_jax.errors import UserError

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
    arguments.add_abx_caps(parser)
    parser.add_argument(
        "--distance", choices=("cosine", "euclidian", "identity"), default="cosine",
        help="cosine is the angle; identity is of frames that are ids [T, 1], and tells no more than equal or not",
    )  # fmt: skip
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.abx.abx import AbxSettings, measure
    from audiolm_jax.evaluation.abx.frame_features import bundle_features, folder_features

    settings = AbxSettings(args.max_group_size, args.max_x_across, args.seed, args.distance)
    given = None if args.feature_seconds is None else _seconds(args.feature_seconds)
    if args.features is not None:
        if given is None:
            raise UserError("--features needs --feature_seconds, the seconds per frame, such as 0.02 or 1/50")
        if args.layer is not None or args.num_quantizers is not None:
            raise UserError("--layer and --num_quantizers choose features of a bundle; give --audio, not --features")
        features = folder_features(args.features)
    else:
        features = bundle_features(
            Bundle.load(args.bundle), args.audio, args.representation, args.layer, args.num_quantizers
        )
        if given not in (None, features.feature_seconds):
            raise UserError(
                f"--feature_seconds is {args.feature_seconds}, but a frame of this bundle's {args.representation} "
                f"features is {features.feature_seconds} s; leave it out"
            )
    return measure(args.item, features, features.feature_seconds or given, settings)


def _seconds(text: str) -> Fraction:
    """Seconds per frame from "0.02" or "1/50"."""
    try:
        seconds = Fraction(text)
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(0)
    if not 0.0001 <= seconds <= 10:
        raise UserError(f"--feature_seconds {text!r} is not seconds per frame, such as 0.02 or 1/50")
    return seconds
