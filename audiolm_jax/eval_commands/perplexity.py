"""`audiolm eval perplexity`."""

from audiolm_jax import arguments

SUMMARY = "Nats per token of each stage and level beside unigrams and bigrams, and how evenly tokens are used."
EXAMPLE = "audiolm eval perplexity --bundle small --data speech/ --train_tokens work/tokens --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--tokens", action="append", metavar="DIR",
        help="token records in place of --data, their held-out split; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--train_tokens", action="append", default=[], metavar="DIR",
        help="token records of the training, for baselines with training counts; may be repeated",
    )  # fmt: skip
    arguments.add_bundle(parser)
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--batch_size", type=arguments.positive, default=4, metavar="N", help="default 4")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
