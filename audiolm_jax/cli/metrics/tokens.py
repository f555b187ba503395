"""What tokens and features hold: `audiolm eval abx`, `semantic`, `swuggy`, `sblimp` and `perplexity`."""

import dataclasses
from fractions import Fraction
from pathlib import Path

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError


def add_abx(parser) -> None:
    """The arguments of `audiolm eval abx`."""
    parser.add_argument("--item", required=True, metavar="FILE", help="an item file in Libri-light's format")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--features", metavar="DIR", help="NAME.npy or NAME.npz for every file of the item file: [T, D]"
    )
    source.add_argument("--audio", metavar="DIR", help="the recordings, whose features come from --bundle")
    parser.add_argument(
        "--feature_seconds", metavar="S", help="seconds per frame, such as 0.02 or 1/50; required with --features"
    )
    parser.add_argument(
        "--representation", choices=("semantic", "centroids", "codec"), default="centroids",
        help="of --bundle: standardised features of its semantic layer, its nearest centroids (default), or the sum of "
        "the codec's quantizer outputs",
    )  # fmt: skip
    parser.add_argument(
        "--layer", type=arguments.whole, metavar="N", help="of the encoder, in place of the bundle's own"
    )
    parser.add_argument("--num_quantizers", type=arguments.positive, metavar="N", help="codec levels (default all)")
    arguments.add_bundle(parser)
    arguments.add_abx_caps(parser)
    parser.add_argument(
        "--distance", choices=("cosine", "euclidian", "identity"), default="cosine",
        help="cosine is the angle; identity is of frames that are ids [T, 1], and tells no more than equal or not",
    )  # fmt: skip
    arguments.add_seed(parser)


def abx(args):
    """The measurement of `audiolm eval abx`."""
    given = None if args.feature_seconds is None else _seconds(args.feature_seconds)
    if args.features is not None and given is None:
        raise UserError("--features needs --feature_seconds, the seconds per frame, such as 0.02 or 1/50")
    if args.features is not None and (args.layer is not None or args.num_quantizers is not None):
        raise UserError("--layer and --num_quantizers choose features of a bundle; give --audio, not --features")

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.abx.abx import AbxSettings, measure
    from audiolm_jax.evaluation.abx.frame_features import bundle_features, folder_features

    settings = AbxSettings(args.max_group_size, args.max_x_across, args.seed, args.distance)
    if args.features is not None:
        features = folder_features(args.features)
    else:
        features = bundle_features(
            Bundle.load(args.bundle), args.audio, args.representation, args.layer, args.num_quantizers
        )
        if given not in (None, features.feature_seconds):
            raise UserError(
                f"--feature_seconds is {args.feature_seconds}, but a frame of this bundle's {args.representation} "
                f"features is {features.feature_seconds} s; leave it out"
            )
    return measure(args.item, features, features.feature_seconds or given, settings)


def _seconds(text: str) -> Fraction:
    """Seconds per frame from "0.02" or "1/50"."""
    try:
        seconds = Fraction(text)
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(0)
    if not 0.0001 <= seconds <= 10:
        raise UserError(f"--feature_seconds {text!r} is not seconds per frame, such as 0.02 or 1/50")
    return seconds


def add_semantic(parser) -> None:
    """The arguments of `audiolm eval semantic`."""
    parser.add_argument(
        "--w2v_bert", required=True, metavar="DIR",
        help="work directory of its training, of a w2v-BERT or by clusters, or an imported encoder",
    )  # fmt: skip
    parser.add_argument("--item", required=True, metavar="FILE", help="an item file in Libri-light's format")
    parser.add_argument(
        "--data", action="append", required=True, metavar="DIR",
        help="its recordings; the others in it are what k-means is fitted to; may be repeated",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument("--layers", default="all", metavar="LIST", help="with commas between them (default all)")
    parser.add_argument(
        "--clusters", default="100,500,1024", metavar="LIST",
        help="K of each k-means, with commas between them (default 100,500,1024)",
    )  # fmt: skip
    parser.add_argument(
        "--fit_minutes", type=arguments.length, default=30.0, metavar="MIN",
        help="of sound that k-means and the standardisation are fitted to (default 30)",
    )  # fmt: skip
    parser.add_argument(
        "--window_frames", type=arguments.positive, default=250, metavar="N",
        help="frames that attend to one another (default 250)",
    )  # fmt: skip
    parser.add_argument(
        "--margin_frames", type=arguments.whole, default=25, metavar="N",
        help="frames at either end of a window that only lend context (default 25)",
    )  # fmt: skip
    arguments.add_abx_caps(parser)
    arguments.add_seed(parser)


def semantic(args):
    """The measurement; the figure, the table and the JSON of all rows go to --output."""
    clusters = _clusters(args.clusters)

    from audiolm_jax.evaluation.abx.abx import AbxSettings
    from audiolm_jax.evaluation.layers.layer_features import TrainedEncoder, parse_layers
    from audiolm_jax.evaluation.layers.layer_sweep import SweepSettings, sweep

    settings = SweepSettings(
        item=Path(args.item),
        data=tuple(map(Path, args.data)),
        clusters=clusters,
        fit_minutes=args.fit_minutes,
        caps=AbxSettings(args.max_group_size, args.max_x_across, args.seed),
    )
    encoder = TrainedEncoder.of(args.w2v_bert)
    layers = parse_layers(args.layers, encoder.config.num_layers)
    representations = encoder.representations(layers, args.window_frames, args.margin_frames)
    return sweep(encoder, representations, settings, Path(args.output))


def _clusters(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 2 <= int(part) <= 65_536 for part in parts):
        raise UserError(f"--clusters {text!r} is not a list of numbers from 2 to 65536, such as 100,500,1024")
    return tuple(sorted({int(part) for part in parts}))


def add_minimal_pairs(parser) -> None:
    """The arguments of `audiolm eval swuggy` and `sblimp`."""
    parser.add_argument("--gold", required=True, metavar="FILE", help="gold.csv of ZeroSpeech 2021")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", metavar="FILE", help="ready scores, a line 'STEM SCORE' each; higher is likelier")
    source.add_argument("--wavs", metavar="DIR", help="the recordings, scored by the semantic stage of --bundle")
    source.add_argument(
        "--tokens", action="append", metavar="DIR",
        help="token records of the recordings, by `audiolm tokenize`, scored likewise; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE",
        help="where the scores of --wavs or --tokens are kept; started again, the command goes on there",
    )  # fmt: skip
    parser.add_argument("--max_pairs", type=arguments.positive, metavar="N", help="pairs to measure (default all)")
    parser.add_argument("--batch_size", type=arguments.positive, default=16, metavar="N", help="default 16")
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def swuggy(args):
    """The measurement of `audiolm eval swuggy`."""
    return _minimal_pairs(args, "swuggy")


def _minimal_pairs(args, task: str):
    """The measurement of either task."""
    if args.scores and args.output:
        raise UserError("--output keeps the scores that --wavs or --tokens make; leave it out with --scores")

    from audiolm_jax.evaluation.language.gold import read_gold
    from audiolm_jax.evaluation.language.minimal_pairs import measure
    from audiolm_jax.evaluation.language.scores import read_scores

    gold = read_gold(args.gold, task, args.max_pairs)
    if args.scores:
        return measure(task, gold, read_scores(args.scores), seed=args.seed)

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.language.likelihood import score_folder, score_records
    from audiolm_jax.evaluation.language.token_records import read_records

    bundle = Bundle.load(args.bundle)
    if args.wavs:
        scores = score_folder(bundle, args.wavs, gold.stems, args.output, args.batch_size)
    else:
        scores = score_records(bundle, read_records(args.tokens, bundle), gold.stems, args.output, args.batch_size)
    return measure(task, gold, scores, seed=args.seed)


def sblimp(args):
    """The measurement of `audiolm eval sblimp`."""
    return _minimal_pairs(args, "sblimp")


def add_perplexity(parser) -> None:
    """The arguments of `audiolm eval perplexity`."""
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


def perplexity(args):
    """The measurement of `audiolm eval perplexity`."""
    if bool(args.data) == bool(args.tokens):
        raise UserError("give --data with recordings, or --tokens with token records")

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.heldout import heldout_claim, token_claim
    from audiolm_jax.evaluation.language.perplexity import measure
    from audiolm_jax.evaluation.language.token_records import read_records, tokenize_all
    from audiolm_jax.evaluation.recordings import shared_out

    bundle = Bundle.load(args.bundle)
    notes: tuple[str, ...] = ()
    seen = "no speaker was held out, so all recordings were scored, also those that were trained on"
    if args.data:
        data = arguments.data_of(args)
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
