"""`audiolm eval wer`."""

from audiolm_jax import arguments

SUMMARY = "Intelligibility: word and character errors of a speech recogniser, beside its errors on the originals."
EXAMPLE = "audiolm eval wer --bundle small --data speech/ --output work/samples --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--audio", metavar="DIR", help="only these recordings, with transcripts beside them, in place of the protocol"
    )
    parser.add_argument("--transcripts", metavar="DIR", help="where the transcripts of --audio lie, if not beside it")
    parser.add_argument(
        "--asr", default="pocketsphinx", metavar="NAME",
        help="pocketsphinx (default, works offline), or a local folder of a Hugging Face CTC or Whisper model",
    )  # fmt: skip
    arguments.add_bundle(parser)
    parser.add_argument("--output", metavar="DIR", help="where the generated recordings go; required with --data")
    parser.add_argument(
        "--min_seconds", type=arguments.length, default=4.0, metavar="S", help="of recordings (default 4)"
    )
    parser.add_argument("--max_seconds", type=arguments.length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    raise NotImplementedError
