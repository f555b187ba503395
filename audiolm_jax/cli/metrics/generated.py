"""What a system makes, its words and its temperatures: `audiolm eval samples`, `wer`, `words` and `temperatures`."""

import dataclasses
from pathlib import Path

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError

KINDS = ("true", "reconstruction", "continuation")


def add_samples(parser) -> None:
    """The arguments of `audiolm eval samples`."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="started again, it keeps what is done")
    parser.add_argument(
        "--kinds", default="original,reconstruction,fine,acoustic,continuation", metavar="LIST",
        help="which, with commas between them (default all)",
    )  # fmt: skip
    parser.add_argument("--split", choices=("heldout", "train", "all"), default="heldout", help="default heldout")
    arguments.add_choice(parser)
    parser.add_argument("--prompt_seconds", type=arguments.length, default=3.0, metavar="S", help="default 3")
    parser.add_argument(
        "--seconds", type=arguments.length, default=7.0, metavar="S", help="of continuations (default 7)"
    )
    parser.add_argument("--temperature", type=arguments.per_stage(float), metavar="T", help="default: the bundle's")
    arguments.add_seed(parser)


def samples(args):
    """Makes them, and counts them."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings, make_samples
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.measurement import Measurement, versions

    settings = SampleSettings(args.num_samples, args.prompt_seconds, args.seconds, args.seed, args.temperature)
    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    claim = heldout_claim(bundle, data)
    if args.split != "all":
        claim.required()
    chosen = choose_recordings(
        data.recordings(), args.split, args.min_seconds, args.max_seconds, args.max_recordings
    )
    kinds = [kind.strip() for kind in args.kinds.split(",") if kind.strip()]
    made = make_samples(bundle, chosen, args.output, settings, kinds)
    measurement = Measurement(
        "samples",
        figures={kind: len(samples) for kind, samples in made.items()},
        counts={"recordings": len(chosen), "speakers": len({recording.speaker for recording in chosen})},
        settings={
            "output": args.output,
            "bundle": bundle.name,
            "num_samples": settings.num_samples,
            "prompt_seconds": settings.prompt_seconds,
            "seconds": settings.seconds,
            "seed": settings.seed,
            "temperature": settings.temperature,
            "split": args.split,
            "min_seconds": args.min_seconds,
            "max_seconds": args.max_seconds,
        },
        versions=versions(),
        notes=made.notes,
        details={"left_out": made.left_out},
    )
    return with_claim(measurement, claim, data)


def add_wer(parser) -> None:
    """The arguments of `audiolm eval wer`."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--audio", metavar="DIR", help="only these recordings, with transcripts beside them, in place of the protocol"
    )
    parser.add_argument("--transcripts", metavar="DIR", help="where the transcripts of --audio lie, if not beside it")
    parser.add_argument(
        "--asr", default="pocketsphinx", metavar="NAME",
        help="pocketsphinx (default, works offline), or the local folder of a model: Whisper as CTranslate2 has it "
        "(extra whisper), CTC or Whisper as Hugging Face has it (extra asr)",
    )  # fmt: skip
    arguments.add_bundle(parser)
    parser.add_argument(
        "--output", metavar="DIR",
        help="where the generated recordings and what was heard in them go; required with --data",
    )  # fmt: skip
    arguments.add_choice(parser)
    arguments.add_seed(parser)


def wer(args):
    """The measurement.

    Raises:
        UserError: flags that do not go together, no transcripts, or no recordings of the right length.
    """
    if (args.audio is None) == (args.data is None):
        raise UserError("give --data and --output for the protocol, or --audio for recordings as they are")
    if args.transcripts and args.data:
        raise UserError("--transcripts goes with --audio; the transcripts of --data lie beside its recordings")
    if args.transcripts and not Path(args.transcripts).is_dir():
        raise UserError(f"--transcripts {args.transcripts} is no folder; give the one that holds the transcript files")
    if args.data and not args.output:
        raise UserError("--output is missing: the folder where the generated recordings go")

    import jiwer  # noqa: F401  here, so that its absence is told before anything that takes long

    return _measure_protocol(args) if args.data else _measure_recordings(args)


def _measure_recordings(args):
    from audiolm_jax.evaluation.recordings import find_recordings, shared_out
    from audiolm_jax.evaluation.words.asr import load_recogniser
    from audiolm_jax.evaluation.words.word_error import measure_recordings, with_transcripts

    recogniser = load_recogniser(args.asr)
    recordings = find_recordings([args.audio], transcripts=args.transcripts, unseen=True)
    if args.max_recordings is not None:
        recordings = shared_out(with_transcripts(recordings), args.max_recordings)
    return measure_recordings(recordings, recogniser, Path(args.output, "asr") if args.output else None, args.seed)


def _measure_protocol(args):
    """AudioLM, section IV-C: recordings of 4 to 10 s, and three acoustic generations from the tokens of each."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import (
        ACOUSTIC,
        ORIGINAL,
        RECONSTRUCTION,
        SampleSettings,
        make_samples,
        usable,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.recordings import shared_out
    from audiolm_jax.evaluation.words.asr import load_recogniser
    from audiolm_jax.evaluation.words.word_error import measure, with_transcripts

    recogniser = load_recogniser(args.asr)  # first, because generation takes long and this may be refused
    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    spoken = with_transcripts(data.recordings())
    lengths = f"{args.min_seconds:g} to {args.max_seconds:g} s"
    fitting = usable(spoken, args.min_seconds, args.max_seconds)
    if not fitting:
        raise UserError(f"no recording with a transcript lasts {lengths}; change --min_seconds or --max_seconds")
    heldout = [recording for recording in fitting if recording.heldout]
    chosen = shared_out(heldout or fitting, args.max_recordings)
    settings = SampleSettings(num_samples=args.num_samples, seed=args.seed)
    samples = make_samples(bundle, chosen, args.output, settings, (ORIGINAL, RECONSTRUCTION, ACOUSTIC))
    measurement = measure(samples, recogniser, Path(args.output, "asr"), args.seed)
    protocol = {
        "bundle": bundle.name,
        "recordings": f"{lengths}, with transcripts, {'held-out speakers' if heldout else 'no speaker held out'}",
        "num_samples": settings.num_samples,
        "seed": settings.seed,
    }
    notes = (f"no held-out recording of {lengths} has a transcript",) if not heldout else ()
    measurement = dataclasses.replace(
        measurement,
        settings={**protocol, **measurement.settings},
        notes=(*notes, *samples.notes, *measurement.notes),
    )
    return with_claim(measurement, claim, data)


def add_words(parser) -> None:
    """The arguments of `audiolm eval words`."""
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


def words(args):
    """The measurement of `audiolm eval words`."""
    kinds = _kinds(args.kinds)

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.language.closed_language import CONTINUATION, RECONSTRUCTION, measure
    from audiolm_jax.evaluation.language.phrase_continuations import make_continuations, voice_network
    from audiolm_jax.evaluation.language.vocabulary import Vocabulary
    from audiolm_jax.evaluation.words.asr import load_recogniser

    lengths = (args.prompt_seconds, args.seconds)
    min_seconds = sum(lengths) if args.min_seconds is None else args.min_seconds
    # First what may be refused, because generation takes long.
    vocabulary, recogniser = Vocabulary.read(args.vocabulary), load_recogniser(args.asr)
    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    embedder = voice_network(bundle, args.classifier)
    made_kinds = tuple(kind for kind in (RECONSTRUCTION, CONTINUATION) if kind in kinds)
    if made_kinds:
        claim = heldout_claim(bundle, data).required()
    chosen = choose_recordings(data.recordings(), "heldout", min_seconds, args.max_seconds, args.max_recordings)
    unrelated = _unrelated(args.unrelated, min_seconds, args.max_seconds, len(chosen))
    output = Path(args.output)
    settings = SampleSettings(args.num_samples, *lengths, args.seed, args.temperature)
    by_kind, notes = make_continuations(bundle, chosen, output, settings, made_kinds, unrelated)
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
    measurement = dataclasses.replace(
        measurement, settings={**protocol, **measurement.settings}, notes=(*notes, *measurement.notes)
    )
    if not made_kinds:  # nothing was made by a system that may have been trained on it
        return dataclasses.replace(measurement, settings={**measurement.settings, **data.to_json()})
    return with_claim(measurement, claim, data)


def _kinds(text: str) -> list[str]:
    """The kinds of a list; "true" is measured whether it is named or not."""

    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--kinds names {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
    return kinds


def _unrelated(folder: str | None, min_seconds: float, max_seconds: float, count: int):
    """As many recordings of another kind as there are prompts, shared out among their speakers."""
    from audiolm_jax.evaluation.generated.samples import usable
    from audiolm_jax.evaluation.recordings import find_recordings, shared_out

    if folder is None:
        return []
    found = usable(shared_out(find_recordings([folder], unseen=True), 4 * count), min_seconds, max_seconds)[:count]
    if not found:
        raise UserError(f"no recording of --unrelated {folder} lasts {min_seconds:g} to {max_seconds:g} s")
    return found


def add_temperatures(parser) -> None:
    """The arguments of `audiolm eval temperatures`."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="what has been tried; started again, it keeps what is done"
    )
    parser.add_argument(
        "--merge", action="store_true", help="make them the temperatures that the bundle generates with by default"
    )
    parser.add_argument(
        "--grid", type=_grid, metavar="LIST",
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


def temperatures(args):
    """The measurement, and with --merge the bundle's new temperatures."""
    from audiolm_jax.bundle import Bundle, with_temperature
    from audiolm_jax.evaluation.generated.temperatures import GRID, TemperatureSettings, measure
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.words.asr import load_recogniser

    settings = TemperatureSettings(
        args.grid or GRID, args.prompt_seconds, args.seconds, args.max_recordings, args.seed
    )
    recogniser = load_recogniser(args.asr) if args.asr else None
    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    heldout = [recording for recording in data.recordings() if recording.heldout]
    measured = measure(bundle, heldout, args.output, settings, recogniser)
    if args.merge:
        with_temperature(bundle.path, measured.figures["temperature"])
    return with_claim(measured, claim, data)


def _grid(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(arguments.number(part.strip(), float, 0) for part in text.split(","))
