"""`audiolm import`, `export`, `bundle` and `info`: folders of models."""

import sys
from argparse import Namespace
from collections.abc import Mapping

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError
from audiolm_jax.files import outputs
from audiolm_jax.files.model_folders import find_bundle

STAGES = ("semantic", "coarse", "acoustic", "fine")
CLASSIFIERS = ("detector", "speaker")


def add_import(parser) -> None:
    """The arguments of `audiolm import`."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="what SOURCE has to hold, such as lyra (default any)")
    parser.add_argument(
        "source", metavar="SOURCE", help="folder with config.json and model.safetensors, or with Lyra's .tflite files"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the imported model")
    parser.add_argument("--kmeans", metavar="FILE", help="centroids of an encoder's layer: a joblib file, or .npy")
    parser.add_argument(
        "--layer", type=arguments.whole, metavar="N", help="that they belong to, as transformers counts"
    )
    parser.add_argument(
        "--num_quantizers", type=arguments.positive, metavar="N", help="levels of a codec's tokens (default all)"
    )
    parser.add_argument(
        "--join_levels", type=arguments.positive, metavar="N",
        help="neighbouring levels of a Lyra that are one token: 2 make 256 codes, 3 make 4096 (default 1, 16 codes)",
    )  # fmt: skip
    parser.add_argument(
        "--float_activations", action="store_true",
        help="do not round what the int8 layers of a Lyra give; the tokens then differ from the published model's",
    )  # fmt: skip
    parser.add_argument("--licence", help="of the weights (default that of the model card, or of the published model)")
    parser.add_argument("--overwrite", action="store_true", help="replace an imported model that is there")
    arguments.add_json(parser)


def import_model(args: Namespace) -> int:
    """Takes a published model from its Hugging Face folder, or from Lyra's files."""
    from audiolm_jax.pretrained.files.description import describe, describe_in_words
    from audiolm_jax.pretrained.files.imported_model import check_output, read_huggingface, write_imported

    # Before gigabytes are read.
    outputs.check_folder(args.output, arguments.inputs(args))
    check_output(args.output, args.overwrite)
    model = read_huggingface(
        args.source,
        args.licence,
        args.kmeans,
        args.layer,
        args.num_quantizers,
        kind_name=args.kind,
        join_levels=args.join_levels,
        rounds_activations=not args.float_activations,
    )
    written = write_imported(model, args.output, args.overwrite)
    if args.json != "-":
        print(describe_in_words(written))
    arguments.write_json(args.json, describe(written))
    return 0


def add_export(parser) -> None:
    """The arguments of `audiolm export`."""
    parser.add_argument("model", metavar="DIR", help="folder of an imported model")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of config.json and model.safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")


def export_model(args: Namespace) -> int:
    """Writes an imported model back as a Hugging Face folder."""
    from audiolm_jax.pretrained.files.export import check_output, export_huggingface
    from audiolm_jax.pretrained.files.imported_model import read_imported, read_imported_manifest

    read_imported_manifest(args.model)
    outputs.check_folder(args.output, arguments.inputs(args))
    check_output(args.output, args.overwrite)
    model = read_imported(args.model)
    export_huggingface(model, args.output, overwrite=args.overwrite)
    print(f"{args.output}: {model.kind.name} (licence: {model.licence})", file=sys.stderr)
    return 0


def add_bundle(parser) -> None:
    """The arguments of `audiolm bundle`."""
    parser.add_argument("output", metavar="OUT", help="folder of the new bundle")
    parser.add_argument("--codec", metavar="DIR", help="work directory of a codec, or an imported one")
    parser.add_argument(
        "--kmeans", metavar="DIR", help="work directory of a k-means, or an encoder imported with centroids"
    )
    parser.add_argument("--w2v_bert", metavar="DIR", help="of the w2v-BERT's own training, to record its steps too")
    parser.add_argument("--tokenizers", metavar="DIR", help="a bundle whose tokenizers are taken")
    for stage in STAGES:
        parser.add_argument(f"--{stage}", metavar="DIR", help=f"work directory of the {stage} stage")
    parser.add_argument("--system", metavar="DIR", help="a bundle to which classifiers are added")
    parser.add_argument(
        "--detector", metavar="DIR", help="work directory of a detector, trained on what this system made"
    )
    parser.add_argument("--speaker", metavar="DIR", help="work directory of a speaker classifier, for its embeddings")
    parser.add_argument("--name", help="of the system")
    parser.add_argument("--licence", help="of the weights; needed where any were trained here")
    parser.add_argument(
        "--data", action="append", default=[], metavar="TEXT", help="what it was trained on, for the model card"
    )
    parser.add_argument("--prompt", metavar="FILE", help="a WAV file that goes with it")
    parser.add_argument(
        "--weight_dtype", choices=("float16", "bfloat16", "float32"),
        help="default float16, float32 where a part was imported",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")


def bundle(args: Namespace) -> int:
    """Puts work directories together as a bundle."""
    stages = {name: getattr(args, name) for name in STAGES if getattr(args, name)}
    classifiers = {name: getattr(args, name) for name in CLASSIFIERS if getattr(args, name)}
    _check_bundle_parts(args, stages, classifiers)

    from audiolm_jax.bundle import describe_in_words
    from audiolm_jax.bundle.workdirs import add_classifiers, export_system, export_tokenizers

    _check_bundle_output(args)
    if args.codec is not None:
        made = export_tokenizers(
            args.output,
            args.codec,
            args.kmeans,
            args.name,
            args.licence,
            args.data,
            w2v_bert_workdir=args.w2v_bert,
            weight_dtype=args.weight_dtype,
            overwrite=args.overwrite,
        )
    elif args.tokenizers is not None:
        made = export_system(
            args.output,
            args.tokenizers,
            stages,
            name=args.name,
            prompt=args.prompt,
            weight_dtype=args.weight_dtype,
            overwrite=args.overwrite,
            classifier_workdirs=classifiers,
        )
    else:
        made = add_classifiers(args.output, args.system, classifiers, args.overwrite)
    print(describe_in_words(made))
    return 0


def _check_bundle_parts(args: Namespace, stages: Mapping[str, str], classifiers: Mapping[str, str]) -> None:
    """Refuses parts that do not go together."""
    if sum(source is not None for source in (args.tokenizers, args.codec, args.system)) != 1:
        raise UserError(
            "give --codec and --kmeans for a bundle of tokenizers, --tokenizers and stages for a system, or --system "
            "and classifiers to add them"
        )
    if args.codec is not None:
        if not (args.kmeans and args.name):
            raise UserError("with --codec give --kmeans and --name too, and --licence where a part was trained here")
        if stages or classifiers or args.prompt:
            raise UserError("stages, classifiers and --prompt go with --tokenizers: make a bundle of these first")
    elif args.kmeans or args.w2v_bert or args.licence or args.data:
        raise UserError("--kmeans, --w2v_bert, --licence and --data are given when the tokenizers are made")
    elif args.tokenizers is not None and not stages:
        raise UserError("give at least one of --semantic, --coarse, --acoustic and --fine with --tokenizers")
    elif args.system is not None and (not classifiers or stages or args.prompt or args.name):
        raise UserError("with --system give --detector, --speaker or both, and nothing else")


def _check_bundle_output(args: Namespace) -> None:
    """Refuses what can be refused before weights are read.

    The bundle of --system alone may be replaced by the one that is made of it: that is all of it, and more.
    """
    from audiolm_jax.audio import read_audio
    from audiolm_jax.bundle.export import check_output

    for flag in ("tokenizers", "system"):
        if (name := getattr(args, flag)) is not None:
            try:
                find_bundle(name)
            except UserError as error:
                raise UserError(f"--{flag}: {error}") from error
    outputs.check_folder(args.output, [given for given in arguments.inputs(args) if given != args.system])
    check_output(args.output, args.overwrite)
    if args.prompt is not None:
        read_audio(args.prompt)


def add_info(parser) -> None:
    """The arguments of `audiolm info`."""
    parser.add_argument(
        "bundle", nargs="?", default="small", type=arguments.bundle, metavar="DIR",
        help="a bundle or an imported model (default small)",
    )  # fmt: skip
    arguments.add_json(parser)
    return parser


def info(args: Namespace) -> int:
    """Tells what is in a bundle, or in an imported model."""
    from audiolm_jax import bundle
    from audiolm_jax.pretrained.files import description
    from audiolm_jax.pretrained.files.imported_model import is_imported, read_imported

    told, teller = (
        (read_imported(args.bundle), description)
        if is_imported(args.bundle)
        else (bundle.Bundle.load(args.bundle), bundle)
    )
    if args.json != "-":
        print(teller.describe_in_words(told))
    arguments.write_json(args.json, teller.describe(told))
    return 0
