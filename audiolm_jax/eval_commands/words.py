"""`audiolm eval words`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Continuations of a closed language: how many of the words heard belong to it, and whether the voice is kept."
EXAMPLE = """audiolm eval words --bundle DIR --data phrases/ --vocabulary words.txt --output work/words --json -
  audiolm eval words --data phrases/ --vocabulary words.txt --output work/true --kinds true --asr models/whisper-base
  audiolm eval words --data phrases/ --vocabulary words.txt --output work/words --unrelated LibriSpeech/dev-clean"""
KINDS = ("true", "reconstruction", "continuation")


def add_arguments(parser) -> None:
    """The arguments of this command."""
    arguments.add_data(parser)
    parser.add_argument(
        "--vocabulary", required=True, metavar="FILE",
        help="text that holds every word of the language: a transcripts.tsv, a *.trans.txt, or any text",
    )  # fmt: skip
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument("--asr", default="pocketsphinx", metavar="NAME", help="as for `audiolm eval wer`")
    parser.add_argument(
        "--kinds", default=",".join(KINDS), metavar="LIST",
        help="true: what was really said after the prompt; reconstruction: the same through the codec; continuation: "
        "what the system says (default all, with commas between them)",
    )  # fmt: skip
    parser.add_argument(
        "--unrelated", metavar="DIR", help="speech of another kind, cut likewise: what any text has"
    )
    parser.add_argument(
        "--classifier", metavar="DIR",
        help="work directory of a speaker classifier that tells voices apart, in place of the bundle's speaker network",
    )  # fmt: skip
    parser.add_argument("--prompt_seconds", type=arguments.length, default=5.0, metavar="S", help="default 5")
    parser.add_argument(
        "--seconds", type=arguments.length, default=4.0, metavar="S", help="of what is new (default 4)"
    )
    parser.add_argument(
        "--min_seconds", type=arguments.length, metavar="S",
        help="of recordings (default: of a prompt and what is new together)",
    )  # fmt: skip
    parser.add_argument("--max_seconds", type=arguments.length, default=30.0, metavar="S", help="default 30")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="prompts (default all)")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    parser.add_argument("--temperature", type=arguments.per_stage(float), metavar="T", help="default: the bundle's")
    arguments.add_seed(parser)


def run(args):
    """The measurement."""
    import dataclasses
    from pathlib import Path

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings, make_samples
    from audiolm_jax.evaluation.generated.true_continuations import cut_prompts
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.language.closed_language import CONTINUATION, RECONSTRUCTION, TRUE, UNRELATED, measure
    from audiolm_jax.evaluation.language.vocabulary import Vocabulary
    from audiolm_jax.evaluation.words.asr import load_recogniser

    kinds = _kinds(args.kinds)
    lengths = (args.prompt_seconds, args.seconds)
    min_seconds = sum(lengths) if args.min_seconds is None else args.min_seconds
    # First what may be refused, because generation takes long.
    vocabulary, recogniser = Vocabulary.read(args.vocabulary), load_recogniser(args.asr)
    bundle, data = Bundle.load(args.bundle), data_of(args)
    embedder = _embedder(args.classifier, bundle)
    made_kinds = tuple(kind for kind in (RECONSTRUCTION, CONTINUATION) if kind in kinds)
    if made_kinds:
        claim = heldout_claim(bundle, data).required()
    chosen = choose_recordings(data.recordings(), "heldout", min_seconds, args.max_seconds, args.max_recordings)
    unrelated = _unrelated(args.unrelated, min_seconds, args.max_seconds, len(chosen))
    output = Path(args.output)
    settings = SampleSettings(args.num_samples, *lengths, args.seed, args.temperature)
    made = make_samples(bundle, chosen, output, settings, made_kinds) if made_kinds else {}
    by_kind = {TRUE: cut_prompts(chosen, output / TRUE, *lengths)}
    if RECONSTRUCTION in made:
        by_kind[RECONSTRUCTION] = cut_prompts(made[RECONSTRUCTION], output / "reconstruction_after_prompt", *lengths)
    if CONTINUATION in made:
        by_kind[CONTINUATION] = made[CONTINUATION]
    if unrelated:
        by_kind[UNRELATED] = cut_prompts(unrelated, output / UNRELATED, *lengths)
    measurement = measure(by_kind, vocabulary, recogniser, output / "asr", args.seed, embedder)
    protocol = {
        "bundle": bundle.name,
        "prompt_seconds": args.prompt_seconds,
        "seconds": args.seconds,
        "min_seconds": min_seconds,
        "max_seconds": args.max_seconds,
        "num_samples": args.num_samples,
        "temperature": args.temperature,
        "seed": args.seed,
        "unrelated": args.unrelated,
    }
    notes = made.notes if made_kinds else ()
    measurement = dataclasses.replace(
        measurement, settings={**protocol, **measurement.settings}, notes=(*notes, *measurement.notes)
    )
    if not made_kinds:  # nothing was made by a system that may have been trained on it
        return dataclasses.replace(measurement, settings={**measurement.settings, **data.to_json()})
    return with_claim(measurement, claim, data)


def _kinds(text: str) -> list[str]:
    """The kinds of a list; "true" is measured whether it is named or not."""
    from audiolm_jax.errors import UserError

    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--kinds names {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
    return kinds


def _embedder(classifier: str | None, bundle):
    """The network that tells voices apart, None where there is none."""
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    if classifier is not None:
        return TrainedClassifier.load(classifier)
    return TrainedClassifier.from_bundle(bundle, "speaker") if "speaker" in bundle.classifiers else None


def _unrelated(folder: str | None, min_seconds: float, max_seconds: float, count: int):
    """As many recordings of another kind as there are prompts, shared out among their speakers."""
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.generated.samples import usable
    from audiolm_jax.evaluation.recordings import find_recordings, shared_out

    if folder is None:
        return []
    found = usable(shared_out(find_recordings([folder], unseen=True), 4 * count), min_seconds, max_seconds)[:count]
    if not found:
        raise UserError(f"no recording of --unrelated {folder} lasts {min_seconds:g} to {max_seconds:g} s")
    return found
