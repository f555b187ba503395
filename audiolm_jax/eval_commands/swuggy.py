"""`audiolm eval swuggy`."""

from audiolm_jax import arguments

SUMMARY = "Lexical knowledge (sWUGGY): how often a word is likelier than a non-word that sounds like it."
EXAMPLE = "audiolm eval swuggy --gold lexical/dev/gold.csv --wavs lexical/dev --output swuggy.scores --json -"


def add_arguments(parser) -> None:
    """The arguments of this command, and of `audiolm eval sblimp`."""
    parser.add_argument("--gold", required=True, metavar="FILE", help="gold.csv of ZeroSpeech 2021")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="FILE", help="ready scores, a line 'STEM SCORE' each; higher is likelier")
    source.add_argument("--wavs", metavar="DIR", help="the recordings, scored by the semantic stage of --bundle")
    source.add_argument(
        "--tokens", action="append", metavar="DIR",
        help="token records of the recordings, by `audiolm tokenize`, scored likewise; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE",
        help="where the scores of --wavs or --tokens are kept; started again, the command goes on there",
    )  # fmt: skip
    parser.add_argument("--max_pairs", type=arguments.positive, metavar="N", help="pairs to measure (default all)")
    parser.add_argument("--batch_size", type=arguments.positive, default=16, metavar="N", help="default 16")
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    return measure_task(args, "swuggy")


def measure_task(args, task: str):
    """The measurement of either task."""
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.language.gold import read_gold
    from audiolm_jax.evaluation.language.scores import read_scores
    from audiolm_jax.evaluation.language.spot_the_word import measure

    if args.scores and args.output:
        raise UserError("--output keeps the scores that --wavs or --tokens make; leave it out with --scores")
    gold = read_gold(args.gold, task, args.max_pairs)
    if args.scores:
        return measure(task, gold, read_scores(args.scores), seed=args.seed)

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.language.likelihood import score_folder, score_records
    from audiolm_jax.evaluation.language.token_records import read_records

    bundle = Bundle.load(args.bundle)
    if args.wavs:
        scores = score_folder(bundle, args.wavs, gold.stems, args.output, args.batch_size)
    else:
        scores = score_records(bundle, read_records(args.tokens, bundle), gold.stems, args.output, args.batch_size)
    return measure(task, gold, scores, seed=args.seed)
