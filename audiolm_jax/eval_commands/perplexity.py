"""`audiolm eval perplexity`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of

SUMMARY = "Nats per token of each stage and level beside unigrams and bigrams, and how evenly tokens are used."
EXAMPLE = "audiolm eval perplexity --bundle small --data speech/ --train_tokens work/tokens --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--tokens", action="append", metavar="DIR",
        help="token records in place of --data, their held-out split; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--train_tokens", action="append", default=[], metavar="DIR",
        help="token records of the training, for baselines with training counts; may be repeated",
    )  # fmt: skip
    arguments.add_bundle(parser)
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--batch_size", type=arguments.positive, default=4, metavar="N", help="default 4")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    import dataclasses

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.heldout import heldout_claim, token_claim
    from audiolm_jax.evaluation.language.perplexity import measure
    from audiolm_jax.evaluation.language.token_records import read_records, tokenize_all
    from audiolm_jax.evaluation.recordings import shared_out

    if bool(args.data) == bool(args.tokens):
        raise UserError("give --data with recordings, or --tokens with token records")
    bundle = Bundle.load(args.bundle)
    notes: tuple[str, ...] = ()
    seen = "no speaker was held out, so all recordings were scored, also those that were trained on"
    if args.data:
        data = data_of(args)
        claim = heldout_claim(bundle, data, args.train_tokens).required()
        recordings = data.recordings()
        heldout = [recording for recording in recordings if recording.heldout]
        records, _, notes = tokenize_all(bundle, shared_out(heldout or recordings, args.max_recordings))
    else:
        claim = token_claim(bundle, args.tokens, args.train_tokens).required()
        heldout = read_records(args.tokens, bundle, ("heldout",), args.max_recordings)
        records = heldout or read_records(args.tokens, bundle, ("train",), args.max_recordings)
    measured = measure(bundle, records, args.train_tokens, args.batch_size, args.seed)
    source = data.to_json() if args.data else {"tokens": args.tokens}
    return dataclasses.replace(
        measured,
        settings={**measured.settings, **source, "heldout": claim.state},
        notes=(*measured.notes, *notes, *(claim.notes if heldout else (seen,))),
    )
