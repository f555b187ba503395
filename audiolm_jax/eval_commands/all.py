"""`audiolm eval all`."""

from audiolm_jax import arguments

SUMMARY = "Every metric, and one report of them: report.json, report.md and a page to hear and see."
EXAMPLE = "audiolm eval all --bundle small --data speech/ --output work/report --quick"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument("--quick", action="store_true", help="fewer recordings and samples: minutes on two cores")
    parser.add_argument("--only", metavar="LIST", help="these metrics alone, with commas between them")
    parser.add_argument("--item", metavar="FILE", help="ABX item file of the recordings in --data")
    parser.add_argument("--swuggy", metavar="DIR", help="lexical/dev of ZeroSpeech 2021: gold.csv and WAV files")
    parser.add_argument("--sblimp", metavar="DIR", help="syntactic/dev of ZeroSpeech 2021")
    parser.add_argument("--asr", default="pocketsphinx", metavar="NAME", help="as for `audiolm eval wer`")
    parser.add_argument("--classifier", metavar="DIR", help="of speakers; without it one is trained on --data")
    parser.add_argument("--train_tokens", action="append", default=[], metavar="DIR", help="of the stages' training")
    parser.add_argument("--merge", action="store_true", help="write the held-out figures into the bundle's model card")
    arguments.add_seed(parser)


def run(args):
    """The report."""
    raise NotImplementedError
