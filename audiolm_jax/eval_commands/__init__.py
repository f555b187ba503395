"""`audiolm eval NAME`: one module per metric with SUMMARY, EXAMPLE, `add_arguments(parser)` and `run(args)`.

These modules import nothing heavy at their top, because `--help` reads all of them; `run` imports what it needs and
returns a `Measurement`, which `commands.evaluate` prints and writes.
"""

NAMES = (
    "abx",
    "swuggy",
    "sblimp",
    "visqol",
    "codec",
    "wer",
    "speaker",
    "detector",
    "perplexity",
    "fad",
    "samples",
    "ladder",
    "all",
)
