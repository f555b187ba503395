"""`audiolm eval fad`."""

from audiolm_jax import arguments

SUMMARY = "Frechet audio distance between two sets of recordings or embeddings, with a bootstrap interval."
EXAMPLE = "audiolm eval fad --reference speech/ --generated work/samples/continuation --embedding speaker --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
    parser.add_argument("--reference", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument("--generated", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument(
        "--embedding", choices=("log_mel", "semantic", "speaker"), default="log_mel",
        help="of audio: log-mel statistics (default), the bundle's semantic layer, or its speaker network",
    )  # fmt: skip
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    import dataclasses

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.recordings import find_recordings
    from audiolm_jax.evaluation.sound.embeddings import embed_recordings, holds_embeddings, read_embeddings
    from audiolm_jax.evaluation.sound.frechet import measure

    folders = (args.reference, args.generated)
    ready = [holds_embeddings(folder) for folder in folders]
    if ready[0] != ready[1]:
        raise UserError("one folder holds audio and the other embeddings; give two of audio, or two of embeddings")
    if all(ready):
        sets = [read_embeddings(folder) for folder in folders]
    else:
        bundle = None if args.embedding == "log_mel" else Bundle.load(args.bundle)
        sets = [embed_recordings(find_recordings([folder], unseen=True), args.embedding, bundle) for folder in folders]
    measured = measure(*sets, seed=args.seed)
    named = {"reference": args.reference, "generated": args.generated}
    return dataclasses.replace(measured, settings=named | measured.settings)
