"""How far sounds are from others: `audiolm eval visqol`, `codec`, `fad`, `ladder`, `speaker` and `detector`."""

import dataclasses
from pathlib import Path

from audiolm_jax.cli import arguments
from audiolm_jax.errors import UserError


def add_visqol(parser) -> None:
    """The arguments of `audiolm eval visqol`."""
    parser.add_argument("--reference", required=True, metavar="PATH", help="a file, or a folder of files")
    parser.add_argument("--degraded", required=True, metavar="PATH", help="a file, or a folder with the same names")
    add_mapping(parser)
    arguments.add_seed(parser)


def visqol(args):
    """The measurement of `audiolm eval visqol`."""
    from audiolm_jax.evaluation.pairs import measure

    return measure(args.reference, args.degraded, args.mapping, args.seed)


def add_mapping(parser) -> None:
    """--mapping."""
    parser.add_argument(
        "--mapping", choices=("exponential", "lattice"), default="exponential",
        help="ViSQOL's, from similarity to opinion score: an exponential fit (default), or a lattice network, which "
        "needs audiolm_jax[lattice]",
    )  # fmt: skip


def add_codec(parser) -> None:
    """The arguments of `audiolm eval codec`."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--max_clips", type=arguments.positive, default=40, metavar="N", help="default 40")
    add_mapping(parser)
    parser.add_argument(
        "--asr", metavar="NAME",
        help="hear the words of the originals, of the codec at each bit rate and of Opus at 6 and 9 kbps (opus-tools), "
        "with ViSQOL beside them; pocketsphinx or a folder, as for `audiolm eval wer`",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="DIR", help="where what is heard, and what was heard in it, go; required with --asr"
    )
    arguments.add_seed(parser)


def codec(args):
    """The measurement.

    Raises:
        UserError: flags that do not go together, or nothing is held out.
    """
    if args.asr is not None and args.output is None:
        raise UserError("--output is missing: the folder where the decoded recordings go, and what was heard in them")
    if args.asr is None and args.output is not None:
        raise UserError("--output goes with --asr; without it nothing but figures is made")

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.sound import codec_fidelity, codec_words

    recogniser = None if args.asr is None else _recogniser(args.asr)
    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    recordings, how = data.recordings(), (args.max_clips, args.seed, args.mapping)
    if recogniser is not None:
        sounds, cache = Path(args.output, "codec_words"), Path(args.output, "asr")
        return with_claim(codec_words.measure(bundle, recordings, recogniser, sounds, cache, *how), claim, data)
    heldout = [recording for recording in recordings if recording.heldout]
    if not heldout:
        named = ", ".join(args.data)
        raise UserError(f"{named} has no held-out recordings; give more speakers, or --unseen to take all")
    return with_claim(codec_fidelity.measure(bundle, heldout, *how), claim, data)


def _recogniser(name):
    """Who listens; what is missing for that is told before anything that takes long."""
    import jiwer  # noqa: F401

    from audiolm_jax.evaluation.words.asr import load_recogniser

    return load_recogniser(name)


def add_fad(parser) -> None:
    """The arguments of `audiolm eval fad`."""
    parser.add_argument("--reference", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument("--generated", required=True, metavar="DIR", help="audio, or .npy/.npz embeddings [N, D]")
    parser.add_argument(
        "--embedding", choices=("log_mel", "semantic", "speaker"), default="log_mel",
        help="of audio: log-mel statistics (default), the bundle's semantic layer, or its speaker network",
    )  # fmt: skip
    arguments.add_bundle(parser)
    arguments.add_seed(parser)


def fad(args):
    """The measurement of `audiolm eval fad`."""
    from audiolm_jax.bundle import Bundle
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


def add_ladder(parser) -> None:
    """The arguments of `audiolm eval ladder`."""
    arguments.add_data(parser)
    arguments.add_bundle(parser)
    parser.add_argument("--classifier", metavar="DIR", help="of speakers, a work directory; without it similarity only")
    parser.add_argument("--asr", default="pocketsphinx", metavar="NAME", help="as for `audiolm eval wer`")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the generated recordings go")
    arguments.add_choice(parser)
    arguments.add_seed(parser)


def ladder(args):
    """The measurement, of samples that are made where they are not there yet."""
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated import ladder
    from audiolm_jax.evaluation.generated.samples import SampleSettings, choose_recordings, make_samples
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier
    from audiolm_jax.evaluation.words.asr import load_recogniser

    bundle = Bundle.load(args.bundle)
    classifier = None if args.classifier is None else TrainedClassifier.load(args.classifier)
    data = arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    chosen = choose_recordings(
        data.recordings(), "heldout", args.min_seconds, args.max_seconds, args.max_recordings
    )
    # Before generation, which takes long, because it may be refused; without words nobody listens.
    asr = load_recogniser(args.asr) if any(recording.text for recording in chosen) else args.asr
    made = make_samples(bundle, chosen, args.output, SampleSettings(num_samples=args.num_samples, seed=args.seed))
    found = ladder.measure(
        made, bundle=bundle, asr=asr, classifier=classifier, cache=Path(args.output, "asr"), seed=args.seed
    )
    return with_claim(dataclasses.replace(found, notes=(*found.notes, *made.notes)), claim, data)


def add_speaker(parser) -> None:
    """The arguments of `audiolm eval speaker`."""
    arguments.add_data(parser, required=False)
    parser.add_argument(
        "--classifier", metavar="DIR",
        help="work directory of `audiolm train speaker_classifier --data DIR`; required with --data",
    )  # fmt: skip
    parser.add_argument("--reference", metavar="PATH", help="with --compare: recordings, for their similarity alone")
    parser.add_argument("--compare", metavar="PATH", help="a file or a folder that pairs with --reference by name")
    arguments.add_bundle(parser)
    parser.add_argument("--output", metavar="DIR", help="where the generated recordings go; required with --data")
    arguments.add_choice(parser, prompts=True)
    arguments.add_seed(parser)


def speaker(args):
    """The measurement of `audiolm eval speaker`."""
    pairs = args.reference or args.compare
    if pairs and (args.data or not (args.reference and args.compare)):
        raise UserError("give --reference and --compare together, and no --data with them")
    if not pairs and not (args.data and args.output and args.classifier):
        raise UserError("give --data, --classifier and --output, or --reference and --compare for similarity alone")

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.voice import speaker
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    classifier = None if args.classifier is None else TrainedClassifier.load(args.classifier)
    if pairs:
        embedder = classifier or TrainedClassifier.from_bundle(Bundle.load(args.bundle), "speaker")
        return speaker.compare(embedder, args.reference, args.compare, args.seed)
    return _measure_samples(args, classifier)


def _measure_samples(args, classifier):
    """Accuracy and similarity of what the bundle makes of held-out speakers.

    The recordings that the classifier itself did not hear in training are measured too, with their reconstructions.
    """
    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import (
        ACOUSTIC,
        CONTINUATION,
        ORIGINAL,
        RECONSTRUCTION,
        SampleSettings,
        choose_recordings,
        make_samples,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.voice import speaker
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    bundle, data = Bundle.load(args.bundle), arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    recordings = data.recordings()
    prompts = choose_recordings(recordings, "heldout", args.min_seconds, args.max_seconds, args.max_recordings)
    chosen = {recording.key for recording in prompts}
    unheard = [r for r in recordings if r.key in classifier.heldout_keys and r.key not in chosen]
    settings = SampleSettings(num_samples=args.num_samples, seed=args.seed)
    kinds = (ORIGINAL, RECONSTRUCTION, ACOUSTIC, CONTINUATION)
    by_kind = dict(make_samples(bundle, prompts, args.output, settings, kinds))
    for kind, more in make_samples(bundle, unheard, args.output, settings, (ORIGINAL, RECONSTRUCTION)).items():
        by_kind[kind] = [*by_kind[kind], *more]
    embedder = TrainedClassifier.from_bundle(bundle, "speaker") if "speaker" in bundle.classifiers else None
    return with_claim(speaker.measure(classifier, by_kind, args.seed, embedder), claim, data)


def add_detector(parser) -> None:
    """The arguments of `audiolm eval detector`."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="recordings; a probability is given for each")
    arguments.add_data(parser, required=False)
    parser.add_argument("--detector", metavar="DIR", help="work directory of a training, in place of the bundle's own")
    arguments.add_bundle(parser)
    parser.add_argument("--output", metavar="DIR", help="where the generated recordings go; required with --data")
    arguments.add_choice(parser, prompts=True)
    arguments.add_seed(parser)


def detector(args):
    """The measurement of `audiolm eval detector`."""
    if bool(args.files) == bool(args.data):
        raise UserError("give files, for a probability each, or --data, for the detector's accuracy")
    if args.data and not args.output:
        raise UserError("with --data give --output, a folder for the recordings that are made")

    from audiolm_jax.bundle import Bundle
    from audiolm_jax.evaluation.generated.samples import (
        CONTINUATION,
        RECONSTRUCTION,
        SampleSettings,
        choose_recordings,
        make_samples,
    )
    from audiolm_jax.evaluation.heldout import heldout_claim, with_claim
    from audiolm_jax.evaluation.voice import detector
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    bundle = None if args.detector and args.files else Bundle.load(args.bundle)
    if args.detector:
        network = TrainedClassifier.load(args.detector)
    else:
        network = TrainedClassifier.from_bundle(bundle, "detector")
    if args.files:
        return detector.measure_files(network, args.files)
    data = arguments.data_of(args)
    claim = heldout_claim(bundle, data).required()
    prompts = choose_recordings(
        data.recordings(), "heldout", args.min_seconds, args.max_seconds, args.max_recordings
    )
    settings = SampleSettings(num_samples=args.num_samples, seed=args.seed)
    made = make_samples(bundle, prompts, args.output, settings, (RECONSTRUCTION, CONTINUATION))
    return with_claim(detector.measure(network, made[RECONSTRUCTION], made[CONTINUATION], args.seed), claim, data)
