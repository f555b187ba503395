"""`audiolm eval codec`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim
from audiolm_jax.eval_commands.visqol import add_mapping

SUMMARY = (
    "A bundle's codec on held-out speakers, at each bit rate: ViSQOL, SI-SDR, mel, and how its codes are used; with "
    "--asr the words that are understood of it, beside those of the originals and of Opus."
)
EXAMPLE = (
    "audiolm eval codec --bundle small --data speech/ --json -\n"
    "  audiolm eval codec --bundle small --data speech/ --asr models/whisper-base --output work/codec_words"
)


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--max_clips", type=arguments.positive, default=40, metavar="N", help="default 40")
    add_mapping(parser)
    parser.add_argument(
        "--asr", metavar="NAME",
        help="hear the words of the originals, of the codec at each bit rate and of Opus at 6 and 9 kbps (opus-tools), "
        "with ViSQOL beside them; pocketsphinx or a folder, as for `audiolm eval wer`",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="DIR", help="where what is heard, and what was heard in it, go; required with --asr"
    )
    arguments.add_seed(parser)


def run(args):
    """The measurement.

    Raises:
        UserError: flags that do not go together, or nothing is held out.
    """
    from pathlib import Path

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.sound import codec_fidelity, codec_words

    if args.asr is not None and args.output is None:
        raise UserError("--output is missing: the folder where the decoded recordings go, and what was heard in them")
    if args.asr is None and args.output is not None:
        raise UserError("--output goes with --asr; without it nothing but figures is made")
    recogniser = None if args.asr is None else _recogniser(args.asr)
    bundle, data = Bundle.load(args.bundle), data_of(args)
    claim = heldout_claim(bundle, data).required()
    recordings, how = data.recordings(), (args.max_clips, args.seed, args.mapping)
    if recogniser is not None:
        sounds, cache = Path(args.output, "codec_words"), Path(args.output, "asr")
        return with_claim(codec_words.measure(bundle, recordings, recogniser, sounds, cache, *how), claim, data)
    heldout = [recording for recording in recordings if recording.heldout]
    if not heldout:
        named = ", ".join(args.data)
        raise UserError(f"{named} has no held-out recordings; give more speakers, or --unseen to take all")
    return with_claim(codec_fidelity.measure(bundle, heldout, *how), claim, data)


def _recogniser(name):
    """Who listens; what is missing for that is told before anything that takes long."""
    import jiwer  # noqa: F401

    from audiolm_jax.evaluation.words.asr import load_recogniser

    return load_recogniser(name)
