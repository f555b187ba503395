"""`audiolm eval NAME`: one module per metric with SUMMARY, EXAMPLE, `add_arguments(parser)` and `run(args)`.

These modules import nothing heavy at their top, because `--help` reads all of them; `run` imports what it needs and
returns a `Measurement`, which `commands.evaluate` prints and writes.
"""

import dataclasses

NAMES = (
    "abx",
    "semantic",
    "swuggy",
    "sblimp",
    "visqol",
    "codec",
    "wer",
    "words",
    "speaker",
    "detector",
    "perplexity",
    "fad",
    "samples",
    "ladder",
    "temperatures",
    "all",
)


def data_of(args):
    """The `DataSettings` of the arguments that `arguments.add_data` adds."""
    from audiolm_jax.evaluation.recordings import DataSettings

    return DataSettings(
        folders=tuple(args.data),
        corpus=args.corpus,
        heldout_speakers=args.heldout_speakers,
        split_seed=args.split_seed,
        segment_seconds=args.segment_seconds,
        cache_dir=args.corpus_cache,
        unseen=args.unseen,
    )


def with_claim(measurement, claim, data):
    """A measurement that says by which split its recordings were held out, and what may be said of that."""
    return dataclasses.replace(
        measurement,
        settings={**measurement.settings, **data.to_json(), "heldout": claim.state},
        notes=(*measurement.notes, *claim.notes),
    )
