"""`audiolm eval swuggy`."""

from audiolm_jax import arguments

SUMMARY = "Lexical knowledge (sWUGGY): how often a word is likelier than a non-word that sounds like it."
EXAMPLE = "audiolm eval swuggy --gold lexical/dev/gold.csv --wavs lexical/dev --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--gold", required=True, metavar="FILE", help="gold.csv of ZeroSpeech 2021")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="FILE", help="ready scores, a line 'STEM SCORE' each; higher is likelier")
    source.add_argument("--wavs", metavar="DIR", help="the recordings, scored by the semantic stage of --bundle")
    parser.add_argument(
        "--output", metavar="FILE", help="where the scores of --wavs go; started again, it goes on there"
    )
    parser.add_argument("--batch_size", type=arguments.positive, default=16, metavar="N", help="default 16")
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
