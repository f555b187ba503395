"""`audiolm eval wer`."""

from audiolm_jax import arguments
from audiolm_jax.eval_commands import data_of, with_claim

SUMMARY = "Intelligibility: word and character errors of a speech recogniser, beside its errors on the originals."
EXAMPLE = "audiolm eval wer --bundle small --data speech/ --output work/samples --json -"


def add_arguments(parser) -> None:
    """The arguments of this command."""
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
    parser.add_argument(
        "--min_seconds", type=arguments.length, default=4.0, metavar="S", help="of recordings (default 4)"
    )
    parser.add_argument("--max_seconds", type=arguments.length, default=10.0, metavar="S", help="default 10")
    parser.add_argument("--max_recordings", type=arguments.positive, metavar="N", help="default all")
    parser.add_argument("--num_samples", type=arguments.positive, default=3, metavar="N", help="of each (default 3)")
    arguments.add_seed(parser)


def run(args):
    """The measurement.

    Raises:
        UserError: flags that do not go together, no transcripts, or no recordings of the right length.
    """
    from pathlib import Path

    import jiwer  # noqa: F401  here, so that its absence is told before anything that takes long

    from audiolm_jax.errors import UserError

    if (args.audio is None) == (args.data is None):
        raise UserError("give --data and --output for the protocol, or --audio for recordings as they are")
    if args.transcripts and args.data:
        raise UserError("--transcripts goes with --audio; the transcripts of --data lie beside its recordings")
    if args.transcripts and not Path(args.transcripts).is_dir():
        raise UserError(f"--transcripts {args.transcripts} is no folder; give the one that holds the transcript files")
    if args.data and not args.output:
        raise UserError("--output is missing: the folder where the generated recordings go")
    return _measure_protocol(args) if args.data else _measure_recordings(args)


def _measure_recordings(args):
    from pathlib import Path

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
    import dataclasses
    from pathlib import Path

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.errors import UserError
    from audiolm_jax.evaluation.generated.samples import (
        ACOUSTIC,
        ORIGINAL,
        RECONSTRUCTION,
        SampleSettings,
        make_samples,
        usable,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim
    from audiolm_jax.evaluation.recordings import shared_out
    from audiolm_jax.evaluation.words.asr import load_recogniser
    from audiolm_jax.evaluation.words.word_error import measure, with_transcripts

    recogniser = load_recogniser(args.asr)  # first, because generation takes long and this may be refused
    bundle, data = Bundle.load(args.bundle), data_of(args)
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
