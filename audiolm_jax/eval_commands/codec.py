"""`audiolm eval codec`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim
from audiolm_jax.eval_commands.visqol import add_mapping

SUMMARY = "A bundle's codec on held-out speakers, at each bit rate: ViSQOL, SI-SDR, mel, and how its codes are used."
EXAMPLE = "audiolm eval codec --bundle small --data speech/ --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--max_clips", type=arguments.positive, default=40, metavar="N", help="default 40")
    add_mapping(parser)
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.codec_fidelity import measure
    from audiolm_jax.evaluation.heldout import heldout_claim

    bundle, data = Bundle.load(args.bundle), data_of(args)
    claim = heldout_claim(bundle, data).required()
    heldout = [recording for recording in data.recordings() if recording.heldout]
    if not heldout:
        named = ", ".join(args.data)
        raise UserError(f"{named} has no held-out recordings; give more speakers, or --unseen to take all")
    return with_claim(measure(bundle, heldout, args.max_clips, args.seed, args.mapping), claim, data)
