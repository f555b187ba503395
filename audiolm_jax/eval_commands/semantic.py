"""`audiolm eval semantic`."""

from audiolm_jax import arguments
from audiolm_jax.errors import UserError

SUMMARY = "Layers of a semantic encoder, and k-means of them: ABX and PNMI of each, as a figure and a table."
EXAMPLE = "audiolm eval semantic --w2v_bert work/w2v_bert --item FILE --data speech/ --output work/layers"


def add_arguments(parser) -> None:
    """The arguments of this command."""
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


def run(args):
    """The measurement; the figure, the table and the JSON of all rows go to --output."""
    from pathlib import Path

    from audiolm_jax.evaluation.abx.abx import AbxSettings
    from audiolm_jax.evaluation.layers.layer_features import TrainedEncoder, parse_layers
    from audiolm_jax.evaluation.layers.layer_sweep import SweepSettings, sweep

    settings = SweepSettings(
        item=Path(args.item),
        data=tuple(map(Path, args.data)),
        clusters=_clusters(args.clusters),
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
