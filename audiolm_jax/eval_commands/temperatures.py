"""`audiolm eval temperatures`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Choose the temperature of each stage on held-out prompts, by what can be measured of what it makes."
EXAMPLE = (
    "audiolm eval temperatures --bundle work/bundle --data speech/ --output work/temperatures --merge\n"
    "  audiolm eval temperatures --bundle work/bundle --data speech/ --output work/temperatures --asr whisper-base/ "
    "--grid 0.4,0.6,0.8,1"
)


def grid(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(arguments.number(part.strip(), float, 0) for part in text.split(","))


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="what has been tried; started again, it keeps what is done"
    )
    parser.add_argument(
        "--merge", action="store_true", help="make them the temperatures that the bundle generates with by default"
    )
    parser.add_argument(
        "--grid", type=grid, metavar="LIST",
        help="temperatures to try, with commas between them (default 0.3 to 1 in steps of 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--asr", metavar="NAME",
        help="a recogniser, as for eval wer: its words decide on the coarse stage (default: ViSQOL does)",
    )  # fmt: skip
    parser.add_argument("--prompt_seconds", type=arguments.length, default=3.0, metavar="S", help="default 3")
    parser.add_argument(
        "--seconds", type=arguments.length, default=4.0, metavar="S", help="that follow the prompt (default 4)"
    )
    parser.add_argument("--max_recordings", type=arguments.positive, default=16, metavar="N", help="default 16")
    arguments.add_seed(parser)


def run(args):
    """The measurement, and with --merge the bundle's new temperatures."""
    from audiolm_jax.bundle import Bundle, with_temperature
    from audiolm_jax.evaluation.generated.temperatures import GRID, TemperatureSettings, measure
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.words.asr import load_recogniser

    settings = TemperatureSettings(
        args.grid or GRID, args.prompt_seconds, args.seconds, args.max_recordings, args.seed
    )
    recogniser = load_recogniser(args.asr) if args.asr else None
    bundle, data = Bundle.load(args.bundle), data_of(args)
    claim = heldout_claim(bundle, data).required()
    heldout = [recording for recording in data.recordings() if recording.heldout]
    measured = measure(bundle, heldout, args.output, settings, recogniser)
    if args.merge:
        with_temperature(bundle.path, measured.figures["temperature"])
    return with_claim(measured, claim, data)
