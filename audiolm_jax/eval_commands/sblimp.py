"""`audiolm eval sblimp`."""

from audiolm_jax.eval_commands import swuggy

SUMMARY = "Syntax (sBLIMP): how often a grammatical sentence is likelier than one that is not."
EXAMPLE = "audiolm eval sblimp --gold syntactic/dev/gold.csv --wavs syntactic/dev --output sblimp.scores --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    swuggy.add_arguments(parser)


def run(args):
    """The measurement."""
    return swuggy.measure_task(args, "sblimp")
